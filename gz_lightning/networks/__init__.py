"""Networks by name.

A network is described by a plain dictionary: ``name`` and the arguments of its class. Trajectories and distilled sets
carry it, so that whoever holds one can build the network again.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from gz_lightning.errors import InputError
from gz_lightning.networks.architectures import VGG11, AlexNet, ResNet18
from gz_lightning.networks.convnet import ConvNet

NETWORKS: dict[str, type[nn.Module]] = {"ConvNet": ConvNet, "AlexNet": AlexNet, "VGG11": VGG11, "ResNet18": ResNet18}


def build_network(description: Mapping[str, Any], seed: int | None = None) -> nn.Module:
    """A fresh network.

    Args:
        description: ``name`` (a key of ``NETWORKS``, or the path of a class such as ``mypackage.networks.Mine``) and the
            arguments of that class.
        seed: Draws the initial parameters; the global random state is left as it was. None draws from that state.

    Raises:
        InputError: If there is no such network or it does not take these arguments.

    Example:
        >>> network = build_network({"name": "ConvNet", "num_classes": 5, "resolution": 32, "width": 8}, seed=0)
        >>> network(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 5])
    """
    arguments = dict(description)
    name = arguments.pop("name", None)
    network = _network_class(name)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        try:
            return network(**arguments)
        except TypeError as error:
            raise InputError(f"{name} cannot be built: {error}") from error


def _network_class(name: Any) -> Callable[..., nn.Module]:
    if name in NETWORKS:
        return NETWORKS[name]
    module, _, attribute = str(name).rpartition(".")
    if not module:
        raise InputError(
            f"there is no network '{name}'; the networks are {', '.join(NETWORKS)}, or name a class by its path "
            "(package.module.Class)"
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"there is no network '{name}': {error}") from error
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

    Example:
        >>> describe_network("ConvNetD4W64", 5, 32)
        {'name': 'ConvNet', 'num_classes': 5, 'resolution': 32, 'depth': 4, 'width': 64}
    """
    named = re.fullmatch(r"ConvNet(?=.)(?:D(\d+))?(?:W(\d+))?", name)
    sizes = zip(("depth", "width"), named.groups(), strict=True) if named else ()
    given = {size: int(number) for size, number in sizes if number is not None}
    return {"name": "ConvNet" if named else name, "num_classes": num_classes, "resolution": resolution, **given}


__all__ = ["NETWORKS", "VGG11", "AlexNet", "ConvNet", "ResNet18", "build_network", "describe_network"]
