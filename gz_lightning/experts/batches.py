"""The training batches of each expert: their own order and augmentation.

Shapes: N galaxies in a batch, K leaves, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from gz_lightning.augmentation import augment
from gz_lightning.data.galaxies import Galaxies, Split
from gz_lightning.experts.rotation import rotated
from gz_lightning.randomness import generator


class Scored:
    """Batches of galaxies to score: all of them in every process, whatever the strategy (a DataLoader would be shared out).

    Args:
        galaxies: Those of one split.
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
    """Galaxies on the device, and the batches that every expert takes from them.

    Args:
        galaxies: Their training galaxies are put on the device once, as uint8, unless they are too many.
        batch_size: Galaxies of a batch of each expert.
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

    def take(self, index: int, places: Sequence[int], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The batch at ``index`` of the n experts at some places of the group.

        Returns:
            Augmented images, shape (n, N, 3, H, W); what to learn of them, leaves (n, N) or shares for each leaf (n, N, K);
            their leaves, shape (n, N).
        """
        size = self.batch_size
        orders = [self.orders[place][index * size :][:size] for place in places]
        taken = [self._take(own, self.draws[place], dtype) for own, place in zip(orders, places, strict=True)]
        rows = torch.stack([own for _, own in taken])
        images = torch.stack([own for own, _ in taken]) if len(taken) > 1 else taken[0][0][None]
        targets = self.targets[rows]
        return images, targets.to(dtype) if targets.is_floating_point() else targets, self.labels[rows]

    def _take(self, rows: torch.Tensor, draws: torch.Generator, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        turns, rows = rows // len(self.labels), rows % len(self.labels)
        pixels = self.galaxies.train.pixels(rows.cpu()) if self.images is None else self.images[rows]
        images = self.galaxies.standardise(pixels.to(self.device)).to(dtype)
        if self.settings["rotations"] > 1:
            images = rotated(images, turns * (360 / self.settings["rotations"]))
        return augment(images, self.settings["augmentation"], draws), rows
