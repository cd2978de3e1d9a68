"""Networks trained at once against one after the other, by plain autograd in float64."""

import itertools
import threading
from typing import Any, get_args

import pytest
import torch
from torch import nn

from gz_lightning.errors import InputError
from gz_lightning.networks import ensemble as module
from gz_lightning.networks.convnet import ConvNet, NormName, PoolingName
from gz_lightning.networks.ensemble import Ensemble
from gz_lightning.networks.registry import build_network

CONVNET: dict[str, Any] = {"name": "ConvNet", "num_classes": 3, "resolution": 12, "width": 8, "depth": 2}
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Results = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Squared(ConvNet):
    """A subclass of which nothing is written out."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images).square()


class WithDropout(nn.Sequential):
    def __init__(self, num_classes: int, resolution: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(3 * resolution**2, num_classes), nn.Dropout(0.5))


def make(description: dict[str, Any], soft: bool, number: int = 3) -> tuple[Ensemble, Batch]:
    """An ensemble with parameters, images and labels in float64."""
    torch.manual_seed(0)
    ensemble = Ensemble(description)
    theta = ensemble.initial(range(number)).double()
    theta = theta + 0.1 * torch.randn_like(theta)  # gamma is not 1 and beta not 0
    side = description["resolution"]
    images = torch.randn(number, 5, 3, side, side, dtype=torch.float64)
    soft_labels = torch.rand(number, 5, 3, dtype=torch.float64)  # they need not sum to 1
    return ensemble, (theta, images, soft_labels if soft else torch.randint(3, (number, 5)))


def plainly(description: dict[str, Any], batch: Batch, class_weights: torch.Tensor | None = None) -> Results:
    """One network after the other, as torch trains it."""
    rows = []
    for theta, images, labels in zip(*batch, strict=True):
        network = build_network(description).to(theta.dtype)
        nn.utils.vector_to_parameters(theta.clone(), network.parameters())
        logits = network(images)
        loss = nn.CrossEntropyLoss(weight=class_weights)(logits, labels)
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        rows.append((loss.detach(), logits.detach(), nn.utils.parameters_to_vector(gradients)))
    losses, logits, gradients = zip(*rows, strict=True)
    return torch.stack(losses), torch.stack(logits), torch.stack(gradients)


def check(results: Results, plain: Results) -> None:
    for one, other in zip(results, plain, strict=True):
        assert one.dtype == torch.float64
        assert not one.requires_grad
        assert float((one - other).norm() / other.norm()) < 1e-12


@pytest.mark.parametrize(("norm", "pooling"), list(itertools.product(get_args(NormName), get_args(PoolingName))))
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("way", ["stacks", "alone", "vmap"])
def test_convnets_against_autograd(norm: str, pooling: str, soft: bool, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    description = CONVNET | {"norm": norm, "pooling": pooling}
    ensemble, batch = make(description, soft)
    ensemble._stacks_by_vmap = way == "vmap"
    if way == "alone":
        monkeypatch.setattr(module, "STACKED_AT_ONCE", 1)
    check(ensemble.losses_logits_gradients(*batch), plainly(description, batch))
    weights = torch.tensor([0.5, 1.0, 2.5], dtype=torch.float64)
    check(ensemble.losses_logits_gradients(*batch, weights), plainly(description, batch, weights))


@pytest.mark.parametrize("by_vmap", [False, True])
@pytest.mark.parametrize("name", ["AlexNet", "ResNet18", f"{__name__}.Squared"])
def test_other_networks_against_autograd(name: str, by_vmap: bool) -> None:
    description = {"name": name, "num_classes": 3, "resolution": 16}
    ensemble, batch = make(description, soft=False, number=2)
    assert ensemble.derivatives is None
    ensemble._stacks_by_vmap = by_vmap
    weights = torch.tensor([0.5, 1.0, 2.5], dtype=torch.float64)
    check(ensemble.losses_logits_gradients(*batch, weights), plainly(description, batch, weights))


@pytest.mark.parametrize("by_vmap", [False, True])
def test_logits(by_vmap: bool) -> None:
    ensemble, (theta, images, labels) = make(CONVNET, soft=False)
    ensemble._stacks_by_vmap = by_vmap
    _, logits, _ = plainly(CONVNET, (theta, images, labels))
    torch.testing.assert_close(ensemble.logits(theta, images), logits, rtol=1e-12, atol=1e-12)
    shared = images[:1].expand_as(images)
    torch.testing.assert_close(ensemble.logits(theta, images[0]), ensemble.logits(theta, shared), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ensemble.module(theta[1])(images[1]), logits[1], rtol=1e-12, atol=1e-12)


def test_parameters_are_those_of_the_seeds_and_leave_the_random_state_alone() -> None:
    state = torch.random.get_rng_state()
    theta = Ensemble(CONVNET).initial([4, 2])
    assert torch.equal(torch.random.get_rng_state(), state)
    for row, seed in zip(theta, (4, 2), strict=True):
        network = build_network(CONVNET, seed=seed)
        assert torch.equal(row, nn.utils.parameters_to_vector(network.parameters()))


@pytest.mark.parametrize("description", [CONVNET, CONVNET | {"name": f"{__name__}.Squared"}])
def test_threads_do_not_change_a_bit(description: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STACKED_AT_ONCE", 2)
    ensemble, batch = make(description, soft=False, number=7)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            results.append(ensemble.losses_logits_gradients(*batch))
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(1)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


def test_stacks_do_not_change_more_than_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble, batch = make(CONVNET, soft=True, number=5)
    assert ensemble.stacks(range(5), batch[1].shape[1:]) == [[0, 1, 2, 3, 4]]
    whole = ensemble.losses_logits_gradients(*batch)
    monkeypatch.setattr(module, "STACKED_AT_ONCE", 2)
    assert ensemble.stacks(range(5), batch[1].shape[1:]) == [[0], [1, 2], [3, 4]]
    check(ensemble.losses_logits_gradients(*batch), whole)


def test_large_maps_are_not_stacked() -> None:
    ensemble = Ensemble(CONVNET | {"width": 128})
    assert ensemble.stack_size((5, 3, 12, 12)) == 5
    assert ensemble.stack_size((256, 3, 12, 12)) == 1
    assert Ensemble({"name": "AlexNet", "num_classes": 3, "resolution": 16}).stack_size((1, 3, 16, 16)) == 1
    ensemble._stacks_by_vmap = True
    assert ensemble.stack_size((5, 3, 12, 12)) == module.NETWORKS_AT_ONCE
    assert ensemble.stack_size((256, 3, 128, 128)) == 4


def test_under_autocast_it_is_autograd() -> None:
    ensemble, (theta, images, labels) = make(CONVNET, soft=False)
    batch = theta.float(), images.float(), labels
    with torch.autocast("cpu", torch.bfloat16):
        losses, logits, gradients = ensemble.losses_logits_gradients(*batch)
        plain = plainly(CONVNET, batch)
    assert logits.dtype == torch.bfloat16
    assert gradients.dtype == torch.float32
    torch.testing.assert_close((losses, logits, gradients), plain, rtol=0.05, atol=0.02)
    exact, _, _ = ensemble.losses_logits_gradients(*batch)
    assert not torch.equal(losses, exact)


def test_dropout_is_off_in_logits_alone() -> None:
    ensemble, (theta, images, labels) = make({"name": f"{__name__}.WithDropout", "num_classes": 3, "resolution": 4}, False)
    for by_vmap in (False, True):
        ensemble._stacks_by_vmap = by_vmap
        logits = ensemble.logits(theta, images)
        assert torch.equal(ensemble.logits(theta, images), logits)
        _, dropped, _ = ensemble.losses_logits_gradients(theta, images, labels)
        assert (dropped == 0).any()
        assert not (logits == 0).any()


def test_map_keeps_order_and_grad_mode() -> None:
    ensemble = Ensemble(CONVNET)
    torch.set_num_threads(2)
    try:
        with torch.no_grad():
            places, grads, threads = zip(
                *ensemble.map(lambda i: (i, torch.is_grad_enabled(), torch.get_num_threads()), 5), strict=True
            )
        assert places == (0, 1, 2, 3, 4)
        assert not any(grads)
        assert set(threads) == {1}
        assert all(ensemble.map(lambda _: torch.is_grad_enabled(), 5))
        assert torch.get_num_threads() == 2
        assert ensemble.map(lambda _: threading.get_ident(), 1) == [threading.get_ident()]
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("number", [0, 1, 2, 5])
def test_run_advances_all_to_their_ends(threads: int, number: int) -> None:
    ensemble, counts = Ensemble(CONVNET), [0] * number

    def work(place: int) -> Any:
        for _ in range(10 + place):
            counts[place] += 1
            yield

    torch.set_num_threads(threads)
    try:
        ensemble.run([work(place) for place in range(number)])
    finally:
        torch.set_num_threads(1)
    assert counts == [10 + place for place in range(number)]


def test_running_statistics_are_refused() -> None:
    with pytest.raises(InputError, match="running_mean"):
        Ensemble({"name": f"{__name__}.WithStatistics", "num_classes": 3})


class WithStatistics(nn.Sequential):
    def __init__(self, num_classes: int) -> None:
        super().__init__(nn.Conv2d(3, num_classes, 3), nn.BatchNorm2d(num_classes))
