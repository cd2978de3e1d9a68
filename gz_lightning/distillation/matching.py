"""How far a student ends from where the expert went.

Shapes: T steps, P parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gz_lightning.distillation.unroll import unroll
from gz_lightning.networks.derivatives import Network


def matching_loss(student: torch.Tensor, start: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Normalised distance |theta_N - theta*_{s+m}|^2 / |theta*_s - theta*_{s+m}|^2 (Cazenavette et al. 2022).

    Args:
        student: theta_N, where the student ended, shape (P,).
        start: theta*_s, where student and expert set out, shape (P,).
        target: theta*_{s+m}, where the expert was ``expert_epochs`` later, shape (P,).

    Returns:
        A number: 0 where the student met the expert, 1 where it came no nearer than it was.

    Example:
        >>> start, target = torch.zeros(3), torch.ones(3)
        >>> matching_loss(torch.full((3,), 0.5), start, target)  # half of the way: a quarter of the square
        tensor(0.2500)
    """
    return (student - target).square().sum() / (start - target).square().sum()


@torch.no_grad()
def nearest_step(
    network: Network,
    start: torch.Tensor,
    batches: Sequence[torch.Tensor],
    labels: Sequence[torch.Tensor],
    step_size: torch.Tensor,
    target: torch.Tensor,
) -> int:
    """The number of steps, 1 to T, after which the student is nearest to the target (ATT, Liu et al. 2024).

    Args:
        network: Function (theta, images) -> logits.
        start: theta*_s, shape (P,).
        batches: T minibatches.
        labels: Their labels.
        step_size: Alpha, shape ().
        target: theta*_{s+m}, shape (P,).
    """
    theta, distances = start, []
    for batch, own in zip(batches, labels, strict=True):
        theta = unroll(network, theta, [batch], [own], step_size)
        distances.append((theta - target).square().sum())
    return int(torch.stack(distances).argmin()) + 1
