"""Networks by name, and as functions of one parameter vector."""

import pytest
import torch
from torch import nn

from gz_lightning.errors import InputError
from gz_lightning.networks.convnet import ConvNet
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.networks.registry import build_network


def test_convnet_d3_has_the_published_number_of_parameters() -> None:
    assert sum(p.numel() for p in ConvNet(num_classes=9, resolution=128).parameters()) == 594_441


def test_instance_norm_is_that_of_torch() -> None:
    torch.manual_seed(0)
    block = ConvNet(num_classes=2, resolution=8, width=4, depth=1)[0]
    assert isinstance(block, nn.Sequential)
    x = torch.randn(3, 3, 8, 8)
    instance = nn.InstanceNorm2d(4, affine=True)
    torch.testing.assert_close(block[:2](x), instance(block[0](x)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", ["instance", "group", "layer", "none"])
@pytest.mark.parametrize("pooling", ["avg", "max", "none"])
def test_every_norm_and_pooling(norm: str, pooling: str) -> None:
    network = ConvNet(num_classes=4, resolution=12, width=8, depth=2, norm=norm, pooling=pooling)
    assert network(torch.zeros(2, 3, 12, 12)).shape == (2, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "batch"}, "norm is one of instance, group, layer, none.*found norm 'batch'"),
        ({"pooling": "sum"}, "pooling one of avg, max, none"),
        ({"norm": "group", "width": 6}, "multiple of 4"),
        ({"depth": 5}, "5 poolings leave nothing of 16 px; use depth 4 or less"),
        ({"width": 0}, "must be positive"),
    ],
)
def test_what_cannot_be_built_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_network({"name": "ConvNet", "num_classes": 2, "resolution": 16, **settings})


def test_networks_by_name() -> None:
    description = {"name": "ConvNet", "num_classes": 2, "resolution": 16, "width": 4}
    state = torch.random.get_rng_state()
    one, two, other = (build_network(description, seed=s).state_dict() for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["0.0.weight"], other["0.0.weight"])
    with pytest.raises(InputError, match="no network 'LeNet'; the networks are ConvNet"):
        build_network({"name": "LeNet"})
    with pytest.raises(InputError, match="ConvNet cannot be built.*breadth"):
        build_network({**description, "breadth": 3})


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
