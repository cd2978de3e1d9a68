"""Cut-outs and the packed file."""

import os
import resource
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gz_lightning.data import cutouts
from gz_lightning.data.cutouts import read_cutout
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.data.packing import write_packed
from gz_lightning.data.prepare import prepare
from gz_lightning.data.resize import area_resize
from gz_lightning.data.selection import SPLITS
from gz_lightning.errors import InputError
from tests.conftest import toy_galaxies, write_toy
from tests.data.test_catalog import class_folders, hart16, save_image


def area_resize_by_hand(row: np.ndarray, resolution: int) -> np.ndarray:
    """Every pixel cut into ``resolution`` pieces; ``size`` pieces make one new pixel."""
    pieces = np.repeat(row, resolution, axis=0)
    return np.asarray(pieces.reshape(resolution, -1, *row.shape[1:]).mean(1))


@given(st.integers(1, 60), st.integers(1, 60))
def test_area_resize_against_cutting_pixels_up(size: int, resolution: int) -> None:
    resolution = min(size, resolution)
    images = np.random.default_rng(size).integers(0, 256, (1 + size % 6, size, size, 3), dtype=np.uint8)
    for pixels, found in zip(images, area_resize(list(images), resolution), strict=True):
        wanted = area_resize_by_hand(area_resize_by_hand(pixels, resolution).swapaxes(0, 1), resolution).transpose(2, 1, 0)
        assert np.abs(found - wanted).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(("size", "resolution"), [(300, 257), (424, 101), (1999, 64), (257, 128)])
def test_area_resize_of_white_is_white(size: int, resolution: int) -> None:
    """Where the whole numbers are largest, none overflows."""
    assert (area_resize([np.full((size, size, 3), 255, np.uint8)], resolution) == 255).all()


def test_central_crop_and_orientation(tmp_path: Path) -> None:
    """The central half of a 40 px image, halved: each pixel the mean of four, not transposed, channels in order."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    wanted = pixels[10:30, 10:30].astype(float).reshape(10, 2, 10, 2, 3).mean((1, 3)).transpose(2, 0, 1)
    np.testing.assert_array_equal(read_cutout(tmp_path / "a.png", 10, 0.5), np.rint(wanted).astype(np.uint8))
    whole = read_cutout(tmp_path / "a.png", 40, 1.0)
    np.testing.assert_array_equal(whole, pixels.transpose(2, 0, 1))


def test_a_cutout_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "no.jpg").write_text("no image")
    with pytest.raises(InputError, match=r"no.jpg cannot be read as an image"):
        read_cutout(tmp_path / "no.jpg", 10)
    Image.new("RGB", (30, 40)).save(tmp_path / "small.png")
    with pytest.raises(InputError, match=r"small.png has 30 x 40 pixels.* of 15 px is smaller than the resolution 16"):
        read_cutout(tmp_path / "small.png", 16)


def test_round_trip_and_statistics(tmp_path: Path) -> None:
    packed = Galaxies(write_toy(tmp_path / "toy.h5", per_class=10))
    images = toy_galaxies(10, 16)
    np.testing.assert_array_equal(packed.images.numpy(), images)
    training = images[packed.splits.numpy() == 0].astype(np.float64) / 255
    np.testing.assert_allclose(packed.mean.numpy(), training.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(packed.std.numpy(), training.std((0, 2, 3)), rtol=1e-6)
    assert packed.object_ids[29] == "toy-29"
    assert packed.configuration == {"toy": 0}
    assert packed.labels.dtype == torch.int64


def test_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    same = [Galaxies(write_toy(tmp_path / f"{i}.h5", seed=1)).fingerprint for i in range(2)]
    assert same[0] == same[1]
    assert Galaxies(write_toy(tmp_path / "2.h5", seed=2)).fingerprint != same[0]


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_damaged_file_is_refused_or_read_rightly(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Bytes changed or cut off: never other pixels or labels than were written, and never any other error."""
    folder = tmp_path_factory.mktemp("damage")
    path = write_toy(folder / "toy.h5", per_class=10)
    whole = Galaxies(path)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    path.write_bytes(content)
    try:
        read = Galaxies(path)
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert torch.equal(read.images, whole.images)
        assert torch.equal(read.labels, whole.labels)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file .*'gz-lightning prepare' makes one"):
        Galaxies(tmp_path / "none.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(InputError, match="is not a file of galaxies: its format is not one of gz_lightning"):
        Galaxies(tmp_path / "other.h5")
    path = write_toy(tmp_path / "toy.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 99
    with pytest.raises(InputError, match=r"format version 99.*reads version 2: install the other one"):
        Galaxies(path)


def test_a_file_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = write_toy(tmp_path / "toy.h5")
    before = path.read_bytes()

    def failing() -> object:
        yield toy_galaxies(2, 16)
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_packed(
            path,
            failing(),  # type: ignore[arg-type]
            resolution=16,
            labels=np.zeros(6, dtype=np.int64),
            confidences=np.ones((6, 1)),
            object_ids=list("abcdef"),
            splits=np.zeros(6, dtype=np.int64),
            class_names=("x",),
            tree="",
            configuration={},
        )
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


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
    with pytest.raises(InputError, match="--resolution must be at least 8"):
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
        "102.jpg": "cannot be read as an image: it is of no known format",
        "103.jpg": "cannot be read as an image: it is of no known format",
        "104.jpg": "has no colours of its own to keep: its mode is L, not RGB",
        "105.jpg": "has no colours of its own to keep: its mode is CMYK, not RGB",
        "106.jpg": "has 32 x 20 pixels, not 32 x 32",
    }


def test_images_of_no_use_are_counted_listed_and_skipped(tmp_path: Path) -> None:
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


def test_too_many_images_of_no_use_stop_the_run_and_strict_stops_at_the_first(tmp_path: Path) -> None:
    table, mapping, images = hart16(tmp_path, 60)
    spoil(images)
    given = {"images": images, "table": table, "mapping": mapping, "resolution": 8}
    with pytest.raises(
        InputError, match=r"4 of the first \d+ of 60 images are of no use, more than --max_rejects allows \(3\)"
    ):
        prepare(tmp_path / "a.h5", **given)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"10\d.jpg .*; without --strict such images are skipped and listed"):
        prepare(tmp_path / "a.h5", **given, strict=True)  # type: ignore[arg-type]
    assert not (tmp_path / "a.h5").exists()
    assert len(Galaxies(prepare(tmp_path / "a.h5", **given, max_rejects=0.1).path)) == 54  # type: ignore[arg-type]
    with pytest.raises(InputError, match="max_rejects is a share, 0 to 1, not 2"):
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


