"""Vote fractions that are made from counts; object ids that are row numbers; rows that come twice."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gz_lightning.data.layouts import GALAXY_DATASETS, layout_of
from gz_lightning.data.schema import known_schema
from gz_lightning.data.tree import ANSWERS, get_tree
from gz_lightning.data.votes import read_votes, vote_pieces
from gz_lightning.errors import InputError
from tests.data.test_votes import COARSE, IDS, SPIRAL, as_kaggle, gz2_table

BAR = ("bar-gz2_yes", "bar-gz2_no")


@pytest.fixture(autouse=True)
def two_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that every table has several pieces."""
    monkeypatch.setattr("gz_lightning.data.tables.ROWS", 2)


def counted(number: int = 5) -> pd.DataFrame:
    """Counts alone, as in the first versions of galaxy-datasets; nobody was asked for the bar of galaxy 3."""
    draws = np.random.default_rng(5)
    table = pd.DataFrame({"id_str": [f"J{i:03d}" for i in range(number)]})
    for column in GALAXY_DATASETS.values():
        table[column] = draws.integers(0, 30, number)
    table.loc[3, list(BAR)] = 0
    table.loc[1, list(BAR)] = [1, 0]  # a single vote is a fraction as well, and all may be for one answer
    return table


def test_counts_become_fractions_of_the_question(tmp_path: Path) -> None:
    """Written out: the share of all votes on the question, with the digits of single precision."""
    table = counted().astype({"bar-gz2_no": float})
    table.loc[3, "bar-gz2_no"] = np.nan  # of a question without votes
    table.to_csv(tmp_path / "a.csv", index=False)
    found = read_votes(tmp_path / "a.csv", COARSE)
    assert found["object_id"].tolist() == table["id_str"].tolist()
    assert found.index.tolist() == list(range(5))
    for answer in COARSE.answers:
        column = GALAXY_DATASETS[answer]
        siblings = [name for name in GALAXY_DATASETS.values() if name.split("_")[0] == column.split("_")[0]]
        total = table[siblings].fillna(0).sum(axis=1).to_numpy(float)
        with np.errstate(invalid="ignore"):
            expected = (table[column].fillna(0).to_numpy(float) / total).astype(np.float32).astype(float).round(6)
        np.testing.assert_array_equal(found[answer], expected)
    assert found["a06"].isna().tolist() == [False, False, False, True, False]
    assert found["a06"][1] == 1
    assert (found[list(COARSE.answers)].dtypes == np.float64).all()


@pytest.mark.parametrize("total", [False, True])
@pytest.mark.parametrize("null", BAR)
def test_a_null_beside_votes_is_no_zero(null: str, total: bool, tmp_path: Path) -> None:
    """It may stand for nobody or for a number that was lost; a question of nulls alone was not asked. One vote is enough."""
    table = counted(6).astype(dict.fromkeys(BAR, float))
    table.loc[0, list(BAR)] = np.nan
    table.loc[5, list(BAR)] = 1
    if total:
        table["bar-gz2_total-votes"] = table[list(BAR)].sum(axis=1)
    table.to_csv(tmp_path / "a.csv", index=False)
    assert read_votes(tmp_path / "a.csv", get_tree("simplified"))["a06"].isna().tolist() == [
        True,
        False,
        False,
        True,
        False,
        False,
    ]
    table.loc[5, null] = np.nan
    table.to_csv(tmp_path / "a.csv", index=False)
    message = rf"a.csv, row 7, column {null}: empty, though others of its question have votes \(1 such rows .*write 0 where"
    with pytest.raises(InputError, match=message):
        read_votes(tmp_path / "a.csv", get_tree("simplified"))
    if total:
        table.loc[5, [*BAR, "bar-gz2_total-votes"]] = [3, 4, np.nan]
        table.to_csv(tmp_path / "a.csv", index=False)
        with pytest.raises(InputError, match=r"a.csv, row 7, column bar-gz2_total-votes: empty, though"):
            read_votes(tmp_path / "a.csv", get_tree("simplified"))


def with_fractions() -> pd.DataFrame:
    """Counts and the fractions made of them."""
    table = counted()
    for column in GALAXY_DATASETS.values():
        siblings = [name for name in GALAXY_DATASETS.values() if name.split("_")[0] == column.split("_")[0]]
        table[f"{column}_fraction"] = table[column] / table[siblings].sum(axis=1)
    return table


def test_fractions_that_are_null_are_made_of_the_counts_beside(tmp_path: Path) -> None:
    """As tables have them of which some had fractions and others none before they were joined."""
    table = with_fractions()
    table.to_csv(tmp_path / "a.csv", index=False)
    whole = read_votes(tmp_path / "a.csv", COARSE)
    names = [f"{column}_fraction" for column in GALAXY_DATASETS.values()]
    table.loc[[0, 1, 4], names] = np.nan
    table.loc[2, f"{BAR[0]}_fraction"] = np.nan
    table.to_csv(tmp_path / "a.csv", index=False)
    pd.testing.assert_frame_equal(read_votes(tmp_path / "a.csv", COARSE), whole)
    assert whole["a06"].isna().tolist() == [False, False, False, True, False]


