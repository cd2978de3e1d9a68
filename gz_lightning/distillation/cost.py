"""What a distillation will take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

PICTURES = 2 * 10**5
"""Bytes of the pictures of an evaluation, about: they grow with the images shown, of which there is a limit."""


def evaluations_of(settings: Mapping[str, Any], done: int) -> int:
    """How many evaluations are left: one before each iteration whose number is a multiple of ``eval_it``, one at the end.

    Args:
        settings: Settings of the distillation by name.
        done: Iterations done before.

    Example:
        >>> evaluations_of({"iterations": 400, "eval_it": 200}, 0)
        3
    """
    total, every = settings["iterations"], settings["eval_it"]
    return len(range(math.ceil(done / every) * every, total, every)) + 1


def cost_of(settings: Mapping[str, Any], done: int, parameters: int, images: torch.Tensor) -> tuple[str, float]:
    """In words, what is left to do of a distillation, and the bytes that it writes, about.

    Args:
        settings: Settings of the distillation by name.
        done: Iterations done before.
        parameters: P.
        images: The synthetic images, shape (M, 3, H, W).
    """
    left, evaluations = max(settings["iterations"] - done, 0), evaluations_of(settings, done)
    steps = settings["syn_steps"] * settings["segments_per_step"]
    may_end = settings["stage"] != "fixed" and settings["objective"] == "match"
    words = (
        f"{left:,} iteration{'s' * (left != 1)}{' at most' * may_end} x {steps} steps on {len(images)} images, "
        f"a network of {parameters:,} parameters; {evaluations} evaluations x {settings['num_eval']} networks x "
        f"{settings['epoch_eval_train']:,} epochs"
    )
    # Two sets of float32, and a checkpoint with the momentum of the images.
    return words, 4 * images.nbytes + PICTURES * evaluations
