"""Votes as soft labels: from the packed file into experts and distilled sets; and rotated galaxies without copies."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from gz_lightning.data.datamodule import GalaxyZoo2DataModule
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.data.packing import write_packed
from gz_lightning.distillation.module import TrajectoryMatching
from gz_lightning.distillation.start import loaded_images
from gz_lightning.errors import InputError
from gz_lightning.experts.module import ExpertModule
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.sets.coresets import initial_images
from gz_lightning.sets.synthetic import SyntheticSet
from tests.conftest import CLASS_NAMES, toy_galaxies

SMALL: dict[str, Any] = {"num_experts": 1, "train_epochs": 2, "lr": 0.05, "width": 4, "depth": 2, "augmentation": "none"}


@pytest.fixture(scope="module")
def voted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Toy galaxies about which the volunteers did not quite agree; the confidences do not add up to 1."""
    path = tmp_path_factory.mktemp("voted") / "voted.h5"
    labels = np.repeat(np.arange(3), 12)
    votes = np.random.default_rng(0).dirichlet(np.ones(3), 36) * 0.3 + np.eye(3)[labels] * 0.5
    write_packed(
        path,
        [toy_galaxies(12, 16)],
        resolution=16,
        labels=labels,
        confidences=votes,
        object_ids=[str(i) for i in range(36)],
        splits=np.array([(0, 0, 0, 1)[i % 4] for i in range(36)]),
        class_names=CLASS_NAMES,
        tree="",
        configuration={},
    )
    return path


def fit_experts(folder: Path, data: Path, options: dict[str, Any], **settings: Any) -> TrajectoryStore:
    galaxies = GalaxyZoo2DataModule(str(data), batch_size=9, in_memory=settings.pop("in_memory", None))
    pl.Trainer(**options).fit(ExpertModule(str(folder), **SMALL, **settings), datamodule=galaxies)
    return TrajectoryStore(folder)


def test_soft_labels_are_the_votes_normalised(voted: Path) -> None:
    galaxies = Galaxies(voted)
    train = galaxies.train
    torch.testing.assert_close(train.soft_labels.sum(1), torch.ones(27))
    torch.testing.assert_close(train.soft_labels, train.confidences / train.confidences.sum(1, keepdim=True))
    assert torch.equal(train.soft_labels.argmax(1), train.labels)


def test_experts_learn_from_votes(voted: Path, tmp_path: Path, trainer_options: dict[str, Any]) -> None:
    hard = fit_experts(tmp_path / "hard", voted, trainer_options)
    votes = fit_experts(tmp_path / "votes", voted, trainer_options, labels="votes")
    assert torch.equal(hard.parameters(0, 0), votes.parameters(0, 0))
    assert not torch.equal(hard.parameters(0, 2), votes.parameters(0, 2))
    assert votes.recipe.training["labels"] == "votes"
    assert hard.recipe.training["labels"] == "hard"
    with pytest.raises(InputError, match="--model.labels must be one of hard, votes, not 'soft'"):
        ExpertModule(labels="soft")  # type: ignore[arg-type]


def test_votes_that_all_agree_are_hard_labels(toy_path: Path, tmp_path: Path, trainer_options: dict[str, Any]) -> None:
    """With one-hot votes and equal leaves the two losses are one."""
    hard = fit_experts(tmp_path / "hard", toy_path, trainer_options)
    votes = fit_experts(tmp_path / "votes", toy_path, trainer_options, labels="votes")
    torch.testing.assert_close(hard.parameters(0, 2), votes.parameters(0, 2), atol=1e-5, rtol=1e-4)


def test_experts_by_rows_are_those_from_memory(voted: Path, tmp_path: Path, trainer_options: dict[str, Any]) -> None:
    stores = [fit_experts(tmp_path / str(kind), voted, trainer_options, in_memory=kind) for kind in (True, False)]
    assert torch.equal(stores[0].parameters(0, 2), stores[1].parameters(0, 2))


def test_every_rotation_is_in_an_epoch(voted: Path, tmp_path: Path, trainer_options: dict[str, Any]) -> None:
    """27 galaxies at 4 angles: 12 batches of 9, and each pair of galaxy and angle once."""
    module = ExpertModule(str(tmp_path), **{**SMALL, "train_epochs": 1}, rotations=4)
    seen: list[int] = []
    true_step = module.training_step

    def noting(batch: int, batch_idx: int) -> None:
        seen.extend(module.batches.orders[0][batch_idx * 9 :][:9].tolist())
        true_step(batch, batch_idx)

    module.training_step = noting  # type: ignore[method-assign]
    pl.Trainer(**trainer_options).fit(module, datamodule=GalaxyZoo2DataModule(str(voted), batch_size=9))
    assert sorted(seen) == list(range(4 * 27))
    assert TrajectoryStore(tmp_path).recipe.training["rotations"] == 4
    with pytest.raises(InputError, match="--model.rotations must be a whole number >= 1, not 0"):
        ExpertModule(rotations=0)


@pytest.mark.parametrize("pix_init", ["noise", "real", "mean"])
def test_first_soft_labels(pix_init: str, voted: Path) -> None:
    galaxies = Galaxies(voted)
    images, labels = initial_images(pix_init, galaxies, 2, torch.Generator().manual_seed(0), soft=True)
    same, hard = initial_images(pix_init, galaxies, 2, torch.Generator().manual_seed(0))
    assert torch.equal(images, same)
    assert labels.shape == (6, 3)
    assert torch.equal(labels.argmax(1), hard)
    torch.testing.assert_close(labels.sum(1), torch.ones(6))
    if pix_init == "real":
        shown = [
            int((galaxies.standardise(galaxies.train.images) - image).abs().amax((1, 2, 3)).argmin()) for image in images
        ]
        torch.testing.assert_close(labels, galaxies.train.soft_labels[shown])


def test_a_distilled_set_carries_soft_labels(voted: Path, tmp_path: Path, trainer_options: dict[str, Any]) -> None:
    fit_experts(tmp_path / "experts", voted, trainer_options, labels="votes")
    settings = {"ipc": 1, "syn_steps": 2, "iterations": 2, "eval_it": 2, "num_eval": 1, "epoch_eval_train": 2}
    module = TrajectoryMatching(str(tmp_path / "experts"), labels="votes", **settings)  # type: ignore[arg-type]
    pl.Trainer(**{**trainer_options, "default_root_dir": str(tmp_path / "run"), "enable_checkpointing": True}).fit(
        module, datamodule=GalaxyZoo2DataModule(str(voted))
    )
    made = SyntheticSet.load(tmp_path / "run" / "last.h5")
    assert made.labels.shape == (3, 3)
    assert made.hard_labels.tolist() == [0, 1, 2]
    galaxies = Galaxies(voted)
    path = str(tmp_path / "run" / "last.h5")
    assert torch.equal(loaded_images(path, galaxies, 1, soft=True)[1], made.labels)
    made.labels = made.hard_labels
    made.save(tmp_path / "hard.h5")
    with pytest.raises(InputError, match="has no soft labels"):
        loaded_images(str(tmp_path / "hard.h5"), galaxies, 1, soft=True)
