"""``prepare``: from votes and from folders, with unusable images, interrupted and resumed."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.data.prepare import prepare
from gz_lightning.data.selection import SPLITS
from gz_lightning.data.tree import ANSWERS
from gz_lightning.errors import InputError
from tests.data.test_catalog import class_folders, hart16, save_image


def test_prepare_from_votes(tmp_path: Path) -> None:
    table, mapping, images = hart16(tmp_path, 40)
    prepared = prepare(tmp_path / "gz2.h5", images, table, mapping, "simplified9", per_class=4, resolution=8, crop=0.5)
    packed = Galaxies(prepared.path)
    # Galaxy i is of leaf i % 10; the tenth is no leaf of this tree and has no confidence on it.
    assert torch.bincount(packed.labels).tolist() == [4] * 9
    assert packed.tree == "simplified9"
    assert packed.configuration["per_class"] == 4
    for i, object_id in enumerate(packed.object_ids):
        number = int(object_id) - 587722981736120347
        assert packed.labels[i] == number % 10
        assert abs(int(packed.images[i, 0, 4, 4]) - (100 + number)) <= 4  # its red, as JPEG keeps it
    assert "36 galaxies in" in str(prepared)


def test_prepare_says_where_a_leaf_runs_short(tmp_path: Path) -> None:
    table, mapping, images = hart16(tmp_path, 29)
    report = str(prepare(tmp_path / "gz2.h5", images, table, mapping, "simplified9", per_class=3, resolution=8))
    assert "have fewer than" not in report
    report = str(prepare(tmp_path / "gz3.h5", images, table, mapping, "simplified9", per_class=5, resolution=8))
    assert "9 leaves have fewer than --per_class 5: smooth, completely round (3)" in report


def test_prepare_from_folders_and_its_refusals(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "folders", ["cat", "dog"])
    output = tmp_path / "animals.h5"
    prepare(output, root, resolution=8, val_fraction=0, test_fraction=0)
    assert Galaxies(output).class_names == ("cat", "dog")
    with pytest.raises(InputError, match=r"animals.h5 exists.*--overwrite true"):
        prepare(output, root, resolution=8)
    with pytest.raises(InputError, match="--table .*x.csv has no images inside; give the folder .* with --images"):
        prepare(tmp_path / "b.h5", table=tmp_path / "x.csv")
    with pytest.raises(InputError, match="--resolution must be a whole number >= 8, not 4"):
        prepare(tmp_path / "b.h5", root, resolution=4)
    with pytest.raises(InputError, match="none of the 4 galaxies falls into the training split"):
        prepare(tmp_path / "b.h5", root, resolution=8, val_fraction=0, test_fraction=0.9999)
    assert not (tmp_path / "b.h5").exists()


def test_prepare_is_the_same_whatever_the_number_of_workers(tmp_path: Path) -> None:
    table, mapping, images = hart16(tmp_path, 30)
    paths = [
        prepare(tmp_path / f"{workers}.h5", images, table, mapping, resolution=8, workers=workers).path for workers in (1, 3)
    ]
    assert Galaxies(paths[0]).fingerprint == Galaxies(paths[1]).fingerprint


def test_a_folder_that_is_split_keeps_its_splits(tmp_path: Path) -> None:
    """As CIFAR-10 comes: train and test folders of class folders, images numbered anew in each."""
    for split in ("train", "test"):
        for label, name in enumerate(("airplane", "frog")):
            (tmp_path / "cifar" / split / name).mkdir(parents=True)
            for i in range(20 if split == "train" else 5):
                save_image(tmp_path / "cifar" / split / name / f"{i:04d}.png", 100 * label + i + 50 * (split == "test"))
    prepared = prepare(tmp_path / "c.h5", tmp_path / "cifar", per_class=None, resolution=32, crop=1.0)
    packed = Galaxies(prepared.path)
    assert packed.class_names == ("airplane", "frog")
    assert prepared.report["test"].tolist() == [5, 5]
    assert all((SPLITS[s] == "test") == i.startswith("test/") for s, i in zip(packed.splits, packed.object_ids, strict=True))
    assert 0 < int((packed.splits == 1).sum()) < 12
    few = prepare(tmp_path / "f.h5", tmp_path / "cifar", per_class=3, resolution=8, crop=1.0)
    assert few.report["taken"].tolist() == [6, 6]
    (tmp_path / "cifar" / "test" / "frog").rename(tmp_path / "cifar" / "test" / "toad")
    with pytest.raises(InputError, match="test has the classes airplane, toad, but .*train airplane, frog"):
        prepare(tmp_path / "d.h5", tmp_path / "cifar", resolution=8)


def test_prepare_real_galaxies(real_data: Path, tmp_path: Path) -> None:
    sample = real_data / "gz2_sample"
    table, mapping = sample / "gz2_hart16.csv.gz", sample / "gz2_filename_mapping.csv"
    prepared = prepare(tmp_path / "a.h5", sample / "images", table, mapping, "simplified9", per_class=30, resolution=32)
    packed = Galaxies(prepared.path)
    assert torch.bincount(packed.labels).tolist() == [30, 30, 30, 30, 23, 26, 4, 30, 15]
    # The published means of the nine-class subset, .0635 .0561 .0446, are of a brighter selection of the same survey.
    assert ((packed.mean > 0.03) & (packed.mean < 0.12)).all()
    assert packed.mean[0] > packed.mean[2]  # galaxies are redder than the sky is blue


def test_the_report_of_the_real_sample(real_data: Path, tmp_path: Path) -> None:
    sample = real_data / "gz2_sample"
    table, mapping = sample / "gz2_hart16.csv.gz", sample / "gz2_filename_mapping.csv"
    prepared = prepare(tmp_path / "a.h5", sample / "images", table, mapping, per_class=100, resolution=8)
    report = prepared.report
    assert report["available"].tolist() == [239, 350, 208, 72, 23, 26, 4, 58, 15, 5]
    assert report["lacking"].tolist() == [0, 0, 0, 28, 77, 74, 96, 42, 85, 95]
    assert prepared.rejects_path is None
    assert "7 leaves have fewer than --per_class 100: disk, edge-on, bulge (72)" in str(prepared)


def test_galaxies_that_the_tree_leaves_out_are_counted(tmp_path: Path) -> None:
    """Galaxies 2 and 12 may be cigars by .2, but are stars by .8."""
    table, mapping, images = hart16(tmp_path, 29)
    rows = pd.read_csv(table, dtype={"dr7objid": str})
    rows.loc[[2, 12], f"{ANSWERS['a01']}_weighted_fraction"] = 0.2
    rows.loc[[2, 12], f"{ANSWERS['a03']}_weighted_fraction"] = 0.8
    rows.to_csv(table, index=False)
    settings: dict[str, Any] = {"images": images, "table": table, "mapping": mapping, "tree": "simplified9", "resolution": 8}
    prepared = prepare(tmp_path / "a.h5", **settings)
    assert prepared.report["unlikely"].tolist() == [0, 0, 2] + [0] * 6
    assert prepared.report["taken"].tolist() == [3, 3, 1] + [3] * 6
    assert "2 galaxies left out, likelier to be something that the tree has no leaf for" in str(prepared)
    everything = prepare(tmp_path / "b.h5", **settings, keep_unlikely=True)
    assert everything.report["taken"].tolist() == [3] * 9
    assert "left out" not in str(everything)
    packed, more = Galaxies(prepared.path), Galaxies(everything.path)
    assert (packed.configuration["keep_unlikely"], more.configuration["keep_unlikely"]) == (False, True)
    assert set(packed.object_ids) < set(more.object_ids)


def test_a_tree_of_one_leaf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("name: one\nleaves: {smooth: a01}")
    with pytest.raises(InputError, match="--tree .*one.yaml has a single leaf; training needs at least two classes"):
        prepare(tmp_path / "a.h5", tree=str(tmp_path / "one.yaml"), per_class=3)


def test_votes_for_one_leaf_alone_are_refused(tmp_path: Path) -> None:
    table, mapping, images = hart16(tmp_path, 60)
    rows = pd.read_csv(table, dtype={"dr7objid": str})
    rows[rows.index % 10 == 3].to_csv(tmp_path / "one.csv", index=False)
    given: dict[str, Any] = {"mapping": mapping, "tree": "simplified9", "resolution": 8}
    with pytest.raises(InputError, match=r"all \d training galaxies are of the leaf 'disk, edge-on, bulge'; training needs"):
        prepare(tmp_path / "a.h5", images, tmp_path / "one.csv", **given)
    assert not (tmp_path / "a.h5").exists()
    for asset in range(100, 160):
        if asset % 10 != 3:
            (images / f"{asset}.jpg").write_bytes(b"no image at all")
    with pytest.raises(InputError, match="training needs at least two"):  # what is left once the images are decoded
        prepare(tmp_path / "a.h5", images, table, **given, max_rejects=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"votes": "guesses"}, "--votes must be one of weighted_fraction, fraction, debiased or null, not 'guesses'"),
        ({"per_class": 0}, "--per_class must be a whole number >= 1 or null, not 0"),
        ({"min_confidence": 1.5}, "--min_confidence must be a number >= 0 and <= 1, not 1.5"),
        ({"class_column": 3}, "--class_column must be text or null, not 3"),
        ({"crop": 0}, "--crop must be a number > 0 and <= 1, not 0"),
        ({"workers": 0}, "--workers must be a whole number >= 1 or null, not 0"),
        ({"seed": -1}, "--seed must be a whole number >= 0, not -1"),
        ({"strict": "yes"}, "--strict must be true or false, not 'yes'"),
    ],
)
def test_a_wrong_setting_fails_before_a_file_is_opened(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        prepare(tmp_path / "a.h5", tmp_path / "no images", tmp_path / "no table", **settings)
