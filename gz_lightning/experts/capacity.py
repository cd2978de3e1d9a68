"""How many experts are trained at once, and whether a run fits into memory and onto the disk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gz_lightning.cost import announce, counted
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.experts.expert_file import PRECISIONS
from gz_lightning.memory import require_memory
from gz_lightning.networks.ensemble import Ensemble
from gz_lightning.storage.whole import require_disk

MAPS_PER_BLOCK = 8
"""Full-size maps of the first block that a training step holds at most, deeper blocks included: what norm, ReLU and pooling
keep for their derivatives, and the gradients on their way back."""
STEP_IN_PORTIONS = 100 * 2**20
"""Bytes of a step that is worked on in portions (on a CPU, where the derivatives are written out)."""


def fitting_number(ensemble: Ensemble, batch: tuple[int, int, int, int], width: int) -> int:
    """How many experts to train at once.

    1 on anything but a GPU, so that experts do not depend on the number of cores. On a GPU as many as make up one stack of
    the ensemble, which fills it, and take at most half of the free memory.

    Args:
        ensemble: Says how many make up a stack, and on which device.
        batch: (N, C, H, W), the shape of each expert's batch.
        width: Channels of the network's first block.
    """
    if ensemble.device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(ensemble.device)
    return max(1, min(ensemble.stack_size(batch), int(free / 2 / _maps(batch, width))))


def require_room(
    ensemble: Ensemble, number: int, batch: tuple[int, int, int, int], settings: Mapping[str, Any], missing: int
) -> None:
    """Refuse what cannot fit, before hours of work.

    Args:
        ensemble: The networks of the experts.
        number: How many are trained at once.
        batch: (N, C, H, W), the shape of each expert's batch.
        settings: Of the :class:`gz_lightning.experts.module.ExpertModule`.
        missing: How many experts are to be written.

    Raises:
        InputError: If there is too little memory, or too little room on the disk.
    """
    epochs = settings["train_epochs"]
    trajectory = (epochs + 1) * ensemble.network.num_parameters * 4
    what = f"the {epochs} epochs of {number} experts at once"
    require_memory(number * trajectory, "cpu", what, "take fewer --model.experts_at_once")
    if settings["compression"] == "none":
        bits = torch.finfo(PRECISIONS[settings["precision"]]).bits
        advice = "take fewer --model.num_experts or --model.precision float16, or name a folder elsewhere"
        require_disk(missing * trajectory * bits / 32, Path(settings["trajectories"]), f"{missing} experts", advice)
    maps, what = _maps(batch, settings["width"]), f"batches of {batch[0]} galaxies"
    advice = "take a smaller --data.batch_size or fewer --model.experts_at_once"
    if ensemble.device.type == "cuda":
        require_memory(min(number, ensemble.stack_size(batch)) * maps / 2, ensemble.device, what, advice)
    elif ensemble.derivatives is None:  # else a batch is worked on in portions
        require_memory(min(number, torch.get_num_threads()) * maps / 4, ensemble.device, what, advice)


def announce_experts(
    ensemble: Ensemble,
    number: int,
    batch: tuple[int, int, int, int],
    settings: Mapping[str, Any],
    missing: int,
    steps: int,
    galaxies: Galaxies,
) -> None:
    """Say what experts are to be trained, in epochs and in steps, and what it takes.

    Args:
        ensemble: The networks of the experts.
        number: How many are trained at once.
        batch: (N, C, H, W), the shape of each expert's batch.
        settings: Of the :class:`gz_lightning.experts.module.ExpertModule`.
        missing: How many experts are to be written.
        steps: Of an epoch.
        galaxies: What they are trained on.

    Raises:
        DryRunEnds: In a dry run.
    """
    epochs, parameters = settings["train_epochs"], ensemble.network.num_parameters
    trajectory = (epochs + 1) * parameters * 4
    disk = missing * trajectory * torch.finfo(PRECISIONS[settings["precision"]]).bits / 32
    # All epochs of a group are kept until it is written, with a copy of those of the expert that is being written.
    memory = (number + 1) * trajectory + (len(galaxies.train) * math.prod(galaxies.image_shape) if galaxies.in_memory else 0)
    if ensemble.device.type != "cuda":
        maps = _maps(batch, settings["width"]) / 2
        in_portions = min(maps, STEP_IN_PORTIONS)
        memory += min(number, torch.get_num_threads()) * (maps if ensemble.derivatives is None else in_portions)
    course = " x ".join([counted(missing, "expert"), counted(epochs, "epoch"), counted(steps, "step")])
    work = f"{course} ({missing * epochs * steps:,} in all), networks of {parameters:,} parameters"
    announce(work, memory, disk, Path(settings["trajectories"]))


def _maps(batch: tuple[int, int, int, int], width: int) -> int:
    """Bytes of what a training step of one expert holds at most."""
    return 4 * MAPS_PER_BLOCK * width * batch[0] * batch[2] * batch[3]
