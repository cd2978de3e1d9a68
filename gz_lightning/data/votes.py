"""Vote tables of every origin -> one row per galaxy: object id and the vote fraction of each answer.

Fractions are rounded to the digits that surveys publish: a table in single precision, the same in double precision and the
same as text give the same numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from gz_lightning.data.layouts import Layout, VoteKind, layout_of
from gz_lightning.data.object_ids import EXACT, check_ids, check_rounded, repeats
from gz_lightning.data.schema import Schema
from gz_lightning.data.tables import Table, first_row, read_rows, tables_of
from gz_lightning.data.tree import Tree, get_tree
from gz_lightning.errors import InputError
from gz_lightning.progress import say
from gz_lightning.storage.text import short

DIGITS = 6
"""Decimals of a vote fraction: as many as single precision, in which most tables are published, holds below 1."""
FLOATS = (np.float32, np.float64)
OVER = 1e-6
"""How far a fraction may pass 1 in a table in single precision."""
ROUNDING = 2e-3
"""How far a product may pass its parent in a table that is rounded to three digits."""
MOST_CONFIDENT, MOST_DEBIASED = 1.1, 10.0
"""Largest confidence of a leaf. Debiased votes on one question need not add up to 1: in Hart et al. (2016) they reach 1.80
(t01) and 2.44 (t08), and a leaf with paths over several questions their product."""


def read_votes(table: str | Path | Table, tree: str | Tree, votes: VoteKind | None = None) -> pd.DataFrame:
    """Read the votes of a table of any layout and format in pieces.

    Args:
        table: The table, such as ``gz2_hart16.csv.gz``.
        tree: The tree, whose answers are read.
        votes: Which votes. Default: the first of ``weighted_fraction``, ``fraction`` and ``debiased`` that the table has
            for every answer. Kaggle's probabilities are weighted fractions; galaxy-datasets has plain ones.

    Returns:
        One row per galaxy: the column ``object_id`` (string), one column per answer (``a01``, ...) in [0, 1], rounded to
        ``DIGITS`` decimals; where the table has them, ``classifications`` (number of volunteers) and ``file`` (path of the
        image below the image folder). A question that nobody reached is NaN or zero. Rows that repeat another in all this
        are left out.

    Raises:
        InputError: If the table cannot be read, lacks a column (all are named), holds an object id twice with different
            votes, a vote that is not a number between 0 and 1, or votes on one question that add up to more than 1.
    """
    source, tree = tables_of(table)[0], get_tree(tree)
    layout = layout_of(source, tree.schema)
    pieces = [piece for piece, _ in vote_pieces(source, tree, layout, layout.kind(source, tree, votes))]
    if not any(map(len, pieces)):
        raise InputError(f"{source} holds no galaxy")
    galaxies = pd.concat(pieces, ignore_index=True)
    check_rounded(source, str(layout.object_id), galaxies["object_id"])
    read = [*tree.answers, *(["classifications"] if "classifications" in galaxies else [])]
    values, first = galaxies[read].to_numpy(np.float64), first_row(source)
    repeated = repeats(galaxies["object_id"], [values], read, lambda row: f"{source}, row {first + row}")
    return galaxies[~repeated].reset_index(drop=True) if repeated.any() else galaxies


def vote_pieces(
    table: Table, tree: Tree, layout: Layout, kind: str, stem: str = ""
) -> Iterator[tuple[pd.DataFrame, npt.NDArray[np.float64]]]:
    """The votes of a table, a piece at a time, in the columns of :func:`read_votes`; repeated rows are still in it.

    Args:
        table: The table.
        tree: The tree, whose answers are read.
        layout: Its layout.
        kind: The kind of votes.
        stem: What its rows are called, with their numbers, if it has no object ids.

    Yields:
        A piece, and the confidences of the tree's leaves; NaN for a galaxy whose nulls leave open what it is.

    Raises:
        InputError: As :func:`read_votes`.
    """
    columns = {answer: layout.columns[kind][answer] for answer in tree.answers if answer in layout.columns[kind]}
    usable = layout.counts if kind == "fraction" else {}
    counts = {answer: (usable[answer][0], *usable[answer][1]) for answer in tree.answers if answer in usable}
    parents = {answer: layout.parents[answer] for answer in columns if answer in layout.parents}
    texts = [column for column in (layout.object_id, layout.folder, layout.file) if column is not None]
    fractions = list(dict.fromkeys([*columns.values(), *parents.values()]))
    counted = list(dict.fromkeys(name for of in counts.values() for name in of))
    more = [] if layout.classifications in (None, *counted) else [str(layout.classifications)]
    row, first = first_row(table), first_row(table)
    others, such_as = 0, -1
    for piece in read_rows(table, [*texts, *fractions, *counted, *more], texts):
        numbers = {column: _fractions(table, piece[column], row) for column in fractions}
        if layout.object_id is None:
            ids = pd.Series([f"{stem}:{i}" for i in range(row - first + 1, row - first + 1 + len(piece))])
            rows = {"object_id": ids.astype("string").set_axis(piece.index)}
        else:
            rows = {"object_id": check_ids(table, piece[layout.object_id], row)}
        blank = pd.Series(np.nan, piece.index)
        rows |= {answer: numbers[columns[answer]] if answer in columns else blank for answer in tree.answers}
        differing = np.flatnonzero(_other_totals(tree.schema, piece, counts, rows))
        if len(differing) and not others:
            such_as = row + int(differing[0])
        others += len(differing)
        for answer, shares in _from_counts(table, piece, counts, rows, row):
            rows[answer] = rows[answer].fillna(shares)
        for answer, parent in parents.items():
            rows[answer] = _undone(table, rows[answer], numbers[parent], row)
        votes = {answer: rows[answer].to_numpy() for answer in tree.answers}
        confidences = tree.confidences(votes)
        _check_sums(table, tree, kind, confidences, row)
        confidences[_left_open(tree, votes, confidences)] = np.nan
        if layout.classifications is not None:
            rows["classifications"] = _volunteers(piece[layout.classifications])
        if layout.file is not None:
            rows["file"] = piece[layout.file] if layout.folder is None else piece[layout.folder] + "/" + piece[layout.file]
        yield pd.DataFrame(rows), confidences
        row += len(piece)
    if others:
        say(
            f"{table}: in {others} rows, such as {such_as}, the votes for all answers to a question are more or "
            "fewer than its total-votes; a vote fraction is the share of these"
        )


def as_published(numbers: pd.Series[float]) -> pd.Series[float]:
    """Fractions as text of single precision has them, so that a table gives the same numbers in every format."""
    return pd.Series(_rounded(numbers.to_numpy()), numbers.index, name=numbers.name)


def _rounded(numbers: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # a NaN that signals, as damage may leave it, is a NaN
        rounded: npt.NDArray[np.float64] = numbers.astype(np.float32).astype(np.float64).round(DIGITS)
    return rounded


def _fractions(table: Table, values: pd.Series[float], row: int) -> pd.Series[float]:
    if values.dtype.kind in "cmM":
        kind = "complex numbers" if values.dtype.kind == "c" else "times"
        raise InputError(f"{table}, column {values.name}: {kind} are not vote fractions")
    if values.dtype in FLOATS:
        plain = values.to_numpy()
        if not ((plain < -OVER) | (plain > 1 + OVER)).any():  # NaN is neither
            return pd.Series(_rounded(plain), values.index, name=values.name)
    try:
        numbers = pd.to_numeric(values, errors="coerce").astype("float64")
    except OverflowError as error:  # a whole number of hundreds of digits
        raise InputError(
            f"{table}, column {values.name}: a number is not a vote fraction between 0 and 1: {error}"
        ) from error
    wrong = (numbers.isna() & values.notna()) | (numbers < -OVER) | (numbers > 1 + OVER)
    if wrong.any():
        place = int(wrong.argmax())
        raise InputError(
            f"{table}, row {row + place}, column {values.name}: {short(values.iloc[place])} is not a vote fraction between "
            "0 and 1"
        )
    return as_published(numbers)


def _from_counts(
    table: Table,
    piece: pd.DataFrame,
    counts: Mapping[str, Sequence[str]],
    fractions: Mapping[str, pd.Series[Any]],
    row: int,
) -> Iterator[tuple[str, pd.Series[float]]]:
    """Answers and their vote fractions, for the rows of a piece that have none."""
    needed = {answer: rows for answer in counts if (rows := fractions[answer].isna()).any()}
    masks: dict[str, pd.Series[bool]] = {}
    for answer, rows in needed.items():
        masks |= {column: masks.get(column, rows) | rows for column in counts[answer]}
    whole = {column: _whole(table, piece[column], row, rows) for column, rows in masks.items()}
    for answer, rows in needed.items():
        own, *of = (whole[column] for column in counts[answer])
        yield answer, _shares(table, own, of, row, rows)


def _other_totals(
    schema: Schema, piece: pd.DataFrame, counts: Mapping[str, Sequence[str]], fractions: Mapping[str, pd.Series[Any]]
) -> npt.NDArray[np.bool_]:
    """Rows without fractions whose total of a question is not the sum of all its answers, shape (n,).

    Weighted votes that were rounded one by one may differ by half a vote for each answer. A total may be larger where the
    table has answers that the schema does not know, as to ``merging`` in DECaLS.
    """
    differing = np.zeros(len(piece), np.bool_)
    for total in dict.fromkeys(of for _, *columns in counts.values() if len(columns) == 1 for of in columns):
        answers = [answer for answer, (_, *columns) in counts.items() if columns == [total]]
        if len(answers) < len(schema.siblings(answers[0])):
            continue
        made = np.any([fractions[answer].isna() for answer in answers], axis=0)
        names = [*(counts[answer][0] for answer in answers), total]
        *votes, of_all = (
            pd.to_numeric(piece[name], errors="coerce").to_numpy(np.float64, na_value=np.nan) for name in names
        )
        differing |= made & (np.abs(np.sum(votes, axis=0) - of_all) > len(answers) / 2)
    return differing


def _left_open(
    tree: Tree, votes: Mapping[str, npt.NDArray[Any]], confidences: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Galaxies of which a null, whatever it stands for, could lift a leaf above the likeliest one, shape (N,).

    A question that nobody reached could not: it comes after an answer without votes. Galaxies that reach no leaf are none.
    """
    most = tree.confidences({answer: np.nan_to_num(numbers, nan=1.0) for answer, numbers in votes.items()})
    likeliest = confidences.max(axis=1)
    return (likeliest > 0) & (most.max(axis=1) > likeliest + OVER)  # type: ignore[no-any-return]


