"""Networks by name.

A network is described by a plain dictionary: ``name`` and the arguments of its class. Trajectories and distilled sets
carry it, so that the network can be built again from the file alone.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from gz_lightning.errors import InputError
from gz_lightning.networks.architectures import VGG11, AlexNet, ResNet18
from gz_lightning.networks.convnet import ConvNet
from gz_lightning.settings import check_settings

NETWORKS: dict[str, type[nn.Module]] = {"ConvNet": ConvNet, "AlexNet": AlexNet, "VGG11": VGG11, "ResNet18": ResNet18}
"""The package's networks by name.

A network is a ``torch.nn.Module`` whose constructor takes ``num_classes`` and ``resolution`` by keyword (others need a
default) and refuses what it cannot be built from with an ``InputError``. It maps images (N, 3, H, W) to logits (N, K), draws
its initial parameters from torch's global generator, and has no buffers: an unroll needs a function of the parameters alone.
"""


def build_network(description: Mapping[str, Any], seed: int | None = None, parameters: int | None = None) -> nn.Module:
    """A fresh network.

    A description may come out of a file, so nothing is imported for it: the module of a class outside the package must be
    loaded already, as it is after :func:`allow_network`.

    Args:
        description: ``name`` (a key of ``NETWORKS``, or the path of a class such as ``mypackage.networks.Mine``) and the
            arguments of that class.
        seed: Draws the initial parameters; the global random state is left as it was. None draws from that state.
        parameters: How many it must have, P. For the package's networks they are counted before any memory is allocated.

    Raises:
        InputError: If there is no such network, it does not take these arguments, or has another number of parameters.

    Example:
        >>> network = build_network({"name": "ConvNet", "num_classes": 5, "resolution": 32, "width": 8}, seed=0)
        >>> network(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 5])
    """
    arguments = dict(description)
    name = arguments.pop("name", None)
    network = _network_class(name)
    errors: tuple[type[Exception], ...] = (Exception,)  # the user's class may raise anything
    if name in NETWORKS:
        _check_arguments(name, arguments)
        with torch.device("meta"):  # without memory, and without a wall: what goes wrong here is our bug
            rehearsed = network(**arguments)
        if parameters is not None:
            _check_number(name, rehearsed, parameters)
        errors = (RuntimeError, MemoryError)  # all that is left: torch cannot allocate so many parameters
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        try:
            module = network(**arguments)
        except InputError:
            raise
        except errors as error:
            raise InputError(f"{name} cannot be built: {' '.join(str(error).split())}") from error
    if parameters is not None:
        _check_number(name, module, parameters)
    return module


def _check_arguments(name: str, arguments: Mapping[str, Any]) -> None:
    """Check a description against the signature of one of the package's networks.

    Raises:
        InputError: If an argument is unknown, missing, or not of its type and range.
    """
    try:
        inspect.signature(NETWORKS[name]).bind(**arguments)
    except TypeError as error:
        raise InputError(f"{name} cannot be built: {error}") from error
    check_settings(NETWORKS[name].__init__, arguments, f"{name}: ")


def _check_number(name: str, network: nn.Module, expected: int) -> None:
    number = sum(parameter.numel() for parameter in network.parameters())
    if number != expected:
        raise InputError(f"a {name} of this description has {number:,} parameters, but there are {expected:,}")


@torch.no_grad()
def check_network(network: nn.Module, num_classes: int, image_shape: tuple[int, int, int]) -> None:
    """Check on a black image that a network takes images of this shape and gives this number of logits.

    Args:
        network: The network.
        num_classes: K.
        image_shape: (3, H, W).

    Raises:
        InputError: If it does not.
    """
    name, like = type(network).__name__, next(network.parameters(), torch.empty(0))
    try:
        shape = tuple(network(torch.zeros(1, *image_shape, dtype=like.dtype, device=like.device)).shape)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise InputError(f"{name} does not take images of {image_shape[-1]} px: {' '.join(str(error).split())}") from error
    if shape != (1, num_classes):
        raise InputError(f"{name} gives {shape[-1] if len(shape) > 1 else 'no'} logits, but there are {num_classes} leaves")


def allow_network(name: str) -> str:
    """Import the module of a network class that the user has named.

    Args:
        name: The path of a class; for the package's networks nothing is imported.

    Returns:
        The name.

    Raises:
        InputError: If the module cannot be imported.
    """
    module = name.rpartition(".")[0]
    if module:
        try:
            importlib.import_module(module)
        except (ImportError, ValueError) as error:
            raise InputError(f"there is no network '{name}': {error}") from error
    return name


def _network_class(name: Any) -> Callable[..., nn.Module]:
    if isinstance(name, str) and name in NETWORKS:
        return NETWORKS[name]
    module, _, attribute = str(name).rpartition(".")
    if not module:
        raise InputError(
            f"there is no network '{name!s:.60}'; the networks are {', '.join(NETWORKS)}, or name a class by its path "
            "(package.module.Class)"
        )
    if module not in sys.modules:
        raise InputError(
            f"the network '{name!s:.60}' is a class of your own, and a file alone may not have its module imported: name it "
            "yourself (--model.network or --network), or import the module first"
        )
    network = getattr(sys.modules[module], attribute, None)
    if network is None:
        raise InputError(f"there is no network '{name}': module '{module}' has no attribute '{attribute}'")
    # Nothing but a network class: descriptions come in files, and a file may not have any other function called.
    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        raise InputError(f"there is no network '{name}': it is not a subclass of torch.nn.Module")
    return network


def describe_network(name: str, num_classes: int, resolution: int) -> dict[str, Any]:
    """The description of a network named in one word.

    Args:
        name: ``ConvNet`` with depth and width as the literature writes them, such as ``ConvNetD4``, ``ConvNetW256`` or
            ``ConvNetD2W64`` (without: depth 3, width 128); ``AlexNet``, ``VGG11``, ``ResNet18``; or the path of a class
            that takes ``num_classes`` and ``resolution``.
        num_classes: K.
        resolution: H = W in pixels.

    Raises:
        InputError: If it is the path of a class whose module cannot be imported.

    Example:
        >>> describe_network("ConvNetD4W64", 5, 32)
        {'name': 'ConvNet', 'num_classes': 5, 'resolution': 32, 'depth': 4, 'width': 64}
    """
    convnet = re.fullmatch(r"ConvNet(?=.)(?:D(\d+))?(?:W(\d+))?", name)
    sizes = zip(("depth", "width"), convnet.groups(), strict=True) if convnet else ()
    return {
        "name": "ConvNet" if convnet else allow_network(name),
        "num_classes": num_classes,
        "resolution": resolution,
        **{size: int(number) for size, number in sizes if number is not None},
    }
