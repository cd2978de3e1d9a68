"""What a vote table and a mapping may just hold, and what they may not."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gz_lightning.data.layouts import VoteKind
from gz_lightning.data.object_ids import read_mapping
from gz_lightning.data.tree import ANSWERS, Leaf, Tree
from gz_lightning.data.votes import as_published, read_votes
from gz_lightning.errors import InputError
from tests.data.test_votes import COARSE, IDS, SPIRAL, as_kaggle, as_parquet, gz2_table


def test_rows_are_counted_through_all_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gz_lightning.data.tables.ROWS", 2)
    path, whole = tmp_path / "a.csv", pd.concat([gz2_table()] * 3, ignore_index=True)
    whole["dr7objid"] = [IDS[0] + i for i in range(9)]
    whole.to_csv(path, index=False)
    found = read_votes(path, COARSE)
    assert found["object_id"].tolist() == [str(IDS[0] + i) for i in range(9)]
    assert found.index.tolist() == list(range(9))

    def refused(column: str, value: object, message: str, tree: Tree = COARSE) -> None:
        table = whole.astype({column: object})
        table.loc[7, column] = value
        table.to_csv(path, index=False)
        with pytest.raises(InputError, match=message):
            read_votes(path, tree)

    refused("dr7objid", "", r"a.csv, row 9: the object id \(dr7objid\) is empty")
    refused(
        "dr7objid", "5.9e17", "a.csv, row 9: the dr7objid 5.9e17 has lost its last digits; export the column dr7objid as"
    )
    refused(SPIRAL, "many", f"a.csv, row 9, column {SPIRAL}: 'many' is not a vote fraction between 0 and 1")
    wide = whole.copy()
    for answer in ("a02", "a05", "a06", "a07", "a08"):
        wide.loc[7, f"{ANSWERS[answer]}_weighted_fraction"] = 0.9
    wide.to_csv(path, index=False)
    with pytest.raises(InputError, match=r"a.csv, row 9: the votes for the leaf 'spiral' come to 1.31, since"):
        read_votes(path, COARSE)
    solutions = pd.concat([pd.read_csv(as_kaggle(tmp_path / "k.csv"))] * 3, ignore_index=True)
    solutions["GalaxyID"] = range(9)
    solutions.loc[7, ["Class1.2", "Class2.1"]] = [0.25, 0.5]
    solutions.to_csv(tmp_path / "k.csv", index=False)
    with pytest.raises(InputError, match=r"k.csv, row 9: Class2.1 is 0.5, more than the 0.25 of Class1.2, of which it is"):
        read_votes(tmp_path / "k.csv", COARSE)


def test_rows_of_a_format_that_is_read_in_batches_are_numbered_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gz_lightning.data.tables.ROWS", 2)
    assert read_votes(as_parquet(tmp_path / "a.parquet"), COARSE).index.tolist() == [0, 1, 2]


def test_rows_that_come_twice_are_one_where_they_are_the_same(tmp_path: Path) -> None:
    table = pd.concat([gz2_table()] * 2, ignore_index=True)[:5]
    table.to_csv(tmp_path / "a.csv", index=False)
    assert read_votes(tmp_path / "a.csv", COARSE)["object_id"].tolist() == [str(i) for i in IDS]
    table.loc[3:, "total_classifications"] += 1
    table.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match=f"2 object ids have rows that differ, such as {IDS[0]}: 'classifications' is"):
        read_votes(tmp_path / "a.csv", COARSE)


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    gz2_table()[:0].to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match="a.csv holds no galaxy"):
        read_votes(tmp_path / "a.csv", COARSE)


@pytest.mark.parametrize("number", ["12.", "12.5", ".5e3", "1.5e17", "1E5", "-3.0", "+3.", "5.877E+17"])
def test_an_id_that_was_a_float_is_refused(number: str, tmp_path: Path) -> None:
    table = gz2_table().astype({"dr7objid": object})
    table.loc[1, "dr7objid"] = number
    table.to_csv(tmp_path / "a.csv", index=False)
    what = "has lost its last digits" if "e" in number.lower() else "is a floating-point number"
    with pytest.raises(InputError, match=f"row 3: the dr7objid .* {what}") as refusal:
        read_votes(tmp_path / "a.csv", COARSE)
    assert f"the dr7objid {number} {what}" in str(refusal.value)


@pytest.mark.parametrize("name", ["J000012.5", "12", "e5", "1e", "v1.0"])
def test_an_id_that_is_a_name_or_a_whole_number_is_taken(name: str, tmp_path: Path) -> None:
    table = gz2_table().astype({"dr7objid": object})
    table.loc[1, "dr7objid"] = name
    table.to_csv(tmp_path / "a.csv", index=False)
    assert read_votes(tmp_path / "a.csv", COARSE)["object_id"][1] == name


@pytest.mark.parametrize("step", [128, 1000])
def test_three_round_ids_may_be_chance(step: int, tmp_path: Path) -> None:
    table = pd.concat([gz2_table(), gz2_table()], ignore_index=True)[:4]
    ids = [IDS[0] // step * step + step * i for i in range(4)]
    table["dr7objid"] = ids
    table.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match=f"ids in the column dr7objid, such as {ids[0]}, have lost"):
        read_votes(tmp_path / "a.csv", COARSE)
    table[:3].to_csv(tmp_path / "a.csv", index=False)
    assert len(read_votes(tmp_path / "a.csv", COARSE)) == 3
    table["dr7objid"] = [1000 * i for i in range(4)]  # short ids are exact in a double, and may be round
    table.to_csv(tmp_path / "a.csv", index=False)
    assert len(read_votes(tmp_path / "a.csv", COARSE)) == 4


def with_votes(path: Path, *fractions: float | None) -> Path:
    table = gz2_table()
    table[SPIRAL] = fractions
    table.to_csv(path, index=False)
    return path


def test_fractions_of_single_precision_may_pass_their_bounds_by_that(tmp_path: Path) -> None:
    rows = read_votes(with_votes(tmp_path / "a.csv", 1 + 0.9e-6, -0.9e-6, None), COARSE)
    assert rows["a08"].dtype == np.float64
    assert rows["a08"].isna().tolist() == [False, False, True]
    assert read_votes(with_votes(tmp_path / "a.csv", 1 + 1e-6, -1e-6, 1), COARSE)["a08"].max() > 1  # just as far
    for wrong in (1 + 1.1e-6, -1.1e-6, 1.9, -0.9, 2.0):
        with pytest.raises(InputError, match=f"row 3, column {SPIRAL}: .* is not a vote fraction"):
            read_votes(with_votes(tmp_path / "a.csv", 0.5, wrong, 0.5), COARSE)


def test_a_nan_that_signals_is_a_nan_without_a_warning() -> None:
    """What damage may leave in a FITS table; casting it raises a flag of the processor, of which numpy warns."""
    signalling = np.array([0x7FF0000000000001], np.uint64).view(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(as_published(pd.Series(signalling))[0])


def test_numbers_of_volunteers(tmp_path: Path) -> None:
    table = gz2_table().astype({"total_classifications": object})
    table["total_classifications"] = [0, "none", 0.5]
    table.to_csv(tmp_path / "a.csv", index=False)
    found = read_votes(tmp_path / "a.csv", COARSE)["classifications"]
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [0, np.nan, 0.5])


def test_complex_numbers_of_volunteers_are_unknown(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits", reason="FITS tables need astropy")
    table = gz2_table()
    columns = [fits.Column("dr7objid", "K", array=np.array(IDS))]
    for answer in COARSE.answers:
        name = f"{ANSWERS[answer]}_weighted_fraction"
        columns.append(fits.Column(name, "E", array=table[name].to_numpy()))
    columns.append(fits.Column("total_classifications", "C", array=np.ones(3, dtype=np.complex64)))
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "a.fits")
    counts = read_votes(tmp_path / "a.fits", COARSE)["classifications"]
    assert counts.dtype == np.float64
    assert len(counts) == 3
    assert counts.isna().all()


def test_numbers_of_volunteers_without_end_are_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gz_lightning.data.tables.ROWS", 2)
    table = gz2_table().astype({"total_classifications": object})
    table["total_classifications"] = "9" * 400
    table.to_csv(tmp_path / "a.csv", index=False)
    rows = read_votes(tmp_path / "a.csv", COARSE)
    assert rows["object_id"].tolist() == [str(i) for i in IDS]  # and no row more
    assert rows["classifications"].isna().all()
    assert rows["classifications"].dtype == np.float64


@pytest.mark.parametrize(("votes", "most"), [("weighted_fraction", 1.1), ("debiased", 10.0)])
def test_how_far_a_leaf_may_pass_1(votes: VoteKind, most: float, tmp_path: Path) -> None:
    """The sum over paths of a question; ten answers of 1 are 10."""
    answers = tuple(ANSWERS)[:12]
    tree = Tree("sums", (Leaf("many", answers), Leaf("odd", ("a15",))))
    table, full = gz2_table(), int(most)
    for place, answer in enumerate(answers):
        table[f"{ANSWERS[answer]}_{votes}"] = 1.0 if place < full else most - full if place == full else 0.0
    table.to_csv(tmp_path / "a.csv", index=False)
    assert len(read_votes(tmp_path / "a.csv", tree, votes)) == 3
    table.loc[2, f"{ANSWERS[answers[full]]}_{votes}"] += 0.01
    table.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match=f"row 4: the votes for the leaf 'many' come to {most + 0.01:.3g}"):
        read_votes(tmp_path / "a.csv", tree, votes)


def test_products_that_were_rounded(tmp_path: Path) -> None:
    """A share may pass its parent by 0.002; it is 1 then."""
    path = as_kaggle(tmp_path / "k.csv")
    rows = pd.read_csv(path)
    rows.loc[0, ["Class1.2", "Class2.1", "Class2.2", "Class3.1"]] = [0.25, 0.252, 0.0, 0.0015]
    rows.to_csv(path, index=False)
    tree = Tree("edges", (Leaf("edge-on", ("a04",)), Leaf("bar", ("a06",))))
    found = read_votes(path, tree)
    assert (found["a04"][0], found["a06"][0]) == (1.0, 0.0)
    rows.loc[0, "Class2.1"] = 0.2521
    rows.to_csv(path, index=False)
    with pytest.raises(InputError, match="row 2: Class2.1 is 0.2521, more than the 0.25 of Class1.2"):
        read_votes(path, tree)


def mapping(path: Path, **columns: list[Any]) -> Path:
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def test_the_mapping_of_ids_to_images(tmp_path: Path) -> None:
    """An object that is listed again keeps its first image; the columns may stand in any order."""
    path = mapping(tmp_path / "m.csv", asset_id=[7, 8, 9], sample=["a", "b", "c"], objid=[IDS[0], IDS[1], IDS[0]])
    found = read_mapping(str(path))
    assert found.to_dict() == {str(IDS[0]): "7", str(IDS[1]): "8"}
    assert (found.index.name, found.name) == ("objid", "asset_id")
    unnamed = read_mapping(mapping(path, objid=IDS, asset_id=["7", None, "9"]))
    assert unnamed.isna().tolist() == [False, True, False]  # an object without an image


def test_a_mapping_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gz_lightning.data.tables.ROWS", 2)
    path = tmp_path / "m.csv"
    with pytest.raises(InputError, match="m.csv lacks the column objid and asset_id; it has name, b, c, d, e, ...$"):
        read_mapping(mapping(path, name=[1], b=[1], c=[1], d=[1], e=[1], f=[1]))
    with pytest.raises(InputError, match="m.csv lacks the column asset_id; it has objid$"):
        read_mapping(mapping(path, objid=[1]))
    with pytest.raises(InputError, match="m.csv holds no row"):
        read_mapping(mapping(path, objid=[], asset_id=[]))
    with pytest.raises(InputError, match=r"m.csv, row 5: the object id \(objid\) is empty"):
        read_mapping(mapping(path, objid=["1", "2", "3", None], asset_id=[1, 2, 3, 4]))
    with pytest.raises(
        InputError, match="m.csv, row 5: the objid 3.5 is a floating-point number; export the column objid as"
    ):
        read_mapping(mapping(path, objid=["1", "2", "3", "3.5"], asset_id=[1, 2, 3, 4]))
    with pytest.raises(
        InputError, match="m.csv, row 4: the asset_id 3.0 is a floating-point number; export the column asset_id"
    ):
        read_mapping(mapping(path, objid=["1", "2", "3"], asset_id=["1", "2", "3.0"]))
    with pytest.raises(InputError, match="m.csv, row 3: the asset_id 3.0 is a floating-point number"):
        read_mapping(mapping(path, objid=["1", "2"], asset_id=[None, "3.0"]))
    ids = [IDS[0] // 1000 * 1000 + 1000 * i for i in range(4)]
    with pytest.raises(
        InputError, match=rf"m.csv: \d+ of \d+ ids in the column objid, such as {ids[0]}, have lost their last"
    ):
        read_mapping(mapping(path, objid=ids, asset_id=[1, 2, 3, 4]))
