"""The training batches of each expert, in its order and with its augmentation; and the batches to score.

Shapes: N galaxies in a batch, K leaves, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from gz_lightning.augmentation import augment
from gz_lightning.data.galaxies import Galaxies, Split
from gz_lightning.randomness import generator


class Scored:
    """Batches of galaxies to score: all of them in every process, whatever the strategy (a DataLoader would be shared out).

    Args:
        galaxies: One split.
        batch_size: Galaxies of a batch.
    """

    def __init__(self, galaxies: Split, batch_size: int) -> None:
        self.galaxies, self.batch_size = galaxies, batch_size

    def __len__(self) -> int:
        return math.ceil(len(self.galaxies) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for rows in torch.arange(len(self.galaxies)).split(self.batch_size):
            yield self.galaxies.pixels(rows), self.galaxies.labels[rows]


class Batches:
    """Training galaxies on the device, and the batches that each expert takes from them.

    Args:
        galaxies: Their training galaxies are put on the device once, as uint8, unless they are too many for memory.
        batch_size: Galaxies in a batch of each expert.
        settings: Of an :class:`gz_lightning.experts.module.ExpertModule`: ``labels``, ``rotations``, ``augmentation``,
            ``seed``.
        device: Where to train.
    """

    def __init__(self, galaxies: Galaxies, batch_size: int, settings: Mapping[str, Any], device: torch.device) -> None:
        self.galaxies, self.batch_size, self.settings, self.device = galaxies, batch_size, settings, device
        train = galaxies.train
        self.images = train.images.to(device) if train.in_memory else None
        self.labels = train.labels.to(device)
        self.targets = train.soft_labels.to(device) if settings["labels"] == "votes" else self.labels

    def __len__(self) -> int:
        galaxies: int = len(self.labels) * self.settings["rotations"]
        return math.ceil(galaxies / self.batch_size)

    def begin_epoch(self, experts: Sequence[int], epoch: int) -> None:
        """Draw the order of each expert's galaxies; only its number, the epoch and the seed decide."""
        seed, number = self.settings["seed"], len(self.labels) * self.settings["rotations"]
        orders = [torch.randperm(number, generator=generator(seed, "order", expert, epoch)) for expert in experts]
        self.orders = [order.to(self.device) for order in orders]
        self.draws = [generator(seed, "augmentation", expert, epoch) for expert in experts]

    def take(self, index: int, place: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The batch at ``index`` of the expert at ``place`` in its group; to be called once for each, in order.

        Returns:
            Augmented images, shape (N, 3, H, W); what to learn of them, leaves (N,) or shares for each leaf (N, K); their
            leaves, shape (N,).
        """
        rows = self.orders[place][index * self.batch_size :][: self.batch_size]
        turns, rows = rows // len(self.labels), rows % len(self.labels)
        pixels = self.galaxies.train.pixels(rows.cpu()) if self.images is None else self.images[rows]
        images = self.galaxies.standardise(pixels.to(self.device)).to(dtype)
        if self.settings["rotations"] > 1:
            images = rotated(images, turns * (360 / self.settings["rotations"]))
        images = augment(images, self.settings["augmentation"], self.draws[place])
        targets = self.targets[rows]
        return images, targets.to(dtype) if targets.is_floating_point() else targets, self.labels[rows]


def rotated(images: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """Images turned counterclockwise about their centre, with bilinear interpolation; the corners mirror the inside.

    They are the copies of the published augmented form, made as they are needed.

    Args:
        images: Shape (N, C, H, W).
        degrees: Shape (N,).
    """
    angle = torch.deg2rad(degrees.to(images.dtype))
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    matrix = torch.stack([torch.stack([cos, -sin, zero], -1), torch.stack([sin, cos, zero], -1)], 1)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
