"""Vote tables and class folders, as they are published and as they go wrong."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gz_lightning.data.catalog import catalog_from_folders, catalog_from_votes
from gz_lightning.data.tree import ANSWERS, TREES
from gz_lightning.data.votes import read_votes
from gz_lightning.errors import InputError


def save_image(path: Path, red: int) -> None:
    """A square of one red and a gradient in green and blue."""
    ramp = np.arange(0, 256, 8, dtype=np.uint8)
    pixels = np.stack([np.full((32, 32), red, np.uint8), *np.meshgrid(ramp, ramp)], axis=-1)
    Image.fromarray(pixels).save(path)


def hart16(folder: Path, number: int = 6) -> tuple[Path, Path, Path]:
    """A small copy of the published layout: table, mapping and images. Galaxy i is of leaf i, for i < 10."""
    (folder / "images").mkdir()
    rows = pd.DataFrame({"dr7objid": [587722981736120347 + i for i in range(number)]})
    for answer, stem in ANSWERS.items():
        rows[f"{stem}_weighted_fraction"] = [
            float(answer in TREES["simplified"].leaves[i % 10].paths[0]) for i in range(number)
        ]
    rows.to_csv(folder / "gz2_hart16.csv.gz", index=False)
    assets = range(100, 100 + number)
    mapping = pd.DataFrame({"objid": rows["dr7objid"], "sample": "original", "asset_id": assets})
    mapping.to_csv(folder / "gz2_filename_mapping.csv", index=False)
    for asset in assets:
        save_image(folder / "images" / f"{asset}.jpg", asset)
    return folder / "gz2_hart16.csv.gz", folder / "gz2_filename_mapping.csv", folder / "images"


def test_published_layout(tmp_path: Path) -> None:
    table, mapping, images = hart16(tmp_path, 10)
    catalog = catalog_from_votes(table, images, mapping, "simplified")
    assert catalog.object_ids[0] == "587722981736120347"  # all 18 digits: no float in between
    assert [file.name for file in catalog.files[:2]] == ["100.jpg", "101.jpg"]
    np.testing.assert_array_equal(catalog.confidences, np.eye(10))


def test_images_named_by_object_id_need_no_mapping(tmp_path: Path) -> None:
    table, _, images = hart16(tmp_path, 2)
    for asset, object_id in ((100, 587722981736120347), (101, 587722981736120348)):
        (images / f"{asset}.jpg").rename(images / f"{object_id}.jpg")
    assert len(catalog_from_votes(table, images, None, "simplified")) == 2


def test_missing_columns_are_named_with_the_votes_that_are_there(tmp_path: Path) -> None:
    table, mapping, images = hart16(tmp_path)
    with pytest.raises(InputError, match=r"lacks 15 of the 15 columns.*a01_smooth_debiased.*--votes weighted_fraction"):
        catalog_from_votes(table, images, mapping, "simplified9", votes="debiased")
    with pytest.raises(InputError, match="not 'guesses'"):
        read_votes(table, "simplified", "guesses")  # type: ignore[arg-type]
    pd.DataFrame({"name": [1]}).to_csv(tmp_path / "other.csv")
    with pytest.raises(InputError, match="no object id column.*its first columns are"):
        read_votes(tmp_path / "other.csv", "simplified")


def test_ids_without_files_are_counted_and_listed(tmp_path: Path) -> None:
    table, mapping, images = hart16(tmp_path)
    (images / "103.jpg").unlink()
    with pytest.raises(InputError, match=r"1 of the 6 galaxies .* have no image .*587722981736120350.*--max_missing 1"):
        catalog_from_votes(table, images, mapping, "simplified")
    catalog = catalog_from_votes(table, images, mapping, "simplified", max_missing=0.2)
    assert len(catalog) == 5
    assert "587722981736120350" not in catalog.object_ids


@pytest.mark.parametrize(("value", "message"), [("1.5", "1.5"), ("-0.1", "-0.1"), ("many", "'many'")])
def test_a_vote_that_is_none_names_row_and_column(tmp_path: Path, value: str, message: str) -> None:
    table, _, _ = hart16(tmp_path)
    rows = pd.read_csv(table, dtype=str)
    rows.loc[4, "t03_bar_a06_bar_weighted_fraction"] = value
    rows.to_csv(table, index=False)
    with pytest.raises(InputError, match=f"row 6, column t03_bar_a06_bar_weighted_fraction: .*{message}.*between 0 and 1"):
        read_votes(table, "simplified")


def test_a_double_or_empty_id_is_named(tmp_path: Path) -> None:
    table, _, _ = hart16(tmp_path)
    rows = pd.read_csv(table, dtype=str)
    pd.concat([rows, rows[:1]]).to_csv(table, index=False)
    with pytest.raises(InputError, match="1 object ids more than once: 587722981736120347"):
        read_votes(table, "simplified")
    rows.loc[2, "dr7objid"] = None
    rows.to_csv(table, index=False)
    with pytest.raises(InputError, match="row 4: the object id .* is empty"):
        read_votes(table, "simplified")


def test_a_broken_table_is_named(tmp_path: Path) -> None:
    table, _, _ = hart16(tmp_path)
    table.write_bytes(table.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"gz2_hart16.csv.gz cannot be read as CSV"):
        read_votes(table, "simplified")
    with pytest.raises(InputError, match="there is no table"):
        read_votes(tmp_path / "none.csv", "simplified")


def test_an_image_folder_without_images_is_named(tmp_path: Path) -> None:
    table, mapping, _ = hart16(tmp_path)
    with pytest.raises(InputError, match="holds no image.*it has the folders images: is one of them meant?"):
        catalog_from_votes(table, tmp_path, mapping)
    with pytest.raises(InputError, match="there is no image folder"):
        catalog_from_votes(table, tmp_path / "none", mapping)


def class_folders(root: Path, names: list[str]) -> Path:
    for i, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for j in range(2):
            save_image(root / name / f"{10 * i + j}.jpg", 10 * i + j)
    return root


def test_class_folders_are_known_by_their_names(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "a", ["spiral", "edge_on", "cigar_shaped", "in_between", "completely_round"])
    catalog = catalog_from_folders(root)
    assert catalog.tree == "coarse5"
    assert catalog.class_names[0] == "completely round"
    assert catalog.files[0].parent.name == "completely_round"
    own = catalog_from_folders(class_folders(tmp_path / "b", ["ship", "cat"]))
    assert (own.tree, own.class_names) == ("", ("cat", "ship"))
    np.testing.assert_array_equal(own.confidences, [[1, 0], [1, 0], [0, 1], [0, 1]])


def test_class_folders_that_do_not_do(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "a", ["cat", "ship"])
    with pytest.raises(InputError, match="are not the leaves of 'coarse5'"):
        catalog_from_folders(root, "coarse5")
    (root / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no image"):
        catalog_from_folders(root)
    with pytest.raises(InputError, match="has no class folders; a folder of images needs its vote table"):
        catalog_from_folders(root / "cat")


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """Linux allows any bytes as a name; an object id is text."""
    root = class_folders(tmp_path / "folders", ["disk", "round"])
    bad = os.fsencode(root / "disk") + b"/\xff\xfe.png"
    try:
        os.rename(next((root / "disk").iterdir()), bad)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    with pytest.raises(InputError, match="disk holds .*, whose name is not UTF-8; rename it"):
        catalog_from_folders(root)


def test_an_empty_list_of_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--table names no vote table"):
        catalog_from_votes([], tmp_path)


def test_file_names_that_two_classes_share_become_paths(tmp_path: Path) -> None:
    """Sets that number the images of every folder anew."""
    root = class_folders(tmp_path / "a", ["cat", "ship"])
    save_image(root / "ship" / "0.jpg", 99)
    catalog = catalog_from_folders(root)
    assert catalog.object_ids == ("cat/0.jpg", "cat/1.jpg", "ship/0.jpg", "ship/10.jpg", "ship/11.jpg")
    assert catalog.confidences.argmax(1).tolist() == [0, 0, 1, 1, 1]
    (root / "ship" / "0.jpg").unlink()
    assert catalog_from_folders(root).object_ids == ("0", "1", "10", "11")


@pytest.mark.parametrize(
    "names", [("train", "valid", "test"), ("train", "validation", "test"), ("Train", "Test"), ("Training", "Testing")]
)
def test_names_of_split_folders(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        class_folders(tmp_path / name, ["cat", "ship"])
    catalog = catalog_from_folders(tmp_path)
    assert catalog.class_names == ("cat", "ship")
    assert catalog.splits is not None
    places = {object_id.split("/")[0]: split for object_id, split in zip(catalog.object_ids, catalog.splits, strict=True)}
    assert places == dict(zip(names, ("train", "val", "test") if len(names) == 3 else ("train", "test"), strict=True))


def test_two_folders_of_one_split_are_refused(tmp_path: Path) -> None:
    for name in ("train", "val", "valid"):
        class_folders(tmp_path / name, ["cat", "ship"])
    with pytest.raises(InputError, match="has the folders val and valid, which are both val; join them"):
        catalog_from_folders(tmp_path)


@pytest.mark.parametrize("split", ["", "train"])
def test_a_single_class_is_refused(split: str, tmp_path: Path) -> None:
    class_folders(tmp_path / split, ["cat"])
    with pytest.raises(InputError, match="has the class folders cat; training needs at least two classes"):
        catalog_from_folders(tmp_path)


def rewrite_mapping(mapping: Path, column: str, change: Callable[[str], str]) -> None:
    rows = pd.read_csv(mapping, dtype=str)
    rows[column] = rows[column].map(change)
    rows.to_csv(mapping, index=False)


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("objid", lambda i: f"{float(i):.6e}", "mapping.csv, row 2: the objid 5.877230e.17 has lost its last digits"),
        ("objid", lambda i: f"{float(i):.1f}", "mapping.csv, row 2: the objid 58\\d+.0 has lost its last digits"),
        (
            "objid",
            lambda i: str(int(float(i))),
            "mapping.csv has lost the last digits of 6 object ids: it has 587722981736120320 where",
        ),
        (
            "objid",
            lambda i: i[:15] + "000",
            "mapping.csv has lost the last digits of 6 object ids: it has 587722981736120000 where",
        ),
        ("asset_id", lambda i: f"{i}.0", "mapping.csv, row 2: the asset_id 100.0 has lost its last digits"),
    ],
)
def test_a_mapping_with_rounded_ids_is_refused(
    column: str, change: Callable[[str], str], message: str, tmp_path: Path
) -> None:
    table, mapping, images = hart16(tmp_path)
    rewrite_mapping(mapping, column, change)
    with pytest.raises(InputError, match=message):
        catalog_from_votes(table, images, mapping, max_missing=1)


@pytest.mark.parametrize("round_one", [lambda i: str(int(float(i))), lambda i: i[:15] + "000"])
def test_one_rounded_id_in_a_mapping_is_refused(round_one: Callable[[str], str], tmp_path: Path) -> None:
    table, mapping, images = hart16(tmp_path)
    rewrite_mapping(mapping, "objid", lambda i: round_one(i) if i.endswith("348") else i)
    with pytest.raises(InputError, match="last digits of 1 object ids: it has 58.* where .* has 587722981736120348"):
        catalog_from_votes(table, images, mapping, max_missing=1)


def test_galaxies_likelier_to_be_left_out(tmp_path: Path) -> None:
    """Star by .556, smooth by .444 and half of that completely round: no round galaxy."""
    table, mapping, images = hart16(tmp_path, 9)
    rows = pd.read_csv(table, dtype={"dr7objid": str})
    for answer, fraction in (("a01", 0.444), ("a03", 0.556), ("a16", 0.5), ("a17", 0.5)):
        rows.loc[0, f"{ANSWERS[answer]}_weighted_fraction"] = fraction
    rows.to_csv(table, index=False)
    catalog = catalog_from_votes(table, images, mapping, "simplified9")
    assert catalog.unlikely is not None
    assert catalog.unlikely.tolist() == [True] + [False] * 8
    full = catalog_from_votes(table, images, mapping, "simplified")
    assert full.confidences.argmax(1)[0] == 9
    assert full.unlikely is not None
    assert not full.unlikely.any()
    rows = rows.drop(columns=f"{ANSWERS['a03']}_weighted_fraction")
    rows.to_csv(table, index=False)
    with pytest.raises(InputError, match="lacks 1 .* 'simplified9, with .* unless --keep_unlikely true' needs: t01.*a03"):
        catalog_from_votes(table, images, mapping, "simplified9")
    assert catalog_from_votes(table, images, mapping, "simplified9", keep_unlikely=True).unlikely is None
