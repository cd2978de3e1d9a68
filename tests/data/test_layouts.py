"""Layouts of vote tables, known by their columns, and real tables."""

from pathlib import Path

import pandas as pd
import pytest

from gz_lightning.data.layouts import layout_of
from gz_lightning.data.schema import known_schema
from gz_lightning.data.tree import get_tree
from gz_lightning.data.votes import read_votes
from gz_lightning.errors import InputError
from tests.data.shards import counts
from tests.data.test_votes import gz2_table


@pytest.mark.parametrize("name", ["OBJID", "subject_id", "iauname", "dr8_id", "ID_STR", "Object_ID", "dr7ObjID"])
def test_ids_by_any_name_and_case(name: str, tmp_path: Path) -> None:
    gz2_table().rename(columns={"dr7objid": name}).to_csv(tmp_path / "a.csv", index=False)
    assert layout_of(tmp_path / "a.csv").object_id == name
    assert len(read_votes(tmp_path / "a.csv", "simplified")) == 3


def test_columns_in_capitals(tmp_path: Path) -> None:
    table = gz2_table()
    table.to_csv(tmp_path / "a.csv", index=False)
    table.rename(columns=str.upper).to_csv(tmp_path / "b.csv", index=False)
    pd.testing.assert_frame_equal(read_votes(tmp_path / "a.csv", "simplified"), read_votes(tmp_path / "b.csv", "simplified"))


def test_the_id_of_desi_is_not_that_of_its_bricks(tmp_path: Path) -> None:
    """objid counts the sources of a brick; dr8_id is of the whole survey."""
    rows = {"brickid": [5, 6], "objid": [1, 1], "dr8_id": ["5_1", "6_1"], **counts(2, get_tree("decals"), "featured_total")}
    pd.DataFrame(rows).to_csv(tmp_path / "a.csv", index=False)
    assert layout_of(tmp_path / "a.csv").object_id == "dr8_id"
    assert read_votes(tmp_path / "a.csv", "decals")["object_id"].tolist() == ["5_1", "6_1"]


def test_tables_that_hold_no_votes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id_str,ra,dec\n1,2,3\n")
    with pytest.raises(
        InputError, match=r"a.csv has object ids \(id_str\), but no votes of a known survey; its columns are"
    ):
        layout_of(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("ra,dec\n2,3\n")
    with pytest.raises(InputError, match="b.csv has no object id column .*; its first columns are ra, dec"):
        layout_of(tmp_path / "b.csv")
    pd.DataFrame({"id": ["a"], **{name: [3] for name in counts(1, get_tree("decals"), "-dr5")}}).to_csv(tmp_path / "c.csv")
    with pytest.raises(InputError, match=r"no votes of the survey 'gz2', but those of another \(--tree decals-dr5\)"):
        read_votes(tmp_path / "c.csv", "simplified")


def test_the_survey_that_was_published(tmp_path: Path) -> None:
    """Tables of Hubble and CANDELS by their own names; the first question of Hubble is called as that of Galaxy Zoo 2."""
    for name in ("hubble", "candels"):
        columns = known_schema(name).namings[0].columns["weighted_fraction"]
        pd.DataFrame({"ID": ["a", "b"], **dict.fromkeys(columns.values(), 0.25)}).to_csv(
            tmp_path / f"{name}.csv", index=False
        )
        layout = layout_of(tmp_path / f"{name}.csv")
        assert (layout.schema.name, layout.name, layout.tree, layout.serves) == (name, name, name, True)
        votes = read_votes(tmp_path / f"{name}.csv", name)
        assert votes[list(get_tree(name).answers)].eq(0.25).all().all()


REAL = {
    "gz_decals_reduction.csv": ("decals", 1618, "decals"),
    "zoo2MainSpecz_mergers.fits": ("simplified", 1777, "gz2"),
    "hf_datasets_120_galaxies.parquet": ("simplified", 120, "gz2"),
}
REFUSED = {
    "example_ring_catalog_basic.csv": ("rings", r"has object ids \(id_str\), but no votes of the survey 'rings'"),
    "hoyle_barlengths.fits": (
        "simplified",
        r"has object ids \(objid\), but no votes of the survey 'gz2'; its columns are objid",
    ),
    "kaggle_paths_votes.csv": ("simplified", "lacks 13 of the 15 columns that the tree 'simplified' needs"),
}


@pytest.mark.parametrize("name", [*REAL, *REFUSED])
def test_real_tables(name: str, real_data: Path) -> None:
    pytest.importorskip("astropy", reason="FITS needs astropy")
    path = real_data / "catalogs" / name
    if not path.is_file():
        pytest.skip(f"no real catalogues: {path} is absent")
    if name in REAL:
        tree, number, schema = REAL[name]
        assert layout_of(path).schema.name == schema
        assert len(read_votes(path, tree)) == number
    else:
        tree, message = REFUSED[name]
        with pytest.raises(InputError, match=message):
            read_votes(path, tree)


def test_ids_that_end_as_files_do(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "catalogs" / "kaggle_paths_votes.csv"
    if not path.is_file():
        pytest.skip(f"no real catalogues: {path} is absent")
    (tmp_path / "own.yaml").write_text("name: own\nleaves: {smooth: a01, disk: a02}\n")
    assert read_votes(path, str(tmp_path / "own.yaml"))["object_id"].tolist()[:2] == ["100008", "100023"]
