"""Many fresh networks trained at once.

On a GPU a small network leaves most of the device idle, so all are trained as one stack (``torch.func.vmap``). On a CPU
a stack of any but the tiniest networks is slower than a loop, for convolutions of different networks become one grouped
convolution, which has no fast path there (``benchmarks/evaluation.py``); there each network has a thread of its own, and
a ConvNet its gradient written out.

Shapes: n networks, M images to train on, S step sizes.
"""

from __future__ import annotations

import collections
import copy
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

from gz_lightning.augmentation import augment
from gz_lightning.data.datamodule import Galaxies, GalaxyZoo2DataModule
from gz_lightning.errors import InputError
from gz_lightning.evaluation.protocol import Protocol, epochs_of_training, fresh_network, predictions, symmetric_copies
from gz_lightning.randomness import derived_seed, generator

WAYS = ("auto", "loop", "threads", "vmap")
PIXELS_AT_ONCE = 2**24
"""Pixels in one step of a stack at most (1,024 images of 128 px), and so its memory."""
NETWORKS_AT_ONCE = 64
SLICES = 20
"""Turns in which threads train a network, so that five networks keep two cores busy to the end."""


@dataclass(frozen=True)
class Training:
    """One network to train.

    Args:
        images: Standardised pixels, shape (M, 3, H, W), on the device to train on.
        labels: Leaves, int64, shape (M,), or soft labels, shape (M, K).
        step_sizes: S step sizes, see :meth:`Protocol.step_size_schedule`.
        seed: Takes the place of the protocol's.
    """

    images: torch.Tensor
    labels: torch.Tensor
    step_sizes: Sequence[float]
    seed: int


