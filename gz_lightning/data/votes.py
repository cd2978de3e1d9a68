"""Vote tables of every origin -> one row per galaxy: object id and the vote fraction of each answer.

The layout of a table is recognised by its columns:

==================  ==================================  =====================================================
layout              object id                           votes
==================  ==================================  =====================================================
``gz2``             ``dr7objid`` or ``objid``           ``t01_smooth_or_features_a01_smooth_fraction``, ... of
                                                        Willett et al. (2013), Hart et al. (2016) and the SDSS
                                                        tables ``zoo2MainSpecz``, as CSV or FITS
``galaxy-datasets`` ``id_str``                          ``smooth-or-featured-gz2_smooth_fraction``, ...
``kaggle``          ``GalaxyID``                        ``Class1.1`` .. ``Class11.6``, already multiplied down
                                                        the tree
==================  ==================================  =====================================================
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from gz_lightning.data.tables import column_names, first_row, read_rows
from gz_lightning.data.tree import ANSWERS, Tree, get_tree
from gz_lightning.errors import InputError
from gz_lightning.settings import check_name
from gz_lightning.storage.text import short

VoteKind = Literal["weighted_fraction", "fraction", "debiased"]
LONG_ID = re.compile(r"\d{17,18}")
"""An object id of SDSS, which is larger than the whole numbers of a double."""
FEW = 4
"""As many ids are not all round by chance: one of 128 is."""
VOTE_KINDS: tuple[VoteKind, ...] = get_args(VoteKind)
"""Kinds of votes; by default the first that a table has."""
ROUNDING = 2e-3
"""How far a product may pass its parent in a table that is rounded to three digits."""
MOST_CONFIDENT, MOST_DEBIASED = 1.1, 10.0
"""Largest confidence of a leaf. Debiased votes on one question need not add up to 1: in Hart et al. (2016) they reach 1.80
(t01) and 2.44 (t08), and a leaf with paths over several questions their product."""

GALAXY_DATASETS = {
    "a01": "smooth-or-featured-gz2_smooth",
    "a02": "smooth-or-featured-gz2_featured-or-disk",
    "a03": "smooth-or-featured-gz2_artifact",
    "a04": "disk-edge-on-gz2_yes",
    "a05": "disk-edge-on-gz2_no",
    "a06": "bar-gz2_yes",
    "a07": "bar-gz2_no",
    "a08": "has-spiral-arms-gz2_yes",
    "a09": "has-spiral-arms-gz2_no",
    "a10": "bulge-size-gz2_no",
    "a11": "bulge-size-gz2_just-noticeable",
    "a12": "bulge-size-gz2_obvious",
    "a13": "bulge-size-gz2_dominant",
    "a14": "something-odd-gz2_yes",
    "a15": "something-odd-gz2_no",
    "a16": "how-rounded-gz2_round",
    "a17": "how-rounded-gz2_in-between",
    "a18": "how-rounded-gz2_cigar",
    "a25": "bulge-shape-gz2_round",
    "a26": "bulge-shape-gz2_boxy",
    "a27": "bulge-shape-gz2_no-bulge",
    "a28": "spiral-winding-gz2_tight",
    "a29": "spiral-winding-gz2_medium",
    "a30": "spiral-winding-gz2_loose",
    "a31": "spiral-arm-count-gz2_1",
    "a32": "spiral-arm-count-gz2_2",
    "a33": "spiral-arm-count-gz2_3",
    "a34": "spiral-arm-count-gz2_4",
    "a36": "spiral-arm-count-gz2_more-than-4",
    "a37": "spiral-arm-count-gz2_cant-tell",
}
"""Answer -> column of counts in the catalogues of galaxy-datasets, which lack the question on odd features."""

# The answers to each question in the order of the Kaggle classes, and the class by which their numbers are multiplied.
_KAGGLE_QUESTIONS = (
    ("a01 a02 a03", None),
    ("a04 a05", "Class1.2"),
    ("a06 a07", "Class2.2"),
    ("a08 a09", "Class2.2"),
    ("a10 a11 a12 a13", "Class2.2"),
    ("a14 a15", None),  # asked of every galaxy, and brought back to a sum of 1 in the published revision
    ("a16 a17 a18", "Class1.1"),
    ("a19 a20 a21 a22 a23 a24 a38", "Class6.1"),
    ("a25 a26 a27", "Class2.1"),
    ("a28 a29 a30", "Class4.1"),
    ("a31 a32 a33 a34 a36 a37", "Class4.1"),
)
KAGGLE = {
    answer: (f"Class{question}.{place}", parent)
    for question, (answers, parent) in enumerate(_KAGGLE_QUESTIONS, 1)
    for place, answer in enumerate(answers.split(), 1)
}
"""Answer -> its column in the solutions of the Kaggle Galaxy Challenge, and the column by which that is multiplied."""


@dataclass(frozen=True)
class Layout:
    """The columns of a vote table.

    Args:
        name: ``gz2``, ``galaxy-datasets`` or ``kaggle``.
        object_id: Column of object ids.
        columns: Kind of votes -> answer -> column of its vote fraction.
        parents: Answer -> column by which its numbers are multiplied.
        classifications: Column with the number of volunteers who looked at the galaxy; None: the table has none.
        folder: Column with the folder of the image; None: the table has none.
        file: Column with the name of the image; None: the table has none.
    """

    name: str
    object_id: str
    columns: dict[str, dict[str, str]]
    parents: dict[str, str] = field(default_factory=dict)
    classifications: str | None = None
    folder: str | None = None
    file: str | None = None


def layout_of(table: str | Path) -> Layout:
    """The layout of a vote table, from its columns.

    Raises:
        InputError: If the table cannot be read or its layout is unknown.
    """
    header = column_names(Path(table))

    def if_there(column: str) -> str | None:
        return column if column in header else None

    if {"GalaxyID", "Class1.1"} <= set(header):
        parents = {answer: parent for answer, (_, parent) in KAGGLE.items() if parent is not None}
        columns = {"weighted_fraction": {answer: column for answer, (column, _) in KAGGLE.items()}}
        return Layout("kaggle", "GalaxyID", columns, parents)
    if "id_str" in header and any(column.startswith("smooth-or-featured-gz2_") for column in header):
        return Layout(
            "galaxy-datasets",
            "id_str",
            {"fraction": {answer: f"{column}_fraction" for answer, column in GALAXY_DATASETS.items()}},
            classifications=if_there("smooth-or-featured-gz2_total-votes"),
            folder=if_there("subfolder"),
            file=if_there("filename"),
        )
    object_id = if_there("dr7objid") or if_there("objid")
    if object_id is None:
        raise InputError(
            f"{table} has no object id column (dr7objid or objid of Galaxy Zoo 2, id_str of galaxy-datasets, GalaxyID of "
            f"Kaggle); its first columns are {some(header)}"
        )
    columns = {kind: {answer: f"{stem}_{kind}" for answer, stem in ANSWERS.items()} for kind in VOTE_KINDS}
    return Layout("gz2", object_id, columns, classifications=if_there("total_classifications"))


def some(items: Sequence[str], most: int = 5) -> str:
    """The first few items, for a message."""
    return ", ".join(items[:most]) + (", ..." if len(items) > most else "")


def read_votes(table: str | Path, tree: str | Tree, votes: VoteKind | None = None) -> pd.DataFrame:
    """Read the votes of a table of any layout (CSV, plain or compressed; FITS; Parquet) in pieces.

    Args:
        table: The table, such as ``gz2_hart16.csv.gz``.
        tree: The tree, whose answers are read.
        votes: Which votes. Default: the first of ``weighted_fraction``, ``fraction`` and ``debiased`` that the table has
            for every answer. Kaggle's probabilities are weighted fractions; galaxy-datasets has plain ones.

    Returns:
        One row per galaxy: the column ``object_id`` (string), one column per answer (``a01``, ...) in [0, 1]; where the
        table has them, ``classifications`` (number of volunteers) and ``file`` (path of the image below the image
        folder). A question that nobody reached is NaN or zero.

    Raises:
        InputError: If the table cannot be read, lacks a column (all are named), holds an object id twice, a vote that is
            not a number between 0 and 1, or votes on one question that add up to more than 1.
    """
    table, tree = Path(table), get_tree(tree)
    layout = layout_of(table)
    kind = _kind(table, tree, layout, votes)
    columns = {answer: layout.columns[kind][answer] for answer in tree.answers}
    parents = {answer: layout.parents[answer] for answer in tree.answers if answer in layout.parents}
    texts = [column for column in (layout.object_id, layout.folder, layout.file) if column is not None]
    fractions = list(dict.fromkeys([*columns.values(), *parents.values()]))
    counts = [] if layout.classifications is None else [layout.classifications]
    pieces, row = [], first_row(table)
    for piece in read_rows(table, [*texts, *fractions, *counts], texts):
        numbers = {column: _fractions(table, piece[column], row) for column in fractions}
        rows = {"object_id": _object_ids(table, piece[layout.object_id], row)}
        for answer, column in columns.items():
            rows[answer] = numbers[column]
            if answer in parents:
                rows[answer] = _undone(table, numbers[column], numbers[parents[answer]], row)
        _check_sums(table, tree, kind, rows, row)
        if layout.classifications is not None:
            rows["classifications"] = _counts(piece[layout.classifications])
        if layout.file is not None:
            rows["file"] = piece[layout.file] if layout.folder is None else piece[layout.folder] + "/" + piece[layout.file]
        pieces.append(pd.DataFrame(rows))
        row += len(piece)
    if not any(map(len, pieces)):
        raise InputError(f"{table} holds no galaxy")
    galaxies = pd.concat(pieces, ignore_index=True)
    _check_rounded(table, layout.object_id, galaxies["object_id"])
    twice = galaxies.loc[galaxies["object_id"].duplicated(), "object_id"].tolist()
    if twice:
        raise InputError(f"{table} holds {len(twice)} object ids more than once: {some(twice)}; keep one row of each")
    return galaxies


def _kind(table: Path, tree: Tree, layout: Layout, votes: str | None) -> str:
    """The kind of votes to read, once all its columns are known to be there."""
    if votes is not None:
        check_name("--votes", votes, VOTE_KINDS)
    header = set(column_names(table))
    needed = {
        kind: [by_answer.get(a, f"a column for {a}") for a in tree.answers] for kind, by_answer in layout.columns.items()
    }
    missing = {kind: [column for column in columns if column not in header] for kind, columns in needed.items()}
    complete = [kind for kind in VOTE_KINDS if missing.get(kind) == []]
    if complete and votes in (None, *complete):
        return votes or complete[0]
    hint = f"; it has all that is needed for --votes {' or '.join(complete)}" if complete else ""
    if votes is not None and votes not in layout.columns:
        raise InputError(f"{table} (layout {layout.name}) has no votes of the kind {votes}{hint}")
    kind = votes or min(missing, key=lambda kind: len(missing[kind]))
    raise InputError(
        f"{table} lacks {len(missing[kind])} of the {len(needed[kind])} columns that the tree '{tree.name}' needs: "
        f"{', '.join(missing[kind])}{hint}"
    )


def _object_ids(table: Path, ids: pd.Series[str], row: int) -> pd.Series[str]:
    if ids.isna().any():
        raise InputError(f"{table}, row {row + int(ids.isna().argmax())}: the object id ({ids.name}) is empty")
    return _all_digits(table, ids, row)


def _all_digits(table: Path, ids: pd.Series[str], row: int) -> pd.Series[str]:
    """Refuse ids that went through floating-point numbers."""
    float_like = ids.str.fullmatch(r"[+-]?(\d+\.\d*|\d*\.?\d+[eE][+-]?\d+)").fillna(False)
    if float_like.any():
        place = int(float_like.argmax())
        raise InputError(
            f"{table}, row {row + place}: the {ids.name} {ids.iloc[place]} has lost its last digits; export the column "
            f"{ids.name} as text"
        )
    return ids


def _check_rounded(table: Path, column: str, ids: pd.Series[str]) -> None:
    """Refuse a column whose long ids are all doubles, or all rounded to 15 digits as spreadsheets do."""
    numbers = ids[ids.str.fullmatch(LONG_ID.pattern)].astype("int64").to_numpy()
    doubles, thousands = numbers.astype("float64").astype("int64") == numbers, numbers % 1000 == 0
    if len(numbers) >= FEW and (doubles.all() or thousands.all()):
        raise InputError(
            f"{table}: the ids in the column {column}, such as {numbers[0]}, have lost their last digits; export it as text"
        )


def _fractions(table: Path, values: pd.Series[float], row: int) -> pd.Series[float]:
    if values.dtype.kind == "c":
        raise InputError(f"{table}, column {values.name}: complex numbers are not vote fractions")
    try:
        numbers = pd.to_numeric(values, errors="coerce").astype("float64")
    except OverflowError as error:  # a whole number of hundreds of digits
        raise InputError(
            f"{table}, column {values.name}: a number is not a vote fraction between 0 and 1: {error}"
        ) from error
    # Tables in single precision: a fraction may pass 1 by that much.
    wrong = (numbers.isna() & values.notna()) | (numbers < -1e-6) | (numbers > 1 + 1e-6)
    if wrong.any():
        place = int(wrong.argmax())
        raise InputError(
            f"{table}, row {row + place}, column {values.name}: {short(values.iloc[place])} is not a vote fraction between "
            "0 and 1"
        )
    return numbers


def _counts(values: pd.Series[Any]) -> pd.Series[float]:
    """Numbers of volunteers; NaN where a cell cannot be one."""
    if values.dtype.kind == "c":
        return pd.Series(np.nan, values.index)
    with contextlib.suppress(OverflowError):
        numbers = pd.to_numeric(values, errors="coerce").astype("float64")
        return numbers.where(np.isfinite(numbers) & (numbers >= 0))
    return pd.Series(np.nan, values.index)


def _check_sums(table: Path, tree: Tree, votes: str, rows: Mapping[str, pd.Series[Any]], row: int) -> None:
    """Refuse votes for the answers to one question that add up to much more than 1."""
    most = MOST_DEBIASED if votes == "debiased" else MOST_CONFIDENT
    confidences = tree.confidences({answer: rows[answer].to_numpy() for answer in tree.answers})
    if (confidences > most).any():
        place, label = np.argwhere(confidences > most)[0]
        raise InputError(
            f"{table}, row {row + place}: the votes for the leaf '{tree.class_names[label]}' come to "
            f"{confidences[place, label]:.3g}, since fractions of the answers to one question add up to more than 1; are "
            "these the right columns?"
        )


def _undone(table: Path, numbers: pd.Series[float], parent: pd.Series[float], row: int) -> pd.Series[float]:
    """Vote fractions from products down the tree: the parent is divided out; 0 where that is 0."""
    wrong = numbers > parent + ROUNDING
    if wrong.any():
        place = int(wrong.argmax())
        raise InputError(
            f"{table}, row {row + place}: {numbers.name} is {numbers.iloc[place]:g}, more than the {parent.iloc[place]:g} "
            f"of {parent.name}, of which it is a share; are these the probabilities of the Galaxy Challenge's solutions?"
        )
    return (numbers / parent.where(parent > 0)).clip(upper=1).fillna(0.0)


def read_mapping(mapping: str | Path) -> pd.Series[str]:
    """The published ``gz2_filename_mapping.csv``: object id -> ``asset_id``, the name of the image without suffix.

    Raises:
        InputError: If the table cannot be read, lacks ``objid`` or ``asset_id``, or has ids that are empty or rounded.
    """
    mapping = Path(mapping)
    header, columns = column_names(mapping), ("objid", "asset_id")
    missing = [column for column in columns if column not in header]
    if missing:
        raise InputError(f"{mapping} lacks the column {' and '.join(missing)}; it has {some(header)}")
    pieces, row = [], first_row(mapping)
    for piece in read_rows(mapping, columns, columns):
        _object_ids(mapping, piece["objid"], row)
        _all_digits(mapping, piece["asset_id"], row)
        pieces.append(piece)
        row += len(piece)
    if not any(map(len, pieces)):
        raise InputError(f"{mapping} holds no row")
    # The published table lists an object again for each of its images (Stripe 82 coadds): the first is the usual one.
    rows = pd.concat(pieces).drop_duplicates("objid")
    _check_rounded(mapping, "objid", rows["objid"])
    return rows.set_index("objid")["asset_id"]
