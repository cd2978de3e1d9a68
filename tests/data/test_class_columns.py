"""Columns of classes beside the pictures: ClassLabels, names, Galaxy10."""

from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gz_lightning.data.class_columns import GALAXY10_DECALS, catalog_from_classes, class_column
from gz_lightning.data.embedded import Inside
from gz_lightning.errors import InputError
from tests.data.shards import Dataset, picture, write_galaxy10, write_shard

pq = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow")
IDS = [f"g{i}" for i in range(8)]


def test_numbers_with_names_in_the_metadata(tmp_path: Path) -> None:
    labels = {"label": ["spiral", "completely round", "star"]}
    shard = write_shard(tmp_path / "a.parquet", {"id": IDS, "label": [0, 1, 0, 1, 2, 1, 0, -1]}, labels=labels)
    catalog = catalog_from_classes(shard)
    assert catalog.class_names == ("spiral", "completely round", "star")
    assert catalog.confidences.argmax(1).tolist() == [0, 1, 0, 1, 2, 1, 0]
    assert catalog.confidences.sum() == 7
    assert catalog.object_ids == tuple(IDS[:7])
    assert catalog.files[4] == Inside(shard, 4)
    assert catalog.notes == ("1 galaxies left out, whose label is empty or -1",)
    assert (catalog.tree, catalog.unlikely, catalog.classifications) == ("", None, None)
    dataset = Dataset(pq.read_table(shard), {"image": SimpleNamespace(), "label": SimpleNamespace(names=labels["label"])})
    assert catalog_from_classes(dataset).class_names == catalog.class_names


