"""Experts as teachers: the networks at their last epoch, and what they say of images."""

from pathlib import Path

import pytest
import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.experts.teachers import Teacher
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.networks.functional import FunctionalNetwork
from tests.conftest import write_toy


def test_labels_are_the_mean_of_the_experts_probabilities(toy: Galaxies, toy_experts: Path) -> None:
    store, teacher = TrajectoryStore(toy_experts), Teacher.read(toy_experts, toy)
    images = toy.standardise(toy.val.images)
    network = FunctionalNetwork(store.network())
    probabilities = [network(store.parameters(expert, 4), images).softmax(1) for expert in store.experts]
    torch.testing.assert_close(teacher.labels(images), sum(probabilities) / 2)
    torch.testing.assert_close(teacher.model(images), network(store.parameters(0, 4), images))
    assert not teacher.model.training


def test_experts_of_other_galaxies_are_refused(toy_experts: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="were trained on other galaxies"):
        Teacher.read(toy_experts, Galaxies(write_toy(tmp_path / "other.h5", seed=5)))
