"""Many fresh networks trained at once.

On a GPU a small network leaves most of the device idle, so all are trained as one stack (``torch.func.vmap``). On a CPU
such a stack of any but the tiniest networks is slower than a loop, for convolutions of different networks become one grouped
convolution, which has no fast path there (``benchmarks/evaluation.py``); there each core has a thread with a network, and
a ConvNet its gradient written out: of small ones that of several at once
(:mod:`gz_lightning.networks.convnet_stack`).

Shapes: n networks, M images to train on, S step sizes.
"""

from __future__ import annotations

import collections
import copy
import itertools
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

from gz_lightning.augmentation import augment_each
from gz_lightning.data.galaxies import Galaxies, Split
from gz_lightning.errors import InputError
from gz_lightning.networks.convnet import ConvNet
from gz_lightning.networks.convnet_derivatives import ConvNetDerivatives
from gz_lightning.networks.convnet_stack import stacked_gradient
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.randomness import derived_seed, generator
from gz_lightning.training.protocol import Protocol, epochs_of_training, fresh_network, predictions, symmetric_copies

WAYS = ("auto", "loop", "threads", "vmap")
PIXELS_AT_ONCE = 2**24
"""Pixels in one step of a stack at most (1,024 images of 128 px), and so its memory."""
NETWORKS_AT_ONCE = 64
STACKED_AT_ONCE, MAP_OF_STACK = 8, 2**21
"""ConvNets of a stack on a CPU at most, and bytes of one activation of their first blocks: a stack pays for networks whose
operators cost as much as their arithmetic (ten images of 32 px at width 32), and its maps stay in the caches. The number of
threads plays no part, so that the same networks come out whatever it is."""
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
    """Fresh networks, each trained as :func:`gz_lightning.training.protocol.train_network` trains it.

    Args:
        trainings: What each of the n networks is trained on, with which step sizes and seed.
        network: Description of the network.
        protocol: How to train.
        syn_steps: Least number of epochs at each of several step sizes.
        way: ``loop`` (one after the other), ``threads`` (as many at a time as torch has threads, small ones in stacks),
            ``vmap`` (all as one stack; sets of unlike sizes in stacks of their own) or ``auto``: vmap on a GPU, threads on a
            CPU.
        tick: Called once for each network that is trained.

    Returns:
        The networks in the order of the trainings, in evaluation mode. All ways give the same, up to rounding.

    Raises:
        InputError: If there is no such way.
    """
    if way not in WAYS:
        raise InputError(f"networks are trained by {', '.join(WAYS)}, not '{way}'")
    if way == "auto":
        way = "vmap" if trainings and trainings[0].images.is_cuda else "threads"
    with torch.inference_mode(False), torch.enable_grad():
        # Made here, for the global random state that initialisations are drawn from has no place in threads.
        models = [fresh_network(network, training.seed) for training in trainings]
        threads = torch.get_num_threads() if way == "threads" else 1
        works = []
        for places in _stacks(trainings, protocol, models, way):
            own = [models[i] for i in places], [trainings[i] for i in places]
            if way == "vmap" or len(places) > 1:
                epochs = _epochs_of_stack(*own, protocol, syn_steps, way == "threads")
            else:
                (model,), (one,) = own
                written = way == "threads" and not one.images.is_cuda
                given = (one.images, one.labels, one.step_sizes, replace(protocol, seed=one.seed), syn_steps, written)
                epochs = epochs_of_training(model, *given)
            works.append((epochs, len(places)))
        _run(works, threads, max(1, protocol.epochs // SLICES), tick)
        return [model.eval() for model in models]


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
        galaxies: Split = getattr(data, split)
        hits = [predictions(model, galaxies, data, images.device) == galaxies.labels for model in models]
        scores[split] = [float(hit.float().mean()) for hit in hits]
    return scores


def _run(works: Sequence[tuple[Iterator[None], int]], threads: int, at_a_time: int, tick: Callable[[], Any]) -> None:
    """Run works to their ends, one in each thread; with those that come out uneven at the end the threads take turns.

    (With all of them it would hold the optimizers and augmented sets of all at once.) ``tick`` is called for each network
    of a work that has ended.
    """
    threads = min(threads, len(works))
    if threads < 2:
        for work, networks in works:
            collections.deque(work, maxlen=0)
            for _ in range(networks):
                tick()
        return
    whole = (len(works) // threads - 1) * threads if len(works) % threads else len(works)
    waiting, lock, stopped = collections.deque(enumerate(works)), threading.Lock(), threading.Event()

    def take_turns() -> None:
        while not stopped.is_set():
            try:
                place, (work, networks) = waiting.popleft()
            except IndexError:  # what is left is in the hands of the other threads
                return
            turn = itertools.islice(work, None if place < whole else at_a_time)
            if sum(1 for _ in turn) == at_a_time and place >= whole:
                waiting.append((place, (work, networks)))
                continue
            with lock:
                for _ in range(networks):
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


def _stacks(trainings: Sequence[Training], protocol: Protocol, models: Sequence[nn.Module], way: str) -> list[list[int]]:
    """Places of trainings that go into one stack: of sets of one shape, and not too many."""
    if way == "loop" or not trainings or (way == "threads" and not _is_written(models[0], trainings[0])):
        return [[place] for place in range(len(trainings))]
    alike: dict[tuple[Any, ...], list[int]] = {}
    for i, one in enumerate(trainings):
        alike.setdefault((one.images.shape, one.labels.shape, one.labels.dtype, len(one.step_sizes)), []).append(i)
    stacks = []
    for places in alike.values():
        images = trainings[places[0]].images
        pixels = min(len(images) * protocol.symmetries, protocol.batch_size) * images.shape[-1] * images.shape[-2]
        if way == "vmap":
            size = max(1, min(NETWORKS_AT_ONCE, PIXELS_AT_ONCE // pixels))
        else:
            own = pixels * next(models[places[0]].parameters()).shape[0] * images.element_size()
            size = max(1, min(STACKED_AT_ONCE, MAP_OF_STACK // own))
        number = math.ceil(len(places) / size)
        stacks += [places[i * len(places) // number : (i + 1) * len(places) // number] for i in range(number)]
    return stacks


def _is_written(model: nn.Module, one: Training) -> bool:
    return type(model) is ConvNet and not one.images.is_cuda


def _epochs_of_stack(
    models: Sequence[nn.Module], trainings: Sequence[Training], protocol: Protocol, syn_steps: int, written: bool
) -> Iterator[None]:
    """Train networks as one stack, pausing after every epoch; they have their parameters when all are through.

    ``written``: they are ConvNets, and their gradient is the one that is written out; else it comes from vmap.
    """
    sets = [(one.images, one.labels) for one in trainings]
    if protocol.symmetries == 8:
        sets = [symmetric_copies(*one) for one in sets]
    images = sets[0][0]
    for model in models:
        model.to(images.device, images.dtype)
    gradients, parameters = _gradients(models, written)
    velocity = {name: torch.zeros_like(value) for name, value in parameters.items()}
    draws = [generator(one.seed, "training") for one in trainings]
    schedules = [protocol.step_size_schedule(one.step_sizes, syn_steps) for one in trainings]
    for alpha in torch.tensor(schedules, dtype=images.dtype, device=images.device).T:
        orders = [torch.randperm(len(images), generator=own).to(images.device).split(protocol.batch_size) for own in draws]
        for rows in zip(*orders, strict=True):
            batch = torch.stack([x[r] for (x, _), r in zip(sets, rows, strict=True)])
            batch = augment_each(batch, protocol.augmentation, draws)
            labels = torch.stack([y.to(images.device)[r] for (_, y), r in zip(sets, rows, strict=True)])
            found = gradients(parameters, batch, labels)
            for name, value in parameters.items():
                # SGD with momentum and weight decay, as torch.optim.SGD, with a step size for each network.
                own = velocity[name].mul_(protocol.momentum).add_(found[name]).add_(value, alpha=protocol.weight_decay)
                value.sub_(alpha.view(-1, *[1] * (value.ndim - 1)) * own)
        yield
    with torch.no_grad():
        for i, model in enumerate(models):
            if THETA in parameters:
                nn.utils.vector_to_parameters(parameters[THETA][i].clone(), model.parameters())
                continue
            for name, value in model.named_parameters():
                value.copy_(parameters[name][i])


Stacked = dict[str, torch.Tensor]
"""Parameters of n networks by name, each of shape (n, ...); or all of them as :data:`THETA`, shape (n, P)."""
THETA = "theta"


def _gradients(
    models: Sequence[nn.Module], written: bool
) -> tuple[Callable[[Stacked, torch.Tensor, torch.Tensor], Stacked], Stacked]:
    """The gradient of each network of a stack, and the parameters that it is a function of."""
    if written:
        derivatives = FunctionalNetwork(models[0]).derivatives
        assert isinstance(derivatives, ConvNetDerivatives)
        thetas = torch.stack([FunctionalNetwork.parameters_of(model) for model in models])
        return lambda own, batch, labels: {THETA: stacked_gradient(derivatives, own[THETA], batch, labels)}, {THETA: thetas}
    structure = copy.deepcopy(models[0]).to("meta")
    stacked, buffers = stack_module_state(list(models))
    if buffers:
        raise InputError(f"{type(models[0]).__name__} has running statistics; networks of a stack may have none")

    def loss(own: Stacked, batch: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(functional_call(structure, own, (batch,)), labels)

    gradients = vmap(grad(loss), randomness="different")  # where a network has dropout
    return gradients, {name: value.detach() for name, value in stacked.items()}