def test_names_of_the_leaves_of_a_tree_take_its_order(tmp_path: Path) -> None:
    """As summary of gz_evo, which is empty where nothing is known."""
    names = ["spiral", "edge_on", "in_between", "completely round", "cigar-shaped", "", "spiral", None]
    catalog = catalog_from_classes(write_shard(tmp_path / "a.parquet", {"id": IDS, "summary": names}))
    assert (catalog.tree, catalog.class_names[0]) == ("coarse5", "completely round")
    assert catalog.confidences.argmax(1).tolist() == [4, 3, 1, 0, 2, 4]
    assert catalog.notes == ("2 galaxies left out, whose summary is empty or -1",)
    with pytest.raises(InputError, match="are not the leaves of 'simplified'"):
        catalog_from_classes(tmp_path / "a.parquet", tree="simplified")


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([*range(11), 10], "0 1 2 3 4 5 6 7 8 9 10"),
        ([str(i) for i in (*range(8, 19), -2)], "-2 8 9 10 11 12 13 14 15 16 17 18"),
        (["10", "2", "x"] * 4, "10 2 x"),
    ],
)
def test_classes_without_names_are_in_the_order_of_their_numbers(values: list[Any], classes: str, tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a.parquet", {"id": [f"g{i}" for i in range(12)], "label": values})
    catalog = catalog_from_classes(shard)
    assert catalog.class_names == tuple(classes.split())
    assert [catalog.class_names[i] for i in catalog.confidences.argmax(1)] == [str(value) for value in values]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.fits", "floats.parquet", "text.csv", "text.parquet"])
def test_a_class_that_is_empty_or_minus_one_is_left_out_in_every_format(name: str, tmp_path: Path) -> None:
    """Numbers beside empty cells are doubles in CSV."""
    values: list[Any] = [0, 1, None, -1, 10, 1, None, 0]
    if name.startswith("text"):
        values = [value if value in (None, -1) else f"class {value}" for value in values]
        values = [None if value is None else str(value) for value in values]
    if name == "a.fits":
        fits = pytest.importorskip("astropy.io.fits", reason="FITS tables need astropy")
        stored = np.array([99 if value is None else value for value in values])
        columns = [fits.Column("id", "2A", array=np.array(IDS)), fits.Column("label", "J", null=99, array=stored)]
        fits.BinTableHDU.from_columns(columns).writeto(tmp_path / name)
    else:
        kind = "float64" if name == "floats.parquet" else "string" if name.startswith("text") else "Int64"
        table = pd.DataFrame({"id": IDS, "label": pd.array(values, kind)})
        table.to_csv(tmp_path / name, index=False) if name.endswith("csv") else table.to_parquet(tmp_path / name)
    (tmp_path / "images").mkdir()
    for i in IDS:
        (tmp_path / "images" / f"{i}.jpg").touch()
    catalog = catalog_from_classes(tmp_path / name, tmp_path / "images")
    assert catalog.class_names == tuple(f"class {i}" if name.startswith("text") else str(i) for i in (0, 1, 10))
    assert catalog.object_ids == ("g0", "g1", "g4", "g5", "g7")
    assert catalog.confidences.argmax(1).tolist() == [0, 1, 2, 1, 0]
    assert catalog.notes == ("3 galaxies left out, whose label is empty or -1",)


def test_galaxy10_in_parquet_and_hdf5(tmp_path: Path) -> None:
    """As MultimodalUniverse has it, and as the file of its makers; Galaxy10 SDSS has other classes, so no names."""
    rows = {"gz10_label": np.arange(20, dtype=np.int32) % 10, "object_id": [f"{i}" for i in range(20)]}
    shard = write_shard(tmp_path / "a.parquet", rows, column="rgb_image")
    catalog = catalog_from_classes(shard)
    assert catalog.class_names == GALAXY10_DECALS
    assert catalog.confidences.argmax(1).tolist() == [i % 10 for i in range(20)]
    small = catalog_from_classes(write_galaxy10(tmp_path / "Galaxy10.h5"))
    assert small.class_names == tuple("0123456789")
    assert small.object_ids[:2] == ("Galaxy10:1", "Galaxy10:2")
    large = catalog_from_classes(write_galaxy10(tmp_path / "Galaxy10_DECals.h5", 10, side=256))
    assert large.class_names == GALAXY10_DECALS


def test_the_column_is_known_by_name_or_named(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a.parquet", {"id": IDS, "kind": ["a", "b"] * 4, "ring": [0, 1] * 4})
    assert class_column(shard) is None
    with pytest.raises(InputError, match="a.parquet has no column of classes .* name it with --class_column"):
        catalog_from_classes(shard)
    assert catalog_from_classes(shard, column="kind").class_names == ("a", "b")
    assert catalog_from_classes(shard, column="ring").class_names == ("0", "1")
    with pytest.raises(InputError, match="a.parquet has no column sort; its columns are image, id, kind, ring"):
        catalog_from_classes(shard, column="sort")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_whole_numbers_of_any_precision_are_classes(kind: type, tmp_path: Path) -> None:
    """Half precision does not hold the bound up to which whole numbers are exact."""
    labels: Any = np.array([0, 1, 0, 1, 2, 1, 0, 2], kind)
    shard = write_shard(tmp_path / "a.parquet", {"id": IDS, "label": labels})
    assert catalog_from_classes(shard, column="label").class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("values", "labels", "message"),
    [
        ([0, 1, 7, 1, 0, 8, 1, 1], ["a", "b"], r"row 3, column label: .*7.* is none of 2 classes \(2 such rows"),
        ([0.5] * 8, None, "the column label holds float64 values, which are no classes"),
        (["a"] * 8, None, "has 1 classes; is it the column of classes"),
        ([None] * 8, ["a", "b"], "the column label of .*a.parquet is empty"),
        (["Spiral", "spiral", "a", "b"] * 2, None, "of which two are alike"),
        ([b"\xff\xfe", b"a"] * 4, None, "holds what is no text"),
        (
            [None, ["a"]] * 4,
            None,
            r"row 2, column label: \['a'\] is no class; classes are text or whole numbers \(4 such rows",
        ),
        ([{"x": 1}, {"x": 2}] * 4, None, "row 1, column label: {'x': 1} is no class"),
        ([True, None] * 4, None, r"row 1, column label: True is no class"),
        ([None, date(2026, 1, 2)] * 4, None, r"row 2, column label: datetime.date\(2026, 1, 2\) is no class"),
        ([["a"], ["b"]] * 4, ["a", "b"], r"row 1, column label: \['a'\] is none of 2 classes"),
    ],
)
def test_columns_that_are_none(values: list[Any], labels: list[str] | None, message: str, tmp_path: Path) -> None:
    given = {"label": labels} if labels else None
    shard = write_shard(tmp_path / "a.parquet", {"id": IDS, "label": values}, labels=given)
    with pytest.raises(InputError, match=message):
        catalog_from_classes(shard)


@pytest.mark.parametrize(
    ("values", "row", "value", "number"), [([0, 0, 1, 1], 1, "0", 4), (["s", "typo", "-1", "odd"], 2, "typo", 2)]
)
def test_a_class_that_no_file_names_is_refused(values: list[Any], row: int, value: str, number: int, tmp_path: Path) -> None:
    """One shard has names for its numbers, the other none: its galaxies are not of the last class."""
    labels = {"label": ["s", "d", "x"]}
    write_shard(tmp_path / "s" / "a.parquet", {"id": IDS[:4], "label": [0, 1, 2, 0]}, labels=labels)
    write_shard(tmp_path / "s" / "b.parquet", {"id": IDS[4:], "label": values})
    message = rf"b.parquet, row {row}, column label: '{value}' is none of the classes s, d, x, .*\({number} such rows\)"
    with pytest.raises(InputError, match=message):
        catalog_from_classes(tmp_path / "s")
    write_shard(tmp_path / "s" / "b.parquet", {"id": IDS[4:], "label": ["s", "x", "-1", " d "]})
    assert catalog_from_classes(tmp_path / "s").confidences.argmax(1).tolist() == [0, 1, 2, 0, 0, 2, 1]


def test_galaxy10_of_two_kinds_is_not_mixed(tmp_path: Path) -> None:
    files = write_galaxy10(tmp_path / "a.h5", 10, side=256), write_galaxy10(tmp_path / "b.h5", 10)
    with pytest.raises(InputError, match=r"b.h5, row 1, column ans: '0' is none of the classes Disturbed, .*10 such rows"):
        catalog_from_classes(list(files))


def test_a_class_of_a_few_galaxies_may_be_a_slip_of_the_pen(tmp_path: Path) -> None:
    """Nobody but the tree or the metadata knows which names there are."""
    kinds, ids = ["spiral", "edge_on", "in_between", "completely round", "cigar-shaped"] * 6, [f"g{i}" for i in range(31)]
    catalog = catalog_from_classes(write_shard(tmp_path / "a.parquet", {"id": ids, "summary": [*kinds, "spirall"]}))
    assert catalog.notes == ("classes with fewer than 5 galaxies, as a slip of the pen makes them: spirall (1)",)
    assert len(catalog.class_names) == 6
    assert not catalog_from_classes(write_shard(tmp_path / "b.parquet", {"id": ids[:30], "summary": kinds})).notes
    numbers = {"id": ids, "label": [0] * 15 + [1] * 15 + [2]}
    named = write_shard(tmp_path / "d.parquet", numbers, labels={"label": ["a", "b", "rare"]})
    assert not catalog_from_classes(named).notes
    with pytest.raises(InputError, match="spirall.* are not the leaves of 'coarse5'"):
        catalog_from_classes(tmp_path / "a.parquet", tree="coarse5")


def test_shards_with_and_without_object_ids_are_not_mixed(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", {"label": ["a", "b"] * 4})
    assert catalog_from_classes(tmp_path / "a.parquet").object_ids[0] == "a:1"
    write_shard(tmp_path / "b.parquet", {"id": IDS, "label": ["a", "b"] * 4})
    with pytest.raises(
        InputError, match=r"a.parquet has no object ids, but .*b.parquet has \(id\); add them \(1 of 2 tables"
    ):
        catalog_from_classes(tmp_path)


def test_rows_that_differ_in_their_class_are_refused(tmp_path: Path) -> None:
    rows, pictures = {"id": ["x", "y", "x"], "label": ["a", "b", "a"]}, [picture(0), picture(1), picture(0)]
    shard = write_shard(tmp_path / "a.parquet", rows, pictures)
    assert catalog_from_classes(shard).notes == ("1 rows repeat another of the same object id, and count once",)
    assert catalog_from_classes(write_shard(shard, rows, [None, *pictures[1:]])).files[:] == [
        Inside(shard, 1),
        Inside(shard, 2),
    ]
    with pytest.raises(InputError, match="but not its image, such as x in .*a.parquet, row 1 and .*a.parquet, row 3; keep"):
        catalog_from_classes(write_shard(shard, rows))
    shard = write_shard(tmp_path / "b.parquet", {"id": ["x", "y", "x"], "label": ["a", "b", "b"]})
    with pytest.raises(InputError, match="rows that differ, such as x: 'label' is 0 in .*row 1 and 1 in .*row 3"):
        catalog_from_classes(shard)


def test_real_labels_of_datasets(real_data: Path) -> None:
    shard = real_data / "catalogs" / "hf_datasets_120_galaxies.parquet"
    if not shard.is_file():
        pytest.skip(f"no real catalogues: {shard} is absent")
    catalog = catalog_from_classes(shard)
    assert catalog.class_names == ("smooth", "featured", "artifact")
    assert len(catalog) == 120


@pytest.mark.parametrize("header", ["objid,label", "objid,label\n", "label,objid\n\n", "dr7objid,class,ra\n"])
def test_a_table_of_classes_with_a_header_alone(header: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(header)
    with pytest.raises(InputError, match=r"^\S*a.csv holds no galaxy$"):
        catalog_from_classes(tmp_path / "a.csv", tmp_path)
