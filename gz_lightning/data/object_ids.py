"""Object ids: which column holds them, and whether they still have all their digits."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from gz_lightning.data.tables import Table, column_names, first_row, read_rows
from gz_lightning.errors import InputError

ID_COLUMNS = (
    *("dr7objid", "dr8_id", "iauname", "id_str", "subject_id", "galaxyid", "objid", "object_id", "galaxy_id"),
    *("zooniverse_id", "survey_id", "asset_id", "id", "__key__", "dr8objid", "obj_id"),
)
"""Columns of object ids in lower case without blanks around them, those first that name a galaxy best: objid of DESI is
unique in its brick alone. specobjid is none: it names a spectrum, and is 0 for galaxies without one."""
LONG_ID = re.compile(r"\d{16,19}")
"""An object id of SDSS, which is larger than the whole numbers of a double."""
EXACT = 2**53
"""Whole numbers up to here are doubles."""
FEW, SHARE = 4, 0.02
"""How many round ids, and which share of all beyond chance and four deviations of it, are more than surveys have: of 1,777
galaxies of ``zoo2MainSpecz`` 23 are doubles, and 14 were to be expected."""
SAMPLE = 2000
"""Ids that are compared with what JavaScript writes: one takes a microsecond."""
FIELDS_OF_BITS = 1024
"""Ids that are multiples of it are made of fields of bits, the last of which is 0, as ``specobjid``, and are doubles."""
CHANCE = 1e-3
"""Share of galaxies that have another's id as a form of theirs, at most: of 19,761 galaxies of Stripe 82 ten do."""
FORMULA = r'^="(.*)"$'
"""An id as spreadsheets are told to keep it as text."""
IMAGE_SUFFIX = r"(?i)\.(?:jpe?g|png)$"
HOW = "read and export it as text or as 64-bit integers (pandas: dtype={'%s': str}; spreadsheets: a column of text)"
CHUNK = 100_000


def some(items: Sequence[str], most: int = 5) -> str:
    """The first few items, for a message; ``none`` of none."""
    return (", ".join(items[:most]) or "none") + (", ..." if len(items) > most else "")


def id_column(header: Sequence[str]) -> str | None:
    """The column of object ids by its name, in any case; None: there is none."""
    lower = {name.strip().lower(): name for name in reversed(header)}
    return next((lower[name] for name in ID_COLUMNS if name in lower), None)


def check_all_have_ids(tables: Sequence[Table], columns: Sequence[str | None]) -> None:
    """Refuse tables of which some have a column of object ids and some have none: rows of these would be numbered.

    Args:
        tables: Tables.
        columns: The column of object ids of each; None: it has none.
    """
    having = next((place for place, column in enumerate(columns) if column is not None), None)
    if having is not None and None in columns:
        lacking = columns.index(None)
        raise InputError(
            f"{tables[lacking]} has no object ids, but {tables[having]} has ({columns[having]}); add them ("
            f"{columns.count(None)} of {len(columns)} tables lack them), or prepare the tables apart"
        )


def check_ids(table: Table, ids: pd.Series[str], row: int) -> pd.Series[str]:
    """Object ids of a piece, without the ending of an image's file.

    Raises:
        InputError: If one is empty or went through floating-point numbers.
    """
    if ids.isna().any():
        raise InputError(f"{table}, row {row + int(ids.isna().argmax())}: the object id ({ids.name}) is empty")
    if ids.str.isdigit().all():  # as of most surveys: regular expressions take a tenth of the time of a CSV
        return ids
    ids = check_digits(table, ids.str.replace(FORMULA, r"\1", regex=True), row)
    return ids.str.replace(IMAGE_SUFFIX, "", regex=True) if ids.str.contains(IMAGE_SUFFIX).any() else ids


