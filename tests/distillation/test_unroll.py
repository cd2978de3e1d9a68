"""The unroll and its gradients: plain autograd in float64 is the reference."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gz_lightning.augmentation import DSA, augment
from gz_lightning.distillation.matching import matching_loss, minibatches
from gz_lightning.distillation.unroll import UNROLLS, Adjoint, FirstOrder, Full, Unroll, unroll
from gz_lightning.errors import InputError
from gz_lightning.networks.convnet import ConvNet, NormName, PoolingName
from gz_lightning.networks.derivatives import Derivatives, Step
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.networks.registry import build_network
from gz_lightning.randomness import generator

CLASSES, IPC, SIDE = 3, 2, 12
EXACT = [name for name, way in UNROLLS.items() if way.exact]


@pytest.fixture(autouse=True)
def _float64(float64: None) -> None:
    """All of this file."""


def problem(
    norm: NormName = "instance", pooling: PoolingName = "avg", seed: int = 0
) -> tuple[FunctionalNetwork, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    convnet = ConvNet(CLASSES, SIDE, width=8, depth=2, norm=norm, pooling=pooling).double()
    network = FunctionalNetwork(convnet)
    start = network.parameters_of(convnet)
    return network, start, start + 0.05 * torch.randn_like(start)


def plain_unroll(network, theta, xs, ys, alphas, momentum=0.0):  # type: ignore[no-untyped-def]
    """The published loop, written out, with everything in the graph; momentum as torch.optim.SGD has it."""
    velocity = torch.zeros_like(theta)
    for x, y, alpha in zip(xs, ys, alphas, strict=True):
        loss = F.cross_entropy(network(theta, x), y)
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        velocity = momentum * velocity + gradient
        theta = theta - alpha * velocity
    return theta


def gradients(
    run: Callable[..., torch.Tensor],
    network: FunctionalNetwork,
    start: torch.Tensor,
    target: torch.Tensor,
    *,
    steps: int = 4,
    batch_syn: int | None = None,
    strategy: str = "none",
    soft: bool = False,
    one_step_size: bool = True,
) -> list[torch.Tensor]:
    """Loss, and its gradients with respect to images, log step sizes, starting point and (soft) labels."""
    torch.manual_seed(1)
    images = torch.randn(CLASSES * IPC, 3, SIDE, SIDE, requires_grad=True)
    hard = torch.arange(CLASSES).repeat_interleave(IPC)
    logits = torch.randn(CLASSES * IPC, CLASSES, requires_grad=True)
    log_alpha = torch.full(() if one_step_size else (steps,), -2.0)
    log_alpha = (log_alpha - 0.1 * torch.rand(log_alpha.shape)).requires_grad_()
    theta = start.clone().requires_grad_()
    draws = generator("draws")
    rows = minibatches(len(images), batch_syn, steps, draws)
    batches = [augment(images[r], strategy, draws) for r in rows]
    labels = [logits[r].softmax(1) if soft else hard[r] for r in rows]
    alphas = log_alpha.exp()
    end = run(network, theta, batches, labels, alphas.expand(steps) if one_step_size else alphas)
    loss = matching_loss(end, start, target)
    inputs = [images, log_alpha, theta, *([logits] if soft else [])]
    return [loss.detach(), end.detach(), *torch.autograd.grad(loss, inputs)]


def relative_error(result: torch.Tensor, expected: torch.Tensor) -> float:
    return float((result - expected).norm() / expected.norm())


@pytest.mark.parametrize("way", EXACT)
@pytest.mark.parametrize(
    "case",
    [
        {},
        {"steps": 1},
        {"one_step_size": False},
        {"batch_syn": 2, "steps": 7},
        {"batch_syn": 4, "steps": 5, "strategy": DSA},
        {"strategy": "galaxy"},
        {"soft": True},
        {"soft": True, "batch_syn": 2, "strategy": "galaxy", "one_step_size": False},
    ],
    ids=str,
)
def test_values_and_gradients_against_plain_autograd(way: str, case: dict[str, object]) -> None:
    network, start, target = problem()
    expected = gradients(plain_unroll, network, start, target, **case)  # type: ignore[arg-type]
    results = gradients(functools.partial(unroll, way=way), network, start, target, **case)  # type: ignore[arg-type]
    assert all(float(e.norm()) > 1e-12 for e in expected)  # nothing is compared with zero
    assert [relative_error(r, e) for r, e in zip(results, expected, strict=True)] == pytest.approx(
        [0] * len(expected), abs=1e-9
    )


@pytest.mark.parametrize("way", EXACT)
@pytest.mark.parametrize("momentum", [0.3, 0.9])
@pytest.mark.parametrize(
    "case",
    [{"steps": 1}, {"steps": 6}, {"soft": True, "batch_syn": 2, "steps": 6, "strategy": "galaxy", "one_step_size": False}],
    ids=str,
)
def test_momentum_of_the_student_against_plain_autograd(way: str, momentum: float, case: dict[str, object]) -> None:
    network, start, target = problem()
    runs = [functools.partial(run, momentum=momentum) for run in (plain_unroll, functools.partial(unroll, way=way))]
    expected, results = (gradients(run, network, start, target, **case) for run in runs)  # type: ignore[arg-type]
    assert all(float(e.norm()) > 1e-12 for e in expected)
    assert [relative_error(r, e) for r, e in zip(results, expected, strict=True)] == pytest.approx(
        [0] * len(expected), abs=1e-9
    )
    if case["steps"] != 1:  # it is not the unroll without momentum
        without = gradients(functools.partial(unroll, way=way), network, start, target, **case)  # type: ignore[arg-type]
        assert all(relative_error(r, e) > 1e-3 for r, e in zip(without, expected, strict=True))


def test_a_step_size_of_0_has_a_gradient_with_momentum() -> None:
    """v_{t+1} is kept, not found from how far the step went."""
    network, start, target = problem()
    x, y = torch.randn(CLASSES, 3, SIDE, SIDE), torch.arange(CLASSES)
    found = []
    for run in (plain_unroll, unroll):
        alphas = torch.tensor([0.1, 0.0, 0.1], requires_grad=True)
        end = run(network, start.clone().requires_grad_(), [x] * 3, [y] * 3, alphas, momentum=0.9)
        found.append(torch.autograd.grad(matching_loss(end, start, target), alphas)[0])
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=0)


@pytest.mark.parametrize("way", EXACT)
@pytest.mark.parametrize(("norm", "pooling"), [("group", "avg"), ("layer", "max"), ("none", "max"), ("instance", "none")])
def test_other_convnets(way: str, norm: NormName, pooling: PoolingName) -> None:
    network, start, target = problem(norm, pooling)
    expected = gradients(plain_unroll, network, start, target)
    results = gradients(functools.partial(unroll, way=way), network, start, target)
    assert [relative_error(r, e) for r, e in zip(results, expected, strict=True)] == pytest.approx(
        [0] * len(expected), abs=1e-9
    )


@pytest.mark.parametrize("way", EXACT)
def test_a_network_without_written_derivatives(way: str) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(100, CLASSES)).double()
    network = FunctionalNetwork(module)
    assert type(network.derivatives) is Derivatives
    start = network.parameters_of(module)
    target = start + 0.05 * torch.randn_like(start)
    case = {"soft": True, "batch_syn": 2, "strategy": "galaxy", "one_step_size": False}
    expected = gradients(plain_unroll, network, start, target, **case)  # type: ignore[arg-type]
    results = gradients(functools.partial(unroll, way=way), network, start, target, **case)  # type: ignore[arg-type]
    assert [relative_error(r, e) for r, e in zip(results, expected, strict=True)] == pytest.approx(
        [0] * len(expected), abs=1e-9
    )


@pytest.mark.parametrize(("name", "side"), [("AlexNet", 16), ("VGG11", 32), ("ResNet18", 16)])
def test_the_networks_of_the_cross_architecture_evaluation(name: str, side: int) -> None:
    module = build_network({"name": name, "num_classes": CLASSES, "resolution": side}, seed=0).double()
    network = FunctionalNetwork(module)
    start = network.parameters_of(module)
    torch.manual_seed(1)
    target = start + 0.01 * torch.randn_like(start)
    pixels, labels = torch.randn(CLASSES, 3, side, side), torch.arange(CLASSES)
    results = []
    for run in (plain_unroll, unroll):
        x, alphas = pixels.clone().requires_grad_(), torch.full((2,), 0.01, requires_grad=True)
        end = run(network, start.clone().requires_grad_(), [x] * 2, [labels] * 2, alphas)
        results.append(torch.autograd.grad(matching_loss(end, start, target), [x, alphas]))
    assert [relative_error(r, e) for r, e in zip(*results[::-1], strict=True)] == pytest.approx([0, 0], abs=1e-9)


def first_order_by_hand(network, start, target, images, labels, alphas):  # type: ignore[no-untyped-def]
    """TESLA written out: every gradient is taken at the student's parameters as if no earlier step had moved them."""
    theta, total = start, torch.zeros_like(start)
    for y, alpha in zip(labels, alphas, strict=True):
        leaf = theta.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(network(leaf, images), y), leaf, create_graph=True)
        total = total + alpha * gradient
        theta = theta - (alpha * gradient).detach()
    loss = matching_loss(start - total, start, target)
    return torch.autograd.grad(loss, [images, alphas])


