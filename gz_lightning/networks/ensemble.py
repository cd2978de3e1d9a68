"""An ensemble: n small networks of one structure, trained at once. Their parameters are one tensor theta (n, P).

One small network leaves most of a device idle. On a GPU the networks run as stacks (``torch.func.vmap``). On a CPU the
convolutions of a stack would become grouped convolutions, which have no fast path there: each core gets a thread instead,
with one intra-op thread. There a ConvNet has its gradient written out, and ConvNets so small that an operator costs as much
as its arithmetic run several at a time (:mod:`gz_lightning.networks.convnet_stack`); any other network, and every network
under autocast, has the gradient of autograd.

Rounding: all these ways give the same up to rounding (1e-12 relative in float64). Which networks share a stack depends on
the shapes and n alone, and each network of a stack is computed on one core, so the number of threads changes no bit unless
there is a single stack: that one runs in the calling thread with all of its intra-op threads.

Shapes: n networks, M images of each, C channels, H x W pixels, K classes, P parameters.
"""

from __future__ import annotations

import collections
import copy
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import grad_and_value, vmap

from gz_lightning.networks.convnet_derivatives import ConvNetDerivatives
from gz_lightning.networks.convnet_stack import stacked_logits_and_gradient
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.networks.registry import build_network
from gz_lightning.shapes import Float, Shaped, Tensor

T = TypeVar("T")
NETWORKS_AT_ONCE, PIXELS_AT_ONCE = 64, 2**24
"""Networks of a stack on a GPU at most, and pixels in one of its steps (1,024 images of 128 px), which bound its memory."""
STACKED_AT_ONCE, MAP_OF_STACK = 8, 2**21
"""ConvNets of a stack on a CPU at most, and bytes of one activation of their first blocks, so that maps stay in the caches.
A stack pays where operators cost as much as their arithmetic (ten images of 32 px at width 32)."""


