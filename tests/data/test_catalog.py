"""Vote tables and class folders, as they are published and as they go wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gz_lightning.data import object_ids
from gz_lightning.data.object_ids import read_mapping
from gz_lightning.data.tree import ANSWERS, TREES
from gz_lightning.data.vote_catalog import catalog_from_votes
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
    assert [Path(str(file)).name for file in catalog.files[:2]] == ["100.jpg", "101.jpg"]
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
    assert len(read_votes(table, "simplified")) == 6  # the same row again is the same galaxy
    pd.concat([rows, rows[1:2].assign(dr7objid=rows["dr7objid"][0])]).to_csv(table, index=False)
    with pytest.raises(InputError, match=r"587722981736120347: 'a16' is 1 in .*csv.gz, row 2 and 0 in .*row 8; keep one"):
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


def test_an_empty_list_of_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the list of tables is empty"):
        catalog_from_votes([], tmp_path)


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
        ("asset_id", lambda i: f"{i}.0", "mapping.csv, row 2: the asset_id 100.0 is a floating-point number"),
    ],
)
def test_a_mapping_with_rounded_ids_is_refused(
    column: str, change: Callable[[str], str], message: str, tmp_path: Path
) -> None:
    table, mapping, images = hart16(tmp_path)
    rewrite_mapping(mapping, column, change)
    with pytest.raises(InputError, match=message):
        catalog_from_votes(table, images, mapping, max_missing=1)


@pytest.mark.parametrize(
    ("column", "change"), [("objid", '="{}"'), ("asset_id", '="{}"'), ("asset_id", "{}.jpg"), ("objid", "{}.JPG")]
)
def test_a_mapping_as_spreadsheets_and_file_lists_have_it(column: str, change: str, tmp_path: Path) -> None:
    table, mapping, images = hart16(tmp_path)
    rewrite_mapping(mapping, column, change.format)
    assert [Path(str(file)).stem for file in catalog_from_votes(table, images, mapping).files] == [
        str(100 + i) for i in range(6)
    ]


@pytest.mark.parametrize("round_one", [lambda i: str(int(float(i))), lambda i: i[:15] + "000"])
def test_one_rounded_id_in_a_mapping_is_refused(round_one: Callable[[str], str], tmp_path: Path) -> None:
    table, mapping, images = hart16(tmp_path)
    rewrite_mapping(mapping, "objid", lambda i: round_one(i) if i.endswith("348") else i)
    with pytest.raises(InputError, match="last digits of 1 object ids: it has 58.* where .* has 587722981736120348"):
        catalog_from_votes(table, images, mapping, max_missing=1)


@pytest.mark.parametrize("round_one", [lambda i: str(int(float(i))), lambda i: i[:15] + "000"])
@pytest.mark.parametrize("by_name", [False, True])
def test_one_rounded_id_in_a_table_is_refused(round_one: Callable[[str], str], by_name: bool, tmp_path: Path) -> None:
    """Beside a sound mapping, and beside images that are named by their ids."""
    table, mapping, images = hart16(tmp_path)
    if by_name:
        for object_id, asset in read_mapping(mapping).items():
            (images / f"{asset}.jpg").rename(images / f"{object_id}.jpg")
    rows = pd.read_csv(table, dtype={"dr7objid": str})
    rows["dr7objid"] = [round_one(i) if i.endswith("348") else i for i in rows["dr7objid"]]
    rows.to_csv(table, index=False)
    with pytest.raises(
        InputError, match=f"^{table} has lost the last digits of 1 .* it has 58.* where .* has 587722981736120348"
    ):
        catalog_from_votes(table, images, None if by_name else mapping, max_missing=1)


def test_what_may_be_a_rounded_id_or_chance_is_among_the_rejects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, mapping, images = hart16(tmp_path)
    rewrite_mapping(mapping, "objid", lambda i: i[:15] + "000" if i.endswith("348") else i)
    monkeypatch.setattr(object_ids, "CHANCE", 1)
    catalog = catalog_from_votes(table, images, mapping, max_missing=1)
    reason = f"has no image; {mapping} has 587722981736120000, which may be it without its last digits"
    assert catalog.missing == {"587722981736120348": reason}


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
