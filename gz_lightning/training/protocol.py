"""Fresh networks trained on a small set, scored on real galaxies (the protocol of Cazenavette et al. 2022).

Shapes: M images to train on, N galaxies to score, K leaves, S step sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from gz_lightning.augmentation import DSA, augment, check_strategy
from gz_lightning.data.galaxies import Galaxies, Split
from gz_lightning.errors import InputError
from gz_lightning.networks.convnet import ConvNet
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.networks.registry import build_network
from gz_lightning.randomness import derived_seed, generator

PROTOCOLS = {
    "mtt": "as published (Cazenavette et al. 2022): the learned step size; of several sets the one that scores best on the "
    "test galaxies themselves",
    "validated": "step size and set are chosen on validation galaxies; test galaxies are scored once",
}
"""What is done with the choices that an evaluation leaves open, by name."""
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
        symmetries: 8 trains on the eight rotations and reflections of each image, see :func:`symmetric_copies`; 1, the
            published protocol, on the images alone.
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
    symmetries: int = 1

    def __post_init__(self) -> None:
        check_strategy(self.augmentation)
        if self.symmetries not in (1, 8):
            raise InputError(f"symmetries is 1 or 8 (the rotations and reflections of a square), not {self.symmetries}")
        if self.epochs < 1 or self.batch_size < 1:
            raise InputError(f"epochs ({self.epochs}) and batch_size ({self.batch_size}) must be at least 1")

    def step_size_schedule(self, step_sizes: Sequence[float], syn_steps: int = 0) -> list[float]:
        """The step size of every epoch.

        With one step size: that for half of the epochs, then a tenth of it. With several, as a distilled set with one for
        each start epoch has: each in turn for ``max(syn_steps, half / S)`` epochs, then half of the epochs at a tenth of
        the last.

        Example:
            >>> Protocol(epochs=4).step_size_schedule([0.01])
            [0.01, 0.01, 0.001, 0.001]
        """
        if self.schedule == "cosine":
            angle = torch.arange(self.epochs) / self.epochs * torch.pi
            return [step_sizes[0] * c for c in ((1 + angle.cos()) / 2).tolist()]
        half = self.epochs // 2
        each = self.epochs - half if len(step_sizes) == 1 else max(syn_steps, half // len(step_sizes))
        return [alpha for alpha in step_sizes for _ in range(each)] + [step_sizes[-1] / 10] * half


def symmetric_copies(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The eight rotations by right angles and reflections of each image: galaxies have no up and no handedness.

    (The rotate-and-transpose of Guan et al. 2023, which took their ten-class set from 51 to 54 %.)

    Args:
        images: Pixels, shape (M, 3, H, H).
        labels: Their labels, shape (M, ...).

    Returns:
        Images, shape (8 M, 3, H, H), the M originals first, and their labels.

    Example:
        >>> symmetric_copies(torch.zeros(5, 3, 32, 32), torch.arange(5))[0].shape
        torch.Size([40, 3, 32, 32])
    """
    turned = [images.rot90(quarter, (2, 3)) for quarter in range(4)]
    return torch.cat([*turned, *(copy.transpose(2, 3) for copy in turned)]), torch.cat([labels] * 8)


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
    model = fresh_network(network, protocol.seed)
    for _ in epochs_of_training(model, images, labels, step_sizes, protocol, syn_steps):
        pass
    return model.eval()


def fresh_network(network: Mapping[str, Any], seed: int) -> nn.Module:
    """The network of a protocol's seed as it is before training."""
    return build_network(network, seed=derived_seed(seed, "initialisation"))


def epochs_of_training(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    step_sizes: Sequence[float],
    protocol: Protocol,
    syn_steps: int = 0,
    written: bool = False,
) -> Iterator[None]:
    """Train a network that is there already, pausing after every epoch; it is trained when all are through.

    ``written`` takes the gradient of a ConvNet from :mod:`gz_lightning.networks.convnet_derivatives` instead of autograd,
    which is the same and faster on a CPU. The other arguments are those of :func:`train_network`.
    """
    if protocol.symmetries == 8:
        images, labels = symmetric_copies(images, labels)
    model.to(images.device, images.dtype)
    flat = FunctionalNetwork(model) if written and type(model) is ConvNet else None
    parameters = list(model.parameters()) if flat is None else [nn.Parameter(flat.parameters_of(model))]
    optimizer = torch.optim.SGD(parameters, lr=step_sizes[0], momentum=protocol.momentum, weight_decay=protocol.weight_decay)
    draws = generator(protocol.seed, "training")
    labels = labels.to(images.device)
    for alpha in protocol.step_size_schedule(step_sizes, syn_steps):
        optimizer.param_groups[0]["lr"] = alpha
        order = torch.randperm(len(images), generator=draws).to(images.device)
        for rows in order.split(protocol.batch_size):
            batch = augment(images[rows], protocol.augmentation, draws)
            if flat is None:
                loss = F.cross_entropy(model(batch), labels[rows])
                optimizer.zero_grad()
                loss.backward()
            else:
                parameters[0].grad = flat.linearise(parameters[0].detach(), batch, labels[rows], "nothing").gradient
            optimizer.step()
        yield
    if flat is not None:
        nn.utils.vector_to_parameters(parameters[0].detach(), model.parameters())


@torch.no_grad()
def logits(model: nn.Module, galaxies: Split, data: Galaxies, device: torch.device) -> torch.Tensor:
    """Logits of the galaxies of one split, shape (N, K), on the CPU."""
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    batches = (data.standardise(images.to(device)).to(dtype) for images in galaxies.images.split(SCORE_BATCH))
    return torch.cat([model(batch).cpu() for batch in batches])


def predictions(model: nn.Module, galaxies: Split, data: Galaxies, device: torch.device) -> torch.Tensor:
    """Most likely leaves of the galaxies of one split, int64, shape (N,), on the CPU."""
    return logits(model, galaxies, data, device).argmax(1)
