"""Occlusion maps: which parts of a galaxy a network needs to recognise it (Zeiler & Fergus 2014, arXiv:1311.2901).

Shapes: n networks, N images, K leaves, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

SHARE = 5
"""A patch is a fifth of the image wide, and moves by a third of its width."""
AT_ONCE = 256
"""Images that a network sees at a time."""


def patch_of(resolution: int) -> int:
    """Side of the patch for images of some resolution, in pixels."""
    return max(resolution // SHARE, 3)


def corners(resolution: int, patch: int) -> list[tuple[int, int]]:
    """First row and column of every patch; the last ones end at the border, so that all pixels are covered.

    Args:
        resolution: H = W in pixels.
        patch: Side of the patch, 1 to ``resolution``.

    Example:
        >>> [column for row, column in corners(16, 5) if row == 0]
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
        >>> [column for row, column in corners(32, 9) if row == 0]
        [0, 3, 6, 9, 12, 15, 18, 21, 23]
    """
    last = resolution - patch
    places = sorted({*range(0, last, max(patch // 3, 1)), last})
    return [(row, column) for row in places for column in places]


def log_odds(logits: torch.Tensor, label: int) -> torch.Tensor:
    """ln(P / (1 - P)) of one of K leaves, float64, shape (N,), from logits, shape (N, K); at least two leaves.

    Example:
        >>> log_odds(torch.tensor([[0.0, 0.0], [2.0, 0.0]]), 0).tolist()
        [0.0, 2.0]
    """
    values = logits.double()
    others = torch.cat([values[:, :label], values[:, label + 1 :]], 1)
    return values[:, label] - others.logsumexp(1)


@torch.no_grad()
def occlusion_maps(
    models: Sequence[nn.Module], images: torch.Tensor, labels: torch.Tensor, patch: int
) -> Iterator[tuple[float, torch.Tensor]]:
    """Of each image, what covering a place takes from the log-odds of its leaf, mean over the networks.

    A square of ``patch`` pixels is set to the mean of all galaxies (0 in standardised pixels) at every place of a grid, and
    the fall of the log-odds ln(P / (1 - P)) of the image's leaf is noted. (Probabilities themselves hardly move where a
    network is sure, as networks trained on few images are.) A pixel of the map is the mean over the squares that cover it.
    Above 0 the networks need what is there; below 0 it speaks for another leaf. Where two places tell the same, covering
    one of them takes nothing, so that a map shows less than the networks use.

    Args:
        models: n networks in evaluation mode, from standardised images to logits, on one device.
        images: Standardised pixels, shape (N, 3, H, H).
        labels: Leaf of each, int64, shape (N,).
        patch: Side of the square in pixels, see :func:`patch_of`.

    Yields:
        For each image the mean probability of its leaf with nothing covered, in [0, 1], and the map, float64, shape (H, H).
    """
    device = next(models[0].parameters()).device
    places = corners(images.shape[-1], patch)
    for image, label in zip(images.to(device), labels.tolist(), strict=True):
        covered = image.repeat(1 + len(places), 1, 1, 1)  # the first one stays whole
        for own, (row, column) in zip(covered[1:], places, strict=True):
            own[:, row : row + patch, column : column + patch] = 0
        odds = torch.stack(
            [torch.cat([log_odds(model(part), label) for part in covered.split(AT_ONCE)]) for model in models]
        )
        whole, *others = odds.mean(0).tolist()
        total, times = torch.zeros(image.shape[1:], dtype=torch.float64), torch.zeros(image.shape[1:], dtype=torch.float64)
        for other, (row, column) in zip(others, places, strict=True):
            total[row : row + patch, column : column + patch] += whole - other
            times[row : row + patch, column : column + patch] += 1
        yield float(odds[:, 0].sigmoid().mean()), total / times