def test_fractions_that_are_there_stay_as_they_are(tmp_path: Path) -> None:
    """Whatever the counts beside would make; only the one that a row lacks is made of them."""
    table = with_fractions()
    table.loc[[0, 1], list(BAR)] = [6, 4]
    table.loc[[0, 1], [f"{name}_fraction" for name in BAR]] = [[0.7, 0.3], [np.nan, 0.3]]
    table.to_csv(tmp_path / "a.csv", index=False)
    found = read_votes(tmp_path / "a.csv", get_tree("simplified"))
    assert found[["a06", "a07"]][:2].to_numpy().tolist() == [[0.7, 0.3], [0.6, 0.3]]


def test_the_votes_on_a_question_count_for_every_row_that_lacks_a_fraction(tmp_path: Path) -> None:
    """One answer lacks it in the first row and the other in the second; what both are a share of is wrong in both."""
    table = with_fractions().assign(**{"bar-gz2_total-votes": "many"})
    table.loc[[2, 3], list(BAR)] = 5
    table.loc[2, f"{BAR[0]}_fraction"], table.loc[3, f"{BAR[1]}_fraction"] = np.nan, np.nan
    table.loc[3, f"{BAR[0]}_fraction"] = 0.5
    table.to_csv(tmp_path / "a.csv", index=False)
    message = r"a.csv, row 4, column bar-gz2_total-votes: 'many' is not a number of votes \(2 such rows"
    with pytest.raises(InputError, match=message):
        read_votes(tmp_path / "a.csv", get_tree("simplified"))


def test_counts_beside_fractions_are_only_looked_at_where_they_are_needed(tmp_path: Path) -> None:
    table = with_fractions().astype({BAR[0]: object})
    table.loc[4, BAR[0]] = "many"
    table.to_csv(tmp_path / "a.csv", index=False)
    read_votes(tmp_path / "a.csv", COARSE)
    table.loc[4, "has-spiral-arms-gz2_yes_fraction"] = np.nan
    table.to_csv(tmp_path / "a.csv", index=False)
    read_votes(tmp_path / "a.csv", COARSE)
    table.loc[4, f"{BAR[1]}_fraction"] = np.nan
    table.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match=rf"a.csv, row 6, column {BAR[0]}: 'many' is not a number of votes \(1 such"):
        read_votes(tmp_path / "a.csv", get_tree("simplified"))


def test_products_whose_cells_are_empty_stay_null(tmp_path: Path) -> None:
    path = as_kaggle(tmp_path / "k.csv")
    table = pd.read_csv(path)
    table.loc[1, "Class7.1"], table.loc[2, ["Class1.1", "Class7.1", "Class7.2", "Class7.3"]] = np.nan, 0
    table.to_csv(path, index=False)
    found = read_votes(path, COARSE)
    assert found["a16"].isna().tolist() == [False, True, False]
    assert found["a16"][2] == 0


def test_nulls_that_leave_open_what_a_galaxy_is(tmp_path: Path) -> None:
    """A null counts as zero where it cannot change the likeliest leaf, as of a question that few reached."""
    tree = get_tree("simplified")
    names = {answer: f"{ANSWERS[answer]}_weighted_fraction" for answer in ANSWERS}
    table = pd.DataFrame({"objid": [f"J{i}" for i in range(10)], **dict.fromkeys(names.values(), 0.0)})
    table[[names["a01"], names["a16"], names["a17"]]] = 0.9, 0.7, 0.3
    table[[names["a02"], names["a04"], names["a05"]]] = 0.1, 0.2, 0.8
    table[[names["a07"], names["a09"]]] = 1.0
    table.loc[1, names["a16"]] = np.nan  # else it were in between
    table.loc[2, [names["a04"], names["a05"]]] = np.nan  # at most .1
    table.loc[3, [names["a01"], names["a02"], names["a05"]]] = 0.0, 1.0, np.nan  # face-on or not?
    table.loc[3, names["a25"]] = 1.0
    table.loc[4, [name for name in table if name != "objid"]] = np.nan  # of no survey
    table.loc[5, [names["a16"], names["a17"]]] = 0.0, np.nan
    table.loc[7, [names["a01"], names["a03"], names["a16"], names["a17"]]] = 0.4, 0.5, np.nan, 0.0  # all of .4 is not .5
    table.loc[8, [names["a01"], names["a03"], names["a16"], names["a17"]]] = 0.500001, 0.5, np.nan, 0.0  # as good as .5
    table.loc[9, [names["a01"], names["a03"], names["a16"], names["a17"]]] = 0.500002, 0.5, np.nan, 0.0
    table.to_csv(tmp_path / "a.csv", index=False)
    layout = layout_of(tmp_path / "a.csv")
    found = np.concatenate([found for _, found in vote_pieces(tmp_path / "a.csv", tree, layout, "weighted_fraction")])
    assert np.isnan(found).all(axis=1).tolist() == [*[False, True] * 3, False, False, False, True]
    np.testing.assert_allclose(found[2, :2], [0.63, 0.27], atol=1e-6)
    assert not found[4].any()


