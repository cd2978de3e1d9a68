"""Images inside of larger files: Parquet shards, WebDataset tars, HDF5, and datasets of a notebook.

They are read in the order in which they are stored, so that every part of a file is read once, whatever the order of the
galaxies is.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from gz_lightning.data.archives import IMAGE_SUFFIXES, hdf5_pictures, is_hdf5, is_tar, tar_pictures
from gz_lightning.data.arrow import DatasetTable, beside, is_dataset, open_arrow
from gz_lightning.data.tables import Table, is_parquet, tables_of
from gz_lightning.errors import InputError

GROUP = 16
"""Images that are handed on at a time."""
NO_PIXELS = (
    "embed them where the images are (datasets: ds.with_format('arrow').map(datasets.table.embed_table_storage, "
    "batched=True), then to_parquet), or put the files beside the shard"
)
Content = Path | bytes | npt.NDArray[np.uint8] | None
"""An image: its file, the bytes of its file, its pixels (H, W, 3), or None where there are none."""


@dataclass(frozen=True, slots=True)
class Inside:
    """An image inside of a larger file.

    Args:
        file: The file.
        row: Its row, from 0.
    """

    file: Table
    row: int

    def __str__(self) -> str:
        return f"{self.file}, row {self.row + 1}"


class InsideImages(Sequence["Inside | Path"]):
    """Where each of N images is, in a few bytes for each.

    Args:
        files: The larger files.
        places: File of each image as a place in ``files``; shape (N,).
        rows: Row of each image in its file, from 0; shape (N,).
        outside: Images that are not inside after all, but files beside: number of the image -> its file.
    """

    def __init__(
        self,
        files: Sequence[Table],
        places: npt.NDArray[np.integer[Any]],
        rows: npt.NDArray[np.integer[Any]],
        outside: dict[int, Path] | None = None,
    ) -> None:
        self.files, self.places, self.rows, self.outside = tuple(files), places, rows, outside or {}

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Inside | Path: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Inside | Path]: ...
    def __getitem__(self, index: int | slice) -> Inside | Path | Sequence[Inside | Path]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        outside = self.outside.get(int(index))
        return outside or Inside(self.files[int(self.places[index])], int(self.rows[index]))

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> InsideImages:
        """Those in the places ``rows``, in this order."""
        moved = (
            {new: self.outside[old] for new, old in enumerate(rows.tolist()) if old in self.outside} if self.outside else {}
        )
        return InsideImages(self.files, self.places[rows], self.rows[rows], moved)


def containers_of(images: Any) -> list[Table] | None:
    """The larger files that a setting names: files, a folder of them, a pattern, datasets; None: it is a folder of images.

    Raises:
        InputError: As :func:`gz_lightning.data.tables.tables_of`.
    """
    if is_dataset(images) or isinstance(images, (dict, DatasetTable)):
        return tables_of(images)
    if isinstance(images, (list, tuple)):
        found = [containers_of(one) for one in images]
        if any(one is None for one in found):
            raise InputError("a list of images is one of Parquet, tar or HDF5 files; give a single folder of image files")
        return [table for tables in found if tables is not None for table in tables]
    path = Path(images)
    if path.is_file():
        return [path] if _is_container(path) else None
    if path.is_dir():
        return _below(path) or None
    matching = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))] if glob.has_magic(str(path)) else []
    return [table for one in matching for table in containers_of(one) or []] or None


def _below(folder: Path) -> list[Table]:
    """The larger files below a folder; none if there are images of their own as well."""
    found: list[Table] = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if any(name.lower().endswith(IMAGE_SUFFIXES) for name in names):  # there may be a million of them
            return []
        # A shard that is a broken link is one of them, and refused when it is opened.
        found += [Path(root, name) for name in sorted(names) if not name.startswith(".") and _is_container(Path(name))]
    return sorted(found, key=str)


def _is_container(path: Path) -> bool:
    return is_parquet(path) or is_tar(path) or is_hdf5(path)


def has_images(table: Table) -> bool:
    """Whether a table has its images inside."""
    if isinstance(table, Path) and not is_parquet(table):
        return _is_container(table)
    with open_arrow(table) as file:
        return file.image_column is not None


def without_pixels(table: Table, taken: dict[Path, tuple[PurePath, str]]) -> tuple[dict[int, Path], dict[int, str]]:
    """Images of a Parquet file or dataset that are given by path alone.

    Args:
        table: The file or dataset.
        taken: File -> the path that it was found for, and where that stands; for all shards the same, and added to.

    Returns:
        Row -> the file that was found beside the shard; row -> the path of one that was not, or nothing.

    Raises:
        InputError: If one file beside is found for two paths.
    """
    found: dict[int, Path] = {}
    lost: dict[int, str] = {}
    if isinstance(table, Path) and not is_parquet(table):
        return found, lost
    with open_arrow(table) as file:
        rows = file.without_bytes()
        for row, content in file.pictures(rows):
            place = beside(table, content) if isinstance(content, str) else None
            if place is None:
                lost[row] = content if isinstance(content, str) else ""
                continue
            path, where = PurePath(str(content)), f"{table}, row {row + 1}"
            one, other = taken.setdefault(place, (path, where))
            if one != path:
                raise InputError(
                    f"{other} names the image {one} and {where} the image {path}, but both are found as {place}; put the "
                    "files beside the shard in folders as its paths have them, or embed them"
                )
            found[row] = place
    return found, lost


def in_storage_order(files: Sequence[Inside | Path]) -> Iterator[tuple[list[int], list[Content]]]:
    """Images in groups of ``GROUP``: their places in ``files``, and their contents.

    Image files come in their order; of larger files, one after the other is read from its begin to its end.
    """
    own = [place for place, file in enumerate(files) if isinstance(file, Path)]
    for start in range(0, len(own), GROUP):
        group = own[start : start + GROUP]
        yield group, [Path(str(files[place])) for place in group]
    known: dict[Table, int] = {}
    inside = ((known.setdefault(f.file, len(known)), f.row, i) for i, f in enumerate(files) if isinstance(f, Inside))
    stored = np.fromiter(inside, np.dtype((np.int64, 3)))
    stored = stored[np.lexsort((stored[:, 1], stored[:, 0]))]
    for number, table in enumerate(known):
        _, rows, places = stored[stored[:, 0] == number].T
        group, contents = [], []
        for place, (_, content) in zip(places.tolist(), _contents(table, rows), strict=True):
            group.append(place)
            contents.append(content)
            if len(group) == GROUP:
                yield group, contents
                group, contents = [], []
        if group:
            yield group, contents


def _contents(table: Table, rows: npt.NDArray[np.int64]) -> Iterator[tuple[int, Content]]:
    """Images of some rows, rising, of one file."""
    if isinstance(table, Path) and is_tar(table):
        yield from tar_pictures(table, rows)
    elif isinstance(table, Path) and is_hdf5(table):
        yield from hdf5_pictures(table, rows)
    else:
        with open_arrow(table) as shard:
            for row, content in shard.pictures(rows):
                yield row, content if isinstance(content, bytes) else None
