"""What an evaluation will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gz_lightning.cost import announce, counted
from gz_lightning.evaluation.contenders import Contender
from gz_lightning.experts.capacity import STEP_IN_PORTIONS
from gz_lightning.networks.registry import build_network

DISK = 2 * 10**6
"""Bytes of tables, record and pictures, about."""


def announce_networks(planned: Sequence[Contender], network: Mapping[str, Any], device: torch.device, folder: Path) -> None:
    """Say how many networks are to be trained, for how many steps, and what it takes.

    Args:
        planned: What is to be trained.
        network: Description of the network.
        device: Where.
        folder: What is written into.

    Raises:
        DryRunEnds: In a dry run.
    """
    number, steps = sum(one.trainings for one in planned), sum(one.steps for one in planned)
    parameters = sum(p.numel() for p in build_network(network, seed=0).parameters())
    largest = max(one.candidates[0].sets[0][0].nbytes for one in planned)
    memory = 2 * largest + (0 if device.type == "cuda" else torch.get_num_threads() * STEP_IN_PORTIONS)
    work = f"{counted(number, 'fresh network')} of {parameters:,} parameters to train, {counted(steps, 'step')} in all"
    announce(work, memory, DISK, folder)
