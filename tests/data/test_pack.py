"""Packing: images that cannot be used, interruptions, and pictures inside of larger files."""

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

from gz_lightning.data import cutouts, embedded
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.data.prepare import prepare
from gz_lightning.data.tree import get_tree
from gz_lightning.errors import InputError
from tests.data.shards import counts, gz2_rows, picture, write_folder, write_galaxy10, write_shard, write_tar
from tests.data.test_catalog import class_folders, hart16


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
    assert found.pop("") == "has no image"
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
    assert sorted(path.name for path in tmp_path.glob("a.*")) == ["a.contact_sheet.png", "a.h5", "a.rejects.csv"]


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
    monkeypatch.setattr(embedded, "GROUP", 1)
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


def test_parquet_makes_the_file_that_images_make(tmp_path: Path) -> None:
    """Whatever the number of threads and the size of the row groups; with the votes in the shards or beside."""
    csv, images = write_folder(tmp_path / "plain", 40)
    given: dict[str, Any] = {"tree": "coarse5", "resolution": 8, "per_class": 6}
    plain = Galaxies(prepare(tmp_path / "plain.h5", images, csv, **given).path)
    assert len(plain) == 30
    shard = write_shard(tmp_path / "a.parquet", gz2_rows(40))
    other = write_shard(tmp_path / "b.parquet", gz2_rows(40), row_group_size=None)
    ways: list[dict[str, Any]] = [{"table": shard, "workers": 1}, {"table": other, "workers": 3}, {"images": shard}]
    for way in [*ways, {"table": csv, "images": other}, {"table": str(tmp_path / "a*.parquet")}]:
        prepared = prepare(tmp_path / "inside.h5", **given, **way, overwrite=True)
        assert Galaxies(prepared.path).fingerprint == plain.fingerprint
    assert Galaxies(prepared.path).configuration["table"] == str(tmp_path / "a*.parquet")


def test_an_interrupted_packing_of_parquet_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = write_shard(tmp_path / "a.parquet", gz2_rows(40))
    given: dict[str, Any] = {"table": shard, "tree": "coarse5", "resolution": 8, "workers": 1}
    whole = Galaxies(prepare(tmp_path / "whole.h5", **given).path)
    decoded: list[bytes] = []
    true_read = cutouts.read_square

    def counting(content: Any, *settings: Any) -> Any:
        decoded.append(content)
        if len(decoded) == 25:
            raise KeyboardInterrupt
        return true_read(content, *settings)

    monkeypatch.setattr(cutouts, "read_square", counting)
    monkeypatch.setattr(embedded, "GROUP", 1)
    monkeypatch.setattr(cutouts, "AHEAD", 1)
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "a.h5", **given)
    before = len(decoded)
    assert Galaxies(prepare(tmp_path / "a.h5", **given).path).fingerprint == whole.fingerprint
    assert len(decoded) - before <= 40 - 20
    write_shard(tmp_path / "a.parquet", gz2_rows(40), [picture(i + 1) for i in range(40)])
    os.utime(shard, (1, 1))
    assert Galaxies(prepare(tmp_path / "b.h5", **given).path).fingerprint != whole.fingerprint


def test_unusable_pictures_inside_are_listed_by_their_rows(tmp_path: Path) -> None:
    pictures: list[bytes | None] = [picture(i) for i in range(40)]
    pictures[3], pictures[17], pictures[30] = b"no picture", picture(17)[:300], picture(30, side=24)
    shard = write_shard(tmp_path / "a.parquet", gz2_rows(40), pictures)
    prepared = prepare(tmp_path / "a.h5", table=shard, tree="coarse5", resolution=8, max_rejects=0.1)
    listed = prepared.rejects.set_index("file")["reason"]
    assert list(listed.index) == [f"{shard}, row {row}" for row in (4, 18, 31)]
    assert listed.iloc[0] == "cannot be read as an image: its format is unknown"
    assert listed.iloc[1].startswith("cannot be read as an image: ")
    assert listed.iloc[2].startswith("has 24 x 24 pixels, not 32 x 32")
    assert len(Galaxies(prepared.path)) == 37
    with pytest.raises(InputError, match=r"a.parquet, row \d+ (cannot|has) .*; without --strict such images are skipped"):
        prepare(tmp_path / "b.h5", table=shard, tree="coarse5", resolution=8, strict=True)


