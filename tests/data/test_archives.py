"""WebDataset tars and HDF5 files of others, whole and damaged."""

import io
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from gz_lightning.data.archives import (
    hdf5_columns,
    hdf5_pictures,
    hdf5_rows,
    tar_columns,
    tar_pictures,
    tar_rows,
    tar_samples,
)
from gz_lightning.data.class_columns import catalog_from_classes
from gz_lightning.errors import InputError
from tests.data.shards import FIRST_ID, picture, write_galaxy10, write_tar


def add(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_samples_of_a_tar(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", 5)
    columns = tar_columns(path)
    assert "__key__" in columns
    assert "smooth-or-featured-gz2_smooth" in columns
    pieces = list(tar_rows(path, ["__key__", "bar-gz2_yes"], 2))
    assert [len(piece) for piece in pieces] == [2, 2, 1]
    assert pieces[1]["__key__"].tolist() == [str(FIRST_ID + 2), str(FIRST_ID + 3)]
    assert pieces[1]["bar-gz2_yes"].dtype.kind in "iu"
    assert dict(tar_pictures(path, np.array([1, 4]))) == {1: picture(1), 4: picture(4)}


def test_samples_that_lack_something(tmp_path: Path) -> None:
    path = add(
        tmp_path / "a.tar",
        ("x/1.jpg", b"one"),
        ("x/1.cls", b"spiral\n"),
        ("x/2.cls", b"round"),
        ("x/3.png", b"three"),
        ("x/._3.png", b"a file of macOS"),
        ("x/3.json", b'{"votes": 3}'),
    )
    assert [sample["__key__"] for sample in tar_samples(path)] == ["x/1", "x/2", "x/3"]
    assert tar_columns(path) == ["__key__", "cls"]
    (piece,) = tar_rows(path, ["cls", "votes"], 10)
    assert piece["cls"].tolist()[:2] == ["spiral", "round"]
    assert piece["votes"].isna().tolist() == [True, True, False]
    assert dict(tar_pictures(path, np.arange(3))) == {0: b"one", 1: None, 2: b"three"}


@pytest.mark.parametrize(
    ("names", "key", "kind"),
    [
        (["J00.1+12.3.image.jpg", "J00.1+12.3.labels.json", "J00.2+45.6.image.jpg"], "J00", "image"),
        (["x/1.jpg", "x/1.json", "x/1.jpg"], "x/1", "image"),
        (["1.image.jpg", "1.thumb.png"], "1", "image"),
        (["1.jpg", "1.a.json", "1.b.json"], "1", "json"),
        (["1.jpg", "1.cls", "1.CLS"], "1", "cls"),
    ],
)
def test_two_of_a_kind_in_a_sample_are_refused(names: list[str], key: str, kind: str, tmp_path: Path) -> None:
    """As keys with dots make them: of two galaxies one was lost."""
    of_kind = [name for name in names if name.lower().endswith({"image": ("jpg", "png")}.get(kind, kind))]
    path = add(tmp_path / "a.tar", *((name, b"{}") for name in names))
    with pytest.raises(InputError) as error:
        tar_samples(path)
    told = f"{path} has {of_kind[0]} and {of_kind[1]} in the sample {key}, of which only one can be its {kind}; a key ends"
    assert str(error.value).startswith(told)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (b"{", "a.tar: the labels of 1 are no JSON"),
        (b"[1, 2]", "a.tar: the labels of 1 are not named; give a JSON object"),
        (b" " * (2**20 + 1), "a.tar: the labels of 1 have 1,048,577 bytes"),
        (b"[" * 100_000, "a.tar: the labels of 1 are no JSON"),
    ],
)
def test_labels_that_are_none(labels: bytes, message: str, tmp_path: Path) -> None:
    path = add(tmp_path / "a.tar", ("1.jpg", b"one"), ("1.json", labels))
    with pytest.raises(InputError, match=message):
        tar_columns(path)