def _whole(table: Table, values: pd.Series[Any], row: int, needed: pd.Series[bool]) -> pd.Series[float]:
    """Counts of votes; those of rows that do not need them may be anything."""
    numbers = pd.Series(np.nan, values.index)
    if values.dtype.kind not in "bcmM":  # truth values, complex numbers and times
        with contextlib.suppress(OverflowError, TypeError):
            numbers = pd.to_numeric(values, errors="coerce").astype("float64")
    wrong = (numbers.isna() & values.notna()) | (numbers < 0) | (numbers > EXACT) | (numbers % 1 != 0) & numbers.notna()
    wrong &= needed
    if wrong.any():
        place = int(wrong.argmax())
        raise InputError(
            f"{table}, row {row + place}, column {values.name}: {short(values.iloc[place])} is not a number of votes "
            f"({int(wrong.sum())} such rows from there on)"
        )
    return numbers


def _shares(
    table: Table, count: pd.Series[float], of: Sequence[pd.Series[float]], row: int, needed: pd.Series[bool]
) -> pd.Series[float]:
    """Vote fractions from counts, the sum of ``of`` being all votes on the question; NaN where nobody was asked.

    A null beside votes may stand for nobody or for a number that was lost.
    """
    asked = np.any([numbers > 0 for numbers in (count, *of)], axis=0) & needed
    for numbers in (count, *of):
        null = numbers.isna() & asked
        if null.any():
            place = int(null.argmax())
            raise InputError(
                f"{table}, row {row + place}, column {numbers.name}: empty, though others of its question have votes "
                f"({int(null.sum())} such rows from there on); write 0 where nobody gave the answer, and leave out rows "
                "that lost a number"
            )
    total: Any = sum(of)
    wrong = (count > total) & needed
    if wrong.any():
        place = int(wrong.argmax())
        raise InputError(
            f"{table}, row {row + place}, column {count.name}: {count.iloc[place]:g} votes of {total.iloc[place]:g} for all "
            f"answers to the question ({int(wrong.sum())} such rows from there on)"
        )
    return as_published(count / total)


