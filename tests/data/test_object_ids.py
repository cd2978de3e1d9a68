"""Object ids: their columns, their digits, and rows that share one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gz_lightning.data import object_ids
from gz_lightning.data.object_ids import check_ids, check_joined, check_rounded, id_column, lossy, repeats
from gz_lightning.data.tables import read_rows
from gz_lightning.errors import InputError

TABLE = Path("a.csv")


def text(*values: str) -> "pd.Series[str]":
    return pd.Series(list(values), dtype="string", name="objid")


def test_the_best_of_several_columns() -> None:
    assert id_column(["ra", "objid", "dr7objid"]) == "dr7objid"
    assert id_column(["OBJID", "ra"]) == "OBJID"
    assert id_column(["ra", "filename"]) is None
    assert id_column(["id", "iauname"]) == "iauname"
    assert id_column(["ra", " objID "]) == " objID "
    assert [id_column([name, "ra"]) for name in ("dr8objid", "OBJ_ID", "specobjid")] == ["dr8objid", "OBJ_ID", None]
    assert id_column(["specobjid", "dr8objid", "dr7objid"]) == "dr7objid"


def test_ids_that_spreadsheets_keep_as_text() -> None:
    assert check_ids(TABLE, text('="587722981736120347"', "J1+2"), 2).tolist() == ["587722981736120347", "J1+2"]


@pytest.mark.parametrize("small", ["0.0", "7.", "12.50"])
def test_small_ids_are_floats_but_have_lost_nothing(small: str) -> None:
    with pytest.raises(InputError, match=f"a.csv, row 2: the objid {small} is a floating-point number; export the column"):
        check_ids(TABLE, text(small), 2)


def test_endings_of_image_files_are_no_part_of_an_id() -> None:
    ids = check_ids(TABLE, text("100008.jpg", "100023.JPEG", "7", "J000411.19+020924.0"), 2)
    assert ids.tolist() == ["100008", "100023", "7", "J000411.19+020924.0"]


@pytest.mark.parametrize("damaged", ["5.87722981736120347e17", "5.877e+17", "587722981736120347.0", "5,87723E+17"])
def test_ids_in_scientific_notation(damaged: str) -> None:
    message = rf"a.csv, row 3: the objid {damaged.replace('+', '.')} has lost its last digits; .*1 such rows.*dtype="
    with pytest.raises(InputError, match=message):
        check_ids(TABLE, text("587722981736120347", damaged), 2)


def test_ids_that_are_all_doubles() -> None:
    exact = [587722981736120347 + 7 * i for i in range(5)]
    check_rounded(TABLE, "objid", text(*map(str, exact)))
    with pytest.raises(
        InputError, match=r"a.csv: 5 of 5 ids in the column objid, such as 587722981736120\d+, have lost .*as text or"
    ):
        check_rounded(TABLE, "objid", text(*(str(int(float(i))) for i in exact)))
    with pytest.raises(InputError, match="have lost their last digits"):
        check_rounded(TABLE, "objid", text(*(str(i // 1000 * 1000) for i in exact)))
    with pytest.raises(InputError, match="have lost their last digits"):  # as JSON comes out of JavaScript
        check_rounded(TABLE, "objid", text(*(lossy(str(i))[1] for i in exact)))
    check_rounded(TABLE, "objid", text(*(str(2**53 - 4000 + 1000 * i) for i in range(4))))  # doubles are exact up to there
    with pytest.raises(InputError, match="have lost their last digits"):  # of 19 digits, as specobjid
        check_rounded(TABLE, "objid", text(*(str(int(float(9_999_489_677_444_933_632 + 1025 * i))) for i in range(6))))


@pytest.mark.parametrize("form", range(3))
@pytest.mark.parametrize("first", [587722981736120347, 1237648720693755918])
def test_a_few_true_ids_do_not_hide_rounded_ones(form: int, first: int) -> None:
    """Of thousands of true ids some are round by chance; of ids like specobjid, made of bits, all are doubles."""
    true = [str(first + 7001 * i) for i in range(3000)]
    check_rounded(TABLE, "objid", text(*true))
    rounded = [lossy(i)[form] for i in true if len(lossy(i)) >= 3]
    for damaged, whole in ((39, 1), (4, 1), (8, 80), (300, 2700)):
        with pytest.raises(InputError, match=r"a.csv: \d+ of \d+ ids in the column objid, such as \d+, have lost"):
            check_rounded(TABLE, "objid", text(*rounded[:damaged], *true[:whole]))
    check_rounded(TABLE, "objid", text(*rounded[:3], "1", "2", "3"))  # as few can be chance
    check_rounded(TABLE, "specobjid", text(*(str(299489677444933632 + 1024 * i) for i in range(300))))


def test_true_ids_of_every_real_table(real_data: Path) -> None:
    tables = [("gz2_stripe82/table5.csv.gz", "objid"), ("gz2_sample/gz2_hart16.csv.gz", "dr7objid")]
    for name in ("specobjid_2", "SPECOBJID_1", "dr7objid", "dr8objid"):
        tables.append(("catalogs/zoo2MainSpecz_mergers.fits", name))
    for file, column in (*tables, ("catalogs/hoyle_barlengths.fits", "objid")):
        if (real_data / file).is_file():
            pytest.importorskip("astropy", reason="FITS tables need astropy")
            ids = pd.concat(read_rows(real_data / file, [column], [column]))[column].dropna().drop_duplicates()
            check_rounded(real_data / file, column, ids)
            with pytest.raises(InputError, match="have lost their last digits"):
                check_rounded(real_data / file, column, ids.map(lambda i: lossy(i)[-1] if lossy(i) else i))


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
def test_ids_of_which_one_side_has_what_is_left(form: int, damaged: int, absent: int, refused: bool) -> None:
    """In a mapping or in the table beside it. One in two hundred can be another galaxy's id by chance."""
    ids = [str(587722981736120739 + 7001 * i) for i in range(damaged + absent + 50)]
    ids = [i[:15] + str(500 + int(i[15:]) % 490) for i in ids]  # all are rounded up
    left = [lossy(i)[min(form, len(lossy(i)) - 1)] for i in ids[:damaged]]
    there = {*left, *ids[damaged + absent :]}
    own, others = [*left, *ids[damaged:]], {*ids[:damaged], *ids[damaged + absent :]}
    if refused:
        lost = f"has lost the last digits of {damaged} object ids: it has {left[0]} where"
        with pytest.raises(InputError, match=f"^m.csv {lost} a.csv has {ids[0]}; export its object ids as text$"):
            check_joined("a.csv", ids, "m.csv", there)
        with pytest.raises(InputError, match=f"^a.csv {lost} m.csv has {ids[0]}; export its object ids as text$"):
            check_joined("a.csv", own, "m.csv", others)
    else:
        told = {ids[0]: f"{left[0]}, which may be it without its last digits"}
        assert check_joined("a.csv", ids, "m.csv", there) == told
        told = {left[0]: f"{ids[0]}, which it may have been before it lost its last digits"}
        assert check_joined("a.csv", own, "m.csv", others) == told
    assert check_joined("a.csv", [*ids, *left], "m.csv", there) == {}  # these are galaxies of the table
    assert check_joined("a.csv", [*ids[:damaged], *own], "m.csv", others) == {}
    assert check_joined("a.csv", ["J1+2", "9", ids[0][:15]], "m.csv", there | {"J1"}) == {}


def test_ids_of_19_digits_and_what_is_left_of_them() -> None:
    whole = ["9999489677444933999", "1237648720693755918", "1000000000000009999"]
    for object_id in whole:
        for left in lossy(object_id):
            with pytest.raises(
                InputError, match=f"^t has lost the last digits of 1 .* it has {left} where m has {object_id}"
            ):
                check_joined("t", [left], "m", whole)


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
