"""SyntheticSet: written and read, turned into other formats, and refused where it does not fit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.figures import at_places
from gz_lightning.sets.synthetic import SyntheticSet
from tests.evaluation.conftest import synthetic_set

NAMES = ("completely round", "cigar-shaped")


def made(soft: bool = False) -> SyntheticSet:
    draws = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 0, 1, 1])
    return SyntheticSet(
        images=torch.randn(4, 3, 8, 8, generator=draws),
        labels=torch.eye(2)[labels] * 0.8 + 0.1 if soft else labels,
        step_sizes=torch.tensor([0.01]),
        class_names=NAMES,
        mean=torch.tensor([0.2, 0.3, 0.4]),
        std=torch.tensor([0.1, 0.2, 0.3]),
    )


@pytest.mark.parametrize("soft", [False, True])
def test_the_dataset_gives_what_the_set_holds(soft: bool) -> None:
    synthetic = made(soft)
    images, labels = next(iter(DataLoader(synthetic.as_dataset(), batch_size=4)))
    assert torch.equal(images, synthetic.images)
    assert torch.equal(labels, synthetic.labels)


def test_places_of_each_leaf_and_white_where_one_has_fewer() -> None:
    synthetic = made()
    assert synthetic.places_by_leaf(9).tolist() == [[0, 1], [2, 3]]
    synthetic.labels = torch.tensor([1, 0, 1, 1])
    assert synthetic.places_by_leaf(2).tolist() == [[1, -1], [0, 2]]
    places = synthetic.places_by_leaf(9)
    assert places.tolist() == [[1, -1, -1], [0, 2, 3]]
    pixels = synthetic.denormalised()
    shown = at_places(pixels, places)
    assert torch.equal(shown[1], pixels[[0, 2, 3]])
    assert torch.equal(shown[0, 0], pixels[1])
    assert (shown[0, 1:] == 1).all()
    assert (pixels[-1] < 1).any()  # the set's own images stay as they are


def test_set_round_trip(toy: Galaxies, tmp_path: Path) -> None:
    for labels in (torch.arange(3).repeat_interleave(2), torch.eye(3).repeat_interleave(2, 0)):
        saved = synthetic_set(toy, labels=labels)
        saved.save(tmp_path / "set.h5")
        loaded = SyntheticSet.load(tmp_path / "set.h5")
        for name, value in vars(saved).items():
            read = getattr(loaded, name)
            assert torch.equal(read, value) if isinstance(value, torch.Tensor) else read == value, name
        assert loaded.hard_labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_denormalised_pixels_are_those_of_the_galaxies(toy: Galaxies) -> None:
    saved = synthetic_set(toy)
    pixels = saved.denormalised() * 255
    real = toy.train.images.float()
    assert all((real - image).abs().amax((1, 2, 3)).min() < 1e-3 for image in pixels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ("a", "b", "c")}, "its leaves are a, b, c, those of the galaxies round, long, ring"),
        ({"images": torch.zeros(6, 3, 8, 8)}, "its images have 8 px, the galaxies 16 px"),
        ({"mean": torch.tensor([0.5, 0.5, 0.5])}, r"its pixels are standardised with mean \[0.5, 0.5, 0.5\]"),
    ],
)
def test_a_set_that_does_not_fit_is_refused(toy: Galaxies, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"set.h5 does not fit .*: {message}"):
        synthetic_set(toy, **changes).check_fits(toy, "set.h5")


@pytest.mark.parametrize("part", ["images", "step_sizes"])
def test_a_set_that_is_not_finite_is_not_written(toy: Galaxies, tmp_path: Path, part: str) -> None:
    made = synthetic_set(toy)
    made.save(tmp_path / "set.h5")
    getattr(made, part).view(-1)[-1] = math.nan
    named = "image 5" if part == "images" else "step size of start epoch 0"
    with pytest.raises(InputError, match=rf"set.h5 is not written: the {named} is not finite"):
        made.save(tmp_path / "set.h5")
    assert torch.isfinite(SyntheticSet.load(tmp_path / "set.h5").images).all()


def test_soft_labels_that_do_not_add_up_to_1_are_neither_written_nor_read(
    toy: Galaxies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    percent = synthetic_set(toy, labels=100 * torch.eye(3).repeat_interleave(2, 0))
    problem = "row 0 of its soft labels adds up to 100, not to 1: divide each row by its sum"
    with pytest.raises(InputError, match=f"set.h5 is not written: {problem}"):
        percent.save(tmp_path / "set.h5")
    with monkeypatch.context() as patched:
        patched.setattr("gz_lightning.sets.synthetic.not_shares", lambda labels: "")
        percent.save(tmp_path / "set.h5")
    with pytest.raises(InputError, match=rf"set.h5 .*{problem}"):
        SyntheticSet.load(tmp_path / "set.h5")


def test_galaxies_of_others_are_standardised_as_the_set_is(toy: Galaxies) -> None:
    made = synthetic_set(toy)
    assert made.standardised(toy) is toy
    other = synthetic_set(toy, mean=toy.mean + 0.004, std=toy.std * 1.01)
    galaxies = other.standardised(toy)
    pixels = toy.test.images[:4]
    torch.testing.assert_close(other.mean + 0 * toy.mean, galaxies.mean)
    expected = (pixels.double() / 255 - other.mean.double()[:, None, None]) / other.std.double()[:, None, None]
    torch.testing.assert_close(galaxies.standardise(pixels).double(), expected, atol=1e-5, rtol=0)
    with pytest.raises(InputError, match="does not fit .*its pixels are standardised with mean"):
        other.check_fits(toy)  # to distil from it, they must be the same
    for changes, message in (
        ({"class_names": ("long", "round", "ring")}, "its leaves are long, round, ring"),
        ({"images": torch.zeros(6, 3, 8, 8)}, "its images have 8 px"),
        ({"mean": torch.full((3,), 0.9), "std": toy.std}, "which is too far away"),
        ({"std": toy.std * 6}, "which is too far away"),
    ):
        with pytest.raises(InputError, match=message):
            synthetic_set(toy, **changes).standardised(toy)
