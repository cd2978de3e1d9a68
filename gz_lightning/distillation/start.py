"""What a distillation starts from: experts that fit the galaxies, first images, first step sizes.

Shapes: M images (``ipc`` of each of K leaves), P parameters, S step sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from gz_lightning.augmentation import check_strategy
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.distillation.matching import matching_loss
from gz_lightning.distillation.stages import Stages
from gz_lightning.errors import InputError
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.storage.text import naming_file

STEPS_MATCHED = 5
"""Steps of the expert for each of the student's: in trials at 20 steps on real and simulated galaxies (32 px, 27 steps an
epoch, 300 iterations) 1 / 3 / 5 / 8 epochs gave 46 / 52 / 55 / 53 % and - / 47 / 60 / 51 %."""
STEP_SIZE_GRID = tuple(float(f"{x:.3g}") for x in torch.logspace(-4, -1, 13).tolist())
"""1e-4 to 0.1, four a decade."""


def augmentation_of(store: TrajectoryStore) -> str:
    """The augmentation that experts were trained with.

    Raises:
        InputError: If they do not say, or it is none that there is.
    """
    found = store.recipe.training.get("augmentation")
    if not isinstance(found, str):
        raise InputError(f"the experts in {store.folder} do not say their augmentation; give --model.augmentation")
    with naming_file(store.folder):
        return check_strategy(found)


def epochs_to_match(store: TrajectoryStore, galaxies: int, syn_steps: int) -> int:
    """Epochs m in which an expert takes ``STEPS_MATCHED`` times ``syn_steps`` steps; 1 to a third of the trajectory.

    Args:
        store: The experts.
        galaxies: Their training galaxies.
        syn_steps: Steps of the student.

    Raises:
        InputError: If the experts do not say how large their batches were.
    """
    training = store.recipe.training
    batch_size, rotations = training.get("batch_size"), training.get("rotations", 1)
    if not all(isinstance(number, int) and number > 0 for number in (batch_size, rotations)):
        raise InputError(
            f"the experts in {store.folder} do not say how many steps an epoch took (batch_size {batch_size!r:.40}, "
            f"rotations {rotations!r:.40}), as imported ones do not; give --model.expert_epochs"
        )
    steps: int = -(-galaxies * rotations // batch_size)
    return max(1, min(round(STEPS_MATCHED * syn_steps / steps), store.num_epochs // 3))


def stages_of(settings: Mapping[str, Any], store: TrajectoryStore, expert_epochs: int) -> Stages:
    """The stages of a distillation, of start epochs that the experts have.

    Args:
        settings: Settings of a :class:`gz_lightning.distillation.module.TrajectoryMatching` by name.
        store: The experts.
        expert_epochs: Epochs to match from a start epoch, m.

    Raises:
        InputError: If max_start_epoch, or another setting of the stages, is out of its range.
    """
    last_start = store.num_epochs - expert_epochs
    max_start_epoch = last_start if settings["max_start_epoch"] is None else settings["max_start_epoch"]
    if not 1 <= max_start_epoch <= last_start:
        raise InputError(
            f"max_start_epoch ({max_start_epoch}) must be at least 1 and, with expert_epochs ({expert_epochs}), "
            f"within the {store.num_epochs} epochs of {store.folder}"
        )
    return Stages(
        settings["stage"],
        settings["init_epoch"],
        max_start_epoch,
        settings["start_epochs"],
        settings["sigma_threshold"],
        settings["max_duration"],
        settings["min_start_epoch"],
        settings["open_until"],
    )


def loaded_images(path: str, galaxies: Galaxies, ipc: int, soft: bool | None = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels of a distilled set to begin with, see :func:`initial_images`; ``soft`` None: labels as they are.

    Raises:
        InputError: If the set does not fit the galaxies, is not of ``ipc`` images a leaf, or has no soft labels where they
            are wanted.
    """
    loaded = SyntheticSet.load(path)
    loaded.check_fits(galaxies, path)
    if len(loaded) != ipc * galaxies.num_classes:
        raise InputError(
            f"{path} holds {len(loaded)} images; ipc {ipc} of {galaxies.num_classes} leaves are {ipc * galaxies.num_classes}"
        )
    if soft and loaded.labels.ndim == 1:
        raise InputError(f"{path} has no soft labels; distil it with --model.labels hard")
    return loaded.images, loaded.hard_labels if soft is False else loaded.labels


def first_step_sizes(given: float | Sequence[float], number: int, first_stage: int) -> torch.Tensor:
    """The step sizes that distillation begins with.

    Args:
        given: One number, or one for each start epoch of the first stage.
        number: S: one, or one for each start epoch there can be.
        first_stage: Start epochs of the first stage.

    Returns:
        Shape (S,). Later start epochs begin with the step size of the last that is given.

    Raises:
        InputError: If a list is of the wrong length or a number not positive.
    """
    wanted = min(first_stage, number)
    first = [float(given)] * wanted if isinstance(given, (int, float)) else [float(alpha) for alpha in given]
    if len(first) != wanted:
        raise InputError(
            f"lr_teacher lists {len(first)} step sizes, but the first stage has {wanted} to learn; give as many "
            "(with step_sizes independent one for each start epoch, with global one), or one number for all"
        )
    if not all(alpha > 0 and math.isfinite(alpha) for alpha in first):
        raise InputError(f"lr_teacher must be positive, not {given}")
    return torch.tensor(first + [first[-1]] * (number - wanted))


@torch.no_grad()
def search_step_size(
    segments: Sequence[tuple[torch.Tensor, torch.Tensor]],
    run: Callable[[torch.Tensor, float, int], torch.Tensor],
    grid: Sequence[float] = STEP_SIZE_GRID,
) -> tuple[float, dict[float, float]]:
    """The step size at which the images, as they are, come nearest to the experts.

    Args:
        segments: Pairs (theta*_s, theta*_{s+m}), each of shape (P,).
        run: Function (theta*_s, alpha, i) -> theta_N, shape (P,): the unroll of segment i with step size alpha.
        grid: Step sizes to try.

    Returns:
        The one of least mean matching loss, and the mean matching loss of each.
    """
    losses = {}
    for alpha in grid:
        each = [matching_loss(run(start, alpha, i), start, target) for i, (start, target) in enumerate(segments)]
        losses[alpha] = float(torch.stack(each).mean())
    return min(losses, key=lambda alpha: losses[alpha] if math.isfinite(losses[alpha]) else math.inf), losses
