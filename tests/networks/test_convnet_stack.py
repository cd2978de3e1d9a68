"""Logits and gradients of a stack of ConvNets, against those of its members by autograd in float64."""

import itertools
from typing import get_args

import pytest
import torch

from gz_lightning.networks.convnet import ConvNet, NormName, PoolingName
from gz_lightning.networks.convnet_derivatives import ConvNetDerivatives
from gz_lightning.networks.convnet_stack import stacked_logits_and_gradient
from gz_lightning.networks.derivatives import Derivatives
from gz_lightning.networks.functional import FunctionalNetwork


@pytest.mark.parametrize(("norm", "pooling"), list(itertools.product(get_args(NormName), get_args(PoolingName))))
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_a_stack_against_one_by_one(norm: NormName, pooling: PoolingName, soft: bool) -> None:
    torch.manual_seed(0)
    convnet = ConvNet(3, 12, width=8, depth=2, norm=norm, pooling=pooling).double()
    network = FunctionalNetwork(convnet)
    assert isinstance(network.derivatives, ConvNetDerivatives)
    theta = torch.stack([network.parameters_of(convnet) + 0.1 * torch.randn(network.num_parameters) for _ in range(3)])
    images = torch.randn(3, 5, 3, 12, 12, dtype=torch.float64)
    labels = (
        torch.rand(3, 5, 3, dtype=torch.float64) if soft else torch.eye(3, dtype=torch.float64)[torch.randint(3, (3, 5))]
    )
    logits, gradients = stacked_logits_and_gradient(network.derivatives, theta, images, labels)
    expected = [Derivatives(network).linearise(*of_one).gradient for of_one in zip(theta, images, labels, strict=True)]
    torch.testing.assert_close(logits, torch.stack([network(*of_one) for of_one in zip(theta, images, strict=True)]))
    torch.testing.assert_close(gradients, torch.stack(expected), rtol=1e-10, atol=1e-12)
