"""Several networks of one structure as one module, each with parameters of its own.

On a GPU one small network leaves most of the device idle; ``torch.func.vmap`` over stacked parameters fills it. On a CPU the
convolutions of different networks would become one grouped convolution, which has no fast path there; each network has a
thread and a core of its own instead.

Shapes: n networks, N images, K classes, P parameters.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import nn
from torch.func import functional_call, vmap

from gz_lightning.errors import InputError
from gz_lightning.networks.convnet import ConvNet
from gz_lightning.networks.convnet_derivatives import ConvNetDerivatives
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.networks.registry import build_network
from gz_lightning.training.fresh import NETWORKS_AT_ONCE, PIXELS_AT_ONCE

T = TypeVar("T")
WAYS = ("vmap", "threads")
MAPS_PER_BLOCK = 8
"""Full-size maps of the first block that a training step holds at most, deeper blocks included: what the norm, ReLU and
pooling keep for their derivatives, and the gradients on their way back."""


class Stack(nn.Module):
    """``number`` networks of one structure.

    A stack of one is the network itself, called as it is. In the way of ``vmap`` each parameter has a first axis of length
    n; in that of ``threads`` there are n modules. An optimizer that works element by element (SGD) does for each network
    what it would do for that network alone, either way.

    Args:
        description: Description of the network, see :func:`gz_lightning.networks.registry.build_network`.
        number: n, at least 1.
        way: ``vmap`` or ``threads``.

    Raises:
        InputError: If there is no such network or way or, for ``vmap``, it keeps running statistics.

    Example:
        >>> stack = Stack({"name": "ConvNet", "num_classes": 5, "resolution": 32, "width": 8}, 2)
        >>> stack(torch.zeros(2, 7, 3, 32, 32)).shape
        torch.Size([2, 7, 5])
    """

    def __init__(self, description: Mapping[str, Any], number: int, way: str = "vmap") -> None:
        super().__init__()
        if way not in WAYS:
            raise InputError(f"networks are trained together by {' or '.join(WAYS)}, not '{way}'")
        self.description, self.number = dict(description), number
        self.stacked: nn.ParameterList | None = None
        self._threads: ThreadPoolExecutor | None = None
        self.derivatives: ConvNetDerivatives | None = None
        """What the loss of each network can be differentiated with, on a CPU."""
        if number > 1 and way == "vmap":
            network = build_network(description)
            FunctionalNetwork(network)  # refuses running statistics
            self.names = [name for name, _ in network.named_parameters()]
            self.stacked = nn.ParameterList(p.detach().expand(number, *p.shape).clone() for p in network.parameters())
            self._structure = (copy.deepcopy(network).to("meta"),)  # in a tuple: it is no submodule
            return
        self.networks = nn.ModuleList(build_network(description) for _ in range(number))
        if type(self.networks[0]) is ConvNet:  # of any other network there is nothing written out
            derivatives = FunctionalNetwork(self.networks[0]).derivatives
            assert isinstance(derivatives, ConvNetDerivatives)
            self.derivatives = derivatives

    def apart(self, work: Callable[[list[int]], T], places: Sequence[int]) -> list[T]:
        """Do something for the networks at some places: for all at once or, in threads, for each on its own.

        Args:
            work: Is given the places; may use and differentiate these networks alone.
            places: The first m places.

        Returns:
            What ``work`` returned, once or for each place.
        """
        if self.stacked is not None or len(places) == 1:
            return [work(list(places))]
        # Autocast is a thread's own matter: under it the networks take turns.
        threads = 1 if torch.is_autocast_enabled("cpu") else min(torch.get_num_threads(), len(places))
        if threads == 1:
            return [work([place]) for place in places]
        cores, grads = torch.get_num_threads(), torch.is_grad_enabled()

        def alone(place: int) -> T:
            with torch.set_grad_enabled(grads):
                return work([place])

        if self._threads is None:  # kept: a new thread begins with cold caches
            self._threads = ThreadPoolExecutor(min(cores, self.number), initializer=torch.set_num_threads, initargs=(1,))
        try:
            return list(self._threads.map(alone, places))
        finally:
            torch.set_num_threads(cores)

    def begin(self, place: int, seed: int) -> None:
        """Give the network at ``place`` the initial parameters that ``seed`` draws."""
        fresh = build_network(self.description, seed=seed)
        if self.stacked is None:
            self.networks[place].load_state_dict(fresh.state_dict())
            return
        with torch.no_grad():
            for own, drawn in zip(self.stacked, fresh.parameters(), strict=True):
                own[place].copy_(drawn)

    def rows(self, tensors: Sequence[torch.Tensor] | None = None) -> torch.Tensor:
        """The parameters of each network as theta, or other tensors of their shapes: a copy, shape (n, P)."""
        parts = [p.detach() for p in (self.parameters() if tensors is None else tensors)]
        if self.stacked is not None:
            return torch.cat([p.reshape(self.number, -1) for p in parts], 1)
        each = len(parts) // self.number
        return torch.stack([torch.cat([p.reshape(-1) for p in parts[i : i + each]]) for i in range(0, len(parts), each)])

    def shaped(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """The inverse of :meth:`rows`: tensors of the parameters' shapes."""
        own = list(self.parameters())
        if self.stacked is not None:
            parts = list(rows.split([p.numel() // self.number for p in own], 1))
        else:
            parts = list(rows.flatten().split([p.numel() for p in own]))
        return [part.reshape(p.shape) for part, p in zip(parts, own, strict=True)]

    def forward(self, images: torch.Tensor, places: Sequence[int] | None = None) -> torch.Tensor:
        """Logits, shape (m, N, K), of the first m networks, or of those at ``places``.

        Args:
            images: A batch for each of m <= n networks, shape (m, N, C, H, W), or one for all, (N, C, H, W).
            places: m places. Default: the first; with vmap it is always these.
        """
        shared = images.ndim == 4
        first = self.number if shared else len(images)
        if self.stacked is None:
            chosen = [self.networks[place] for place in (range(first) if places is None else places)]
            logits = [network(images if shared else images[i]) for i, network in enumerate(chosen)]
            return torch.stack(logits) if len(logits) > 1 else logits[0][None]
        parameters = {name: own[:first] for name, own in zip(self.names, self.stacked, strict=True)}

        def logits_of(own: dict[str, torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
            return functional_call(self._structure[0], own, (batch,))  # type: ignore[no-any-return]

        return vmap(logits_of, in_dims=(0, None if shared else 0), randomness="different")(parameters, images)


def fitting_number(device: torch.device, batch_size: int, resolution: int, width: int) -> int:
    """How many experts to train at once.

    1 on anything but a GPU, so that experts do not depend on the number of cores. On a GPU as many as make a step of
    ``PIXELS_AT_ONCE`` pixels, which fills it, and take at most half of the memory that is free.

    Args:
        device: Where they are trained.
        batch_size: Images of each expert in a step.
        resolution: H = W in pixels.
        width: Channels of the network's first block.
    """
    if device.type != "cuda":
        return 1
    pixels = batch_size * resolution**2
    free, _ = torch.cuda.mem_get_info(device)
    by_memory = int(free / 2 / (4 * MAPS_PER_BLOCK * width * pixels))
    return max(1, min(NETWORKS_AT_ONCE, PIXELS_AT_ONCE // pixels, by_memory))
