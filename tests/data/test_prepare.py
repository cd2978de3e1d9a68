"""``prepare``: from votes and from folders, with unusable images, interrupted and resumed."""

import os
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from gz_lightning.data import cutouts
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
    assert "fewer than the 3 asked for" not in report
    report = str(prepare(tmp_path / "gz3.h5", images, table, mapping, "simplified9", per_class=5, resolution=8))
    assert "9 leaves have fewer than the 5 galaxies asked for: smooth, completely round (3)" in report


def test_prepare_from_folders_and_its_refusals(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "folders", ["cat", "dog"])
    output = tmp_path / "animals.h5"
    prepare(output, root, resolution=8, val_fraction=0, test_fraction=0)
    assert Galaxies(output).class_names == ("cat", "dog")
    with pytest.raises(InputError, match=r"animals.h5 exists.*--overwrite true"):
        prepare(output, root, resolution=8)
    with pytest.raises(InputError, match="--table and --mapping need --images"):
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


def spoil(images: Path) -> dict[str, str]:
    """Images of every kind that is of no use, and the reason of each."""
    whole = (images / "100.jpg").read_bytes()
    (images / "101.jpg").write_bytes(whole[:-60])
    (images / "102.jpg").write_bytes(b"no image at all")
    (images / "103.jpg").write_bytes(b"")
    Image.new("L", (32, 32), 9).save(images / "104.jpg")
    Image.new("CMYK", (32, 32)).save(images / "105.jpg")
    Image.new("RGB", (32, 20)).save(images / "106.jpg")
    return {
        "101.jpg": "cannot be read as an image: image file is truncated",
        "102.jpg": "cannot be read as an image: its format is unknown",
        "103.jpg": "cannot be read as an image: its format is unknown",
        "104.jpg": "is not in colour: its mode is L, not RGB",
        "105.jpg": "is not in colour: its mode is CMYK, not RGB",
        "106.jpg": "has 32 x 20 pixels, not 32 x 32",
    }


def test_unusable_images_are_counted_listed_and_skipped(tmp_path: Path) -> None:
    table, mapping, images = hart16(tmp_path, 60)
    reasons = spoil(images)
    (images / "107.jpg").unlink()
    prepared = prepare(
        tmp_path / "a.h5", images, table, mapping, per_class=6, resolution=8, max_rejects=0.2, report=tmp_path / "report"
    )
    assert "7 galaxies without a usable image: " in str(prepared)
    listed = pd.read_csv(tmp_path / "a.rejects.csv", dtype=str, keep_default_na=False)
    found = {Path(file).name: reason for file, reason in zip(listed["file"], listed["reason"], strict=True)}
    assert found.pop("") == "has no image in the folder"
    assert set(found) == set(reasons)
    assert all(found[name].startswith(reason) for name, reason in reasons.items())
    packed = Galaxies(prepared.path)
    assert len(packed) == 53
    assert not {str(587722981736120347 + i) for i in range(1, 8)} & set(packed.object_ids)
    assert packed.configuration["rejected"] == 6
    assert packed.configuration["missing"] == 1
    assert len(packed.configuration["table_sha256"][0]) == 64
    report = pd.read_csv(tmp_path / "report" / "leaves.csv")
    assert report["taken"].tolist() == [6] + [5] * 7 + [6] * 2
    assert report["available"].tolist() == [6] * 7 + [5] + [6] * 2
    assert (tmp_path / "report" / "confidences.png").read_bytes()[1:4] == b"PNG"
    assert sorted(path.name for path in tmp_path.glob("a.*")) == ["a.h5", "a.rejects.csv"]


def test_too_many_unusable_images_stop_the_run_and_strict_stops_at_the_first(tmp_path: Path) -> None:
    table, mapping, images = hart16(tmp_path, 60)
    spoil(images)
    given = {"images": images, "table": table, "mapping": mapping, "resolution": 8}
    with pytest.raises(
        InputError, match=r"4 of the first \d+ of 60 images cannot be used, more than --max_rejects allows \(3\)"
    ):
        prepare(tmp_path / "a.h5", **given)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"10\d.jpg .*; without --strict such images are skipped and listed"):
        prepare(tmp_path / "a.h5", **given, strict=True)  # type: ignore[arg-type]
    assert not (tmp_path / "a.h5").exists()
    assert len(Galaxies(prepare(tmp_path / "a.h5", **given, max_rejects=0.1).path)) == 54  # type: ignore[arg-type]
    with pytest.raises(InputError, match="--max_rejects must be a number >= 0 and <= 1, not 2"):
        prepare(tmp_path / "b.h5", **given, max_rejects=2)  # type: ignore[arg-type]


