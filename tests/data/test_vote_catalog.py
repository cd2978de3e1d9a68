"""Vote tables with their images inside, beside or elsewhere: the same galaxies, whatever the format."""

import hashlib
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gz_lightning.data import tables
from gz_lightning.data.arrow import DatasetTable
from gz_lightning.data.catalog import Catalog
from gz_lightning.data.embedded import Inside
from gz_lightning.data.object_ids import lossy
from gz_lightning.data.selection import select
from gz_lightning.data.tree import get_tree
from gz_lightning.data.vote_catalog import catalog_from_votes, tree_of
from gz_lightning.errors import InputError
from tests.data.shards import FIRST_ID, Dataset, counts, gz2_rows, picture, write_folder, write_shard, write_tar

pq = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow")
NUMBER = 23


def same(one: Catalog, other: Catalog) -> None:
    assert tuple(one.object_ids) == tuple(other.object_ids)
    np.testing.assert_array_equal(one.confidences, other.confidences)
    assert (one.tree, one.class_names) == (other.tree, other.class_names)


def test_the_same_galaxies_from_every_layout(tmp_path: Path) -> None:
    """A CSV and a folder; shards in a folder and by a pattern; with fractions in single precision; a dataset; a tar."""
    csv, images = write_folder(tmp_path / "plain", NUMBER)
    plain = catalog_from_votes(csv, images, tree="coarse5")
    assert len(plain) == NUMBER
    assert plain.confidences.argmax(1).tolist() == [i % 5 for i in range(NUMBER)]
    whole = write_shard(tmp_path / "whole.parquet", gz2_rows(NUMBER))
    rows = pd.DataFrame(gz2_rows(NUMBER, fractions=True))
    for part, (start, stop) in enumerate(((0, 10), (10, 11), (11, NUMBER))):
        path = tmp_path / "shards" / "deeper" / f"data-{part:05d}-of-00003.parquet"
        write_shard(path, rows[start:stop].to_dict("list"), [picture(i) for i in range(start, stop)])
    inside = catalog_from_votes(whole, tree="coarse5")
    same(plain, inside)
    assert str(inside.files[7]) == f"{whole}, row 8"
    assert inside.classifications is None
    shards = catalog_from_votes(tmp_path / "shards", tree="coarse5")
    same(plain, shards)
    assert shards.classifications is not None
    assert shards.classifications.tolist() == [40] * NUMBER
    assert shards.files[10] == Inside(tmp_path / "shards/deeper/data-00001-of-00003.parquet", 0)
    same(plain, catalog_from_votes(tmp_path / "shards/*/data-*", tree="coarse5"))
    dataset = Dataset(pq.read_table(whole), dict.fromkeys(pq.read_table(whole).column_names, SimpleNamespace()))
    same(plain, catalog_from_votes(dataset, tree="coarse5"))
    same(plain, catalog_from_votes({"train": dataset}, tree="coarse5"))
    same(plain, catalog_from_votes(write_tar(tmp_path / "a.tar", NUMBER), tree="coarse5"))
    same(plain, catalog_from_votes(csv, [whole], tree="coarse5"))


def test_images_of_another_file_are_joined_by_object_id(tmp_path: Path) -> None:
    """As AstroPT's pictures belong to a vote table: by dr8_id, in another order."""
    csv, _ = write_folder(tmp_path / "plain", 8)
    order = [5, 3, 7, 0, 1, 2, 6]
    ids = {"dr8_id": [str(FIRST_ID + i) for i in order]}
    path = write_shard(tmp_path / "pictures.parquet", ids, [picture(i) for i in order])
    catalog = catalog_from_votes(csv, [path], tree="coarse5", max_missing=0.2)
    assert [int(i) - FIRST_ID for i in catalog.object_ids] == [0, 1, 2, 3, 5, 6, 7]
    assert [file.row for file in catalog.files if isinstance(file, Inside)] == [3, 4, 5, 1, 0, 6, 2]
    assert list(catalog.missing) == [str(FIRST_ID + 4)]
    with pytest.raises(InputError, match=r"1 of the 8 galaxies of .*votes.csv have no image in .*pictures.parquet .*"):
        catalog_from_votes(csv, [path], tree="coarse5")
    twice = write_shard(tmp_path / "twice.parquet", {"dr8_id": [str(FIRST_ID)] * 2})
    with pytest.raises(InputError, match=r"1 object ids have several images, such as \d+ in .*row 1 and .*row 2; keep one"):
        catalog_from_votes(csv, [path, twice][1:], tree="coarse5")
    none = write_shard(tmp_path / "none.parquet", {"x": [1]})
    with pytest.raises(InputError, match="none.parquet has images but no object ids"):
        catalog_from_votes(csv, [none], tree="coarse5")


