"""Derivatives written out, against autograd in float64."""

import itertools
import shutil
from typing import Any

import pytest
import torch

from gz_lightning.errors import InputError
from gz_lightning.networks import convnet_derivatives
from gz_lightning.networks.convnet import NORMS, POOLINGS, ConvNet
from gz_lightning.networks.convnet_derivatives import ConvNetDerivatives
from gz_lightning.networks.derivatives import Derivatives
from gz_lightning.networks.functional import FunctionalNetwork


@pytest.mark.parametrize(("norm", "pooling", "side"), list(itertools.product(NORMS, POOLINGS, (12, 13))))
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize(("portions", "keep"), [(False, "whole"), (True, ""), (True, "whole"), (True, "dearest")])
def test_against_autograd(
    norm: str, pooling: str, side: int, soft: bool, portions: bool, keep: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if portions:
        monkeypatch.setattr(convnet_derivatives, "PORTION", 2 * 8 * 8 * side * side)  # two of the five images at a time
    torch.manual_seed(0)
    convnet = ConvNet(3, side, width=8, depth=3, norm=norm, pooling=pooling).double()
    network = FunctionalNetwork(convnet)
    assert isinstance(network.derivatives, ConvNetDerivatives)
    theta = network.parameters_of(convnet)
    theta = theta + 0.1 * torch.randn_like(theta)  # gamma is not 1 and beta not 0
    v = torch.randn_like(theta)
    images = torch.randn(5, 3, side, side, dtype=torch.float64)
    labels = torch.rand(5, 3, dtype=torch.float64) if soft else torch.randint(3, (5,))  # soft ones need not sum to 1
    plain = Derivatives(network)
    kept: list[Any] | None = [] if keep else None
    gradient = network.derivatives.gradient(theta, images, labels, kept, keep == "whole")
    wanted = plain.products(theta, images, labels, v, True, soft)
    found = network.derivatives.products(theta, images, labels, v, True, soft, kept=kept)
    pairs = [
        (gradient, plain.gradient(theta, images, labels)),
        (found.along, wanted.along),
        (found.to_theta, wanted.to_theta),
        (found.to_images, wanted.to_images),
        *([(found.to_labels, wanted.to_labels)] if soft else []),
    ]
    for f, w in pairs:
        assert f is not None
        assert w is not None
        assert float(w.norm()) > 1e-9
        assert float((f - w).norm() / w.norm()) < 1e-11


@pytest.mark.parametrize(("norm", "pooling"), list(itertools.product(NORMS, POOLINGS)))
def test_what_is_kept_is_no_more_than_announced(norm: str, pooling: str) -> None:
    convnet = ConvNet(3, 16, width=8, depth=2, norm=norm, pooling=pooling)
    network = FunctionalNetwork(convnet)
    kept: list[Any] = []
    images = torch.randn(5, 3, 16, 16)
    network.derivatives.gradient(network.parameters_of(convnet), images, torch.zeros(5, dtype=torch.int64), kept)
    seen: dict[int, int] = {}
    for block in kept[0].blocks:
        for value in [*vars(block).values(), *vars(block.select).values()]:
            if isinstance(value, torch.Tensor) and value.ndim == 4 and value is not block.w:
                seen[value.data_ptr()] = value.untyped_storage().nbytes()
    announced = network.derivatives.kept_bytes(images, True)
    assert announced is not None
    assert 0.5 * announced < sum(seen.values()) <= announced
    outlines: list[Any] = []
    network.derivatives.gradient(network.parameters_of(convnet), images, torch.zeros(5, dtype=torch.int64), outlines, False)
    tensors = [tensor for pair in outlines[0].known for tensor in pair] + outlines[0].us
    assert sum(tensor.untyped_storage().nbytes() for tensor in tensors) == network.derivatives.kept_bytes(images, False)


def test_only_what_is_asked_for() -> None:
    convnet = ConvNet(3, 8, width=4, depth=1)
    network = FunctionalNetwork(convnet)
    theta, x, y = network.parameters_of(convnet), torch.randn(2, 3, 8, 8), torch.rand(2, 3)
    for derivatives in (network.derivatives, Derivatives(network)):
        nothing = derivatives.products(theta, x, y, theta, False, False, False)
        assert (nothing.to_theta, nothing.to_images, nothing.to_labels) == (None, None, None)
        everything = derivatives.products(theta, x, y, theta, True, True, True)
        assert torch.allclose(nothing.along, everything.along)
        assert everything.to_images is not None
        assert everything.to_images.shape == x.shape


def test_a_subclass_is_not_taken_for_a_convnet() -> None:
    class Other(ConvNet):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images).square()

    assert type(FunctionalNetwork(Other(3, 8, width=4, depth=1)).derivatives) is Derivatives


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_they_are_the_same() -> None:
    torch.manual_seed(0)
    convnet = ConvNet(3, 8, width=4, depth=1).double()
    eager, compiled = FunctionalNetwork(convnet), FunctionalNetwork(convnet)
    compiled.derivatives.compile()
    theta = eager.parameters_of(convnet)
    images, labels, v = torch.randn(4, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 0]), torch.randn_like(theta)
    torch.testing.assert_close(
        compiled.derivatives.gradient(theta, images, labels), eager.derivatives.gradient(theta, images, labels)
    )
    found, wanted = (network.derivatives.products(theta, images, labels, v) for network in (compiled, eager))
    torch.testing.assert_close(found.to_theta, wanted.to_theta)
    torch.testing.assert_close(found.to_images, wanted.to_images)
    assert compiled.derivatives.kept_bytes(images, True) is None


def test_what_cannot_be_compiled_is_refused() -> None:
    with pytest.raises(InputError, match="compile works for a ConvNet alone"):
        FunctionalNetwork(torch.nn.Linear(2, 2)).derivatives.compile()