@pytest.mark.parametrize(("everything", "outline"), [(0, 0), (0, 2), (0, 6), (2, 4), (6, 0)])
def test_the_budget_changes_nothing_but_time(everything: int, outline: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network, start, target = problem()
    keeps = recorded(network, monkeypatch)
    images, labels = torch.empty(CLASSES * IPC, 3, SIDE, SIDE), torch.zeros(CLASSES * IPC, dtype=torch.int64)
    whole, dearest = (network.derivatives.nbytes(start, images, labels, keep) for keep in ("everything", "outline"))
    expected = gradients(plain_unroll, network, start, target, steps=6, strategy="galaxy")
    growing = 6 * (start.nbytes + 2 * images.nbytes)  # parameters, minibatch and its gradient of each step
    budget = growing + everything * whole + (outline + 0.5) * dearest
    run = functools.partial(unroll, way=Adjoint(memory_budget=budget / 2**30))
    results = gradients(run, network, start, target, steps=6, strategy="galaxy")
    assert [relative_error(r, e) for r, e in zip(results, expected, strict=True)] == pytest.approx([0] * 5, abs=1e-9)
    assert (keeps.count("everything"), keeps.count("outline")) == (everything, outline)
    assert keeps == sorted(keeps, key=["nothing", "outline", "everything"].index)  # the last steps go back first


def test_the_least_that_an_unroll_takes() -> None:
    network, start, _ = problem()
    images, labels = torch.zeros(6, 3, SIDE, SIDE), torch.zeros(6, dtype=torch.int64)
    whole = network.derivatives.nbytes(start, images, labels, "everything")

    def least(way: Unroll, steps: int) -> int:
        return way.least_memory(network, start, images, steps)

    growing = start.nbytes + 2 * images.nbytes
    assert least(Full(memory_budget=0.0), 10) == 10 * (growing + whole)
    with_momentum = Full().least_memory(network, start, images, 10, momentum=0.9)
    assert with_momentum == 10 * (growing + start.nbytes + whole)
    for way in (Adjoint, FirstOrder):
        assert least(way(memory_budget=0.0), 10) == 10 * growing
        assert least(way(memory_budget=1.0), 10) == 10 * (growing + whole)
        assert least(way(memory_budget=(10 * growing + whole) / 2**30), 10) == 10 * growing + whole
        # With momentum the velocity of each step is kept as well.
        with_momentum = way(memory_budget=0.0).least_memory(network, start, images, 10, momentum=0.9)
        assert with_momentum == 10 * (growing + start.nbytes)


def test_an_unroll_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    class Last(Unroll):
        """Back through the last step alone."""

        exact = False

        def __call__(self, network, theta, images, labels, step_sizes, momentum=0.0):  # type: ignore[no-untyped-def]
            assert not momentum
            with torch.no_grad():
                theta = unroll(network, theta, images[:-1], labels[:-1], step_sizes[:-1])
            return unroll(network, theta, images[-1:], labels[-1:], step_sizes[-1:])

    monkeypatch.setitem(UNROLLS, "last", Last)
    network, start, _ = problem()
    images = [torch.randn(2, 3, SIDE, SIDE, requires_grad=True) for _ in range(3)]
    end = unroll(network, start, images, [torch.tensor([0, 1])] * 3, torch.tensor(0.1), "last")
    exact = unroll(network, start, images, [torch.tensor([0, 1])] * 3, torch.tensor(0.1))
    assert torch.equal(end, exact)
    grads = torch.autograd.grad(end.sum(), images, allow_unused=True)
    assert [grad is None for grad in grads] == [True, True, False]
    assert torch.equal(grads[2], torch.autograd.grad(exact.sum(), images)[2])
    assert Last().least_memory(network, start, images[0], 4) == 4 * (start.nbytes + 2 * images[0].nbytes)


@pytest.mark.parametrize("way", ["adjoint", "full"])
def test_a_minibatch_that_was_changed_in_place_is_noticed(way: str) -> None:
    network, start, _ = problem()
    images = torch.randn(2, 3, SIDE, SIDE, requires_grad=True)
    end = unroll(network, start, [images], [torch.tensor([0, 1])], torch.tensor(0.1), way)
    with torch.no_grad():
        images.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        end.sum().backward()


@pytest.mark.parametrize("plain", [False, True], ids=["written", "autograd"])
def test_first_order_is_what_it_says(plain: bool) -> None:
    network, start, target = problem()
    torch.manual_seed(1)
    images, alphas = torch.randn(CLASSES, 3, SIDE, SIDE, requires_grad=True), torch.full((6,), 0.3, requires_grad=True)
    labels = [torch.arange(CLASSES)] * 6
    function = (lambda theta, x: network(theta, x)) if plain else network
    end = unroll(function, start, [images] * 6, labels, alphas, way="first_order")
    results = torch.autograd.grad(matching_loss(end, start, target), [images, alphas])
    expected = first_order_by_hand(network, start, target, images, labels, alphas)
    exact_end = unroll(network, start, [images] * 6, labels, alphas)
    exact = torch.autograd.grad(matching_loss(exact_end, start, target), [images, alphas])
    torch.testing.assert_close(end, exact_end, rtol=1e-12, atol=1e-14)
    for ours, theirs, full in zip(results, expected, exact, strict=True):
        assert relative_error(ours, theirs) < 1e-9
        assert relative_error(ours, full) > 1e-3  # an approximation, and not the other thing under its name


def test_first_order_is_exact_for_one_step() -> None:
    network, start, target = problem()
    expected = gradients(plain_unroll, network, start, target, steps=1)
    results = gradients(functools.partial(unroll, way="first_order"), network, start, target, steps=1)
    for i in (0, 1, 2, 3):  # loss, end, images, step size; the gradient of the starting point lacks its Hessian
        assert relative_error(results[i], expected[i]) < 1e-9


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("kept", [False, True])
def test_against_torch_sgd(momentum: float, kept: bool) -> None:
    """The end of the unroll is where torch.optim.SGD goes."""
    torch.manual_seed(0)
    convnet = ConvNet(CLASSES, SIDE, width=8, depth=2).double()
    network = FunctionalNetwork(convnet)
    start = network.parameters_of(convnet)
    xs = [torch.randn(4, 3, SIDE, SIDE) for _ in range(3)]
    ys = [torch.randint(CLASSES, (4,)) for _ in range(3)]
    with torch.set_grad_enabled(kept):
        end = unroll(network, start, xs, ys, torch.tensor(0.1), momentum=momentum)
    optimizer = torch.optim.SGD(convnet.parameters(), lr=0.1, momentum=momentum)
    for x, y in zip(xs, ys, strict=True):
        optimizer.zero_grad()
        F.cross_entropy(convnet(x), y).backward()
        optimizer.step()
    torch.testing.assert_close(end, network.parameters_of(convnet), rtol=1e-12, atol=1e-14)


def test_finite_differences() -> None:
    """The reference itself: along random directions of the images and of the step size."""
    network, start, target = problem("none", "avg")  # smooth but for ReLU
    torch.manual_seed(3)
    images, direction = torch.randn(2, CLASSES, 3, SIDE, SIDE)
    labels = torch.arange(CLASSES)

    def loss(x: torch.Tensor, log_alpha: torch.Tensor) -> torch.Tensor:
        return matching_loss(unroll(network, start, [x] * 3, [labels] * 3, log_alpha.exp()), start, target)

    x, log_alpha = images.clone().requires_grad_(), torch.tensor(-2.0, requires_grad=True)
    to_images, to_alpha = torch.autograd.grad(loss(x, log_alpha), [x, log_alpha])
    h = 1e-6
    along = (loss(images + h * direction, log_alpha.detach()) - loss(images - h * direction, log_alpha.detach())) / (2 * h)
    assert float((to_images * direction).sum()) == pytest.approx(float(along), rel=1e-5)
    across = (loss(images, log_alpha.detach() + h) - loss(images, log_alpha.detach() - h)) / (2 * h)
    assert float(to_alpha) == pytest.approx(float(across), rel=1e-5)


@pytest.mark.parametrize("way", UNROLLS)
def test_without_gradients_nothing_is_kept(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, start, _ = problem()
    keeps = recorded(network, monkeypatch)
    with torch.no_grad():
        end = unroll(network, start, [torch.randn(2, 3, SIDE, SIDE)] * 2, [torch.tensor([0, 1])] * 2, torch.tensor(0.1), way)
    assert not end.requires_grad
    assert not torch.equal(end, start)
    assert keeps == ["nothing"] * 2


def recorded(network: FunctionalNetwork, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is kept of each step from now on."""
    keeps: list[str] = []
    linearise = network.derivatives.linearise

    def recording(theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor, keep: Any) -> Step:
        keeps.append(keep)
        return linearise(theta, x, y, keep)

    monkeypatch.setattr(network.derivatives, "linearise", recording)
    return keeps


def test_what_does_not_fit_is_refused() -> None:
    network, start, _ = problem()
    x, y = [torch.randn(1, 3, SIDE, SIDE)], [torch.tensor([0])]
    with pytest.raises(InputError, match="unroll must be one of adjoint, full, first_order, not 'backwards'"):
        unroll(network, start, x, y, torch.tensor(0.1), way="backwards")
    with pytest.raises(ValueError, match="1 minibatches, 2 labels and 1 step sizes"):
        unroll(network, start, x, y * 2, torch.tensor(0.1))
    with pytest.raises(ValueError, match="2 minibatches, 2 labels and 1 step sizes"):
        unroll(network, start, x * 2, y * 2, torch.tensor([0.1]))


def test_minibatches_are_shuffled_passes() -> None:
    rows = minibatches(7, 3, 7, generator("m"))
    assert [len(r) for r in rows] == [3, 3, 1, 3, 3, 1, 3]
    assert sorted(torch.cat(rows[:3]).tolist()) == list(range(7)) == sorted(torch.cat(rows[3:6]).tolist())
    assert torch.cat(rows[:3]).tolist() != torch.cat(rows[3:6]).tolist()
    assert all(r.tolist() == list(range(7)) for r in minibatches(7, None, 3, generator("m")))
