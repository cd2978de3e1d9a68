"""Arrow tables in pieces: Parquet files, row group by row group, and a ``datasets.Dataset`` as it is in a notebook."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from gz_lightning.errors import InputError, reading

PARQUET_SUFFIXES = (".parquet", ".pq")
IMAGE_COLUMNS = ("image", "rgb_image", "img")
"""Columns that hold the pixels, the likeliest first; any other column of the same type will do if there is but one."""
PICTURES = 64
"""Images that are read at a time."""
MASK = ".mask"
"""What astropy adds to the name of a column for the booleans that say which of its cells are masked: it writes no nulls."""
BUFFER = 2**20
"""Bytes of a column that are read at a time: a row group may be as large as the file."""


class DatasetTable:
    """A ``datasets.Dataset``, known by its methods alone: that library is no requirement.

    Args:
        dataset: What ``load_dataset(..., split=...)`` gives; selected, shuffled or filtered as one likes.
        name: Its split, if it is one of several.
    """

    def __init__(self, dataset: Any, name: str = "") -> None:
        if not hasattr(dataset, "__len__"):
            raise InputError("the dataset is a stream; load it without streaming=True")
        self.name = name
        self.features, self.rows = dataset.features, len(dataset)
        self.arrow = dataset.with_format("arrow")
        self.fingerprint = str(getattr(dataset, "_fingerprint", ""))

    def __str__(self) -> str:
        return f"the dataset {self.name}".rstrip()


def is_dataset(value: Any) -> bool:
    """Whether something is a ``datasets.Dataset`` by its methods."""
    return all(hasattr(value, name) for name in ("features", "with_format", "column_names"))


class ArrowTable:
    """A table that is open: :func:`open_arrow` makes one.

    Attributes:
        source: Its file or :class:`DatasetTable`.
        schema: Its Arrow schema.
        names: Its columns.
        rows: How many rows it has.
    """

    def __init__(self, source: Path | DatasetTable, schema: Any, rows: int, file: Any = None) -> None:
        self.source, self.schema, self.rows, self.file = source, schema, rows, file
        self.names = [str(name) for name in schema.names]

    def batches(self, columns: Sequence[str], size: int, groups: Sequence[int] | None = None) -> Iterator[Any]:
        """Record batches of some columns, at most so many rows each; ``groups``: of these row groups alone."""
        if isinstance(self.source, DatasetTable):
            yield from self._slices(columns, size)
            return
        batches = self.file.iter_batches(batch_size=size, columns=list(columns), row_groups=groups)
        while True:
            with reading(self.source, "Parquet"):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _slices(self, columns: Sequence[str], size: int) -> Iterator[Any]:
        arrow = self.source.arrow.select_columns(list(columns))  # type: ignore[union-attr]
        for start in range(0, self.rows, size):
            yield from arrow[start : min(start + size, self.rows)].combine_chunks().to_batches()

    @functools.cached_property
    def image_column(self) -> str | None:
        """The column of the pixels: a struct with ``bytes`` or ``path``, or bytes; None: there is none.

        Raises:
            InputError: If several columns could be meant.
        """
        import pyarrow as pa

        def holds_images(kind: Any, name: str) -> bool:
            if pa.types.is_struct(kind):
                return {field.name for field in kind} in ({"bytes"}, {"path"}, {"bytes", "path"})
            return (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)) and name in IMAGE_COLUMNS

        found = [field.name for field in self.schema if holds_images(field.type, field.name)]
        named = [name for name in IMAGE_COLUMNS if name in found]
        if not named and len(found) > 1:
            raise InputError(f"{self.source} has images in the columns {', '.join(found)}; call the right one image")
        return (named or found or [None])[0]

    @functools.cached_property
    def class_labels(self) -> dict[str, list[str]]:
        """Columns that are ClassLabels of ``datasets`` -> the names of the classes that their numbers stand for."""
        if isinstance(self.source, DatasetTable):
            features = {name: getattr(feature, "names", []) for name, feature in self.source.features.items()}
        else:
            features = _described(self.schema.metadata or {})
        return {name: list(names) for name, names in features.items() if name in self.names and _are_names(names)}

    def frames(self, columns: Sequence[str], size: int) -> Iterator[pd.DataFrame]:
        """Some columns, so many rows at a time, as data frames; what is masked is NA, as nulls are.

        Whole numbers with nulls become objects, since doubles would round long ids.
        """
        masks = {column: column + MASK for column in columns if self._is_flag(column + MASK)}
        wanted = list(dict.fromkeys([*columns, *masks.values()]))
        for batch in self.batches(wanted, size):
            with reading(self.source, "Parquet"):
                frame: pd.DataFrame = batch.to_pandas(ignore_metadata=True, integer_object_nulls=True)
            for column, mask in masks.items():
                masked = frame[mask].fillna(False).astype(bool)
                if masked.any():
                    values = frame[column].astype(object) if frame[column].dtype.kind in "iub" else frame[column]
                    frame[column] = values.mask(masked)
            yield frame[list(columns)]

    def _is_flag(self, column: str) -> bool:
        return self.names.count(column) == 1 and str(self.schema.field(column).type) == "bool"

    @property
    def groups(self) -> list[int]:
        """Rows of each row group."""
        if self.file is None:
            return [self.rows]
        return [self.file.metadata.row_group(group).num_rows for group in range(self.file.metadata.num_row_groups)]

    def pictures(self, rows: npt.NDArray[np.int64]) -> Iterator[tuple[int, bytes | Path | str | None]]:
        """The images of some rows, in rising order; only the row groups that hold them are read.

        Args:
            rows: Rows from 0, rising.

        Yields:
            A row, and its bytes, or its path if it holds no bytes, or None if it holds neither.
        """
        import pyarrow as pa

        column, kind = self.image_column, None if self.image_column is None else self.schema.field(self.image_column).type
        if column is None:
            raise InputError(f"{self.source} has no column of images")
        if isinstance(self.source, DatasetTable):
            for start in range(0, len(rows), PICTURES):
                some = rows[start : start + PICTURES]
                batch = self.source.arrow.select_columns([column])[some.tolist()]
                yield from zip(some.tolist(), _contents(batch.column(column).combine_chunks()), strict=True)
            return
        assert kind is not None
        children = [f"{column}.{field.name}" for field in kind] if str(kind).startswith("struct") else [column]
        first = 0
        for group, number in enumerate(self.groups):
            wanted = rows[(rows >= first) & (rows < first + number)]
            at, last = first, first + number
            if len(wanted):
                for batch in self.batches(children, PICTURES, [group]):
                    here = wanted[(wanted >= at) & (wanted < at + len(batch))]
                    yield from zip(here.tolist(), _contents(batch.column(0).take(_indices(here - at))), strict=True)
                    at += len(batch)
                    if at > wanted[-1]:
                        break
                pa.default_memory_pool().release_unused()  # what a row group took, before the next one is read
            first = last

    def without_bytes(self) -> npt.NDArray[np.int64]:
        """Rows whose image holds no bytes. Row groups whose statistics say that all have them are not read."""
        found, first = list[int](), 0
        for group, number in enumerate(self.groups):
            if self._nulls(group) != 0:
                rows = np.arange(first, first + number)
                found += [row for row, content in self.pictures(rows) if not isinstance(content, bytes)]
            first += number
        return np.array(found, dtype=np.int64)

    def _nulls(self, group: int) -> int | None:
        """How many images of a row group lack bytes, by its statistics; None: they do not say."""
        if self.file is None:
            return None
        metadata = self.file.metadata.row_group(group)
        for place in range(metadata.num_columns):
            chunk = metadata.column(place)
            if chunk.path_in_schema in (f"{self.image_column}.bytes", self.image_column):
                known = chunk.statistics is not None and chunk.statistics.has_null_count
                return chunk.statistics.null_count if known else None
        return None


def _described(metadata: Any) -> dict[str, Any]:
    """What the metadata of ``datasets`` say of the names of each ClassLabel; nothing if another program wrote them."""
    with contextlib.suppress(ValueError, AttributeError, TypeError, KeyError, RecursionError):
        known = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {str(name): f.get("names") for name, f in known.items() if f.get("_type") == "ClassLabel"}
    return {}


def _are_names(names: Any) -> bool:
    return isinstance(names, list) and bool(names) and all(isinstance(name, str) for name in names)


def _indices(rows: npt.NDArray[np.int64]) -> Any:
    import pyarrow as pa

    return pa.array(rows)


def _contents(cells: Any) -> list[bytes | str | None]:
    """Bytes, else path, of each cell of an image column."""
    if not str(cells.type).startswith("struct"):
        return [cell.as_py() for cell in cells]
    values = [cell.as_py() or {} for cell in cells]
    return [value.get("bytes") if value.get("bytes") is not None else value.get("path") for value in values]


def beside(shard: Path | DatasetTable, path: str) -> Path | None:
    """The image that a shard names by its path, if it lies beside the shard or below; None: it does not.

    Paths are often those of another machine. Those of a dataset in memory are of this one, and are taken as they are.
    """
    if isinstance(shard, DatasetTable):
        return Path(path) if Path(path).is_file() else None
    parts = (PureWindowsPath(path) if "\\" in path else PurePosixPath(path)).parts
    if not parts or ".." in parts or "\0" in path:
        return None
    below = [shard.parent.joinpath(*parts)] if not Path(path).is_absolute() else []
    for place in (*below, shard.parent / parts[-1]):
        with contextlib.suppress(OSError):  # a name longer than any file's
            if place.is_file():
                return place
    return None


@contextlib.contextmanager
def open_arrow(source: Path | DatasetTable) -> Iterator[ArrowTable]:
    """Open a Parquet file or a dataset.

    Raises:
        InputError: If it cannot be read, or pyarrow is missing.
    """
    if isinstance(source, DatasetTable):
        yield ArrowTable(source, source.arrow[0:0].schema, source.rows)
        return
    if not source.is_file():  # a pipe would be waited for
        raise InputError(f"there is no table {source}")
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            f"{source} is a Parquet table; its reader is missing: pip install 'gz_lightning[parquet]'"
        ) from error
    with reading(source, "Parquet"):
        file = pyarrow.parquet.ParquetFile(source, buffer_size=BUFFER, pre_buffer=False, page_checksum_verification=True)
        table = ArrowTable(source, file.schema_arrow, file.metadata.num_rows, file)
    with file:
        yield table
