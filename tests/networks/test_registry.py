"""Networks by name and by description."""

import pytest
import torch
from torch import nn

from gz_lightning.errors import InputError
from gz_lightning.networks.registry import build_network, describe_network


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


def test_networks_in_one_word() -> None:
    network = build_network(describe_network("ConvNetD2W8", 4, 16))
    assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == 2
    assert next(network.parameters()).shape[0] == 8
    assert describe_network("ConvNet", 4, 16) == {"name": "ConvNet", "num_classes": 4, "resolution": 16}
    assert isinstance(build_network({"name": "torch.nn.Linear", "in_features": 2, "out_features": 1}), nn.Linear)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("LeNet", "no network 'LeNet'; the networks are ConvNet, AlexNet, VGG11, ResNet18, or name a class by its path"),
        ("nowhere.Net", "no network 'nowhere.Net': No module named 'nowhere'"),
        ("torch.nn.NoSuch", "no network 'torch.nn.NoSuch': module 'torch.nn' has no attribute"),
        ("os.system", "it is not a subclass of torch.nn.Module"),
        ("torch.nn.Linear", "torch.nn.Linear cannot be built"),
    ],
)
def test_unknown_networks_are_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_network(describe_network(name, 3, 32))
