"""Derivatives of any network, by autograd."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gz_lightning.errors import InputError
from gz_lightning.networks.convnet import ConvNet
from gz_lightning.networks.derivatives import Derivatives, derivatives_of
from gz_lightning.networks.functional import FunctionalNetwork


def test_against_the_hessian_written_out() -> None:
    """H, and the Jacobians of the gradient, from torch.autograd.functional, in float64."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)).double()
    network = FunctionalNetwork(module)
    theta, v = network.parameters_of(module), torch.randn(network.num_parameters, dtype=torch.float64)
    x, y = torch.randn(4, 1, 3, 3, dtype=torch.float64), torch.rand(4, 3, dtype=torch.float64)

    def loss(theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(network(theta, x), y)

    step = network.linearise(theta, x, y)
    (g,) = torch.autograd.grad(loss(theta.requires_grad_(), x, y), theta)
    of_theta, of_x, of_y = torch.autograd.functional.hessian(loss, (theta, x, y))[0]
    for _ in range(2):
        products = step.products(v, needs_labels=True)
        torch.testing.assert_close(step.gradient, g, rtol=1e-12, atol=0)
        torch.testing.assert_close(products.along, g @ v, rtol=1e-12, atol=0)
        torch.testing.assert_close(products.to_theta, v @ of_theta, rtol=1e-11, atol=1e-14)
        torch.testing.assert_close(products.to_images, torch.tensordot(v, of_x, 1), rtol=1e-11, atol=1e-14)
        torch.testing.assert_close(products.to_labels, torch.tensordot(v, of_y, 1), rtol=1e-11, atol=1e-14)


def test_only_what_is_asked_for() -> None:
    convnet = ConvNet(3, 8, width=4, depth=1)
    network = FunctionalNetwork(convnet)
    theta, x, y = network.parameters_of(convnet), torch.randn(2, 3, 8, 8), torch.rand(2, 3)
    for derivatives in (network.derivatives, Derivatives(network)):
        step = derivatives.linearise(theta, x, y)
        nothing = step.products(theta, False, False, False)
        assert (nothing.to_theta, nothing.to_images, nothing.to_labels) == (None, None, None)
        everything = step.products(theta, True, True, True)
        assert torch.allclose(nothing.along, everything.along)
        assert everything.to_images is not None
        assert everything.to_images.shape == x.shape
        labels_alone = step.products(theta, False, True, False)
        assert labels_alone.to_images is None
        assert torch.equal(labels_alone.to_labels, everything.to_labels)  # type: ignore[arg-type]


def test_a_step_by_autograd_holds_nothing_and_leaves_its_arguments_alone() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    network = FunctionalNetwork(module)
    theta, x, y = network.parameters_of(module), torch.randn(3, 1, 2, 2), torch.tensor([0, 1, 1])
    step = network.linearise(theta, x, y, "everything")
    products = step.products(theta)
    assert step.nbytes == network.derivatives.nbytes(theta, x, y, "everything") == 0
    assert not any(tensor.requires_grad for tensor in (theta, x, step.gradient, products.along, products.to_theta))  # type: ignore[union-attr]


def test_a_function_without_derivatives_gets_them_from_autograd() -> None:
    network = FunctionalNetwork(ConvNet(3, 8, width=4, depth=1))
    assert derivatives_of(network) is network.derivatives
    assert type(derivatives_of(lambda theta, x: network(theta, x))) is Derivatives


def test_what_cannot_be_compiled_is_refused() -> None:
    with pytest.raises(InputError, match="compile works for a ConvNet alone"):
        FunctionalNetwork(torch.nn.Linear(2, 2)).derivatives.compile()
