"""What a distillation will take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from gz_lightning.cost import counted
from gz_lightning.distillation.finish import Finish

PICTURES = 2 * 10**5
"""Bytes of the pictures of an evaluation, about: they grow with the images shown, of which there is a limit."""


def evaluations_of(total: int, every: int, done: int) -> int:
    """How many evaluations are left: one before each iteration whose number is a multiple of ``eval_it``, one at the end.

    Args:
        total: Iterations in all.
        every: ``eval_it``.
        done: Iterations done before.

    Example:
        >>> evaluations_of(400, 200, 0)
        3
    """
    return len(range(math.ceil(done / every) * every, total, every)) + 1


def cost_of(
    settings: Mapping[str, Any], done: int, finish: Finish, window: int, parameters: int, images: torch.Tensor
) -> tuple[str, float]:
    """In words, what is left to do of a distillation, and the bytes that it writes, about.

    Args:
        settings: Settings of the distillation by name.
        done: Iterations done before.
        finish: The course of the run.
        window: Steps of a student of the finish in an iteration, those that are differentiated and those before.
        parameters: P.
        images: The synthetic images, shape (M, 3, H, W).
    """
    left = finish.most(done)
    real = min(left, finish.iterations)
    evaluations = evaluations_of(done + left, settings["eval_it"], done)
    at_most, segments = " at most" * (settings["stage"] != "fixed"), settings["segments_per_step"]
    kinds = ((left - real, at_most, settings["syn_steps"]), (real, " on real galaxies", window))
    parts = [
        f"{counted(number, 'iteration')}{more} x {counted(steps * segments, 'step')}"
        for number, more, steps in kinds
        if number
    ]
    words = (
        f"{', then '.join(parts) or '0 iterations'} on {counted(len(images), 'image')}, "
        f"a network of {parameters:,} parameters; {counted(evaluations, 'evaluation')} x "
        f"{counted(settings['num_eval'], 'network')} x {counted(settings['epoch_eval_train'], 'epoch')}"
    )
    # Two sets of float32, and a checkpoint with the momentum of the images.
    return words, 4 * images.nbytes + PICTURES * evaluations