def train_networks(
    trainings: Sequence[Training],
    network: Mapping[str, Any],
    protocol: Protocol,
    syn_steps: int = 0,
    way: str = "auto",
    tick: Callable[[], Any] = lambda: None,
) -> list[nn.Module]:
    """Fresh networks, each trained as :func:`gz_lightning.evaluation.protocol.train_network` trains it.

    Args:
        trainings: What each of the n networks is trained on, with which step sizes and seed.
        network: Description of the network.
        protocol: How to train.
        syn_steps: Least number of epochs at each of several step sizes.
        way: ``loop`` (one after the other), ``threads`` (as many at a time as torch has threads), ``vmap`` (all as one
            stack; sets of unlike sizes in stacks of their own) or ``auto``: vmap on a GPU, threads on a CPU.
        tick: Called once for each network that is trained.

    Returns:
        The networks in the order of the trainings, in evaluation mode. All ways give the same, up to rounding.

    Raises:
        InputError: If there is no such way.
    """
    if way not in WAYS:
        raise InputError(f"networks are trained by {', '.join(WAYS)}, not '{way}'")
    protocols = [replace(protocol, seed=training.seed) for training in trainings]
    if way == "auto":
        way = "vmap" if trainings and trainings[0].images.is_cuda else "threads"
    with torch.inference_mode(False), torch.enable_grad():
        # Made here, for the global random state that initialisations are drawn from has no place in threads.
        models = [fresh_network(network, training.seed) for training in trainings]
        if way == "vmap":
            for stack in _stacks(trainings, protocol):
                _train_stack([models[i] for i in stack], [trainings[i] for i in stack], protocol, syn_steps)
                for _ in stack:
                    tick()
            return [model.eval() for model in models]

        written = way == "threads" and not any(one.images.is_cuda for one in trainings)
        epochs = [
            epochs_of_training(model, one.images, one.labels, one.step_sizes, own, syn_steps, written)
            for model, one, own in zip(models, trainings, protocols, strict=True)
        ]
        _run(epochs, torch.get_num_threads() if way == "threads" else 1, max(1, protocol.epochs // SLICES), tick)
        return [model.eval() for model in models]


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
        syn_steps: See :func:`train_networks`.

    Returns:
        For each split ``num_eval`` accuracies in [0, 1].
    """
    with torch.inference_mode(False):
        own = images.detach().clone()
    seeds = [derived_seed(protocol.seed, "network", i) for i in range(num_eval)]
    models = train_networks([Training(own, labels, step_sizes, seed) for seed in seeds], network, protocol, syn_steps)
    scores: dict[str, list[float]] = {}
    for split in splits:
        galaxies: Galaxies = getattr(data, split)
        hits = [predictions(model, galaxies, data, images.device) == galaxies.labels for model in models]
        scores[split] = [float(hit.float().mean()) for hit in hits]
    return scores


def _run(works: Sequence[Iterator[None]], threads: int, at_a_time: int, tick: Callable[[], Any]) -> None:
    """Run works to their ends, one in each thread; with those that come out uneven at the end the threads take turns.

    (With all of them it would hold the optimizers and augmented sets of all at once.)
    """
    threads = min(threads, len(works))
    if threads < 2:
        for work in works:
            collections.deque(work, maxlen=0)
            tick()
        return
    whole = (len(works) // threads - 1) * threads if len(works) % threads else len(works)
    waiting, lock, stopped = collections.deque(enumerate(works)), threading.Lock(), threading.Event()

    def take_turns() -> None:
        while not stopped.is_set():
            try:
                place, work = waiting.popleft()
            except IndexError:  # what is left is in the hands of the other threads
                return
            turn = itertools.islice(work, None if place < whole else at_a_time)
            if sum(1 for _ in turn) == at_a_time and place >= whole:
                waiting.append((place, work))
                continue
            with lock:
                tick()

    before = torch.get_num_threads()
    try:
        # One network, one core: operators of such small networks gain little from threads of their own.
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            try:
                for future in [pool.submit(take_turns) for _ in range(threads)]:
                    future.result()
            finally:
                stopped.set()
    finally:
        torch.set_num_threads(before)


def _stacks(trainings: Sequence[Training], protocol: Protocol) -> list[list[int]]:
    """Places of trainings that go into one stack: of sets of one shape, and not too many."""
    alike: dict[tuple[Any, ...], list[int]] = {}
    for i, one in enumerate(trainings):
        alike.setdefault((one.images.shape, one.labels.shape, one.labels.dtype, len(one.step_sizes)), []).append(i)
    stacks = []
    for places in alike.values():
        images = trainings[places[0]].images
        pixels = min(len(images) * protocol.symmetries, protocol.batch_size) * images.shape[-1] * images.shape[-2]
        size = max(1, min(NETWORKS_AT_ONCE, PIXELS_AT_ONCE // pixels))
        stacks += [places[start : start + size] for start in range(0, len(places), size)]
    return stacks


def _train_stack(models: Sequence[nn.Module], trainings: Sequence[Training], protocol: Protocol, syn_steps: int) -> None:
    """Train networks as one stack, and give each its parameters."""
    sets = [(one.images, one.labels) for one in trainings]
    if protocol.symmetries == 8:
        sets = [symmetric_copies(*one) for one in sets]
    images = sets[0][0]
    for model in models:
        model.to(images.device, images.dtype)
    structure = copy.deepcopy(models[0]).to("meta")
    stacked, buffers = stack_module_state(list(models))
    if buffers:
        raise InputError(f"{type(models[0]).__name__} has running statistics; networks of a stack may have none")
    parameters = {name: value.detach() for name, value in stacked.items()}
    velocity = {name: torch.zeros_like(value) for name, value in parameters.items()}

    def loss(own: dict[str, torch.Tensor], batch: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(functional_call(structure, own, (batch,)), labels)

    gradients = vmap(grad(loss), randomness="different")  # where a network has dropout
    draws = [generator(one.seed, "training") for one in trainings]
    schedules = [protocol.step_size_schedule(one.step_sizes, syn_steps) for one in trainings]
    for alphas in zip(*schedules, strict=True):
        alpha = torch.tensor(alphas, device=images.device, dtype=images.dtype)
        orders = [torch.randperm(len(images), generator=own).to(images.device).split(protocol.batch_size) for own in draws]
        for rows in zip(*orders, strict=True):
            batch = torch.stack(
                [augment(x[r], protocol.augmentation, own) for (x, _), r, own in zip(sets, rows, draws, strict=True)]
            )
            labels = torch.stack([y.to(images.device)[r] for (_, y), r in zip(sets, rows, strict=True)])
            found = gradients(parameters, batch, labels)
            for name, value in parameters.items():
                # SGD with momentum and weight decay, as torch.optim.SGD, with a step size for each network.
                own = velocity[name].mul_(protocol.momentum).add_(found[name]).add_(value, alpha=protocol.weight_decay)
                value.sub_(alpha.view(-1, *[1] * (value.ndim - 1)) * own)
    with torch.no_grad():
        for i, model in enumerate(models):
            for name, value in model.named_parameters():
                value.copy_(parameters[name][i])