def test_fractions_have_the_digits_of_single_precision(tmp_path: Path) -> None:
    """The same number as text and in single precision, where .3000005002 is below .3000005."""
    table = gz2_table()
    table[SPIRAL] = [0.3000005002, 0.123456789, 1 / 3]
    table.to_csv(tmp_path / "a.csv", index=False)
    assert read_votes(tmp_path / "a.csv", COARSE)["a08"].tolist() == [0.3, 0.123457, 0.333333]


@pytest.mark.parametrize("wrong", [2.5, -1, "many", "9" * 400])
def test_what_is_no_count_is_refused(wrong: Any, tmp_path: Path) -> None:
    table = counted().astype({BAR[0]: object})
    table.loc[[3, 4], BAR[0]] = 0
    table.loc[3, BAR[0]] = wrong
    table.to_csv(tmp_path / "a.csv", index=False)
    message = rf"a.csv, row (5|4), column {BAR[0]}: .* is not a number of votes \((1|2) such rows from there on\)"
    with pytest.raises(InputError, match=message) as refused:
        read_votes(tmp_path / "a.csv", COARSE)
    if len(str(wrong)) < 9:  # of a number of 400 digits pandas does not say which row it is in
        assert "row 5" in str(refused.value)
        assert "(1 such rows" in str(refused.value)
        assert str(wrong) in str(refused.value)


def test_counts_that_are_complex_numbers_are_refused(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits", reason="FITS tables need astropy")
    table, columns = counted(), [fits.Column("id_str", "4A", array=np.array([f"J{i:03d}" for i in range(5)]))]
    for column in GALAXY_DATASETS.values():
        columns.append(fits.Column(column, "C" if column == BAR[0] else "K", array=table[column].to_numpy()))
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "a.fits")
    with pytest.raises(InputError, match=rf"a.fits, row 1, column {BAR[0]}: .* is not a number of votes \(2 such rows"):
        read_votes(tmp_path / "a.fits", COARSE)


@pytest.mark.parametrize("wrong", [[1], True, pd.Timestamp("2026-11-28"), pd.Timedelta(1), 1e300, 2.0**53 + 2])
def test_what_only_python_takes_for_a_count_is_refused(wrong: Any, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="Parquet tables need pyarrow")
    table = counted().drop(columns=BAR[0])
    table[BAR[0]] = [wrong] * 5
    table.to_parquet(tmp_path / "a.parquet", index=False)
    with pytest.raises(InputError, match=rf"a.parquet, row 1, column {BAR[0]}: .* is not a number of votes"):
        read_votes(tmp_path / "a.parquet", COARSE)


def test_more_votes_than_the_question_has_are_refused(tmp_path: Path) -> None:
    table = counted()
    table["bar-gz2_total-votes"] = table[list(BAR)].sum(axis=1)
    table.to_csv(tmp_path / "a.csv", index=False)
    read_votes(tmp_path / "a.csv", COARSE)
    table.loc[3, [*BAR, "bar-gz2_total-votes"]] = [24, 25, 24]  # as many as there are is right
    table.to_csv(tmp_path / "a.csv", index=False)
    message = rf"a.csv, row 5, column {BAR[1]}: 25 votes of 24 for all answers to the question \(1 such rows from there on\)"
    with pytest.raises(InputError, match=message):
        read_votes(tmp_path / "a.csv", get_tree("simplified"))


def test_rows_without_object_ids_are_called_by_their_numbers(tmp_path: Path) -> None:
    table = counted().drop(columns="id_str").assign(image=[b"..."] * 5)
    pytest.importorskip("pyarrow", reason="Parquet tables need pyarrow")
    table.to_parquet(tmp_path / "a.parquet", index=False)
    layout = layout_of(tmp_path / "a.parquet", images_inside=True)
    rows = pd.concat([piece for piece, _ in vote_pieces(tmp_path / "a.parquet", COARSE, layout, "fraction", "shard")])
    assert rows["object_id"].tolist() == [f"shard:{i}" for i in range(1, 6)]
    assert rows["object_id"].dtype == "string"
    assert rows["a17"].notna().all()


