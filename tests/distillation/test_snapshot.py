"""The distilled set of a moment is a copy."""

from pathlib import Path

import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.distillation.snapshot import configuration_of, set_of
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.sets.synthetic import USED, SyntheticSet
from tests.distillation.conftest import Distil


def test_a_snapshot_does_not_change_with_what_is_learned(toy: Galaxies, toy_experts: Path) -> None:
    store = TrajectoryStore(toy_experts)
    images, labels = torch.zeros(3, 3, 16, 16, requires_grad=True), torch.arange(3)
    taken = set_of(images, labels, torch.tensor([0.05]), toy, store, "galaxy", iteration=7, configuration={"ipc": 1})
    with torch.no_grad():
        images.add_(1)
    labels.add_(1)
    assert not taken.images.requires_grad
    assert (float(taken.images.abs().max()), taken.labels.tolist(), taken.iteration) == (0.0, [0, 1, 2], 7)
    assert (taken.network, taken.data, taken.trajectories) == (store.recipe.network, toy.fingerprint, store.fingerprint)
    assert (taken.class_names, taken.augmentation, taken.configuration) == (toy.class_names, "galaxy", {"ipc": 1})
    torch.testing.assert_close(taken.step_sizes, torch.tensor([0.05]))


def test_values_that_a_run_has_found_are_recorded_beside_its_settings(distil: Distil, tmp_path: Path) -> None:
    found = distil(tmp_path / "run", lr_teacher=None, augmentation="none", iterations=1, expert_epochs=1)
    configuration = SyntheticSet.load(tmp_path / "run" / "last.h5").configuration
    assert configuration["lr_teacher"] is configuration["max_start_epoch"] is configuration["lr_img"] is None
    assert configuration[USED] == {
        "lr_img": found.lr_img, "lr_teacher": found.first_step_size, "max_start_epoch": 3, "batch_syn": 6,
        "init_epoch": 1,
    }  # fmt: skip


def test_of_objective_real_nothing_of_matching_is_recorded() -> None:
    names = dict.fromkeys(("expert_epochs", "max_start_epoch", "batch_syn", "window", "batch_real"))
    settings = {**names, "objective": "real", "ipc": 1, "syn_steps": 80}
    recorded = configuration_of(settings, expert_epochs=0, max_start_epoch=1, batch_syn=5)
    assert recorded == {**settings, USED: {"batch_syn": 5, "window": 60, "batch_real": 256}}