def test_a_shard_that_goes_bad_in_the_middle_is_named(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a.parquet", gz2_rows(40))
    content = bytearray(shard.read_bytes())
    place = content.find(picture(21))  # JPEG is not compressed again; the header of its page lies before
    content[place - 40 : place - 4] = bytes(36)
    shard.write_bytes(content)
    try:
        prepared = prepare(tmp_path / "a.h5", table=shard, tree="coarse5", resolution=8, max_rejects=0.5)
    except InputError as error:
        assert str(shard) in str(error)
        assert "\n" not in str(error)
    else:
        assert len(prepared.rejects)


def test_classes_beside_the_pictures(tmp_path: Path) -> None:
    """As class folders are; votes of the same table come first unless the column is named."""
    names = ["smooth", "disk"] * 10
    shard = write_shard(tmp_path / "a.parquet", {"id": [f"{i}" for i in range(20)], "label": names})
    for i, name in enumerate(names):
        (tmp_path / "folders" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "folders" / name / f"{i}.jpg").write_bytes(picture(i))
    one = Galaxies(prepare(tmp_path / "a.h5", images=shard, resolution=8).path)
    other = Galaxies(prepare(tmp_path / "b.h5", tmp_path / "folders", resolution=8).path)
    assert one.fingerprint == other.fingerprint
    both = write_shard(tmp_path / "c.parquet", gz2_rows(20) | {"label": names})
    assert Galaxies(prepare(tmp_path / "c.h5", table=both, tree="coarse5", resolution=8).path).tree == "coarse5"
    named = prepare(tmp_path / "d.h5", table=both, class_column="label", resolution=8)
    assert Galaxies(named.path).class_names == ("disk", "smooth")
    with pytest.raises(InputError, match="--votes fraction goes with votes; the label is the column label"):
        prepare(tmp_path / "e.h5", table=both, class_column="label", votes="fraction", resolution=8)


def test_votes_of_several_surveys_beside_a_summary(tmp_path: Path) -> None:
    """As gz_evo is: the tree says which votes are meant; without one, neither votes nor classes are taken in silence."""
    rows: dict[str, Any] = {"id_str": [f"{i}" for i in range(24)], **counts(24), "summary": ["spiral", "edge_on", ""] * 8}
    shard = write_shard(tmp_path / "a.parquet", rows | counts(24, get_tree("decals"), "-dr5"))
    with pytest.raises(InputError, match="with --tree simplified or decals-dr5, or take the classes with --class_"):
        prepare(tmp_path / "a.h5", table=shard, resolution=8)
    assert Galaxies(prepare(tmp_path / "b.h5", table=shard, tree="coarse5", resolution=8).path).tree == "coarse5"
    assert len(Galaxies(prepare(tmp_path / "c.h5", table=shard, tree="decals", resolution=8).path).class_names) == 12
    classes = prepare(tmp_path / "d.h5", table=shard, class_column="summary", resolution=8)
    assert Galaxies(classes.path).class_names == ("edge_on", "spiral")
    assert "8 galaxies left out, whose summary is empty or -1" in str(classes)


def test_galaxy10_and_a_tar_are_packed(tmp_path: Path) -> None:
    packed = Galaxies(prepare(tmp_path / "a.h5", write_galaxy10(tmp_path / "Galaxy10.h5", 40), resolution=8).path)
    assert torch.bincount(packed.labels).tolist() == [4] * 10
    tar = write_tar(tmp_path / "a.tar", 20)
    packed = Galaxies(prepare(tmp_path / "b.h5", tar, tree="coarse5", resolution=8).path)
    assert len(packed) == 20


def test_what_was_left_out_is_counted(tmp_path: Path) -> None:
    rows = {name: [*values, values[0]] for name, values in gz2_rows(20).items()}
    for name in rows:
        if "gz2" in name and isinstance(rows[name][1], (int, np.integer)):
            rows[name][5] = 0
    shard = write_shard(tmp_path / "a.parquet", rows, [*(picture(i) for i in range(20)), picture(0)])
    said = str(prepare(tmp_path / "a.h5", table=shard, tree="coarse5", resolution=8))
    assert "1 galaxies not taken: their votes reach no leaf" in said
    assert "1 rows repeat another of the same object id, and count once" in said
    assert said.endswith(f"19 galaxies in {tmp_path / 'a.h5'}")
