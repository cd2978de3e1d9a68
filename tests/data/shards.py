"""Small tables with pictures inside, built to the layouts that they are published in."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gz_lightning.data.schema import Schema, known_schema
from gz_lightning.data.tree import TREES, Tree

FIRST_ID = 587722981736120347
SIDE = 32


def picture(number: int, side: int = SIDE) -> bytes:
    """A JPEG of one shade of red and gradients in green and blue, another for every number."""
    ramp = np.linspace(0, 255, side).astype(np.uint8)
    pixels = np.stack([np.full((side, side), (37 * number) % 256, np.uint8), *np.meshgrid(ramp, ramp)], axis=-1)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=95)
    return file.getvalue()


def counts(number: int, tree: Tree = TREES["coarse5"], infix: str = "-gz2", total: int = 40) -> dict[str, list[int]]:
    """Counts of votes in the naming of galaxy-datasets: most on a path to leaf i modulo K."""
    schema: Schema = tree.schema
    naming = next(
        n for n in schema.namings if n.name.startswith("galaxy-datasets") and infix in n.totals["smooth-or-featured"]
    )
    columns: dict[str, list[int]] = {}
    for answer, column in naming.counts.items():
        siblings = schema.siblings(answer)
        taken = [set(tree.leaves[i % len(tree)].paths[0].split()) for i in range(number)]
        rest = total // (5 * max(len(siblings) - 1, 1))
        columns[column] = []
        for path in taken:
            chosen = next((other for other in siblings if other in path), siblings[0])
            columns[column].append(total - rest * (len(siblings) - 1) if answer == chosen else rest)
    return columns


def gz2_rows(number: int, fractions: bool = False, ids: bool = True) -> dict[str, Any]:
    """Columns of ``mwalmsley/gz2`` beside the picture; later versions have ids and fractions."""
    rows: dict[str, Any] = {}
    if ids:
        rows |= {"id_str": [str(FIRST_ID + i) for i in range(number)], "dataset_name": ["gz2"] * number}
        rows |= {"ra": [1.5] * number, "dec": [-0.5] * number}
    for column, values in counts(number).items():
        rows[column] = np.array(values, np.int32)
    if fractions:
        schema = known_schema("gz2")
        naming = schema.namings[1]
        for answer, column in naming.counts.items():
            total = sum(rows[naming.counts[other]] for other in schema.siblings(answer))
            rows[f"{column}_fraction"] = (rows[column] / total).astype(np.float32)
            rows[naming.totals[schema.asks(answer)]] = total.astype(np.int32)
    return rows


def write_shard(
    path: Path,
    rows: dict[str, Any],
    pictures: Sequence[bytes | None] | None = None,
    paths: Sequence[str | None] | None = None,
    column: str = "image",
    labels: dict[str, list[str]] | None = None,
    row_group_size: int | None = 5,
) -> Path:
    """A Parquet file as ``datasets`` writes it: a struct of bytes and path, names of classes in the metadata."""
    pa = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    import pyarrow.parquet as pq

    number = len(next(iter(rows.values())))
    pictures = [picture(i) for i in range(number)] if pictures is None else pictures
    cells = [{"bytes": b, "path": p} for b, p in zip(pictures, paths or [None] * number, strict=True)]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({column: pa.array(cells, struct), **{name: pa.array(values) for name, values in rows.items()}})
    if labels is not None:
        features = {column: {"_type": "Image"}} | {n: {"names": names, "_type": "ClassLabel"} for n, names in labels.items()}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def write_folder(folder: Path, number: int) -> tuple[Path, Path]:
    """The same galaxies as a CSV and a folder of images named by object id."""
    (folder / "images").mkdir(parents=True)
    for i in range(number):
        (folder / "images" / f"{FIRST_ID + i}.jpg").write_bytes(picture(i))
    pd.DataFrame(gz2_rows(number)).to_csv(folder / "votes.csv", index=False)
    return folder / "votes.csv", folder / "images"


def write_tar(path: Path, number: int, **more: bytes) -> Path:
    """A WebDataset as galaxy-datasets writes it: ``<id>.image.jpg`` and ``<id>.labels.json``."""
    rows = gz2_rows(number)
    with tarfile.open(path, "w") as archive:
        for i in range(number):
            labels = {
                name: int(rows[name][i]) for name in rows if "_" in name and name.startswith(("smooth", "how", "disk"))
            }
            labels |= {name: int(rows[name][i]) for name in rows if name.startswith(("bar", "has", "bulge"))}
            members = {"image.jpg": picture(i), "labels.json": json.dumps(labels).encode(), **more}
            for ending, content in members.items():
                member = tarfile.TarInfo(f"{rows['id_str'][i]}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def write_galaxy10(path: Path, number: int = 20, side: int = SIDE) -> Path:
    """Galaxy10 as its HDF5 file: ``images`` and ``ans``."""
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(picture(i, side)))) for i in range(number)])
    with h5py.File(path, "w") as file:
        file["images"] = pixels
        file["ans"] = (np.arange(number) % 10).astype(np.uint8)
        file["ra"] = np.linspace(0, 1, number)
    return path


class Dataset:
    """What this package uses of a ``datasets.Dataset``: rows by number and slice as Arrow, columns, features."""

    def __init__(self, table: Any, features: dict[str, Any], rows: Any = None) -> None:
        self.table, self.features = table, features
        self._fingerprint = "0123456789abcdef"

    @property
    def column_names(self) -> list[str]:
        return [str(name) for name in self.table.column_names]

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def with_format(self, kind: str) -> Dataset:
        assert kind == "arrow"
        return self

    def select_columns(self, columns: list[str]) -> Dataset:
        return Dataset(self.table.select(columns), self.features)

    def __getitem__(self, rows: slice | list[int]) -> Any:
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            return self.table.slice(start, stop - start)
        return self.table.take(rows)