def test_pictures_given_by_path_are_refused_unless_they_lie_beside_the_shard(tmp_path: Path) -> None:
    paths = [f"/home/someone/{i}.jpg" for i in range(10)]
    shard = write_shard(tmp_path / "a.parquet", gz2_rows(10), [None] * 10, paths)
    message = r"10 of the 10 .* have no image inside .* such as /home/someone/0.jpg, .* by its path alone; embed them"
    with pytest.raises(InputError, match=message):
        catalog_from_votes(shard, tree="coarse5")
    for i in range(10):
        (tmp_path / f"{i}.jpg").write_bytes(picture(i))
    assert list(catalog_from_votes(shard, tree="coarse5").files) == [tmp_path / f"{i}.jpg" for i in range(10)]
    (tmp_path / "7.jpg").unlink()
    with pytest.raises(InputError, match=r"1 of the 10 galaxies .* have no image inside \(object ids 587722981736120354\)"):
        catalog_from_votes(shard, tree="coarse5")
    some = catalog_from_votes(shard, tree="coarse5", max_missing=0.1)
    assert list(some.missing) == [str(FIRST_ID + 7)]
    assert [Path(str(file)).name for file in some.files] == [f"{i}.jpg" for i in range(10) if i != 7]


def test_one_picture_is_not_taken_for_two_paths(tmp_path: Path) -> None:
    """The files of two folders, without their folders, beside one shard or several."""
    rows, folders = pd.DataFrame(gz2_rows(4)), ("train", "test")
    paths = [f"/data/{folders[i % 2]}/{i // 2}.jpg" for i in range(4)]
    shard = write_shard(tmp_path / "s" / "a.parquet", rows.to_dict("list"), [None] * 4, paths)
    for i in range(2):
        (tmp_path / "s" / f"{i}.jpg").write_bytes(picture(i))
    message = (
        r"a.parquet, row 1 names the image /data/train/0.jpg and .*{}, row {} the image /data/test/0.jpg, but both are "
    )
    with pytest.raises(InputError, match=message.format("a.parquet", 2)):
        catalog_from_votes(shard, tree="coarse5")
    with pytest.raises(InputError, match=message.format("a.parquet", 2)):
        catalog_from_votes(shard, [shard], tree="coarse5")
    for part in range(2):
        of_part = rows[part::2].to_dict("list")
        write_shard(tmp_path / "s" / f"{'ab'[part]}.parquet", of_part, [None] * 2, paths[part::2])
    with pytest.raises(InputError, match=message.format("b.parquet", 1)):
        catalog_from_votes(tmp_path / "s", tree="coarse5")
    write_shard(shard, rows.to_dict("list"), [None] * 4, [f"/data/{i % 2}.jpg" for i in range(4)])
    assert len(catalog_from_votes(shard, tree="coarse5")) == 4  # two rows may name one image


def test_a_struct_of_nothing_but_paths(tmp_path: Path) -> None:
    import pyarrow as pa

    cells = pa.array([{"path": f"images/{i}.jpg"} for i in range(5)])
    shard = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": cells, **gz2_rows(5)}), shard)
    with pytest.raises(InputError, match="5 of the 5 .* have no image inside .* such as images/0.jpg, .* by its path alone"):
        catalog_from_votes(shard, tree="coarse5")
    (tmp_path / "images").mkdir()
    for i in range(5):
        (tmp_path / "images" / f"{i}.jpg").write_bytes(picture(i))
    found = catalog_from_votes(shard, tree="coarse5").files
    assert list(found) == [tmp_path / "images" / f"{i}.jpg" for i in range(5)]


