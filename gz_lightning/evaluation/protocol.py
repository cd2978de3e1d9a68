"""Fresh networks trained on a small set, scored on real galaxies (the protocol of Cazenavette et al. 2022).

Shapes: M images to train on, N galaxies to score, K leaves, S step sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from gz_lightning.augmentation import DSA, augment, check_strategy
from gz_lightning.data.datamodule import Galaxies, GalaxyZoo2DataModule
from gz_lightning.errors import InputError
from gz_lightning.networks import build_network
from gz_lightning.randomness import derived_seed, generator

SCORE_BATCH = 512


@dataclass(frozen=True)
class Protocol:
    """How a network is trained on a set.

    Args:
        epochs: Passes over the set; the step size falls to a tenth after half of them. Published: 1000.
        batch_size: Images in a batch. Published: 256.
        augmentation: Augmentation of every batch, see :func:`gz_lightning.augmentation.augment`.
        momentum: Momentum of SGD. Published: 0.9.
        weight_decay: Weight decay of SGD. Published: 5e-4.
        schedule: ``step`` (the published one) or ``cosine`` (from the step size to zero; for full data).
        seed: Seed of initialisation, order and augmentation.

    Raises:
        InputError: If a setting is out of its range.
    """

    epochs: int = 1000
    batch_size: int = 256
    augmentation: str = DSA
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "step"
    seed: int = 0

    def __post_init__(self) -> None:
        check_strategy(self.augmentation)
        if self.epochs < 1 or self.batch_size < 1:
            raise InputError(f"epochs ({self.epochs}) and batch_size ({self.batch_size}) must be at least 1")

    def step_size_schedule(self, step_sizes: Sequence[float], syn_steps: int = 0) -> list[float]:
        """The step size of every epoch.

        With one step size: that for half of the epochs, then a tenth of it. With several, as a distilled set with one for
        each start epoch has: each in turn for ``max(syn_steps, half / S)`` epochs, then half of the epochs at a tenth of
        the last.
        """
        if self.schedule == "cosine":
            angle = torch.arange(self.epochs) / self.epochs * torch.pi
            return [step_sizes[0] * c for c in ((1 + angle.cos()) / 2).tolist()]
        half = self.epochs // 2
        each = self.epochs - half if len(step_sizes) == 1 else max(syn_steps, half // len(step_sizes))
        return [alpha for alpha in step_sizes for _ in range(each)] + [step_sizes[-1] / 10] * half


def train_network(
    images: torch.Tensor,
    labels: torch.Tensor,
    network: Mapping[str, Any],
    step_sizes: Sequence[float],
    protocol: Protocol,
    syn_steps: int = 0,
) -> nn.Module:
    """A fresh network, trained.

    Args:
        images: Standardised pixels, shape (M, 3, H, W), on the device to train on.
        labels: Leaves, int64, shape (M,), or soft labels, shape (M, K).
        network: Description of the network.
        step_sizes: S step sizes, see :meth:`Protocol.step_size_schedule`.
        protocol: How to train.
        syn_steps: Least number of epochs at each of several step sizes.

    Returns:
        The network, in evaluation mode, on the device of the images. The same arguments give the same network.
    """
    model = build_network(network, seed=derived_seed(protocol.seed, "initialisation")).to(images.device)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=step_sizes[0], momentum=protocol.momentum, weight_decay=protocol.weight_decay
    )
    draws = generator(protocol.seed, "training")
    labels = labels.to(images.device)
    for alpha in protocol.step_size_schedule(step_sizes, syn_steps):
        optimizer.param_groups[0]["lr"] = alpha
        order = torch.randperm(len(images), generator=draws).to(images.device)
        for rows in order.split(protocol.batch_size):
            batch = augment(images[rows], protocol.augmentation, draws)
            loss = F.cross_entropy(model(batch), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


@torch.no_grad()
def predictions(model: nn.Module, galaxies: Galaxies, data: GalaxyZoo2DataModule, device: torch.device) -> torch.Tensor:
    """Most likely leaves of the galaxies of one split, int64, shape (N,), on the CPU."""
    batches = (data.standardise(images.to(device)) for images in galaxies.images.split(SCORE_BATCH))
    return torch.cat([model(batch).argmax(1).cpu() for batch in batches])


def accuracies(
    images: torch.Tensor,
    labels: torch.Tensor,
    network: Mapping[str, Any],
    step_sizes: Sequence[float],
    protocol: Protocol,
    data: GalaxyZoo2DataModule,
    splits: Sequence[str],
    num_eval: int,
    syn_steps: int = 0,
) -> dict[str, list[float]]:
    """Accuracies of ``num_eval`` fresh networks trained on a set.

    Gradients are enabled and the global random state is left alone, whoever calls this.

    Args:
        images: Standardised pixels, shape (M, 3, H, W), on the device to train on.
        labels: Leaves, int64, shape (M,), or soft labels, shape (M, K).
        network: Description of the network.
        step_sizes: S step sizes.
        protocol: How to train; network i is trained with a seed of its own, made of ``protocol.seed`` and i.
        data: Gives the galaxies.
        splits: Splits to score on: ``train``, ``val``, ``test``.
        num_eval: Number of networks. 5 in the published protocol.
        syn_steps: See :func:`train_network`.

    Returns:
        For each split ``num_eval`` accuracies in [0, 1].
    """
    scores: dict[str, list[float]] = {split: [] for split in splits}
    with torch.inference_mode(False), torch.enable_grad():
        for i in range(num_eval):
            own = replace(protocol, seed=derived_seed(protocol.seed, "network", i))
            model = train_network(images.detach().clone(), labels, network, step_sizes, own, syn_steps)
            for split in splits:
                galaxies: Galaxies = getattr(data, split)
                hits = predictions(model, galaxies, data, images.device) == galaxies.labels
                scores[split].append(float(hits.float().mean()))
    return scores
