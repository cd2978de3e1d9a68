"""The ConvNet: the published network, its norms and poolings, and what it refuses."""

from typing import get_args

import pytest
import torch
from torch import nn

from gz_lightning.errors import InputError
from gz_lightning.networks.convnet import ConvNet, NormName, PoolingName
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


@pytest.mark.parametrize("norm", get_args(NormName))
@pytest.mark.parametrize("pooling", get_args(PoolingName))
def test_every_norm_and_pooling(norm: NormName, pooling: PoolingName) -> None:
    network = ConvNet(num_classes=4, resolution=12, width=8, depth=2, norm=norm, pooling=pooling)
    assert network(torch.zeros(2, 3, 12, 12)).shape == (2, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "batch"}, "norm must be one of instance, group, layer, none, not 'batch'"),
        ({"pooling": "sum"}, "pooling must be one of avg, max, none, not 'sum'"),
        ({"norm": "group", "width": 6}, "multiple of 4"),
        ({"depth": 5}, "5 poolings leave nothing of 16 px; use depth 4 or less"),
        ({"width": 0}, "width must be a whole number >= 1 and <= 16384, not 0"),
        ({"depth": 101, "pooling": "none"}, "depth must be a whole number >= 1 and <= 100, not 101"),
    ],
)
def test_what_cannot_be_built_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_network({"name": "ConvNet", "num_classes": 2, "resolution": 16, **settings})