def test_a_row_group_without_pictures_is_counted(tmp_path: Path) -> None:
    pictures = [None if 5 <= i < 10 else picture(i) for i in range(20)]
    shard = write_shard(tmp_path / "a.parquet", gz2_rows(20), pictures)
    with pytest.raises(InputError, match="5 of the 20 galaxies .* have no image inside"):
        catalog_from_votes(shard, tree="coarse5")
    catalog = catalog_from_votes(shard, tree="coarse5", max_missing=0.3)
    assert len(catalog) == 15
    assert len(catalog.missing) == 5
    assert [str(file) for file in catalog.files[4:6]] == [f"{shard}, row 5", f"{shard}, row 11"]


def test_repeated_rows_over_shards(tmp_path: Path) -> None:
    rows = pd.DataFrame(gz2_rows(10))
    write_shard(tmp_path / "s" / "a.parquet", rows[:6].to_dict("list"), [picture(i) for i in range(6)])
    write_shard(tmp_path / "s" / "b.parquet", rows[4:].to_dict("list"), [picture(i) for i in range(4, 10)])
    catalog = catalog_from_votes(tmp_path / "s", tree="coarse5")
    assert len(catalog) == 10
    assert catalog.notes == ("2 rows repeat another of the same object id, and count once",)
    changed = rows[4:].assign(**{"how-rounded-gz2_cigar": 3, "how-rounded-gz2_round": 37, "how-rounded-gz2_in-between": 0})
    write_shard(tmp_path / "s" / "b.parquet", changed.to_dict("list"), [picture(i) for i in range(4, 10)])
    with pytest.raises(InputError, match=r"2 object ids have rows that differ, .*a.parquet, row 5 and .*b.parquet, row 1;"):
        catalog_from_votes(tmp_path / "s", tree="coarse5")


def test_repeated_rows_with_another_picture_or_none(tmp_path: Path) -> None:
    rows, pictures = gz2_rows(10), [picture(i) for i in range(10)]
    again = pd.DataFrame(rows)[:2].to_dict("list")
    write_shard(tmp_path / "s" / "a.parquet", rows, [None, *pictures[1:]])
    write_shard(tmp_path / "s" / "b.parquet", again, pictures[:2])
    catalog = catalog_from_votes(tmp_path / "s", tree="coarse5")
    assert sorted(catalog.object_ids) == rows["id_str"]
    assert not catalog.missing
    assert catalog.files[9] == Inside(tmp_path / "s" / "b.parquet", 0)
    assert catalog.confidences[9].argmax() == 0
    write_shard(tmp_path / "s" / "b.parquet", again, pictures[5:7])
    with pytest.raises(
        InputError, match=r"1 rows have the object id and the labels .*a.parquet, row 2 and .*b.parquet, row 2"
    ):
        catalog_from_votes(tmp_path / "s", tree="coarse5")


def test_shards_of_mixed_columns(tmp_path: Path) -> None:
    rows = gz2_rows(6)
    write_shard(tmp_path / "s" / "a.parquet", rows)
    write_shard(tmp_path / "s" / "b.parquet", {name: values for name, values in rows.items() if "bar-gz2" not in name})
    with pytest.raises(
        InputError, match=r"b.parquet lacks 2 of the \d+ columns .* bar-gz2_yes_fraction, bar-gz2_no_fraction"
    ):
        catalog_from_votes(tmp_path / "s", tree="coarse5")
    (tmp_path / "s" / "b.parquet").unlink()
    hart = {"dr7objid": ["1"], **{f"{stem}_weighted_fraction": [0.5] for stem in get_tree("coarse5").with_left_out.answers}}
    write_shard(tmp_path / "s" / "b.parquet", hart)
    with pytest.raises(InputError, match="b.parquet has object ids .dr7objid., but no votes of the survey 'gz2'"):
        catalog_from_votes(tmp_path / "s", tree="coarse5")


def test_shards_with_different_kinds_of_votes_are_not_mixed(tmp_path: Path) -> None:
    answers = get_tree("coarse5").with_left_out.answers
    stems = {a: get_tree("coarse5").schema.answers[a].published[a] for a in answers}
    for name, kind in (("a", "weighted_fraction"), ("b", "debiased")):
        table = {"dr7objid": [f"{name}{i}" for i in range(3)], **{f"{stem}_{kind}": [0.3] * 3 for stem in stems.values()}}
        write_shard(tmp_path / f"{name}.parquet", table)
    with pytest.raises(
        InputError, match="a.parquet would be read by its weighted_fraction votes, .*b.parquet by its debiased"
    ):
        catalog_from_votes([tmp_path / "a.parquet", tmp_path / "b.parquet"], tree="coarse5")


