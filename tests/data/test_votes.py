"""Vote tables of every origin, built to their published layouts, and as they go wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gz_lightning.data.layouts import GALAXY_DATASETS, KAGGLE, VoteKind, layout_of
from gz_lightning.data.tree import ANSWERS, TREES, Leaf, Tree
from gz_lightning.data.vote_catalog import catalog_from_votes
from gz_lightning.data.votes import read_votes
from gz_lightning.errors import InputError
from tests.data.test_catalog import save_image
from tests.data.test_tree import BY_HAND, VOTES

COARSE = TREES["coarse5"]
IDS = [587722981736120347, 588017703996096547, 587738569780428805]


def galaxies(number: int = 3) -> pd.DataFrame:
    """Vote fractions of all 37 answers; those of the ten leaves of galaxy 0 are worked out by hand in test_tree."""
    rng = np.random.default_rng(0)
    answers: dict[str, Any] = {}
    for question in dict.fromkeys(stem[:3] for stem in ANSWERS.values()):
        names = [answer for answer, stem in ANSWERS.items() if stem[:3] == question]
        answers |= dict(zip(names, rng.dirichlet(np.full(len(names), 5.0), number).T, strict=True))
    for answer, fraction in VOTES.items():
        answers[answer][0] = fraction
    return pd.DataFrame(answers)[list(ANSWERS)]


def gz2_table() -> pd.DataFrame:
    """The 231 columns of Hart et al. (2016) and of zoo2MainSpecz: nine of the galaxy, six of each answer."""
    votes, columns = galaxies(), {}
    for answer, stem in ANSWERS.items():
        for kind in ("count", "weight", "fraction", "weighted_fraction", "debiased", "flag"):
            columns[f"{stem}_{kind}"] = np.round(votes[answer], 3) if "fraction" in kind else votes[answer] * 0.9
    head = {"dr7objid": IDS, "ra": 1.5, "dec": -0.5, "rastring": "00:06:00", "decstring": "-00:30:00", "sample": "original"}
    return pd.DataFrame(head | {"gz2class": "Sb2m", "total_classifications": [44, 20, 7], "total_votes": 200} | columns)


def as_fits(path: Path, table: pd.DataFrame, object_ids: Any) -> Path:
    """As CasJobs writes it: a binary table of big-endian columns in the first extension."""
    fits = pytest.importorskip("astropy.io.fits", reason="FITS tables need astropy")
    formats = {"i": "K", "f": "E"}
    columns = [fits.Column("dr7objid", "20A" if isinstance(object_ids[0], str) else "K", array=np.array(object_ids))]
    for name in table.columns.drop("dr7objid"):
        kind = table[name].dtype.kind
        values = table[name].to_numpy() if kind in formats else table[name].to_numpy(str)
        columns.append(fits.Column(name, formats.get(kind, "12A"), array=values))
    fits.BinTableHDU.from_columns(columns).writeto(path)
    return path


def as_parquet(path: Path) -> Path:
    """As galaxy-datasets has it: counts, fractions and totals, ids of whole numbers, images in folders."""
    pytest.importorskip("pyarrow", reason="Parquet tables need pyarrow")
    votes = galaxies()
    table = pd.DataFrame({"ra": 1.5, "dec": -0.5, "id_str": IDS})
    for answer, column in GALAXY_DATASETS.items():
        table[column] = np.round(votes[answer] * 40).astype("int64")
        table[f"{column}_fraction"] = votes[answer]
        table[f"{column.split('_')[0]}_total-votes"] = 40
    table["subfolder"] = [str(i)[:6] for i in IDS]
    table["filename"] = [f"{i}.jpg" for i in IDS]
    table.to_parquet(path, index=False)
    return path


def as_kaggle(path: Path) -> Path:
    """Probabilities multiplied down the tree, six digits, columns in the published order."""
    votes, columns = galaxies(), {"GalaxyID": [100008, 100023, 100053]}
    products: dict[str, Any] = {}
    for answer, (column, parent) in KAGGLE.items():  # a parent stands before its children but for Class6.1
        products[column] = votes[answer] * (1 if parent is None else products[parent])
    order = sorted(products, key=lambda name: [int(part) for part in name.removeprefix("Class").split(".")])
    pd.DataFrame(columns | {name: np.round(products[name], 6) for name in order}).to_csv(path, index=False)
    return path


def confidences(table: Path, votes: VoteKind | None = None) -> np.ndarray[Any, Any]:
    tree = TREES["simplified"]
    rows = read_votes(table, tree, votes)
    return tree.confidences({answer: rows[answer] for answer in tree.answers})


def test_hart_table(tmp_path: Path) -> None:
    gz2_table().to_csv(tmp_path / "gz2_hart16.csv.gz", index=False)
    assert layout_of(tmp_path / "gz2_hart16.csv.gz").name == "gz2"
    rows = read_votes(tmp_path / "gz2_hart16.csv.gz", "simplified")
    assert rows["object_id"].tolist() == [str(i) for i in IDS]
    assert rows["classifications"].tolist() == [44, 20, 7]
    np.testing.assert_allclose(confidences(tmp_path / "gz2_hart16.csv.gz")[0], BY_HAND, atol=1e-9)
    assert not np.allclose(confidences(tmp_path / "gz2_hart16.csv.gz", "debiased")[0], BY_HAND)


@pytest.mark.parametrize("object_ids", [IDS, [str(i) for i in IDS]], ids=["integers", "text"])
@pytest.mark.parametrize("name", ["zoo2MainSpecz.fits", "zoo2MainSpecz.fit", "zoo2MainSpecz.fits.gz"])
def test_sdss_fits_table(name: str, object_ids: Any, tmp_path: Path) -> None:
    table = as_fits(tmp_path / name, gz2_table(), object_ids)
    rows = read_votes(table, "simplified", "weighted_fraction")
    assert rows["object_id"].tolist() == [str(i) for i in IDS]
    assert rows["a01"].dtype == np.float64
    np.testing.assert_allclose(confidences(table, "weighted_fraction")[0], BY_HAND, atol=1e-6)


def test_galaxy_datasets_catalogue(tmp_path: Path) -> None:
    table = as_parquet(tmp_path / "gz2_train_catalog.parquet")
    np.testing.assert_allclose(confidences(table)[0], BY_HAND, rtol=1e-12)
    for i in IDS[:2]:
        (tmp_path / "images" / str(i)[:6]).mkdir(parents=True)
        save_image(tmp_path / "images" / str(i)[:6] / f"{i}.jpg", 50)
    catalog = catalog_from_votes(table, tmp_path / "images", max_missing=0.5)
    assert [Path(str(file)).relative_to(tmp_path / "images").as_posix() for file in catalog.files] == [
        f"{str(i)[:6]}/{i}.jpg" for i in IDS[:2]
    ]
    assert catalog.missing == {str(IDS[2]): "has no image"}
    assert catalog.classifications is not None
    assert catalog.classifications.tolist() == [40, 40]
    with pytest.raises(InputError, match="has no votes of the kind debiased; it has all .* --votes fraction"):
        read_votes(table, "simplified", "debiased")
    dust = Tree("dust", (Leaf("dust lane", ("a14 a38",)), Leaf("nothing odd", ("a15",))))
    with pytest.raises(InputError, match="lacks 1 of the 3 columns that the tree 'dust' needs: a column for a38"):
        read_votes(table, dust)


def test_kaggle_probabilities_are_undone(tmp_path: Path) -> None:
    table = as_kaggle(tmp_path / "training_solutions_rev1.csv")
    header = table.read_text().splitlines()[0].split(",")
    assert len(header) == 38
    assert header[:5] == ["GalaxyID", "Class1.1", "Class1.2", "Class1.3", "Class2.1"]
    assert header[-1] == "Class11.6"
    np.testing.assert_allclose(confidences(table)[0], BY_HAND, atol=2e-6)
    every = Tree("every answer", tuple(Leaf(answer, (answer,)) for answer in ANSWERS))
    np.testing.assert_allclose(read_votes(table, every)[list(ANSWERS)], galaxies(), atol=2e-4)
    rows = pd.read_csv(table)
    leaf_5 = rows["Class3.1"] * rows["Class4.1"] / rows["Class2.2"]
    np.testing.assert_allclose(confidences(table)[:, 5], leaf_5, rtol=1e-4)


def test_a_question_that_nobody_reached_is_zero_in_kaggles_table(tmp_path: Path) -> None:
    table = as_kaggle(tmp_path / "k.csv")
    rows = pd.read_csv(table)
    rows.loc[0] = 0
    rows.loc[0, ["GalaxyID", "Class1.1", "Class7.1"]] = [7, 1.0, 1.0]
    rows.to_csv(table, index=False)
    assert confidences(table)[0].tolist() == [1] + [0] * 9
    rows.loc[0, "Class2.1"] = 0.4
    rows.to_csv(table, index=False)
    with pytest.raises(InputError, match=r"row 2: Class2.1 is 0.4, more than the 0 of Class1.2, of which it is a share"):
        confidences(table)


def test_tables_of_two_halves(tmp_path: Path) -> None:
    table = gz2_table()
    for half, rows in (("a", table[:2]), ("b", table[1:])):
        rows.to_csv(tmp_path / f"{half}.csv", index=False)
    for i in IDS:
        save_image(tmp_path / f"{i}.png", 3)
    both = catalog_from_votes([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path)
    assert tuple(both.object_ids) == tuple(str(i) for i in IDS)
    assert both.notes == ("1 rows repeat another of the same object id, and count once",)
    other = table[1:].assign(t07_rounded_a16_completely_round_weighted_fraction=0.5)
    other.to_csv(tmp_path / "b.csv", index=False)
    message = (
        r"such as 588017703996096547: 'smooth, completely round' is \S+ in .*a.csv, row 3 and \S+ in .*b.csv, row 2; keep"
    )
    with pytest.raises(InputError, match=f"1 object ids have rows that differ, {message} one of them"):
        catalog_from_votes([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path)
    table[2:].to_csv(tmp_path / "b.csv", index=False)
    assert tuple(catalog_from_votes([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path).object_ids) == tuple(map(str, IDS))


def test_object_ids_that_have_lost_digits(tmp_path: Path) -> None:
    table = gz2_table()
    table["dr7objid"] = table["dr7objid"].astype(float)
    table.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match=r"row 2: the dr7objid 5.877\S* has lost its last digits; .* dr7objid as text"):
        read_votes(tmp_path / "a.csv", "simplified")
    pytest.importorskip("pyarrow", reason="Parquet tables need pyarrow")
    table.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="dr7objid holds floating-point numbers, which lose the last digits"):
        read_votes(tmp_path / "a.parquet", "simplified")


SPIRAL = "t04_spiral_a08_spiral_weighted_fraction"


@pytest.mark.parametrize("step", [128, 1000])  # of doubles, and of spreadsheets
def test_object_ids_that_were_rounded(step: int, tmp_path: Path) -> None:
    table = pd.concat([gz2_table(), gz2_table()], ignore_index=True)
    table["dr7objid"] = [IDS[0] // step * step + step * i for i in range(6)]
    table.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match=r"a.csv: 6 of 6 ids in the column dr7objid, .* have lost their last digits"):
        read_votes(tmp_path / "a.csv", COARSE)
    table.loc[5, "dr7objid"] += 1
    table.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match=r"a.csv: 5 of 6 ids in the column dr7objid"):
        read_votes(tmp_path / "a.csv", COARSE)
    table["dr7objid"] += table.index * 7 + 1
    table.to_csv(tmp_path / "a.csv", index=False)
    assert len(read_votes(tmp_path / "a.csv", COARSE)) == 6


def test_complex_votes_are_refused(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits", reason="FITS tables need astropy")
    table = gz2_table()
    columns = [fits.Column("dr7objid", "K", array=np.array(IDS))]
    for answer in COARSE.answers:
        name = f"{ANSWERS[answer]}_weighted_fraction"
        columns.append(fits.Column(name, "C" if name == SPIRAL else "E", array=table[name].to_numpy()))
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "a.fits")
    with pytest.raises(InputError, match=rf"a.fits, column {SPIRAL}: complex numbers are not vote fractions"):
        read_votes(tmp_path / "a.fits", COARSE)


@pytest.mark.parametrize("time", [pd.Timestamp(0), pd.Timedelta(0)])
def test_times_are_no_votes(time: Any, tmp_path: Path) -> None:
    """The first moment of 1970 was a vote of 0."""
    pytest.importorskip("pyarrow", reason="Parquet tables need pyarrow")
    gz2_table().assign(**{SPIRAL: time}).to_parquet(tmp_path / "a.parquet", index=False)
    with pytest.raises(InputError, match=rf"a.parquet, column {SPIRAL}: times are not vote fractions"):
        read_votes(tmp_path / "a.parquet", COARSE)


def test_votes_on_one_question_that_pass_1_are_refused(tmp_path: Path) -> None:
    table = gz2_table()
    for answer in ("a02", "a04", "a25", "a26", "a27"):
        table.loc[1, f"{ANSWERS[answer]}_weighted_fraction"] = 0.9
    table.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match=r"row 3: the votes for the leaf 'edge-on' come to 2.19"):
        read_votes(tmp_path / "a.csv", COARSE)


def test_numbers_that_no_table_holds(tmp_path: Path) -> None:
    """A fraction of four hundred digits is refused; a number of volunteers that is none is unknown."""
    table = gz2_table().astype({"total_classifications": object})
    table["total_classifications"] = ["-inf", 20, -3]
    table.to_csv(tmp_path / "a.csv", index=False)
    assert read_votes(tmp_path / "a.csv", COARSE)["classifications"].isna().tolist() == [True, False, True]
    table["total_classifications"] = "9" * 400
    table.to_csv(tmp_path / "a.csv", index=False)
    assert read_votes(tmp_path / "a.csv", COARSE)["classifications"].isna().all()
    table[SPIRAL] = "9" * 400
    table.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match=f"a.csv, .*column {SPIRAL}: .{{,90}}vote fraction between 0 and 1"):
        read_votes(tmp_path / "a.csv", COARSE)


ODD = Tree("odd", (Leaf("odd", tuple(a for a in ANSWERS if ANSWERS[a].startswith("t08"))), Leaf("not odd", ("a15",))))


def test_debiased_votes_add_up_to_more_than_1(tmp_path: Path) -> None:
    """As they do in Hart et al. (2016): 2.44 for the answers on odd features."""
    table = gz2_table()
    for answer, fraction in (("a19", 1.0), ("a21", 0.844), ("a22", 0.6)):
        table.loc[0, f"{ANSWERS[answer]}_debiased"] = fraction
    table.to_csv(tmp_path / "a.csv", index=False)
    rows = read_votes(tmp_path / "a.csv", ODD, "debiased")
    assert ODD.confidences({answer: rows[answer] for answer in ODD.answers})[0, 0] > 2.44


def test_real_debiased_votes_are_read(real_data: Path) -> None:
    """The figures of docs/data.md."""
    table = real_data / "gz2_sample" / "gz2_hart16.csv.gz"
    rows = read_votes(table, ODD, "debiased")
    assert ODD.confidences({answer: rows[answer] for answer in ODD.answers})[:, 0].max() == pytest.approx(2.438, abs=1e-3)
    weighted, debiased = confidences(table, "weighted_fraction").argmax(1), confidences(table, "debiased").argmax(1)
    assert (weighted == debiased).mean() == pytest.approx(0.589, abs=1e-3)
    smooth = Tree("t01", (Leaf("any", ("a01", "a02", "a03")),))
    rows = read_votes(table, smooth, "debiased")
    assert rows[["a01", "a02", "a03"]].sum(axis=1).max() == pytest.approx(1.797, abs=1e-3)