def test_an_interrupted_packing_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after 20 images with half a record behind them: the same file in the end, and only the rest is decoded."""
    table, mapping, images = hart16(tmp_path, 60)
    spoil(images)
    given = {"images": images, "table": table, "mapping": mapping, "resolution": 8, "max_rejects": 1.0, "workers": 1}
    whole = Galaxies(prepare(tmp_path / "whole.h5", **given).path)  # type: ignore[arg-type]
    decoded: list[str] = []
    true_read = cutouts.read_square

    def counting(file: Path, *settings: Any) -> Any:
        decoded.append(file.name)
        if len(decoded) == 20:
            raise KeyboardInterrupt
        return true_read(file, *settings)

    monkeypatch.setattr(cutouts, "read_square", counting)
    monkeypatch.setattr(cutouts, "GROUP", 1)
    monkeypatch.setattr(cutouts, "AHEAD", 1)
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "a.h5", **given)  # type: ignore[arg-type]
    unfinished = tmp_path / "a.h5.unfinished"
    with unfinished.open("ab") as file:
        file.write(b"\x01 half a record")
    (tmp_path / "a.h5.unfinished.part").write_bytes(b"what a killed run leaves")
    before = len(decoded)
    again = prepare(tmp_path / "a.h5", **given)  # type: ignore[arg-type]
    assert Galaxies(again.path).fingerprint == whole.fingerprint
    assert len(again.rejects) == 6
    assert 60 - before <= len(decoded) - before <= 60 - before + 6  # of what is of no use nothing was kept
    assert [path.name for path in tmp_path.glob("*a.h5*")] == ["a.h5"]


@pytest.mark.parametrize("place", [3, 70, 100, 500, -3])
def test_a_damaged_unfinished_packing_gives_the_same_file(place: int, tmp_path: Path) -> None:
    table, mapping, images = hart16(tmp_path, 20)
    given = {"images": images, "table": table, "mapping": mapping, "resolution": 8}
    whole = Galaxies(prepare(tmp_path / "whole.h5", **given).path)  # type: ignore[arg-type]
    (images / "119.jpg").rename(tmp_path / "119.jpg")
    Image.new("L", (32, 32)).save(images / "119.jpg")
    with pytest.raises(InputError, match="without --strict"):
        prepare(tmp_path / "a.h5", **given, strict=True)  # type: ignore[arg-type]
    (images / "119.jpg").unlink()
    (tmp_path / "119.jpg").rename(images / "119.jpg")
    unfinished = tmp_path / "a.h5.unfinished"
    content = bytearray(unfinished.read_bytes())
    content[place] ^= 1
    unfinished.write_bytes(content)
    assert Galaxies(prepare(tmp_path / "a.h5", **given).path).fingerprint == whole.fingerprint  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [10_000, 50_000])  # the pixels take 46,080 bytes
def test_a_full_disk_is_said_and_what_is_done_is_kept(limit: int, tmp_path: Path) -> None:
    """The limit on the size of files stands in for the disk."""
    table, mapping, images = hart16(tmp_path, 60)
    given = {"images": images, "table": table, "mapping": mapping, "resolution": 16}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(InputError, match=r"a.h5.unfinished cannot be written: .*make room or allow it, and run"):
            prepare(tmp_path / "a.h5", **given)  # type: ignore[arg-type]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "a.h5").exists()
    assert len(Galaxies(prepare(tmp_path / "a.h5", **given).path)) == 60  # type: ignore[arg-type]


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
    assert report["available"].tolist() == [239, 350, 207, 73, 23, 26, 4, 58, 15, 5]
    assert report["lacking"].tolist() == [0, 0, 0, 27, 77, 74, 96, 42, 85, 95]
    assert prepared.rejects_path is None
    assert "7 leaves have fewer than the 100 galaxies asked for: disk, edge-on, bulge (73)" in str(prepared)


def test_nobody_waits_for_a_pipe(tmp_path: Path) -> None:
    """A pipe in the place of an image, and of what an earlier run has left."""
    table, mapping, images = hart16(tmp_path, 10)
    (images / "103.jpg").unlink()
    os.mkfifo(images / "103.jpg")
    given: dict[str, Any] = {"images": images, "table": table, "mapping": mapping, "resolution": 8}
    with pytest.raises(InputError, match="103.jpg is missing"):
        prepare(tmp_path / "a.h5", **given, strict=True)
    os.mkfifo(tmp_path / "b.h5.unfinished")
    with pytest.raises(InputError, match="b.h5.unfinished is not a file, but an unfinished packing would go there"):
        prepare(tmp_path / "b.h5", **given, max_rejects=1)


def test_an_image_larger_than_any_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    table, mapping, images = hart16(tmp_path, 10)
    Image.new("P", (10_000, 9_500)).save(tmp_path / "large.png")
    (tmp_path / "large.png").rename(images / "103.jpg")
    given: dict[str, Any] = {"images": images, "table": table, "mapping": mapping, "resolution": 8}
    with pytest.raises(InputError, match="103.jpg cannot be read as an image: .* could be decompression bomb"):
        prepare(tmp_path / "a.h5", **given, strict=True, cutout_size=0)


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


def test_pixels_in_two_classes_are_refused(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "folders", ["cat", "dog"])
    shutil.copy(root / "cat" / "1.jpg", root / "dog" / "cat.jpg")
    with pytest.raises(InputError, match=r"cat/1.jpg \(cat\) and .*dog/cat.jpg \(dog\) have the same pixels .* remove one"):
        prepare(tmp_path / "a.h5", root, resolution=16, val_fraction=0, test_fraction=0)
    assert not (tmp_path / "a.h5").exists()


def test_pixels_in_two_splits_stay_in_the_test_galaxies_alone(tmp_path: Path) -> None:
    """The statistics are those of a set that never had the copies."""
    rng = np.random.default_rng(0)
    for place in [f"{split}/{name}" for split in ("train", "valid", "test") for name in ("cat", "dog")]:
        (tmp_path / "set" / place).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "set" / place / f"{i}.png")
    whole = Galaxies(prepare(tmp_path / "whole.h5", tmp_path / "set", resolution=8, crop=1.0).path)
    shutil.copy(tmp_path / "set" / "test" / "cat" / "0.png", tmp_path / "set" / "train" / "cat" / "copy.png")
    shutil.copy(tmp_path / "set" / "test" / "cat" / "0.png", tmp_path / "set" / "valid" / "cat" / "copy.png")
    prepared = prepare(tmp_path / "a.h5", tmp_path / "set", resolution=8, crop=1.0, max_rejects=0.1)
    assert prepared.rejects["object_id"].tolist() == ["train/cat/copy.png", "valid/cat/copy.png"]
    reasons = prepared.rejects["reason"]
    assert reasons.str.fullmatch("has the same pixels as .*test/cat/0.png, which is in the split test").all()
    packed = Galaxies(prepared.path)
    assert packed.fingerprint == whole.fingerprint
    assert torch.equal(packed.mean, whole.mean)
    assert torch.equal(packed.std, whole.std)
    with pytest.raises(InputError, match=r"2 of all 26 images cannot be used, more than --max_rejects allows \(1\)"):
        prepare(tmp_path / "b.h5", tmp_path / "set", resolution=8, crop=1.0)


def test_a_tree_of_one_leaf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("name: one\nleaves: {smooth: a01}")
    with pytest.raises(InputError, match="--tree .*one.yaml has a single leaf; training needs at least two classes"):
        prepare(tmp_path / "a.h5", tree=str(tmp_path / "one.yaml"), per_class=3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"votes": "guesses"}, "--votes must be one of weighted_fraction, fraction, debiased or null, not 'guesses'"),
        ({"per_class": 0}, "--per_class must be a whole number >= 1 or null, not 0"),
        ({"min_confidence": 1.5}, "--min_confidence must be a number >= 0 and <= 1, not 1.5"),
        ({"crop": 0}, "--crop must be a number > 0 and <= 1, not 0"),
        ({"workers": 0}, "--workers must be a whole number >= 1 or null, not 0"),
        ({"seed": -1}, "--seed must be a whole number >= 0, not -1"),
        ({"strict": "yes"}, "--strict must be true or false, not 'yes'"),
    ],
)
def test_a_wrong_setting_fails_before_a_file_is_opened(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        prepare(tmp_path / "a.h5", tmp_path / "no images", tmp_path / "no table", **settings)
