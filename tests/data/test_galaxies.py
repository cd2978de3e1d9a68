"""Galaxies: a packed file as plain data, by rows and in memory, and damaged."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.data.packing import Contents, write_packed
from gz_lightning.errors import InputError
from tests.conftest import CLASS_NAMES, toy_galaxies, write_toy


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


def test_soft_labels_are_the_votes_normalised(voted: Path) -> None:
    galaxies = Galaxies(voted)
    train = galaxies.train
    torch.testing.assert_close(train.soft_labels.sum(1), torch.ones(27))
    torch.testing.assert_close(train.soft_labels, train.confidences / train.confidences.sum(1, keepdim=True))
    assert torch.equal(train.soft_labels.argmax(1), train.labels)


def test_rows_are_read_as_from_memory(tmp_path: Path) -> None:
    path = write_toy(tmp_path / "toy.h5", per_class=10)
    whole, by_rows = Galaxies(path), Galaxies(path, in_memory=False)
    rows = torch.tensor([7, 0, 29, 7])
    assert torch.equal(by_rows.pixels(rows), whole.images[rows])
    assert "images" not in by_rows.__dict__  # nothing else was read
    assert by_rows.fingerprint == whole.fingerprint
    torch.testing.assert_close(whole.train.soft_labels.sum(1), torch.ones(len(whole.train)))


def test_what_does_not_fit_half_the_memory_is_read_by_rows(toy_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Galaxies(toy_path).in_memory
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    assert not Galaxies(toy_path).in_memory


def test_what_it_says_of_itself(toy: Galaxies, toy_path: Path) -> None:
    assert (toy.num_classes, toy.class_names, toy.tree) == (3, CLASS_NAMES, "")
    assert repr(toy) == f"Galaxies({toy_path}: 63 train, 9 val, 18 test; 3 leaves of 'class folders'; 16 px)"
    pixels = toy.denormalise(toy.standardise(toy.train.images))
    torch.testing.assert_close(pixels, toy.train.images / 255, atol=1e-5, rtol=0)
    assert toy.mean.shape == toy.std.shape == (3,)


def test_show(toy: Galaxies) -> None:
    figure = toy.show(per_class=4, split="test")
    assert len(figure.axes) == 12
    assert [axis.get_title(loc="left") for axis in figure.axes[::4]] == list(CLASS_NAMES)
    with pytest.raises(InputError, match="split must be one of train, val, test, not 'all'"):
        toy.show(split="all")
    with pytest.raises(InputError, match="per_class must be at least 1, not 0"):
        toy.show(per_class=0)


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


def test_a_file_to_train_on_needs_two_leaves(toy_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was packed when nobody asked."""
    toy = Galaxies(toy_path)
    toy.require("train", "val", "test")
    rows = toy.splits.numpy() != 0
    rows |= toy.labels.numpy() == 2
    contents = Contents(
        *(toy.labels.numpy()[rows], toy.confidences.numpy()[rows], [str(i) for i in range(rows.sum())]),
        *(toy.splits.numpy()[rows], CLASS_NAMES, ""),
    )
    with monkeypatch.context() as patch:
        patch.setattr(Contents, "check_training", lambda self: None)
        write_packed(tmp_path / "a.h5", [toy.images.numpy()[rows]], contents, resolution=16, configuration={})
    galaxies = Galaxies(tmp_path / "a.h5")
    galaxies.require("val", "test")
    with pytest.raises(
        InputError, match=r"a.h5: all 21 training galaxies are of the leaf 'ring'; training needs at least two"
    ):
        galaxies.require("train", "val")


def test_standardised_by_the_statistics_of_others(toy: Galaxies) -> None:
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.3, 0.2, 0.1])
    pixels = toy.train.images[:2]
    before = toy.standardise(pixels)
    others = toy.standardised_by(mean, std)
    expected = (pixels.float() / 255 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(others.standardise(pixels), expected)
    assert torch.equal(toy.standardise(pixels), before)
    for split in ("train", "val", "test"):
        assert getattr(others, split).galaxies is others
        assert getattr(toy, split).galaxies is toy
        assert torch.equal(getattr(others, split).images, getattr(toy, split).images)
    assert others.fingerprint == toy.fingerprint
