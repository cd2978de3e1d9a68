"""Derivatives of a ConvNet written out, against autograd in float64; and what a step holds."""

import functools
import itertools
import shutil
from collections.abc import Iterator
from typing import get_args

import pytest
import torch

from gz_lightning.networks import convnet_derivatives
from gz_lightning.networks.convnet import ConvNet, NormName, PoolingName
from gz_lightning.networks.convnet_derivatives import ConvNetDerivatives
from gz_lightning.networks.derivatives import Derivatives, Keep, Step
from gz_lightning.networks.functional import FunctionalNetwork

CONVNETS = list(itertools.product(get_args(NormName), get_args(PoolingName)))
KEEPS = get_args(Keep)


class Problem:
    """Five images in portions of two, and parameters whose gamma is not 1 and beta not 0."""

    def __init__(self, norm: NormName, pooling: PoolingName, side: int, soft: bool, dtype: torch.dtype = torch.float64):
        torch.manual_seed(0)
        convnet = ConvNet(3, side, width=8, depth=3, norm=norm, pooling=pooling).to(dtype)
        self.network = FunctionalNetwork(convnet)
        theta = self.network.parameters_of(convnet)
        self.theta, self.v = theta + 0.1 * torch.randn_like(theta), torch.randn_like(theta)
        self.images = torch.randn(5, 3, side, side, dtype=dtype)
        self.labels = torch.rand(5, 3, dtype=dtype) if soft else torch.randint(3, (5,))  # soft ones need not sum to 1

    def step(self, keep: Keep) -> Step:
        return self.network.linearise(self.theta, self.images, self.labels, keep)


@pytest.fixture(params=[False, True], ids=["whole", "portions"])
def _portions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All images at once, or two at a time."""
    if request.param:
        monkeypatch.setattr(convnet_derivatives, "PORTION", 2 * 8 * 8 * 13 * 13)


@pytest.mark.usefixtures("_portions")
@pytest.mark.parametrize(("norm", "pooling"), CONVNETS)
@pytest.mark.parametrize("side", [12, 13])
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_against_autograd(norm: NormName, pooling: PoolingName, side: int, soft: bool) -> None:
    problem = Problem(norm, pooling, side, soft)
    assert isinstance(problem.network.derivatives, ConvNetDerivatives)
    reference = Derivatives(problem.network).linearise(problem.theta, problem.images, problem.labels)
    expected = reference.products(problem.v, True, soft)
    step = problem.step("everything")
    products = step.products(problem.v, True, soft)
    pairs = [
        (step.gradient, reference.gradient),
        (products.along, expected.along),
        (products.to_theta, expected.to_theta),
        (products.to_images, expected.to_images),
        *([(products.to_labels, expected.to_labels)] if soft else []),
    ]
    for ours, theirs in pairs:
        assert ours is not None
        assert theirs is not None
        assert float(theirs.norm()) > 1e-9
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-11


@pytest.mark.parametrize("pooling", get_args(PoolingName))
def test_deterministic_algorithms_change_nothing(pooling: PoolingName) -> None:
    """torch refuses its own max unpooling then."""
    problem = Problem("instance", pooling, 13, False)
    expected = problem.step("nothing").products(problem.v)
    torch.use_deterministic_algorithms(True)
    try:
        found = problem.step("nothing").products(problem.v)
    finally:
        torch.use_deterministic_algorithms(False)
    assert found.to_theta is not None
    assert found.to_images is not None
    assert torch.equal(found.to_theta, expected.to_theta)  # type: ignore[arg-type]
    assert torch.equal(found.to_images, expected.to_images)  # type: ignore[arg-type]


@pytest.mark.usefixtures("_portions")
@pytest.mark.parametrize(("norm", "pooling"), CONVNETS)
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_whatever_is_kept_the_bits_are_the_same_however_often(norm: NormName, pooling: PoolingName, soft: bool) -> None:
    problem = Problem(norm, pooling, 13, soft)
    expected = problem.step("everything").products(problem.v, True, soft)
    for keep in KEEPS:
        step = problem.step(keep)
        assert torch.equal(step.gradient, problem.step("everything").gradient)
        step.products(torch.randn_like(problem.v), True, soft)  # of another direction, before and after
        for _ in range(2):
            products = step.products(problem.v, True, soft)
            for name, tensor in vars(expected).items():
                again = getattr(products, name)
                assert torch.equal(again, tensor) if tensor is not None else again is None


def tensors(held: object) -> Iterator[torch.Tensor]:
    if isinstance(held, torch.Tensor):
        yield held
    elif isinstance(held, (list, tuple)):
        for item in held:
            yield from tensors(item)
    elif isinstance(held, functools.partial):
        yield from tensors(held.args)
    elif hasattr(held, "__dict__"):
        yield from tensors(list(vars(held).values()))


def held_bytes(problem: Problem, step: Step) -> int:
    """Memory that the products of a real step reach and that is not its arguments'."""
    arguments = {x.untyped_storage().data_ptr() for x in (problem.theta, problem.images, problem.labels)}
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors(step.products)}
    return sum(size for place, size in storages.items() if place not in arguments)


@pytest.mark.usefixtures("_portions")
@pytest.mark.parametrize(("norm", "pooling"), CONVNETS)
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_nbytes_are_those_of_a_real_step(norm: NormName, pooling: PoolingName, soft: bool, dtype: torch.dtype) -> None:
    """Computed on the meta device, in advance; the products hold no more after they were used."""
    problem = Problem(norm, pooling, 16, soft, dtype)
    sizes = {}
    for keep in KEEPS:
        announced = problem.network.derivatives.nbytes(problem.theta, problem.images, problem.labels, keep)
        step = problem.step(keep)
        assert announced == step.nbytes == held_bytes(problem, step)
        step.products(problem.v)
        assert held_bytes(problem, step) == announced
        sizes[keep] = announced
    assert sizes["everything"] > 2 * sizes["outline"] > sizes["nothing"] == 0


@pytest.mark.parametrize("side", [1, 6])
def test_nbytes_follow_the_layout_of_the_images(side: int) -> None:
    """Images whose channels are last already are not copied."""
    problem = Problem("instance", "none", side, soft=False)
    problem.images = problem.images.contiguous(memory_format=torch.channels_last)
    step = problem.step("everything")
    assert step.nbytes == held_bytes(problem, step)


def test_a_subclass_is_not_taken_for_a_convnet() -> None:
    class Other(ConvNet):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images).square()

    assert type(FunctionalNetwork(Other(3, 8, width=4, depth=1)).derivatives) is Derivatives


@pytest.mark.filterwarnings(
    "ignore:Dynamo does not know how to trace the builtin"
)  # the shape checker picks items at random
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_they_are_the_same_and_hold_nothing() -> None:
    torch.manual_seed(0)
    convnet = ConvNet(3, 8, width=4, depth=1).double()
    eager, compiled = FunctionalNetwork(convnet), FunctionalNetwork(convnet)
    compiled.derivatives.compile()
    theta = eager.parameters_of(convnet)
    images, labels, v = torch.randn(4, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 0]), torch.randn_like(theta)
    ours, theirs = (network.linearise(theta, images, labels) for network in (compiled, eager))
    torch.testing.assert_close(ours.gradient, theirs.gradient)
    products, expected = ours.products(v), theirs.products(v)
    torch.testing.assert_close(products.to_theta, expected.to_theta)
    torch.testing.assert_close(products.to_images, expected.to_images)
    assert ours.nbytes == 0 < theirs.nbytes
