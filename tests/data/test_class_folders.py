"""Class folders, as they are published and as they go wrong."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gz_lightning.data.class_folders import catalog_from_folders, image_files
from gz_lightning.errors import InputError
from tests.data.test_catalog import class_folders, save_image


def test_class_folders_are_known_by_their_names(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "a", ["spiral", "edge_on", "cigar_shaped", "in_between", "completely_round"])
    catalog = catalog_from_folders(root)
    assert catalog.tree == "coarse5"
    assert catalog.class_names[0] == "completely round"
    assert Path(str(catalog.files[0])).parent.name == "completely_round"
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


def test_two_images_of_one_name_in_a_folder_are_refused(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "a", ["cat", "ship"])
    save_image(root / "cat" / "0.png", 99)
    with pytest.raises(InputError, match=r"cat holds 0.jpg and 0.png, and nobody says which is the image of 0; remove or"):
        catalog_from_folders(root)
    with pytest.raises(InputError, match=r"\(1 such images\)"):
        image_files(root / "cat")


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


@pytest.mark.parametrize("number", range(1, 6))
def test_a_folder_that_is_taken_away_while_it_is_read(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("spiral", "round"):
        (tmp_path / "all" / name).mkdir(parents=True)
        (tmp_path / "all" / name / "1.png").touch()
    listed: list[Path] = []
    whole = Path.iterdir

    def taken(folder: Path) -> Iterator[Path]:
        listed.append(folder)
        if len(listed) == number:
            shutil.rmtree(tmp_path / "all")
        return whole(folder)

    monkeypatch.setattr(Path, "iterdir", taken)
    with pytest.raises(InputError, match=r"the folder .*all.* cannot be read: No such file"):
        catalog_from_folders(tmp_path / "all")
