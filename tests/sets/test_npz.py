"""A set as one file of NumPy arrays, and files that are none."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from gz_lightning.errors import InputError
from gz_lightning.sets.description import describe
from gz_lightning.sets.formats import UNTOLD
from gz_lightning.sets.npz import ARRAYS, read_npz, write_npz
from tests.sets.test_pictures import made


def write(path: Path) -> None:
    synthetic = made(3)
    write_npz(synthetic, describe(synthetic, "npz", synthetic.images, UNTOLD), path)


def test_numpy_reads_it_alone(tmp_path: Path) -> None:
    synthetic = made(3)
    write(tmp_path / "set.npz")
    with np.load(tmp_path / "set.npz", allow_pickle=False) as found:
        assert tuple(found["class_names"]) == synthetic.class_names
        for name in ARRAYS:
            np.testing.assert_array_equal(found[name], getattr(synthetic, name).numpy())
    description, images, labels = read_npz(tmp_path / "set.npz")
    assert torch.equal(images, synthetic.images)
    assert torch.equal(labels, synthetic.labels)
    assert description["step_sizes"] == synthetic.step_sizes.tolist()


def claiming(shape: tuple[int, ...]) -> bytes:
    """An array of a single number that claims to have a shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue() + b"\0" * 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images.npy": claiming((10**9, 3, 8, 8))}, "its images claim to be float32 of the shape"),
        ({"images.npy": claiming((1,))}, "its images are float32 of the shape"),
        ({"images.npy": b"nonsense"}, "its images cannot be read"),
        ({"description.npy": claiming((1,))}, "its description is no text"),
        ({"labels.npy": None}, "it lacks labels"),
    ],
)
def test_a_file_that_is_no_set_is_refused(tmp_path: Path, change: dict[str, bytes | None], message: str) -> None:
    write(tmp_path / "set.npz")
    with zipfile.ZipFile(tmp_path / "set.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        for name, content in {**members, **change}.items():
            if content is not None:
                archive.writestr(name, content)
    with pytest.raises(InputError, match=f"other.npz was not written by 'gz-lightning export', or is damaged: {message}"):
        read_npz(tmp_path / "other.npz")


def test_a_compressed_file_is_refused(tmp_path: Path) -> None:
    """A small file could claim any number of zeros."""
    np.savez_compressed(
        tmp_path / "set.npz", images=np.zeros(10**6, np.float32), labels=np.zeros(1), description=np.array("")
    )
    with pytest.raises(InputError, match="its description are compressed, or larger than the file"):
        read_npz(tmp_path / "set.npz")


def test_no_archive(tmp_path: Path) -> None:
    (tmp_path / "set.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="set.npz cannot be read as a NumPy archive"):
        read_npz(tmp_path / "set.npz")
    with pytest.raises(InputError, match="there is no file"):
        read_npz(tmp_path / "none.npz")
