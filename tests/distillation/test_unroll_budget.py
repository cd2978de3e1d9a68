"""What an unroll differentiates and keeps: as much as is asked for, and as a budget allows."""

import pytest
import torch

from gz_lightning.distillation.matching import matching_loss
from gz_lightning.distillation.unroll import UNROLLS, Adjoint, unroll
from tests.distillation.test_unroll import CLASSES, SIDE, problem, recorded


@pytest.fixture(autouse=True)
def _float64(float64: None) -> None:
    """All of this file."""


@pytest.mark.parametrize("way", UNROLLS)
@pytest.mark.parametrize("written", [True, False])
def test_a_student_ends_where_it_does_with_gradients(way: str, written: bool) -> None:
    network, start, _ = problem()
    function = network if written else (lambda theta, x: network(theta, x))
    images, labels = [torch.randn(m, 3, SIDE, SIDE) for m in (2, 3)], [torch.tensor([0, 1]), torch.tensor([2, 0, 1])]
    alphas = torch.tensor([0.1, 0.3])
    with torch.no_grad():
        end = unroll(function, start, images, labels, alphas, way)
    torch.testing.assert_close(end, unroll(function, start, images, labels, alphas, way).detach(), rtol=1e-12, atol=1e-14)
    called = UNROLLS[way]()(function, start, images, labels, alphas)  # without momentum, as unroll is by default
    torch.testing.assert_close(end, called.detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("way", UNROLLS)
def test_only_what_is_asked_for_is_differentiated(way: str, momentum: float) -> None:
    """Images alone, labels alone, a single step size alone: each as with all others."""
    network, start, target = problem()
    torch.manual_seed(4)
    pixels, shares = torch.randn(2, CLASSES, 3, SIDE, SIDE), torch.rand(2, CLASSES, CLASSES).softmax(2)
    alphas = torch.tensor([0.2, 0.1])

    def found(*wanted: int) -> list[torch.Tensor]:
        inputs = [*pixels.clone(), *shares.clone(), alphas.clone(), start.clone()]
        for place in wanted:
            inputs[place].requires_grad_()
        end = unroll(network, inputs[5], inputs[:2], inputs[2:4], inputs[4], way, momentum)
        return list(torch.autograd.grad(matching_loss(end, start, target), [inputs[place] for place in wanted]))

    together = found(0, 1, 2, 3, 4, 5)
    for place, expected in enumerate(together):
        torch.testing.assert_close(found(place)[0], expected, rtol=1e-9, atol=1e-12)


def test_the_budget_by_default() -> None:
    """GiB, as the setting of the command has it."""
    assert {way().memory_budget for way in UNROLLS.values()} == {0.25}


def test_a_budget_that_is_just_enough_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    network, start, _ = problem()
    images = [torch.randn(2, 3, SIDE, SIDE, requires_grad=True) for _ in range(3)]
    labels = [torch.tensor([0, 1])] * 3
    whole, outline, nothing = (
        network.derivatives.nbytes(start, images[0], labels[0], keep) for keep in ("everything", "outline", "nothing")
    )
    growing = 3 * (start.nbytes + 2 * images[0].nbytes)
    keeps = recorded(network, monkeypatch)
    for more, wanted in (
        (0, ["nothing"] * 3),
        (outline - nothing, ["nothing", "nothing", "outline"]),
        (outline - nothing - 1, ["nothing"] * 3),
        (3 * (outline - nothing), ["outline"] * 3),
        (3 * (outline - nothing) + whole - outline, ["outline", "outline", "everything"]),
        (3 * (whole - nothing), ["everything"] * 3),
        (3 * (whole - nothing) - 1, ["outline", "everything", "everything"]),
    ):
        keeps.clear()
        unroll(network, start, images, labels, torch.tensor(0.1), Adjoint(memory_budget=(growing + more) / 2**30))
        assert keeps == wanted, more