def test_rows_are_read_as_from_memory(tmp_path: Path) -> None:
    path = write_toy(tmp_path / "toy.h5", per_class=10)
    whole, by_rows = Galaxies(path), Galaxies(path, in_memory=False)
    rows = torch.tensor([7, 0, 29, 7])
    assert torch.equal(by_rows.pixels(rows), whole.images[rows])
    assert "images" not in by_rows.__dict__  # nothing else was read
    assert by_rows.fingerprint == whole.fingerprint
    torch.testing.assert_close(whole.train.soft_labels.sum(1), torch.ones(len(whole.train)))


def test_a_folder_that_is_split_keeps_its_splits(tmp_path: Path) -> None:
    """As CIFAR-10 comes: train and test folders of class folders, images numbered anew in each."""
    for split in ("train", "test"):
        for label, name in enumerate(("airplane", "frog")):
            (tmp_path / "cifar" / split / name).mkdir(parents=True)
            for i in range(20 if split == "train" else 5):
                save_image(tmp_path / "cifar" / split / name / f"{i:04d}.png", 100 * label + i)
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
    with pytest.raises(InputError, match="b.h5.unfinished is no file, where an unfinished one would lie; remove it"):
        prepare(tmp_path / "b.h5", **given, max_rejects=1)


def test_an_image_larger_than_any_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    table, mapping, images = hart16(tmp_path, 10)
    Image.new("P", (10_000, 9_500)).save(tmp_path / "large.png")
    (tmp_path / "large.png").rename(images / "103.jpg")
    given: dict[str, Any] = {"images": images, "table": table, "mapping": mapping, "resolution": 8}
    with pytest.raises(InputError, match="103.jpg cannot be read as an image: .* could be decompression bomb"):
        prepare(tmp_path / "a.h5", **given, strict=True, cutout_size=0)


def test_an_image_larger_than_any_is_refused_by_itself_too(tmp_path: Path) -> None:
    Image.new("P", (10_000, 9_500)).save(tmp_path / "large.png")
    with pytest.raises(InputError, match="large.png cannot be read as an image: .* could be decompression bomb"):
        read_cutout(tmp_path / "large.png", 8)
