"""Step sizes of experts over their epochs."""

from __future__ import annotations

import math

SCHEDULES = ("constant", "cosine", "step")


def step_size(lr: float, schedule: str, epoch: int, epochs: int) -> float:
    """The step size of an epoch, counted from 0.

    Args:
        lr: That of the first epoch.
        schedule: ``constant``, as published; ``cosine``, down to nearly 0 (Loshchilov & Hutter 2017, arXiv 1608.03983);
            ``step``, a tenth after ``epochs // 2 + 1`` epochs (Cazenavette et al. 2022, their ``--decay``).
        epoch: Number of the epoch.
        epochs: How many there are.

    Example:
        >>> [step_size(0.01, "step", epoch, 4) for epoch in range(4)]
        [0.01, 0.01, 0.01, 0.001]
    """
    if schedule == "cosine":
        return lr * (1 + math.cos(math.pi * epoch / epochs)) / 2
    return lr * 0.1 if schedule == "step" and epoch >= epochs // 2 + 1 else lr
