"""The distilled set of a moment is a copy."""

from pathlib import Path

import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.distillation.snapshot import set_of
from gz_lightning.experts.trajectories import TrajectoryStore


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
