"""How far a student ends from where the expert went.

Shapes: P parameters.
"""

from __future__ import annotations

import torch


def matching_loss(student: torch.Tensor, start: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Normalised distance |theta_N - theta*_{s+m}|^2 / |theta*_s - theta*_{s+m}|^2 (Cazenavette et al. 2022).

    Args:
        student: theta_N, where the student ended, shape (P,).
        start: theta*_s, where student and expert set out, shape (P,).
        target: theta*_{s+m}, where the expert was ``expert_epochs`` later, shape (P,).

    Returns:
        A number: 0 where the student met the expert, 1 where it came no nearer than it was.
    """
    return (student - target).square().sum() / (start - target).square().sum()
