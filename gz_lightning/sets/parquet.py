"""A set as a dataset of Hugging Face: one Parquet file that ``datasets.load_dataset`` reads, with a card beside it.

Shapes: M images, K leaves, H x W pixels.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from gz_lightning.data.arrow import open_arrow
from gz_lightning.errors import Damaged, InputError
from gz_lightning.sets.description import part
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.storage.whole import report_unwritable

PARQUET = "data/train-00000-of-00001.parquet"
"""Where the file is below the folder: a name that the Hub shows as the split ``train``."""
ROWS = 64
"""Images that are read at a time."""


def write_parquet(synthetic: SyntheticSet, pixels: torch.Tensor, folder: Path) -> None:
    """Write the images as PNGs to look at (``image``), their ``label``, and their standardised pixels (``pixels``).

    With soft labels there is a column ``soft_label`` too. The types that ``datasets`` gives the columns are in the metadata,
    where ``Dataset.to_parquet`` puts them.

    Args:
        synthetic: The set.
        pixels: Its standardised pixels, float32, shape (M, 3, H, W).
        folder: The folder of the dataset.

    Raises:
        InputError: If pyarrow is missing.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            "a dataset of Hugging Face is a Parquet file, whose writer is missing: pip install 'gz_lightning[parquet]'"
        ) from error
    images = [{"bytes": _png(one), "path": f"{place:05d}.png"} for place, one in enumerate(synthetic.pixels)]
    columns = {
        "image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        "label": pa.array(synthetic.hard_labels.numpy()),
        "pixels": _lists(pixels.contiguous().numpy()),
    }
    number = {"dtype": "float32", "_type": "Value"}
    features: dict[str, Any] = {
        "image": {"_type": "Image"},
        "label": {"names": list(synthetic.class_names), "_type": "ClassLabel"},
        "pixels": {"shape": list(pixels.shape[1:]), "dtype": "float32", "_type": "Array3D"},
    }
    if synthetic.labels.ndim == 2:
        columns["soft_label"] = _lists(synthetic.labels.numpy())
        features["soft_label"] = {"feature": number, "_type": "Sequence"}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table(columns).replace_schema_metadata(metadata)
    path = folder / PARQUET
    path.parent.mkdir(parents=True, exist_ok=True)
    with report_unwritable(path):
        pyarrow.parquet.write_table(table, path, row_group_size=1000, write_page_checksum=True)


def _png(pixels: torch.Tensor) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, "png")
    return file.getvalue()


def _lists(values: npt.NDArray[np.float32]) -> Any:
    """An array as lists of lists of numbers."""
    import pyarrow as pa

    lists = pa.array(values.reshape(-1))
    for length, number in zip(values.shape[:0:-1], np.cumprod(values.shape)[-2::-1], strict=True):
        lists = pa.ListArray.from_arrays(pa.array(np.arange(number + 1, dtype=np.int32) * length), lists)
    return lists


def read_parquet(folder: Path, description: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """What :func:`write_parquet` wrote: standardised pixels, and leaves or soft labels.

    Raises:
        Damaged: If the columns are not those of the set.
        InputError: If the file cannot be read, or pyarrow is missing.
    """
    number, side = part(description, "images", int), part(description, "resolution", int)
    leaves = len(part(description, "class_names", list))
    with open_arrow(folder / PARQUET) as table:
        soft = "soft_label" in table.names
        wanted = {"pixels": (3, side, side), "soft_label" if soft else "label": (leaves,) if soft else ()}
        if missing := sorted(set(wanted) - set(table.names)):
            raise Damaged(f"{PARQUET} lacks {', '.join(missing)}")
        if table.rows != number:
            raise Damaged(f"{PARQUET} has {table.rows} rows, where {number} are described")
        parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in wanted}
        for batch in table.batches(list(wanted), ROWS):
            for name, shape in wanted.items():
                parts[name].append(_values(batch.column(batch.schema.get_field_index(name)), shape, name))
    pixels, labels = (np.concatenate(parts[name]) for name in wanted)
    return torch.from_numpy(pixels), torch.from_numpy(labels)


def _values(column: Any, shape: tuple[int, ...], name: str) -> npt.NDArray[Any]:
    """A column of lists of lists as an array, shape (rows, *shape); Damaged if its lists have other lengths."""
    import pyarrow as pa
    import pyarrow.compute

    values, rows = column, len(column)
    for length in shape:
        lengths = pa.compute.list_value_length(values) if pa.types.is_list(values.type) else None
        if lengths is None or values.null_count or not pa.compute.all(pa.compute.equal(lengths, length)).as_py():
            raise Damaged(f"{name} in {PARQUET} holds no lists of {length}")
        values = values.flatten()
    kind = pa.float32() if shape else pa.int64()
    if values.type != kind or values.null_count or len(values) != rows * int(np.prod(shape)):
        raise Damaged(f"{name} in {PARQUET} is of the type {values.type}, or has nulls")
    return np.array(values.to_numpy(zero_copy_only=False)).reshape(rows, *shape)