class Ensemble:
    """Networks of one structure as functions of theta, a row of parameters for each.

    The result would be wrong for a network that is no function of its parameters and images alone, such as one with running
    statistics: it is refused. Dropout is drawn anew at every step, on a CPU from the global generator in whichever order the
    threads come to it.

    Args:
        description: Description of the network, see :func:`gz_lightning.networks.registry.build_network`.
        device: Where theta and the images are.

    Raises:
        InputError: If there is no such network, or it has buffers such as running statistics.

    Example:
        >>> ensemble = Ensemble({"name": "ConvNet", "num_classes": 5, "resolution": 32, "width": 8})
        >>> theta = ensemble.initial([0, 1])
        >>> ensemble.logits(theta, torch.zeros(7, 3, 32, 32)).shape
        torch.Size([2, 7, 5])
        >>> images, labels = torch.zeros(2, 7, 3, 32, 32), torch.zeros(2, 7, dtype=torch.int64)
        >>> losses, logits, gradients = ensemble.losses_logits_gradients(theta, images, labels)
        >>> gradients.shape == theta.shape
        True
    """

    def __init__(self, description: Mapping[str, Any], device: torch.device | str = "cpu") -> None:
        self.description = dict(description)
        self.device = torch.device(device)
        self.network = FunctionalNetwork(build_network(description, seed=0))
        derivatives = self.network.derivatives
        self.derivatives = derivatives if isinstance(derivatives, ConvNetDerivatives) else None
        """The written-out gradient, where there is one."""
        self._stacks_by_vmap = self.device.type == "cuda"
        self._pool: tuple[int, ThreadPoolExecutor] | None = None
        self._local = threading.local()

    def initial(self, seeds: Sequence[int]) -> Float[Tensor, "n P"]:
        """Theta at the initialisation of each seed. The global random state is left as it was."""
        networks = [build_network(self.description, seed=seed) for seed in seeds]
        return torch.stack([FunctionalNetwork.parameters_of(network) for network in networks]).to(self.device)

    def module(self, theta: Float[Tensor, " P"]) -> nn.Module:
        """The network with one row of theta, in evaluation mode; the row is copied."""
        module = copy.deepcopy(self.network.module).to_empty(device=theta.device).to(theta.dtype)
        nn.utils.vector_to_parameters(theta.detach().clone(), module.parameters())
        return module.eval()

    @torch.no_grad()
    def logits(
        self, theta: Float[Tensor, "n P"], images: Float[Tensor, "n M C H W"] | Float[Tensor, "M C H W"]
    ) -> Float[Tensor, "n M K"]:
        """Logits of each network in evaluation mode, without a graph.

        Args:
            theta: Shape (n, P).
            images: A batch for each network, shape (n, M, C, H, W), or one for all, shape (M, C, H, W).
        """
        shared = images.ndim == 4
        if self._stacks_by_vmap and len(theta) > 1:
            parts = _parts(len(theta), self.stack_size(images.shape[-4:]))
            forward = vmap(self._functional(training=False), in_dims=(0, None if shared else 0))
            return torch.cat([forward(theta[part], images if shared else images[part]) for part in parts])
        rows = self.map(lambda i: self._functional(training=False)(theta[i], images if shared else images[i]), len(theta))
        return torch.stack(rows)

    def losses_logits_gradients(
        self,
        theta: Float[Tensor, "n P"],
        images: Float[Tensor, "n M C H W"],
        labels: Shaped[Tensor, "n M"] | Float[Tensor, "n M K"],
        class_weights: Float[Tensor, " K"] | None = None,
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n M K"], Float[Tensor, "n P"]]:
        """Loss of each network on its batch, as ``CrossEntropyLoss(weight=class_weights)`` has it, and its gradient.

        Args:
            theta: Shape (n, P).
            images: Shape (n, M, C, H, W).
            labels: int64, shape (n, M), or soft labels, shape (n, M, K), which need not sum to 1.
            class_weights: Shape (K,). With int labels the mean is over the weights of the images.

        Returns:
            Losses, shape (n,); logits, shape (n, M, K); gradients of the losses, shape (n, P). None has a graph.
        """
        theta = theta.detach()
        if class_weights is not None:
            class_weights = class_weights.to(theta.dtype)
        parts = _parts(len(theta), self.stack_size(images.shape[1:], images.element_size()))

        def step(i: int) -> tuple[Tensor, Tensor, Tensor]:
            return self._step(theta[parts[i]], images[parts[i]], labels[parts[i]], class_weights)

        losses, logits, gradients = zip(*self.map(step, len(parts)), strict=True)
        return _joined(losses), _joined(logits), _joined(gradients)

    def stack_size(self, batch: Sequence[int], itemsize: int = 4) -> int:
        """How many networks go into one stack.

        Args:
            batch: (M, C, H, W), the shape of each network's batch.
            itemsize: Bytes of a number.
        """
        pixels = batch[0] * batch[2] * batch[3]
        if self._stacks_by_vmap:
            return max(1, min(NETWORKS_AT_ONCE, PIXELS_AT_ONCE // pixels))
        if self.derivatives is None:
            return 1
        return max(1, min(STACKED_AT_ONCE, MAP_OF_STACK // (pixels * self.derivatives.shapes[0][0] * itemsize)))

    def stacks(self, places: Sequence[int], batch: Sequence[int], itemsize: int = 4) -> list[list[int]]:
        """Places of networks, of which each has such a batch, stack by stack. Arguments as of :meth:`stack_size`."""
        return [list(places[part]) for part in _parts(len(places), self.stack_size(batch, itemsize))]

    def map(self, work: Callable[[int], T], number: int) -> list[T]:
        """``[work(i) for i in range(number)]``, on a CPU in threads with one intra-op thread each.

        Grad mode is the caller's. A single work runs in the calling thread, and so do all of them under autocast, which is a
        matter of the thread that asked for it.
        """
        threads = min(torch.get_num_threads(), number)
        if threads < 2 or self.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return [work(i) for i in range(number)]
        grad = torch.is_grad_enabled()

        def run(i: int) -> T:
            with torch.set_grad_enabled(grad):
                return work(i)

        return list(self._threads().map(run, range(number)))

    def run(self, works: Sequence[Iterator[Any]]) -> None:
        """Run iterators to their ends, on a CPU in threads.

        Each thread runs one to its end and takes the next. With the last ones, where their number does not come out even,
        the threads take turns: five networks keep two cores busy to the end. (Were that done with all of them, the state of
        all would be in memory at once.)
        """
        threads = min(torch.get_num_threads(), len(works)) if self.device.type == "cpu" else 1
        even = (len(works) // threads - 1) * threads if threads and len(works) % threads else len(works)
        waiting, stopped = collections.deque(enumerate(works)), threading.Event()

        def take(_: int) -> None:
            while not stopped.is_set():
                try:
                    place, work = waiting.popleft()
                except IndexError:  # the other threads have the rest in hand
                    return
                for _ in work:
                    if stopped.is_set():
                        return
                    if place >= even:
                        waiting.append((place, work))
                        break

        def take_or_stop(i: int) -> None:
            try:
                take(i)
            except BaseException:
                stopped.set()
                raise

        try:
            self.map(take_or_stop, threads)
        finally:
            stopped.set()

    def _threads(self) -> ThreadPoolExecutor:
        """The threads. They are kept, for a new thread starts with cold caches."""
        number = torch.get_num_threads()
        if self._pool is None or self._pool[0] != number:
            barrier = threading.Barrier(number)
            pool = ThreadPoolExecutor(number, initializer=_use_one_core)
            list(pool.map(lambda _: barrier.wait(), range(number)))  # all have started
            torch.set_num_threads(number)  # what later threads of others take theirs from
            self._pool = number, pool
        return self._pool[1]

    def _functional(self, training: bool) -> FunctionalNetwork:
        """The network for this thread alone: a functional call puts its parameters into the module for a moment."""
        network: FunctionalNetwork | None = getattr(self._local, "network", None)
        if network is None:
            network = self._local.network = copy.copy(self.network)
            network.module = copy.deepcopy(self.network.module)
        if network.module.training != training:
            network.module.train(training)
        return network

    def _step(
        self, theta: Tensor, images: Tensor, labels: Tensor, class_weights: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See :meth:`losses_logits_gradients`: of one stack, in the calling thread."""
        if self.derivatives is not None and not self._stacks_by_vmap and not torch.is_autocast_enabled("cpu"):
            shares = _shares(labels, self.derivatives.sizes[-1], class_weights).to(images.dtype)
            if len(theta) > 1:
                logits, gradients = stacked_logits_and_gradient(self.derivatives, theta, images, shares)
            else:
                of_one = self.derivatives.logits_and_gradient(theta[0], images[0], shares[0])
                logits, gradients = of_one[0][None], of_one[1][None]
            return -(shares * logits.log_softmax(2)).sum((1, 2)) / shares.shape[1], logits, gradients

        network = self._functional(training=True)

        def loss(theta: Tensor, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            logits = network(theta, images)
            return F.cross_entropy(logits, labels, weight=class_weights), logits

        step = grad_and_value(loss, has_aux=True)
        if self._stacks_by_vmap and len(theta) > 1:
            gradients, (losses, logits) = vmap(step, randomness="different")(theta, images, labels)
            return losses, logits, gradients
        results = [step(*row) for row in zip(theta, images, labels, strict=True)]
        return (
            torch.stack([value[0] for _, value in results]),
            torch.stack([value[1] for _, value in results]),
            torch.stack([gradient for gradient, _ in results]),
        )


def _use_one_core() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # the first call in a thread reads the number that is set for all; from then on it stays


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Parts one after the other; a single one is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _parts(number: int, size: int) -> list[slice]:
    """As few parts of at most ``size`` as there can be, of nearly the same length."""
    parts = math.ceil(number / size)
    return [slice(i * number // parts, (i + 1) * number // parts) for i in range(parts)]


def _shares(labels: Tensor, classes: int, class_weights: Tensor | None) -> Tensor:
    """Soft labels, shape (n, M, K), whose plain mean cross entropy is the one with class weights."""
    if labels.is_floating_point():
        return labels if class_weights is None else labels * class_weights
    shares = F.one_hot(labels, classes)
    if class_weights is None:
        return shares
    weights = class_weights[labels]
    return shares * (weights * labels.shape[1] / weights.sum(1, keepdim=True))[..., None]
