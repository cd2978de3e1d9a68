"""Object ids: their columns, their digits, and rows that share one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gz_lightning.data import object_ids
from gz_lightning.data.object_ids import check_ids, check_mapped, check_rounded, id_column, lossy, repeats
from gz_lightning.errors import InputError

TABLE = Path("a.csv")


def text(*values: str) -> "pd.Series[str]":
    return pd.Series(list(values), dtype="string", name="objid")


def test_the_best_of_several_columns() -> None:
    assert id_column(["ra", "objid", "dr7objid"]) == "dr7objid"
    assert id_column(["OBJID", "ra"]) == "OBJID"
    assert id_column(["ra", "filename"]) is None
    assert id_column(["id", "iauname"]) == "iauname"


def test_endings_of_image_files_are_no_part_of_an_id() -> None:
    ids = check_ids(TABLE, text("100008.jpg", "100023.JPEG", "7", "J000411.19+020924.0"), 2)
    assert ids.tolist() == ["100008", "100023", "7", "J000411.19+020924.0"]


@pytest.mark.parametrize("damaged", ["5.87722981736120347e17", "5.877e+17", "587722981736120347.0", "1E5"])
def test_ids_in_scientific_notation(damaged: str) -> None:
    message = rf"a.csv, row 3: the objid {damaged.replace('+', '.')} has lost its last digits; .*1 such rows.*dtype="
    with pytest.raises(InputError, match=message):
        check_ids(TABLE, text("587722981736120347", damaged), 2)


def test_ids_that_are_all_doubles() -> None:
    exact = [587722981736120347 + 7 * i for i in range(5)]
    check_rounded(TABLE, "objid", text(*map(str, exact)))
    with pytest.raises(
        InputError, match=r"a.csv: the ids in the column objid, such as 587722981736120\d+, have lost .*as text or"
    ):
        check_rounded(TABLE, "objid", text(*(str(int(float(i))) for i in exact)))
    with pytest.raises(InputError, match="have lost their last digits"):
        check_rounded(TABLE, "objid", text(*(str(i // 1000 * 1000) for i in exact)))
    with pytest.raises(InputError, match="have lost their last digits"):  # as JSON comes out of JavaScript
        check_rounded(TABLE, "objid", text(*(lossy(str(i))[1] for i in exact)))
    check_rounded(TABLE, "objid", text(*(str(2**53 - 4000 + 1000 * i) for i in range(4))))  # doubles are exact up to there
    with pytest.raises(InputError, match="have lost their last digits"):  # of 19 digits, as specobjid
        check_rounded(TABLE, "objid", text(*(str(int(float(9_999_489_677_444_933_632 + 1025 * i))) for i in range(6))))


def test_what_becomes_of_an_id_in_other_hands() -> None:
    """Written by pandas as a double, by JavaScript, by a spreadsheet, and rounded to 15 digits."""
    double, javascript, spreadsheet, rounded = (
        "587722981742084224",
        "587722981742084200",
        "587722981742084000",
        "587722981742084000",
    )
    assert lossy("587722981742084227") == [double, javascript, spreadsheet]
    assert lossy("587722981742084739")[2:] == [spreadsheet, rounded.replace("4000", "5000")]
    assert lossy("1237648720693755918") == [
        "1237648720693755904",
        "1237648720693756000",
        "1237648720693750000",
        "1237648720693760000",
    ]
    assert lossy("5000") == []


@pytest.mark.parametrize("form", range(4))
@pytest.mark.parametrize(("damaged", "absent", "refused"), [(1, 0, True), (1, 40, True), (1, 200, False), (30, 2000, True)])
def test_a_mapping_that_has_what_is_left_of_ids(form: int, damaged: int, absent: int, refused: bool) -> None:
    """One in two hundred can be another galaxy's id by chance."""
    ids = [str(587722981736120739 + 7001 * i) for i in range(damaged + absent + 50)]
    ids = [i[:15] + str(500 + int(i[15:]) % 490) for i in ids]  # all are rounded up
    left = {lossy(i)[min(form, len(lossy(i)) - 1)] for i in ids[:damaged]}
    mapped = left | set(ids[damaged + absent :])
    if refused:
        with pytest.raises(
            InputError, match=rf"m.csv has lost the last digits of {damaged} object ids: it has 58\d+ where a.csv"
        ):
            check_mapped("a.csv", ids, Path("m.csv"), mapped)
    else:
        assert check_mapped("a.csv", ids, Path("m.csv"), mapped) == {ids[0]: next(iter(left))}
    assert check_mapped("a.csv", [*ids, *left], Path("m.csv"), mapped) == {}  # these are galaxies of the table


def test_repeated_rows_and_rows_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_ids, "CHUNK", 2)
    ids, votes = text("a", "b", "a", "c", "a"), np.array([[0.1, 0.2], [1, 1], [0.1, 0.2], [1, 1], [0.1, 0.2]])
    counts = np.array([np.nan, 1, np.nan, 2, np.nan])
    found = repeats(ids, [votes, counts], ["x", "y", "count"], str)
    assert found.tolist() == [False, False, True, False, True]
    counts[4] = 7
    with pytest.raises(
        InputError, match="1 object ids have rows that differ, such as a: 'count' is nan in 2 and 7 in 4; keep one"
    ):
        repeats(ids, [votes, counts], ["x", "y", "count"], str)


def test_ids_of_equal_hashes_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pd.util, "hash_array", lambda values, **_: np.zeros(len(values), np.uint64))
    assert not repeats(text("a", "b", "c"), [np.zeros(3)], ["x"], str).any()