def check_digits(table: Table, ids: pd.Series[str], row: int) -> pd.Series[str]:
    """Refuse ids that went through floating-point numbers."""
    float_like = ids.str.fullmatch(r"[+-]?(\d+\.\d*|\d*[.,]?\d+[eE][+-]?\d+)").fillna(False)
    if float_like.any():
        place = int(float_like.argmax())
        number = str(ids.iloc[place])
        whole = "e" not in number.lower() and abs(float(number)) <= EXACT
        what = "is a floating-point number" if whole else "has lost its last digits"
        raise InputError(
            f"{table}, row {row + place}: the {ids.name} {ids.iloc[place]} {what}; export the column "
            f"{ids.name} as text ({int(float_like.sum())} such rows in this piece; {HOW % ids.name})"
        )
    return ids


def check_rounded(table: Table, column: str, ids: pd.Series[str]) -> None:
    """Refuse a column of which more long ids than by chance are doubles (also as JavaScript writes them), or end in 000."""
    numbers = ids[ids.str.fullmatch(LONG_ID.pattern)].astype("uint64").to_numpy()
    numbers = numbers[numbers > EXACT]
    smaller = numbers[numbers < 2**63]  # of larger ones, all doubles are such multiples
    if not len(numbers) or (not (smaller % FIELDS_OF_BITS).any() and len(np.unique(smaller)) >= FEW):
        return
    some_of = numbers[:: -(-len(numbers) // SAMPLE)]
    javascript = np.array([_in_javascript(number) == number for number in some_of.tolist()])
    doubles = numbers.astype("float64")
    chance = float((1 / np.spacing(doubles)).mean())  # of whole numbers, so many are doubles
    for round_ids, share in (
        (doubles.astype("uint64") == numbers, chance),
        (javascript, chance),
        (numbers % 1000 == 0, 1e-3),
    ):
        expected, found = share * len(round_ids), int(round_ids.sum())
        if found >= FEW and found > expected + 4 * math.sqrt(expected) + SHARE * len(round_ids):
            of = numbers if len(round_ids) == len(numbers) else some_of
            raise InputError(
                f"{table}: {found} of {len(of)} ids in the column {column}, such as {of[round_ids][0]}, have lost their "
                f"last digits; {HOW % column}"
            )


def repeats(
    ids: pd.Series[str], values: Sequence[npt.NDArray[Any]], names: Sequence[str], where: Callable[[int], str]
) -> npt.NDArray[np.bool_]:
    """Rows that repeat an earlier one in all that is read of it, shape (N,).

    Args:
        ids: N object ids.
        values: What is read of each, in arrays of shape (N,) or (N, V).
        names: What the values are called, one array after the other.
        where: Row from 0 -> its place, for messages.

    Raises:
        InputError: If rows of one object id differ; both are shown.
    """
    starts = range(0, len(ids), CHUNK)
    hashed = [pd.util.hash_array(ids.iloc[i : i + CHUNK].to_numpy(object), categorize=False) for i in starts]
    hashes = np.concatenate(hashed) if hashed else np.empty(0, np.uint64)
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    repeated, differing = np.zeros(len(ids), dtype=bool), []

    def read(row: int) -> npt.NDArray[np.float64]:
        return np.concatenate([np.atleast_1d(array[row]).astype(np.float64) for array in values])

    for i in same.tolist():  # a run of equal ids is compared link by link
        one, other = sorted((int(order[i]), int(order[i + 1])))
        if ids.iloc[one] != ids.iloc[other]:
            continue
        if np.array_equal(read(one), read(other), equal_nan=True):
            repeated[other] = True
        else:
            differing.append((one, other))
    if differing:
        one, other = differing[0]
        place = int(np.argmax(~np.isclose(read(one), read(other), rtol=0, atol=0, equal_nan=True)))
        raise InputError(
            f"{len(differing)} object ids have rows that differ, such as {ids.iloc[one]}: '{names[place]}' is "
            f"{read(one)[place]:.6g} in {where(one)} and {read(other)[place]:.6g} in {where(other)}; keep one of them"
        )
    return repeated


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
        assets = check_digits(mapping, piece["asset_id"].str.replace(FORMULA, r"\1", regex=True), row)
        assets = assets.str.replace(IMAGE_SUFFIX, "", regex=True)
        pieces.append(pd.DataFrame({"objid": check_ids(mapping, piece["objid"], row), "asset_id": assets}))
        row += len(piece)
    if not any(map(len, pieces)):
        raise InputError(f"{mapping} holds no row")
    # The published table lists an object again for each of its images (Stripe 82 coadds): the first is the usual one.
    rows = pd.concat(pieces).drop_duplicates("objid")
    check_rounded(mapping, "objid", rows["objid"])
    return rows.set_index("objid")["asset_id"]


def lossy(object_id: str) -> list[str]:
    """What an id of digits becomes in other hands, without those forms that are the id itself.

    As a double; as JavaScript writes that double; with zeros behind 15 digits, as spreadsheets write it; rounded to 15.
    """
    number, unit = int(object_id), 10 ** max(len(object_id) - 15, 0)
    forms = (int(float(number)), _in_javascript(number), number // unit * unit, round(number, 15 - len(object_id)))
    return [str(form) for form in dict.fromkeys(forms) if form != number]


def _in_javascript(number: int) -> int:
    return int(Decimal(repr(float(number))))  # as few digits as tell a double from the next


NEAR = 10**4
"""How far an id of 19 digits can be from what is left of it."""


def check_joined(ours: str, object_ids: Sequence[str], theirs: str, others: Collection[str]) -> dict[str, str]:
    """Refuse ids of which one side has what is left without their last digits, and the other the whole.

    A few such forms are by chance the ids of other galaxies: so are those of 5 in 10,000 galaxies of Stripe 82.

    Args:
        ours: What the table is called.
        object_ids: Its object ids.
        theirs: What it is joined with: a mapping, files or a folder of images.
        others: The object ids there.

    Returns:
        If there are no more than chance allows: id that the others lack -> which they have, and what that may be.

    Raises:
        InputError: If there are more.
    """
    lacking = [object_id for object_id in object_ids if object_id not in others]
    long, known = [object_id for object_id in lacking if LONG_ID.fullmatch(object_id)], set(object_ids)
    if not long:
        return {}
    cut = {i: form for i in long for form in lossy(i) if form in others and form not in known}
    whole = {i: other for i, other in _wholes(long, others) if other not in known}
    by_chance = CHANCE * len(lacking)
    for found, (cut_by, kept_by) in ((cut, (theirs, ours)), (whole, (ours, theirs))):
        if len(found) > by_chance + 4 * math.sqrt(by_chance):
            pair = next(iter(found.items()))
            left, object_id = reversed(pair) if found is cut else pair
            raise InputError(
                f"{cut_by} has lost the last digits of {len(found)} object ids: it has {left} where {kept_by} has "
                f"{object_id}; export its object ids as text"
            )
    called = {i: f"{other}, which it may have been before it lost its last digits" for i, other in whole.items()}
    return called | {i: f"{form}, which may be it without its last digits" for i, form in cut.items()}


def _wholes(lacking: Sequence[str], others: Collection[str]) -> Iterator[tuple[str, str]]:
    """Ids, and ids of others of which they may be what is left."""
    numbers = np.sort(np.array([int(other) for other in others if LONG_ID.fullmatch(other)], dtype=np.uint64))
    wanted = np.array([int(object_id) for object_id in lacking], dtype=np.uint64)
    starts, ends = np.searchsorted(numbers, wanted - NEAR), np.searchsorted(numbers, wanted + NEAR)
    for object_id, start, end in zip(lacking, starts.tolist(), ends.tolist(), strict=True):
        for number in numbers[start:end].tolist():
            if object_id in lossy(str(number)):
                yield object_id, str(number)
