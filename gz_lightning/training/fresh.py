"""Fresh networks trained on small sets and scored on galaxies (the protocol of Cazenavette et al. 2022).

Shapes: n networks, M images to train on, N galaxies to score, K leaves, P parameters, S step sizes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gz_lightning.augmentation import augment_each
from gz_lightning.data.galaxies import Galaxies, Split
from gz_lightning.memory import to_device
from gz_lightning.networks.ensemble import Ensemble
from gz_lightning.randomness import derived_seed, generator
from gz_lightning.training.protocol import SCORE_BATCH, Protocol, symmetric_copies


@dataclass(frozen=True)
class Training:
    """One network to train.

    Args:
        images: Standardised pixels, shape (M, 3, H, W), on the device to train on.
        labels: Leaves, int64, shape (M,), or soft labels, shape (M, K).
        step_sizes: S step sizes, see :meth:`gz_lightning.training.protocol.Protocol.step_size_schedule`.
        seed: Of initialisation, order and augmentation, instead of the protocol's.
    """

    images: torch.Tensor
    labels: torch.Tensor
    step_sizes: Sequence[float]
    seed: int


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
        step_sizes: S step sizes, see :meth:`gz_lightning.training.protocol.Protocol.step_size_schedule`.
        protocol: How to train.
        syn_steps: Least number of epochs at each of several step sizes.

    Returns:
        The network, in evaluation mode, on the device of the images. The same arguments give the same network.
    """
    return train_networks([Training(images, labels, step_sizes, protocol.seed)], network, protocol, syn_steps)[0]


def train_networks(
    trainings: Sequence[Training],
    network: Mapping[str, Any],
    protocol: Protocol,
    syn_steps: int = 0,
    tick: Callable[[float], Any] = lambda share: None,
) -> list[nn.Module]:
    """Fresh networks, trained at once by an :class:`gz_lightning.networks.ensemble.Ensemble`.

    Args:
        trainings: Images, labels, step sizes and seed of each of the n networks, all on one device. Those with sets of the
            same shapes can share a stack.
        network: Description of the network.
        protocol: How to train.
        syn_steps: Least number of epochs at each of several step sizes.
        tick: Called while they are trained, with how much was done since the last call, in networks; adds up to n.

    Returns:
        The networks in the order of the trainings, in evaluation mode. Each is the one it would be alone, up to rounding.

    Raises:
        InputError: If the network cannot be built, or keeps running statistics.
    """
    if not trainings:
        return []
    lock = threading.Lock()
    # Gradient mode is the caller's affair, and tensors of inference mode cannot be trained.
    with torch.inference_mode(False), torch.enable_grad():
        ensemble = Ensemble(network, trainings[0].images.device)
        # Drawn here, for the global random state that initialisations are drawn from has no place in threads.
        rows = list(ensemble.initial([derived_seed(one.seed, "initialisation") for one in trainings]))

        def work(places: list[int]) -> Iterator[None]:
            theta = torch.stack([rows[place] for place in places]).to(trainings[places[0]].images.dtype)
            epochs = len(protocol.step_size_schedule(trainings[places[0]].step_sizes, syn_steps))
            for _ in _epochs(ensemble, theta, [trainings[place] for place in places], protocol, syn_steps):
                with lock:
                    tick(len(places) / epochs)
                yield
            with lock:
                for place, row in zip(places, theta, strict=True):
                    rows[place] = row

        ensemble.run([work(places) for places in _stacks(ensemble, trainings, protocol)])
        return [ensemble.module(row) for row in rows]