@pytest.mark.parametrize(("value", "why"), [(-1.0, "-1.0"), (2.5, "2.5"), (float("inf"), "inf")])
def test_counts_that_are_none(value: float, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROWS", 4)
    rows = gz2_rows(10)
    rows["bar-gz2_yes"] = rows["bar-gz2_yes"].astype(float)
    shard = write_shard(tmp_path / "whole.parquet", rows)
    assert len(catalog_from_votes(shard, tree="coarse5")) == 10  # whole floats are counts
    rows["bar-gz2_yes"][[5, 6]] = value
    shard = write_shard(tmp_path / "a.parquet", rows)
    message = rf"a.parquet, row 6, column bar-gz2_yes: .*{why}.* is not a number of votes \(2 such rows"
    with pytest.raises(InputError, match=message):
        catalog_from_votes(shard, tree="coarse5")


def test_more_votes_than_voters(tmp_path: Path) -> None:
    rows = gz2_rows(10, fractions=True)
    rows = {name: values for name, values in rows.items() if not name.endswith("_fraction")}
    rows["bar-gz2_total-votes"][3] = 2
    with pytest.raises(InputError, match=r"row 4, column bar-gz2_\w+: \d+ votes of 2 for all answers .*1 such rows"):
        catalog_from_votes(write_shard(tmp_path / "a.parquet", rows), tree="coarse5")


def test_pictures_without_object_ids_are_numbered(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "train.parquet", gz2_rows(7, ids=False))
    assert catalog_from_votes(shard, tree="coarse5").object_ids[6] == "train:7"


def test_shards_with_and_without_object_ids_are_not_mixed(tmp_path: Path) -> None:
    """A galaxy of both would be another under its number."""
    write_shard(tmp_path / "a.parquet", gz2_rows(5))
    write_shard(tmp_path / "b.parquet", gz2_rows(5, ids=False))
    with pytest.raises(InputError, match=r"b.parquet has no object ids, but .*a.parquet has \(id_str\); add them \(1 of 2"):
        catalog_from_votes(tmp_path, tree="coarse5")


def test_numbered_rows_of_shards_of_one_name(tmp_path: Path) -> None:
    """As the hub converts data sets: a folder for each split, and files that are numbered anew."""
    for split in ("train", "test"):
        write_shard(tmp_path / split / "0000.parquet", gz2_rows(5, ids=False))
    catalog = catalog_from_votes(tmp_path, tree="coarse5")
    assert [catalog.object_ids[row] for row in (0, 5)] == ["test/0000:1", "train/0000:1"]
    assert catalog.splits == ["test"] * 5 + ["train"] * 5
    assert not catalog.notes


def test_a_dictionary_of_datasets_keeps_its_splits(tmp_path: Path) -> None:
    """As load_dataset gives it without a split."""
    table = pq.read_table(write_shard(tmp_path / "a.parquet", gz2_rows(6, ids=False)))
    features = dict.fromkeys(table.column_names, SimpleNamespace())
    catalog = catalog_from_votes({"train": Dataset(table, features), "test": Dataset(table[:2], features)}, tree="coarse5")
    assert list(catalog.object_ids) == [f"train:{i + 1}" for i in range(6)] + ["test:1", "test:2"]
    assert catalog.splits == ["train"] * 6 + ["test"] * 2


def test_shards_that_are_named_by_their_splits_keep_them(tmp_path: Path) -> None:
    rows = pd.DataFrame(gz2_rows(20))
    for name, start, stop in (
        ("train-00000-of-00002", 0, 8),
        ("train-00001-of-00002", 8, 15),
        ("test-00000-of-00001", 15, 20),
    ):
        shard = tmp_path / "data" / f"{name}.parquet"
        write_shard(shard, rows[start:stop].to_dict("list"), [picture(i) for i in range(start, stop)])
    catalog = catalog_from_votes(tmp_path / "data", tree="coarse5")
    assert catalog.splits is not None
    splits = dict(zip(catalog.object_ids, catalog.splits, strict=True))
    assert splits == {str(FIRST_ID + i): "train" if i < 15 else "test" for i in range(20)}
    assert catalog_from_votes(tmp_path / "data" / "train-*", tree="coarse5").splits is None  # nothing to test on


@pytest.mark.parametrize(
    "name", ["decals", "hubble", "candels", "ukidss", "decals-dr8", "decals-dr12", "cosmic-dawn", "euclid", "jwst"]
)
def test_every_survey_has_its_own_tree(name: str, tmp_path: Path) -> None:
    tree = get_tree(name)
    infix = {"decals": "featured_total", "cosmic-dawn": "-cd"}.get(name, f"-{name.removeprefix('decals-')}")
    rows = {"id_str": [f"J{i:06d}.00+000000.0" for i in range(len(tree))], **counts(len(tree), tree, infix)}
    shard = write_shard(tmp_path / "a.parquet", rows)
    assert tree_of(shard, images_inside=True).name == name
    catalog = catalog_from_votes(shard)
    assert (catalog.tree, catalog.class_names) == (name, tree.class_names)
    assert catalog.confidences.argmax(1).tolist() == list(range(len(tree)))


def test_votes_of_several_surveys_need_a_tree(tmp_path: Path) -> None:
    """As mwalmsley/gz_evo has them; galaxies of other surveys reach no leaf, and are counted."""
    decals = counts(6, get_tree("decals"), "-dr5")
    evo: dict[str, Any] = {"id_str": [f"g{i}" for i in range(12)]}
    evo |= {name: [*values, *[0] * 6] for name, values in counts(6).items()}
    evo |= {name: [*[0] * 6, *values] for name, values in decals.items()}
    shard = write_shard(tmp_path / "a.parquet", evo)
    with pytest.raises(InputError, match="votes of several surveys: say which with --tree simplified or decals-dr5"):
        catalog_from_votes(shard)
    for tree, number in (("coarse5", 6), ("decals", 6), ("decals-dr5", 6)):
        catalog = catalog_from_votes(shard, tree=tree)
        selection = select(catalog.object_ids, catalog.confidences, catalog.class_names, unlikely=catalog.unlikely)
        assert sum(len(leaf) for leaf in selection.available) == number
        assert selection.left_out == {"their votes reach no leaf": 6}


def test_a_tree_of_ones_own_survey(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "name: own\nleaves: {barred: disk_yes bar_yes, plain: disk_yes bar_no, no disk: disk_no}\ninfixes: [-mine]\n"
        "questions:\n  disk: {answers: ['yes', 'no']}\n  bar: {answers: ['yes', 'no'], after: [disk_yes]}\n"
    )
    rows: dict[str, Any] = {"id": ["a", "b", "c"], "disk-mine_yes": [9, 8, 0], "disk-mine_no": [1, 2, 10]}
    rows |= {"bar-mine_yes": [9, 1, 0], "bar-mine_no": [0, 7, 0]}
    catalog = catalog_from_votes(write_shard(tmp_path / "a.parquet", rows), tree=str(tmp_path / "own.yaml"))
    wanted: list[list[float]] = [[0.9, 0, 0.1], [0.8 * 0.125, 0.8 * 0.875, 0.2], [0, 0, 1]]
    np.testing.assert_allclose(np.asarray(catalog.confidences), np.array(wanted), atol=1e-6)


def test_a_table_and_images_with_ids_of_other_columns(tmp_path: Path) -> None:
    rows = gz2_rows(4)
    images = [write_shard(tmp_path / "images.parquet", {"dr8_id": [f"{i}_5" for i in range(4)]})]
    votes = pd.DataFrame(rows).rename(columns={"id_str": "dr7objid"})
    votes.assign(dr8_id=[f"{i}_5" for i in range(4)]).to_csv(tmp_path / "v.csv", index=False)
    message = "v.csv is joined by its dr7objid to the dr8_id of .*images.parquet; "
    with pytest.raises(InputError, match=message + "leave out dr7objid, so that dr8_id is taken"):
        catalog_from_votes(tmp_path / "v.csv", list(images), tree="coarse5")
    votes.to_csv(tmp_path / "v.csv", index=False)
    with pytest.raises(InputError, match=message + "give both the same ids"):
        catalog_from_votes(tmp_path / "v.csv", list(images), tree="coarse5")


def test_one_rounded_id_beside_shards_of_images_is_refused(tmp_path: Path) -> None:
    rows = gz2_rows(4)
    images = [write_shard(tmp_path / "images.parquet", {"id_str": [str(i) for i in IDS]})]
    votes = pd.DataFrame(rows).assign(id_str=[str(i) for i in IDS])
    votes.loc[2, "id_str"] = lossy(str(IDS[2]))[0]
    votes.to_csv(tmp_path / "v.csv", index=False)
    with pytest.raises(InputError, match=rf"v.csv has lost the last digits of 1 .* where \S*images.parquet has {IDS[2]}"):
        catalog_from_votes(tmp_path / "v.csv", list(images), tree="coarse5", max_missing=1)


IDS = [587722981736120347 + 7001 * i for i in range(4)]


def test_galaxies_whose_nulls_leave_open_what_they_are(tmp_path: Path) -> None:
    """They are left out and counted, and a whole row of the same galaxy is taken."""
    votes, images = write_folder(tmp_path, 5)
    rows = pd.DataFrame(gz2_rows(5, fractions=True))
    rows = rows.drop(columns=[name for name in rows if "gz2_" in name and not name.endswith("_fraction")])
    rows.loc[5] = rows.loc[0]
    rows.loc[[0, 1], "smooth-or-featured-gz2_smooth_fraction"] = np.nan
    rows.to_csv(votes, index=False)
    catalog = catalog_from_votes(votes, images, tree="coarse5")
    assert sorted(catalog.object_ids) == sorted(rows["id_str"].drop([1, 5]))
    first = rf"{rows['id_str'][0]} in \S*votes.csv, row 2"
    (note,) = catalog.notes
    assert re.fullmatch(
        rf"the fraction votes of 2 galaxies have nulls that leave open what they are, such as {first}; .*", note
    )
    rows["smooth-or-featured-gz2_smooth_fraction"] = np.nan
    rows.to_csv(votes, index=False)
    with pytest.raises(InputError, match="6 galaxies have nulls that leave open .*, which is all; are these the right col"):
        catalog_from_votes(votes, images, tree="coarse5")


def test_a_table_of_a_header_alone(tmp_path: Path) -> None:
    votes, images = write_folder(tmp_path, 3)
    votes.write_text(votes.read_text().splitlines()[0] + "\n")
    with pytest.raises(InputError, match=r"votes.csv holds no galaxy"):
        catalog_from_votes(votes, images, tree="coarse5")


def test_table5_is_the_same_in_every_format(real_data: Path) -> None:
    """19,761 galaxies as CSV, FITS in single precision and VOTable: the same confidences bit by bit, and leaves."""
    pytest.importorskip("astropy", reason="FITS needs astropy")
    fits = real_data / "catalogs" / "table5.fits.gz"
    if not fits.is_file():
        pytest.skip(f"no real catalogues: {fits} is absent")
    csv = real_data / "gz2_stripe82" / "table5.csv.gz"
    found, ties = [], set()
    for table in (csv, fits, real_data / "catalogs" / "table5.vot.gz"):
        if not table.is_file():
            continue
        galaxies = catalog_from_votes(table, [_pictures_of(csv)], tree="simplified")
        selection = select(galaxies.object_ids, galaxies.confidences, galaxies.class_names, 600, unlikely=galaxies.unlikely)
        values = (galaxies.confidences, selection.rows, selection.labels, *selection.available)
        found.append([hashlib.sha256(value.tobytes()).hexdigest() for value in values])
        ties.add(sum(selection.tied))
    assert all(one == found[0] for one in found)
    assert len(found) >= 2
    assert ties == {TIES}


TIES = 413


def _pictures_of(csv: Path) -> Any:
    """A dataset with one picture for each object id of a table."""
    import pyarrow as pa

    ids = pd.read_csv(csv, usecols=["objid"], dtype=str)["objid"].tolist()
    cells = pa.array([{"bytes": b"x", "path": None}] * len(ids), pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    return DatasetTable(Dataset(pa.table({"image": cells, "id_str": ids}), {"image": None, "id_str": None}))
