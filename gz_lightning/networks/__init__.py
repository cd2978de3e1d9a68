"""Networks by name.

A network is described by a plain dictionary: ``name`` and the arguments of its class. Trajectories and distilled sets
carry it, so that whoever holds one can build the network again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from gz_lightning.errors import InputError
from gz_lightning.networks.convnet import ConvNet

NETWORKS: dict[str, type[nn.Module]] = {"ConvNet": ConvNet}


def build_network(description: Mapping[str, Any], seed: int | None = None) -> nn.Module:
    """A fresh network.

    Args:
        description: ``name`` (a key of ``NETWORKS``) and the arguments of that class.
        seed: Draws the initial parameters; the global random state is left as it was. None draws from that state.

    Raises:
        InputError: If there is no such network or it does not take these arguments.
    """
    arguments = dict(description)
    name = arguments.pop("name", None)
    if name not in NETWORKS:
        raise InputError(f"there is no network '{name}'; the networks are {', '.join(NETWORKS)}")
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        try:
            return NETWORKS[name](**arguments)
        except TypeError as error:
            raise InputError(f"{name} cannot be built: {error}") from error


__all__ = ["NETWORKS", "ConvNet", "build_network"]
