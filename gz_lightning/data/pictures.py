"""Which image belongs to which galaxy of a table: inside the table, inside of other files, or in a folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from gz_lightning.data.class_folders import SPLIT_FOLDERS, image_files
from gz_lightning.data.embedded import NO_PIXELS, Content, InsideImages, in_storage_order, without_pixels
from gz_lightning.data.object_ids import check_ids, check_joined, check_rounded, id_column, read_mapping, some
from gz_lightning.data.tables import Table, column_names, first_row, read_rows
from gz_lightning.errors import InputError, reading


@dataclass
class Rows:
    """The rows of some tables.

    Args:
        tables: The tables.
        ids: N object ids.
        places: Table of each row as a place in ``tables``, shape (N,).
        rows: Row of each in its table, from 0, shape (N,).
        named: Path of each image below the image folder, if the tables say.
    """

    tables: list[Table]
    ids: pd.Series[str]
    places: npt.NDArray[np.int16]
    rows: npt.NDArray[np.int32]
    named: pd.Series[Any] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def where(self, galaxy: int) -> str:
        """Table and row of a galaxy, as editors count."""
        table = self.tables[int(self.places[galaxy])]
        return f"{table}, row {first_row(table) + int(self.rows[galaxy])}"

    def __str__(self) -> str:
        return " and ".join([str(table) for table in self.tables[:3]] + ["..."] * (len(self.tables) > 3))

    def keep(self, used: npt.NDArray[np.bool_]) -> Rows:
        """Some of them, shape (N,)."""
        named = None if self.named is None else self.named[used].reset_index(drop=True)
        return Rows(self.tables, self.ids[used].reset_index(drop=True), self.places[used], self.rows[used], named)


def shard_splits(tables: Sequence[Table]) -> list[str] | None:
    """The split of each shard, if all are named by one: ``train-00000-of-00005.parquet`` or ``test/0000.parquet``.

    Returns:
        Splits, or None if a shard is named by none, or none is named ``train``, or all are.
    """
    found = []
    for table in tables:
        own = table.name.replace("_", "-").replace(".", "-").partition("-")[0]
        names = [own, table.parent.name] if isinstance(table, Path) else [own]
        splits = [SPLIT_FOLDERS[name.lower()] for name in names if name.lower() in SPLIT_FOLDERS]
        if not splits:
            return None
        found.append(splits[0])
    return found if "train" in found and len(set(found)) > 1 else None


def find_images(
    galaxies: Rows, images: str | Path | list[Table] | None, mapping: str | Path | None, max_missing: float
) -> tuple[Sequence[Any], npt.NDArray[np.bool_], dict[str, str]]:
    """The image of each galaxy.

    Args:
        galaxies: N galaxies.
        images: Folder of images; larger files that hold them, with object ids; None: they are inside the tables.
        mapping: As for :func:`gz_lightning.data.vote_catalog.catalog_from_votes`.
        max_missing: Share of galaxies, 0 to 1, that may lack an image.

    Returns:
        The images of those that have one; which these are, shape (N,); object ids of the others -> what to say of them.

    Raises:
        InputError: If more than ``max_missing`` of the galaxies have no image (counted, some are listed), or images that
            have different paths in a table are one file.
    """
    lost, likely = "", dict[str, str]()
    if images is None:
        where, hint, (files, used, lost) = "inside", NO_PIXELS, _inside(galaxies)
    elif isinstance(images, list):
        where = f"in {some([str(image) for image in images], 3)}"
        hint, (files, used, likely) = _other_ids(galaxies.tables[0], images[0]), _joined(galaxies, images)
    else:
        where, hint = f"in {images}", f"check the folder{'' if mapping is None else f' and {mapping}'}"
        files, used, likely = _in_folder(galaxies, images, mapping)
    lacking = int((~used).sum())
    if lacking > max_missing * len(galaxies) or lacking == len(galaxies):
        allow = "" if lacking == len(galaxies) else ", or allow it with --max_missing 1"
        raise InputError(
            f"{lacking} of the {len(galaxies)} galaxies of {galaxies} have no image {where} "
            f"(object ids {some(galaxies.ids[~used].tolist())}){lost}; {hint}{allow}"
        )
    there = where.removeprefix("in ") if mapping is None else str(mapping)
    why = {i: f"has no image; {there} has {other}" for i, other in likely.items()}
    return files, used, {i: why.get(i, "has no image") for i in galaxies.ids[~used]}


def without_repeats(
    galaxies: Rows, repeated: npt.NDArray[np.bool_], images: str | Path | list[Table] | None, mapping: str | Path | None
) -> npt.NDArray[np.bool_]:
    """Which rows to keep of those of one object id, shape (N,): the first that has an image.

    Args:
        galaxies: N rows.
        repeated: Which repeat an earlier one in their labels, shape (N,).
        images: As for :func:`find_images`.
        mapping: As there.

    Raises:
        InputError: If rows that repeat each other have images of their own that differ.
    """
    keep = ~repeated
    by_row = images is None or (isinstance(images, (str, Path)) and mapping is None and galaxies.named is not None)
    if not repeated.any() or not by_row:  # else the image is that of the object id
        return keep
    several = galaxies.ids.isin(galaxies.ids[repeated]).to_numpy()
    alike = galaxies.keep(several)
    files, used = _inside(alike)[:2] if images is None else _in_folder(alike, images, None)[:2]  # type: ignore[arg-type]
    at, digests = np.flatnonzero(several)[used], dict[int, bytes]()
    for group, contents in in_storage_order(files):
        found = zip(at[group].tolist(), map(_digest, contents), strict=True)
        digests.update({row: digest for row, digest in found if digest is not None})
    chosen, differing = dict[str, int](), list[tuple[int, int]]()
    for row in sorted(digests):
        first = chosen.setdefault(galaxies.ids[row], row)
        if digests[row] != digests[first]:
            differing.append((first, row))
    if differing:
        one, other = differing[0]
        raise InputError(
            f"{len(differing)} rows have the object id and the labels of another but not its image, such as "
            f"{galaxies.ids[one]} in {galaxies.where(one)} and {galaxies.where(other)}; keep one of them"
        )
    keep[galaxies.ids.isin(chosen.keys()).to_numpy()] = False
    keep[list(chosen.values())] = True
    return keep


def _digest(content: Content) -> bytes | None:
    """Tells images apart; None: there is none."""
    if isinstance(content, Path):
        with reading(content, "image", (OSError,)):
            content = content.read_bytes()
    if content is None or not len(content):
        return None
    return hashlib.sha256(content if isinstance(content, bytes) else content.tobytes()).digest()


def _inside(galaxies: Rows) -> tuple[Sequence[Any], npt.NDArray[np.bool_], str]:
    used, outside, lost = np.ones(len(galaxies), dtype=bool), {}, ""
    taken: dict[Path, tuple[PurePath, str]] = {}
    for place, table in enumerate(galaxies.tables):
        beside, gone = without_pixels(table, taken)
        if not beside and not gone:
            continue
        here = np.flatnonzero(galaxies.places == place)
        of_row = dict(zip(galaxies.rows[here].tolist(), here.tolist(), strict=True))
        outside.update({of_row[row]: path for row, path in beside.items() if row in of_row})
        for row, path in gone.items():
            if row in of_row:
                used[of_row[row]] = False
                lost = lost or (f", such as {path}, which is given by its path alone" if path else "")
    found = InsideImages(galaxies.tables, galaxies.places, galaxies.rows, outside)
    return (found if used.all() else found.take(np.flatnonzero(used))), used, lost


def _joined(galaxies: Rows, images: list[Table]) -> tuple[Sequence[Any], npt.NDArray[np.bool_], dict[str, str]]:
    """Images inside of other files, by object id."""
    ids, places, rows = [], [], []
    for place, table in enumerate(images):
        column = id_column(column_names(table))
        if column is None:
            raise InputError(f"{table} has images but no object ids, by which they belong to {galaxies}")
        row = first_row(table)
        for piece in read_rows(table, [column], [column]):
            ids.append(check_ids(table, piece[column], row))
            rows.append(np.arange(row - first_row(table), row - first_row(table) + len(piece), dtype=np.int32))
            places.append(np.full(len(piece), place, dtype=np.int16))
            row += len(piece)
    if not ids:
        raise InputError(f"{some([str(table) for table in images])} holds no row")
    joined = Rows(images, pd.concat(ids, ignore_index=True), np.concatenate(places), np.concatenate(rows))
    twice = joined.ids.duplicated()
    if twice.any():
        other = int(twice.to_numpy().argmax())
        one = int((joined.ids == joined.ids.iloc[other]).to_numpy().argmax())
        raise InputError(
            f"{int(twice.sum())} object ids have several images, such as {joined.ids.iloc[one]} in {joined.where(one)} and "
            f"{joined.where(other)}; keep one of them"
        )
    at = pd.Index(joined.ids).get_indexer(pd.Index(galaxies.ids))
    used: npt.NDArray[np.bool_] = at >= 0
    likely: dict[str, str] = {}
    if used.any() and not used.all():  # of none, the columns are others
        likely = check_joined(str(galaxies), galaxies.ids.tolist(), str(joined), set(joined.ids))
    outside, gone, taken = {}, set(), dict[Path, tuple[PurePath, str]]()
    for place, table in enumerate(images):
        beside, lost = without_pixels(table, taken)
        first = int(np.flatnonzero(joined.places == place)[0]) if (joined.places == place).any() else 0
        outside.update({first + row: path for row, path in beside.items()})
        gone |= {first + row for row in lost}
    used &= ~np.isin(at, list(gone))
    moved = {new: outside[old] for new, old in enumerate(at[used].tolist()) if old in outside}
    found = InsideImages(images, joined.places[at[used]], joined.rows[at[used]], moved)
    return found, used, likely


def _other_ids(table: Table, images: Table) -> str:
    """What to do if no image of a file belongs to a table."""
    header = column_names(table)
    ours, theirs = id_column(header), id_column(column_names(images))
    if ours is None or theirs is None or ours.lower() == theirs.lower():
        return "are these the images of this table?"
    if common := next((name for name in header if name.lower() == theirs.lower()), None):
        return f"{table} is joined by its {ours} to the {theirs} of {images}; leave out {ours}, so that {common} is taken"
    return f"{table} is joined by its {ours} to the {theirs} of {images}; give both the same ids"


def _in_folder(
    galaxies: Rows, images: str | Path, mapping: str | Path | None
) -> tuple[Sequence[Any], npt.NDArray[np.bool_], dict[str, str]]:
    likely: dict[str, str] = {}
    if mapping is None and galaxies.named is not None:
        if not Path(images).is_dir():
            raise InputError(f"there is no image folder {images}")
        named = [Path(images) / str(name) for name in galaxies.named]
        files: list[Path | None] = [path if os.path.isfile(path) else None for path in named]
    else:
        assets = None if mapping is None else read_mapping(mapping)
        known = image_files(images)
        theirs, others = (str(images), known) if assets is None else (str(mapping), set(assets.index))
        likely = check_joined(str(galaxies), galaxies.ids.tolist(), theirs, others)
        stems = galaxies.ids if assets is None else galaxies.ids.map(assets)
        files = [known.get(stem) if isinstance(stem, str) else None for stem in stems.tolist()]
    used = np.array([file is not None for file in files], dtype=bool)
    return tuple(file for file in files if file is not None), used, likely


def check_all_rounded(galaxies: Rows, columns: Sequence[str | None]) -> None:
    """Refuse a table whose long ids have lost their last digits; ``columns``: the column of each table's ids."""
    for place, column in enumerate(columns):
        if column is not None:
            check_rounded(galaxies.tables[place], column, galaxies.ids[galaxies.places == place])