def test_a_damaged_tar_is_named(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", 3)
    whole = path.read_bytes()
    path.write_bytes(whole[:2000])
    with pytest.raises(InputError, match="a.tar cannot be read as tar"):
        tar_samples(path)
    path.write_bytes(b"no tar" * 1000)
    with pytest.raises(InputError, match="a.tar cannot be read as tar"):
        tar_samples(path)
    with pytest.raises(InputError, match="empty.tar holds no sample"):
        tar_columns(add(tmp_path / "empty.tar"))


def test_galaxy10(tmp_path: Path) -> None:
    path = write_galaxy10(tmp_path / "Galaxy10.h5", 12)
    assert sorted(hdf5_columns(path)) == ["ans", "ra"]
    pieces = list(hdf5_rows(path, ["ans"], 5))
    assert [piece["ans"].tolist() for piece in pieces] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [0, 1]]
    (row, pixels), *rest = hdf5_pictures(path, np.array([7]))
    assert (row, rest) == (7, [])
    with h5py.File(path) as file:
        np.testing.assert_array_equal(pixels, file["images"][7])


def test_hdf5_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"no HDF5")
    with pytest.raises(InputError, match="a.h5 cannot be read"):
        hdf5_columns(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["images"] = np.zeros((3, 8, 8, 3), np.uint16)
    with pytest.raises(InputError, match="b.h5 cannot be read: images has the type uint16; pixels are of one byte"):
        list(hdf5_pictures(tmp_path / "b.h5", np.array([0])))
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["other"] = np.zeros(3)
    with pytest.raises(InputError, match=r"c.h5 has no dataset 'images', which has the pixels.* it has other$"):
        hdf5_columns(tmp_path / "c.h5")


@pytest.mark.parametrize("number", [11, 13, 0])
def test_classes_that_are_not_as_many_as_images(number: int, tmp_path: Path) -> None:
    """Once they were no column, and the message asked for object ids; names of classes are as many as there are."""
    path = write_galaxy10(tmp_path / "Galaxy10.h5", 12)
    with h5py.File(path, "a") as file:
        file["names"] = np.array([b"round", b"spiral"])
    assert sorted(hdf5_columns(path)) == ["ans", "ra"]
    for name, others in (("ans", ["ra"]), ("label", [])):
        with h5py.File(path, "a") as file:
            for old in {"ans", "ra", "label", "names"}.intersection(file) - set(others):
                del file[old]
            file[name] = np.zeros(number, np.uint8)
        with pytest.raises(InputError, match=f"Galaxy10.h5: '{name}' has {number} values for 12 images, and nobody says"):
            hdf5_columns(path)


def test_parts_of_hdf5_whose_names_are_no_text_are_no_columns(tmp_path: Path) -> None:
    path = write_galaxy10(tmp_path / "a.h5", 3)
    columns = hdf5_columns(path)
    with h5py.File(path, "a") as file:
        h5py.h5d.create(file.id, b"\xff\xfe", h5py.h5t.STD_U8LE, h5py.h5s.create_simple((3,)))
        assert any(isinstance(name, bytes) for name in file)
    assert hdf5_columns(path) == columns
    with h5py.File(path, "a") as file:
        del file["ans"], file["ra"]
    with pytest.raises(InputError, match="a.h5 has no column ans; its columns are none$"):
        catalog_from_classes([path], None, "ans")


def test_hdf5_whose_links_go_in_a_circle_is_refused(tmp_path: Path) -> None:
    path = write_galaxy10(tmp_path / "Galaxy10.h5", 3)
    with h5py.File(path, "a") as file:
        file["round"] = h5py.SoftLink("/about")
        file["about"] = h5py.SoftLink("/round")
    with pytest.raises(InputError, match=r"Galaxy10.h5 cannot be read: its parts cannot be read: .*too many links"):
        hdf5_columns(path)
