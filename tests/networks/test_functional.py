"""Networks as functions of one parameter vector."""

import pytest
import torch
from torch import nn

from gz_lightning.errors import InputError
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.networks.registry import build_network


def test_functional_network_is_the_network() -> None:
    module = build_network({"name": "ConvNet", "num_classes": 3, "resolution": 16, "width": 4}, seed=0)
    network = FunctionalNetwork(module)
    theta, x = network.parameters_of(module), torch.randn(2, 3, 16, 16)
    assert torch.equal(network(theta, x), module(x))
    assert network.num_parameters == len(theta)
    with torch.no_grad():
        next(module.parameters()).add_(1)
    assert not torch.equal(network.parameters_of(module), theta)  # theta is a copy: it stayed as it was
    assert not torch.equal(network(theta, x), module(x))


def test_a_network_with_running_statistics_is_refused() -> None:
    with pytest.raises(InputError, match="keeps 1.running_mean.* without running statistics"):
        FunctionalNetwork(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
