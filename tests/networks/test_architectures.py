"""Other architectures: no running statistics, and a function of the parameters alone."""

import pytest
import torch

from gz_lightning.errors import InputError
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.networks.registry import build_network, describe_network


@pytest.mark.parametrize("name", ["AlexNet", "VGG11", "ResNet18"])
def test_they_work_in_an_unroll(name: str) -> None:
    """Second derivatives, and one image's logits do not depend on the others in the batch."""
    module = build_network(describe_network(name, 3, 32), seed=0)
    network = FunctionalNetwork(module)
    theta = network.parameters_of(module).requires_grad_()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    logits = network(theta, x)
    assert logits.shape == (2, 3)
    torch.testing.assert_close(network(theta, x[:1]), logits[:1], rtol=1e-3, atol=1e-4)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), theta, create_graph=True)
    (mixed,) = torch.autograd.grad(gradient.square().sum(), x)
    assert torch.isfinite(mixed).all()
    assert mixed.abs().sum() > 0


@pytest.mark.parametrize(("name", "resolution"), [("AlexNet", 8), ("VGG11", 16), ("ResNet18", 8)])
def test_too_small_images_are_refused(name: str, resolution: int) -> None:
    with pytest.raises(InputError, match=rf"{name} needs images of at least \d+ px, not {resolution}"):
        build_network(describe_network(name, 3, resolution))


def test_sizes_of_the_literature() -> None:
    """VGG11 and ResNet18 with ten classes at 32 px, as counted from their definitions."""
    counts = {
        n: sum(p.numel() for p in build_network(describe_network(n, 10, 32)).parameters()) for n in ("VGG11", "ResNet18")
    }
    assert counts == {"VGG11": 9_231_114, "ResNet18": 11_173_962}
