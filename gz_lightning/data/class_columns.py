"""A column of classes beside the images: its names are the labels, as the folders of class folders are.

Shapes: N galaxies, K classes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gz_lightning.data.archives import CLASS, hdf5_side, is_hdf5
from gz_lightning.data.arrow import DatasetTable, open_arrow
from gz_lightning.data.catalog import Catalog, ordered_classes
from gz_lightning.data.object_ids import EXACT, check_all_have_ids, check_ids, id_column, repeats, some
from gz_lightning.data.pictures import Rows, check_all_rounded, find_images, shard_splits, without_repeats
from gz_lightning.data.tables import Table, column_names, first_row, is_parquet, read_rows, stems, tables_of
from gz_lightning.data.tree import Tree, leaf_folder
from gz_lightning.errors import InputError
from gz_lightning.settings import AnyTable
from gz_lightning.storage.text import short

CLASS_COLUMNS = ("label", "labels", "class", "class_name", "summary", "gz10_label", "ans", CLASS)
"""Columns that are taken for classes by their name, the likeliest first."""
MOST_CLASSES = 1000
RARE = 5
"""Galaxies below which a class that is known by its galaxies alone may be a slip of the pen, if most classes have more."""
GALAXY10_DECALS = (
    *("Disturbed", "Merging", "Round Smooth", "In-between Round Smooth", "Cigar Shaped Smooth", "Barred Spiral"),
    *("Unbarred Tight Spiral", "Unbarred Loose Spiral", "Edge-on without Bulge", "Edge-on with Bulge"),
)
"""The classes of Galaxy10 DECaLS by their numbers."""
GALAXY10_SIDE = 256
"""Height of the images of Galaxy10 DECaLS in pixels; Galaxy10 SDSS, which has other classes, is smaller."""


def class_labels(table: Table) -> dict[str, list[str]]:
    """Columns of whole numbers that stand for classes -> the names of the classes."""
    header = column_names(table)
    if isinstance(table, DatasetTable) or is_parquet(table):
        with open_arrow(table) as file:
            known = file.class_labels
    else:
        known = {}
    if "gz10_label" in header or ("ans" in header and isinstance(table, Path) and _is_galaxy10(table)):
        known = {"gz10_label": list(GALAXY10_DECALS), "ans": list(GALAXY10_DECALS)} | known
    return {name: names for name, names in known.items() if name in header}


def _is_galaxy10(table: Path) -> bool:
    return is_hdf5(table) and hdf5_side(table)[1] == GALAXY10_SIDE


def class_column(tables: Any) -> str | None:
    """The column of classes of some tables: a ClassLabel of ``datasets``, else a name that is known; None: none is."""
    table = tables_of(tables)[0]
    labelled, header = list(class_labels(table)), column_names(table)
    return next((name for name in CLASS_COLUMNS if name in header), labelled[0] if len(labelled) == 1 else None)


def catalog_from_classes(
    tables: Any,
    images: AnyTable | list[Any] | None = None,
    column: str | None = None,
    tree: str | Tree | None = None,
    mapping: str | Path | None = None,
    max_missing: float = 0.05,
) -> Catalog:
    """Galaxies of tables with a column of classes; every class has the confidence 1.

    A galaxy whose class is missing, empty or -1 (as ``datasets`` marks it) is left out and counted. A class of a few
    galaxies beside larger ones is noted, unless the table or the tree knows its name.

    Args:
        tables: One table or several, see :func:`gz_lightning.data.tables.tables_of`.
        images: As for :func:`gz_lightning.data.vote_catalog.catalog_from_votes`.
        column: The column of classes. Default: see :func:`class_column`.
        tree: The tree whose leaves the classes are. Default: the tree whose leaves are called like the classes or, if there
            is none, the classes in the order of their numbers or of the alphabet.
        mapping: As for :func:`gz_lightning.data.vote_catalog.catalog_from_votes`.
        max_missing: As there.

    Raises:
        InputError: If a table lacks the column, or object ids that another has; if a class has no name, is none of those
            that another table names, or is no leaf of ``tree``, or there are fewer than two; as
            :func:`gz_lightning.data.pictures.find_images`.
    """
    sources = tables_of(tables)
    column = class_column(sources) if column is None else column
    if column is None:
        raise InputError(f"{sources[0]} has no column of classes ({', '.join(CLASS_COLUMNS)}); name it with --class_column")
    ids, names, places, rows, known = [], [], [], [], list[str]()
    called_rows, headers = stems(sources), [column_names(table) for table in sources]
    own = [id_column(header) for header in headers]
    check_all_have_ids(sources, own)
    for place, (table, header, id_name) in enumerate(zip(sources, headers, own, strict=True)):
        if column not in header:
            raise InputError(f"{table} has no column {column}; its columns are {some(header, 8)}")
        labels = class_labels(table).get(column)
        if id_name is None and images is not None:
            raise InputError(f"{table} has no object ids, by which the images belong to its rows")
        known += [name for name in labels or [] if name not in known]
        row = first = first_row(table)
        for piece in read_rows(table, [name for name in (id_name, column) if name], [id_name] if id_name else []):
            numbers = np.arange(row - first, row - first + len(piece), dtype=np.int32)
            ids.append(
                check_ids(table, piece[id_name], row)
                if id_name
                else pd.Series([f"{called_rows[place]}:{number + 1}" for number in numbers], dtype="string")
            )
            names.append(_names(table, piece[column], row, labels))
            places.append(np.full(len(piece), place, dtype=np.int16))
            rows.append(numbers)
            row += len(piece)
    if not any(map(len, ids)):
        raise InputError(f"{sources[0]} holds no galaxy")
    galaxies = Rows(sources, pd.concat(ids, ignore_index=True), np.concatenate(places), np.concatenate(rows))
    check_all_rounded(galaxies, own)
    called = pd.concat(names, ignore_index=True)
    without = called.isna().to_numpy()
    if without.all():
        raise InputError(f"the column {column} of {galaxies} is empty")
    notes = [f"{int(without.sum())} galaxies left out, whose {column} is empty or -1"] if without.any() else []
    galaxies, called = galaxies.keep(~without), called[~without].reset_index(drop=True)
    classes = known or _in_order(called.unique().tolist())
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise InputError(f"the column {column} of {galaxies} has {len(classes)} classes; is it the column of classes?")
    unknown = ~called.isin(classes).to_numpy()
    if unknown.any():
        place = int(unknown.argmax())
        raise InputError(
            f"{galaxies.where(place)}, column {column}: {short(called[place])} is none of the classes {some(classes, 10)}, "
            f"which another file gives the names of ({int(unknown.sum())} such rows); give all files the same names, or "
            "prepare them apart"
        )
    tree_name, class_names, order = _order(f"the column {column} of {galaxies}", classes, tree)
    label = pd.Index(order).get_indexer(pd.Index([leaf_folder(name) for name in classes]))
    numbers = label[pd.Index(classes).get_indexer(pd.Index(called))]
    repeated = repeats(galaxies.ids, [numbers], [column], galaxies.where)
    if repeated.any():
        notes.append(f"{int(repeated.sum())} rows repeat another of the same object id, and count once")
        kept = without_repeats(galaxies, repeated, images, mapping)
        galaxies, numbers = galaxies.keep(kept), numbers[kept]
    counts = np.bincount(numbers, minlength=len(class_names))
    rare = [f"{name} ({count})" for name, count in zip(class_names, counts, strict=True) if count < RARE]
    if rare and not known and not tree_name and np.median(counts) >= RARE:
        notes.append(f"classes with fewer than {RARE} galaxies, as a slip of the pen makes them: {some(rare, 10)}")
    files, used, missing = find_images(galaxies, images, mapping, max_missing)
    splits = shard_splits(sources) if images is None else None
    galaxies, numbers = galaxies.keep(used), numbers[used]
    return Catalog(
        tree=tree_name,
        class_names=class_names,
        object_ids=tuple(galaxies.ids),
        confidences=np.eye(len(class_names), dtype=np.float32)[numbers],
        files=files,
        splits=None if splits is None else [splits[place] for place in galaxies.places],
        missing=missing,
        notes=tuple(notes),
    )


def _order(where: str, classes: Sequence[str], tree: str | Tree | None) -> tuple[str, tuple[str, ...], list[str]]:
    """As :func:`ordered_classes`, for classes by their names."""
    folders = [leaf_folder(name) for name in classes]
    if len(set(folders)) < len(folders) or "" in folders:
        raise InputError(f"{where} has the classes {some(list(classes), 10)}, of which two are alike or one has no letters")
    return ordered_classes(where, folders, tree, classes)


def _in_order(names: list[str]) -> list[str]:
    """Names by the alphabet; if all are whole numbers, by these."""
    numbers = all(re.fullmatch(r"-?\d{1,18}", name) for name in names)
    return sorted(names, key=lambda name: (int(name) if numbers else 0, name))


def _may_be_class(value: Any) -> bool:
    return isinstance(value, (str, bytes, int, np.integer)) and not isinstance(value, bool)


def _names(table: Table, values: pd.Series[Any], row: int, labels: list[str] | None) -> pd.Series[str]:
    """Names of the classes of a piece; NA where there is none."""
    if labels is None:
        if values.dtype.kind == "f":
            exact = values.astype("float64")  # half precision does not hold the bound
            if (exact.isna() | (exact % 1 == 0) & (exact.abs() < EXACT)).all():
                values = exact.astype("Int64")  # whole numbers beside empty cells
        if values.dtype.kind in "fcbmM" and values.notna().any():
            raise InputError(f"{table}: the column {values.name} holds {values.dtype} values, which are no classes")
        wrong = values.notna() & ~values.map(_may_be_class) if values.dtype == object else pd.Series(False, values.index)
        if wrong.any():
            place = int(wrong.to_numpy().argmax())
            raise InputError(
                f"{table}, row {row + place}, column {values.name}: {short(values.iloc[place])} is no class; classes are "
                f"text or whole numbers ({int(wrong.sum())} such rows from there on)"
            )
        try:
            return values.astype("string").str.strip().replace(["", "-1"], pd.NA)
        except (UnicodeDecodeError, ValueError) as error:
            raise InputError(f"{table}: the column {values.name} holds what is no text: {error}") from error
    numbers = pd.to_numeric(values, errors="coerce")
    wrong = values.notna() & (numbers.isna() | (numbers < -1) | (numbers >= len(labels)) | (numbers % 1 != 0))
    if wrong.any():
        place = int(wrong.to_numpy().argmax())
        raise InputError(
            f"{table}, row {row + place}, column {values.name}: {short(values.iloc[place])} is none of {len(labels)} "
            f"classes ({int(wrong.sum())} such rows from there on)"
        )
    named = pd.Series(labels, dtype="string")
    at = numbers.fillna(-1).astype("int64").to_numpy()
    return pd.Series(named.reindex(at).to_numpy(object), index=values.index).astype("string")