def _volunteers(values: pd.Series[Any]) -> pd.Series[float]:
    """Numbers of volunteers; NaN where a cell cannot be one."""
    numbers = pd.Series(np.nan, values.index)
    if values.dtype.kind != "c":
        with contextlib.suppress(OverflowError):
            numbers = pd.to_numeric(values, errors="coerce").astype("float64")
    return numbers.where(np.isfinite(numbers) & (numbers >= 0))


def _check_sums(table: Table, tree: Tree, votes: str, confidences: npt.NDArray[np.float64], row: int) -> None:
    """Refuse votes for the answers to one question that add up to much more than 1."""
    most = MOST_DEBIASED if votes == "debiased" else MOST_CONFIDENT
    if (confidences > most).any():
        place, label = np.argwhere(confidences > most)[0]
        raise InputError(
            f"{table}, row {row + place}: the votes for the leaf '{tree.class_names[label]}' come to "
            f"{confidences[place, label]:.3g}, since fractions of the answers to one question add up to more than 1; are "
            "these the right columns?"
        )


def _undone(table: Table, numbers: pd.Series[float], parent: pd.Series[float], row: int) -> pd.Series[float]:
    """Vote fractions from products down the tree: the parent is divided out; 0 where that is 0."""
    wrong = numbers > parent + ROUNDING
    if wrong.any():
        place = int(wrong.argmax())
        raise InputError(
            f"{table}, row {row + place}: {numbers.name} is {numbers.iloc[place]:g}, more than the {parent.iloc[place]:g} "
            f"of {parent.name}, of which it is a share; are these the probabilities of the Galaxy Challenge's solutions?"
        )
    return (numbers / parent).clip(upper=1).mask(parent <= 0, 0.0).round(DIGITS)
