"""Networks by name.

A network is described by a plain dictionary: ``name`` and the arguments of its class. Trajectories and distilled sets
carry it, so that whoever holds one can build the network again.
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
LARGEST_SIZE = 2**14
"""Largest width, side or number of classes: the number of parameters still fits 64 bits."""


def build_network(description: Mapping[str, Any], seed: int | None = None, parameters: int | None = None) -> nn.Module:
    """A fresh network.

    A description may come out of a file, so of a class that only a description names nothing is imported: its module must
    be loaded already, as it is once :func:`allow_network` has been told of it.

    Args:
        description: ``name`` (a key of ``NETWORKS``, or the path of a class such as ``mypackage.networks.Mine``) and the
            arguments of that class.
        seed: Draws the initial parameters; the global random state is left as it was. None draws from that state.
        parameters: How many it must have, P. Of the package's own networks they are counted before any memory is asked for.

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
    errors: tuple[type[Exception], ...] = (Exception,)  # a class of the user's may raise anything
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
            made = network(**arguments)
        except InputError:
            raise
        except errors as error:
            raise InputError(f"{name} cannot be built: {' '.join(str(error).split())}") from error
    if parameters is not None:
        _check_number(name, made, parameters)
    return made


def _check_arguments(name: str, arguments: Mapping[str, Any]) -> None:
    """Check a description against the signature of one of the package's networks.

    Raises:
        InputError: If an argument is unknown, missing, of another type, or a size outside [1, ``LARGEST_SIZE``].
    """
    try:
        inspect.signature(NETWORKS[name]).bind(**arguments)
    except TypeError as error:
        raise InputError(f"{name} cannot be built: {error}") from error
    check_settings(NETWORKS[name].__init__, arguments, f"{name}: ")
    for argument, value in arguments.items():
        if not isinstance(value, str) and not 1 <= value <= LARGEST_SIZE:
            raise InputError(f"{name} cannot be built: {argument} must be positive and at most {LARGEST_SIZE}, not {value}")


def _check_number(name: str, network: nn.Module, wanted: int) -> None:
    found = sum(parameter.numel() for parameter in network.parameters())
    if found != wanted:
        raise InputError(f"a {name} as it is described has {found:,} parameters, but there are {wanted:,}")


@torch.no_grad()
def check_network(network: nn.Module, num_classes: int, image_shape: tuple[int, int, int]) -> None:
    """Check that a network takes such images and tells so many classes apart, by showing it a black one.

    Args:
        network: The network.
        num_classes: K.
        image_shape: (3, H, W).

    Raises:
        InputError: If it does not.
    """
    name, own = type(network).__name__, next(network.parameters(), torch.empty(0))
    try:
        shape = tuple(network(torch.zeros(1, *image_shape, dtype=own.dtype, device=own.device)).shape)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise InputError(f"{name} does not take images of {image_shape[-1]} px: {' '.join(str(error).split())}") from error
    if shape != (1, num_classes):
        raise InputError(f"{name} gives {shape[-1] if len(shape) > 1 else 'no'} logits, but there are {num_classes} leaves")


def allow_network(name: str) -> str:
    """Import the module of a class of networks that the user has named.

    Args:
        name: A name of the package's own networks, of which nothing is imported, or the path of a class.

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
    found = getattr(sys.modules[module], attribute, None)
    if found is None:
        raise InputError(f"there is no network '{name}': module '{module}' has no attribute '{attribute}'")
    # A class of networks and nothing else: descriptions come in files, and a file may not name any function to call.
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise InputError(f"there is no network '{name}': it is no class derived from torch.nn.Module")
    return found


def describe_network(name: str, num_classes: int, resolution: int) -> dict[str, Any]:
    """The description of a network that is named in one word.

    Args:
        name: ``ConvNet`` with depth and width in the literature's way, such as ``ConvNetD4``, ``ConvNetW256`` or
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
    named = re.fullmatch(r"ConvNet(?=.)(?:D(\d+))?(?:W(\d+))?", name)
    sizes = zip(("depth", "width"), named.groups(), strict=True) if named else ()
    given = {size: int(number) for size, number in sizes if number is not None}
    return {
        "name": "ConvNet" if named else allow_network(name),
        "num_classes": num_classes,
        "resolution": resolution,
        **given,
    }