def test_equal_rows_are_one_and_others_are_named(tmp_path: Path) -> None:
    table = pd.concat([counted(), counted()[1:4]], ignore_index=True)
    table.to_csv(tmp_path / "a.csv", index=False)
    found = read_votes(tmp_path / "a.csv", COARSE)
    assert found["object_id"].tolist() == [f"J{i:03d}" for i in range(5)]
    assert found.columns.tolist() == ["object_id", *COARSE.answers]
    table.loc[6, "smooth-or-featured-gz2_smooth"] += 1
    table.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match=r"J002: 'a01' is 0 in .*a.csv, row 4 and 0.03\d+ in .*a.csv, row 8; keep one"):
        read_votes(tmp_path / "a.csv", COARSE)


def test_the_table_is_named_and_read_by_the_schema_of_the_tree(tmp_path: Path) -> None:
    """Columns without the survey in them are those of whichever survey the tree is of."""
    decals = get_tree("decals")
    naming = next(n for n in known_schema("decals").namings if n.counts["bar_weak"] == "bar_weak")
    pd.DataFrame({"iauname": ["J1", "J2"], **{name: [3, 4] for name in naming.counts.values()}}).to_csv(
        tmp_path / "a.csv", index=False
    )
    assert len(read_votes(tmp_path / "a.csv", decals)) == 2
    with pytest.raises(InputError, match=r"a.csv has object ids \(iauname\), but no votes of the survey 'gz2'"):
        read_votes(tmp_path / "a.csv", COARSE)
    counted().drop(columns=BAR[0]).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match=r"^\S*a.csv lacks \d+ of the \d+ columns .*bar-gz2_yes"):
        read_votes(tmp_path / "a.csv", get_tree("simplified"))


def test_files_may_lie_in_no_subfolder(tmp_path: Path) -> None:
    counted().assign(filename=[f"{i}.jpg" for i in range(5)]).to_csv(tmp_path / "a.csv", index=False)
    assert read_votes(tmp_path / "a.csv", COARSE)["file"].tolist() == [f"{i}.jpg" for i in range(5)]


def test_whole_numbers_are_fractions_too_and_keep_their_names(tmp_path: Path) -> None:
    path = as_kaggle(tmp_path / "k.csv")
    table = pd.read_csv(path).astype({"Class2.1": int, "Class2.2": int})
    table["Class1.2"], table["Class2.1"], table["Class2.2"] = 1.0, [0, 1, 0], [1, 0, 1]
    for column in [
        name for name in table if name.startswith(("Class9", "Class3", "Class4", "Class5", "Class10", "Class11"))
    ]:
        table[column] = 0
    table.to_csv(path, index=False)
    assert read_votes(path, COARSE)["a04"].tolist() == [0, 1, 0]
    table["Class1.2"] = 0.25
    table.to_csv(path, index=False)
    with pytest.raises(InputError, match=r"k.csv, row 3: Class2.1 is 1, more than the 0.25 of Class1.2"):
        read_votes(path, get_tree("coarse5"))


def test_the_row_that_is_named_passes_the_bounds(tmp_path: Path) -> None:
    for just in (-1e-6, 1.0, 1 + 1e-6, 0.0):
        table = gz2_table()
        table[SPIRAL] = [just, 5.0, 0.5]
        table.to_csv(tmp_path / "a.csv", index=False)
        with pytest.raises(InputError, match=rf"a.csv, row 3, column {SPIRAL}: 5.0 is not a vote fraction"):
            read_votes(tmp_path / "a.csv", COARSE)


def test_volunteers_without_end_in_a_later_piece(tmp_path: Path) -> None:
    table = gz2_table().astype({"total_classifications": object})
    table["total_classifications"] = [44, 20, "9" * 400]
    table.to_csv(tmp_path / "a.csv", index=False)
    found = read_votes(tmp_path / "a.csv", COARSE)
    assert found["object_id"].tolist() == [str(i) for i in IDS]
    np.testing.assert_array_equal(found["classifications"], [44, 20, np.nan])


@pytest.mark.parametrize(("more", "said"), [(0, False), (1, False), (2, True), (-1, False), (-2, True)])
def test_a_total_that_is_not_the_sum_of_its_answers_is_said(
    more: int, said: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two answers it may differ by one vote, as weighted votes do that were rounded one by one."""
    table = counted()
    table.loc[2:4, list(BAR)] = [10, 20]
    table["bar-gz2_total-votes"] = table[list(BAR)].sum(axis=1)
    table.loc[[2, 4], "bar-gz2_total-votes"] += more
    table.to_csv(tmp_path / "a.csv", index=False)
    assert read_votes(tmp_path / "a.csv", get_tree("simplified"))["a06"][4] == round(10 / (30 + more), 6)
    told = " ".join(capsys.readouterr().err.split())
    what = "in 2 rows, such as 4, the votes for all answers to a question are more or fewer than its total-votes"
    assert (what in told) == said