def accuracies(
    images: torch.Tensor,
    labels: torch.Tensor,
    network: Mapping[str, Any],
    step_sizes: Sequence[float],
    protocol: Protocol,
    data: Galaxies,
    splits: Sequence[str],
    num_eval: int,
    syn_steps: int = 0,
    tick: Callable[[float], Any] = lambda share: None,
) -> dict[str, list[float]]:
    """Accuracies of ``num_eval`` fresh networks trained on a set.

    Grad mode and the global random state are left alone.

    Args:
        images: Standardised pixels, shape (M, 3, H, W), on the device to train on.
        labels: Leaves, int64, shape (M,), or soft labels, shape (M, K).
        network: Description of the network.
        step_sizes: S step sizes.
        protocol: How to train; the seed of network i is derived from ``protocol.seed`` and i.
        data: Galaxies to score on.
        splits: Splits to score on: ``train``, ``val``, ``test``.
        num_eval: Number of networks. 5 in the published protocol.
        syn_steps: See :func:`train_networks`.
        tick: See :func:`train_networks`.

    Returns:
        For each split ``num_eval`` accuracies in [0, 1].
    """
    with torch.inference_mode(False):
        images = images.detach().clone()
    seeds = [derived_seed(protocol.seed, "network", i) for i in range(num_eval)]
    trainings = [Training(images, labels, step_sizes, seed) for seed in seeds]
    models = train_networks(trainings, network, protocol, syn_steps, tick)
    scores: dict[str, list[float]] = {}
    for split in splits:
        galaxies: Split = getattr(data, split)
        hits = [predictions(model, galaxies, data, images.device) == galaxies.labels for model in models]
        scores[split] = [float(hit.float().mean()) for hit in hits]
    return scores


@torch.no_grad()
def logits(model: nn.Module, galaxies: Split, data: Galaxies, device: torch.device) -> torch.Tensor:
    """Logits of the galaxies of one split, shape (N, K), on the CPU."""
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    batches = (data.standardise(images.to(device)).to(dtype) for images in galaxies.images.split(SCORE_BATCH))
    return torch.cat([model(batch).cpu() for batch in batches])


def predictions(model: nn.Module, galaxies: Split, data: Galaxies, device: torch.device) -> torch.Tensor:
    """Most likely leaves of the galaxies of one split, int64, shape (N,), on the CPU."""
    return logits(model, galaxies, data, device).argmax(1)


def _stacks(ensemble: Ensemble, trainings: Sequence[Training], protocol: Protocol) -> list[list[int]]:
    """Places of the trainings that go into one stack: with sets of the same shapes, and not too many."""
    alike: dict[tuple[Any, ...], list[int]] = {}
    for place, one in enumerate(trainings):
        shapes = (one.images.shape, one.images.dtype, one.labels.shape, one.labels.dtype, len(one.step_sizes))
        alike.setdefault(shapes, []).append(place)
    stacks = []
    for places in alike.values():
        images = trainings[places[0]].images
        number = min(len(images) * protocol.symmetries, protocol.batch_size)
        stacks += ensemble.stacks(places, (number, *images.shape[1:]), images.element_size())
    return stacks


def _epochs(
    ensemble: Ensemble, theta: torch.Tensor, trainings: Sequence[Training], protocol: Protocol, syn_steps: int
) -> Iterator[None]:
    """Train theta, shape (n, P), in place; yields after every epoch."""
    sets = [(one.images.detach(), one.labels.detach().to(one.images.device)) for one in trainings]
    if protocol.symmetries == 8:
        sets = [symmetric_copies(*one) for one in sets]
    draws = [generator(one.seed, "training") for one in trainings]
    schedules = [protocol.step_size_schedule(one.step_sizes, syn_steps) for one in trainings]
    velocity = torch.zeros_like(theta)
    for alpha in torch.tensor(schedules, dtype=theta.dtype, device=theta.device).T[..., None]:
        orders = [torch.randperm(len(sets[0][0]), generator=draw) for draw in draws]
        orders = [to_device(order, theta.device) for order in orders]
        for rows in zip(*(order.split(protocol.batch_size) for order in orders), strict=True):
            images = torch.stack([x[row] for (x, _), row in zip(sets, rows, strict=True)])
            labels = torch.stack([y[row] for (_, y), row in zip(sets, rows, strict=True)])
            images = augment_each(images, protocol.augmentation, draws)
            gradients = ensemble.losses_logits_gradients(theta, images, labels)[2]
            # SGD as torch.optim.SGD has it, with a step size for each network.
            velocity.mul_(protocol.momentum).add_(gradients.add_(theta, alpha=protocol.weight_decay))
            theta.sub_(alpha * velocity)
        yield
