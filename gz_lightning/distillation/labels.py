"""Soft labels that are learned (DATM, Guo et al. 2024): as logits, so that they stay shares whatever an update does to them.

Shapes: M images, K leaves, P parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gz_lightning.networks.derivatives import Network

LEAST_SHARE = 1e-3
"""A leaf that no volunteer chose gets this share before the logarithm, so that it can be learned."""


@torch.no_grad()
def logits_of_experts(
    network: Network, thetas: Sequence[torch.Tensor], images: torch.Tensor, leaves: torch.Tensor
) -> torch.Tensor:
    """First logits: the mean of what trained experts say of the images.

    Where they take an image for another leaf, the logits of the two leaves change places: the leaf stays the most likely.
    (DATM takes one expert and only images that it takes for what they are.)

    Args:
        network: Function (theta, images) -> logits.
        thetas: Parameters of experts at the end of their training, each of shape (P,).
        images: Standardised pixels, shape (M, 3, H, W).
        leaves: int64, shape (M,).

    Returns:
        Shape (M, K).
    """
    logits = torch.stack([network(theta, images) for theta in thetas]).mean(0)
    rows, likeliest = torch.arange(len(logits)), logits.argmax(1)
    swapped = logits.clone()
    swapped[rows, leaves], swapped[rows, likeliest] = logits[rows, likeliest], logits[rows, leaves]
    return swapped


def logits_of_shares(shares: torch.Tensor) -> torch.Tensor:
    """Logits whose softmax gives soft labels, shape (M, K)."""
    return shares.clamp(min=LEAST_SHARE).log()
