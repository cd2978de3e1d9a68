"""One block of a ConvNet: forward, backward and their tangents, against autograd in float64."""

import itertools
from typing import get_args

import pytest
import torch
import torch.nn.functional as F

from gz_lightning.networks.convnet import PoolingName
from gz_lightning.networks.convnet_block import Norm, Selection

GROUPS = {"instance": 8, "group": 4, "layer": 1}


def pooled(y: torch.Tensor, pooling: str) -> torch.Tensor:
    passed = F.relu(y)
    if pooling == "none":
        return passed
    return F.avg_pool2d(passed, 2) if pooling == "avg" else F.max_pool2d(passed, 2)


@pytest.mark.parametrize(("pooling", "side"), list(itertools.product(get_args(PoolingName), (6, 7))))
def test_the_selection_is_relu_and_pooling_and_its_transpose(pooling: str, side: int) -> None:
    """S(y) is what ReLU and pooling give; <S(x), u> = <x, S^T(u)> for any x and u."""
    torch.manual_seed(0)
    y = torch.randn(2, 3, side, side, dtype=torch.float64)
    select = Selection(y.clone(), pooling)
    torch.testing.assert_close(select(y), pooled(y, pooling), rtol=1e-14, atol=0)
    x, u = torch.randn_like(y), torch.randn_like(select(y))
    factor = torch.rand(2, 3, 1, 1, dtype=torch.float64)
    torch.testing.assert_close((select(x) * u * factor).sum(), (x * select.transpose(u, factor)).sum(), rtol=1e-12, atol=0)
    torch.testing.assert_close(select.of_one, select(torch.ones_like(y)), rtol=1e-14, atol=0)


@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
def test_the_norm_is_group_norm(groups: int) -> None:
    torch.manual_seed(0)
    a = torch.randn(2, 8, 5, 5, dtype=torch.float64)
    n, r = Norm(groups, 1e-5)(a.clone())
    torch.testing.assert_close(n, F.group_norm(a, groups), rtol=1e-12, atol=1e-12)
    variance = a.view(2, groups, -1).var(2, correction=0).repeat_interleave(8 // groups, 1)
    torch.testing.assert_close(r[:, :, 0, 0], (variance + 1e-5).rsqrt(), rtol=1e-12, atol=0)


def test_no_norm_leaves_its_input() -> None:
    a = torch.randn(2, 8, 5, 5)
    n, r = Norm(0, 0.0)(a)
    assert n is a
    assert torch.equal(r, torch.ones(2, 8, 1, 1))
