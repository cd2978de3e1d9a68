"""What is computed on a GPU equals what the CPU computes, in float64."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from gz_lightning.augmentation import FAMILIES, augment, augment_each, galaxy_as_drawn, galaxy_draws, sample_by_gathering
from gz_lightning.distillation.graph import Outputs, Replayed, cuda_capture
from gz_lightning.distillation.matching import MATCHES, Drawn, matching_loss
from gz_lightning.distillation.unroll import UNROLLS, unroll
from gz_lightning.experts.batches import rotated
from gz_lightning.networks.convnet import ConvNet, NormName, PoolingName
from gz_lightning.networks.derivatives import Derivatives
from gz_lightning.networks.ensemble import Ensemble
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.randomness import generator
from gz_lightning.sets.coresets import herding, k_centre, k_means_nearest
from gz_lightning.training.fresh import Training, train_networks
from gz_lightning.training.protocol import Protocol

SIDE, CLASSES, STEPS = 12, 3, 6
CPU = torch.device("cpu")
CONVNETS: list[tuple[NormName, PoolingName]] = [("instance", "avg"), ("layer", "max"), ("none", "none")]
DESCRIPTION = {"name": "ConvNet", "num_classes": CLASSES, "resolution": SIDE, "width": 8, "depth": 2}


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def _deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def check(results: list[torch.Tensor], expected: list[torch.Tensor], within: float = 1e-9) -> None:
    for result, reference in zip(results, expected, strict=True):
        assert float(reference.norm()) > 1e-12
        assert float((result.cpu() - reference).norm() / reference.norm()) < within


class Problem:
    """An outer iteration in float64; drawn on the CPU, so it is the same on every device."""

    def __init__(self, device: torch.device, norm: NormName = "instance", pooling: PoolingName = "avg") -> None:
        torch.manual_seed(0)
        convnet = ConvNet(CLASSES, SIDE, width=8, depth=2, norm=norm, pooling=pooling).double()
        self.network = FunctionalNetwork(convnet)
        start = FunctionalNetwork.parameters_of(convnet)
        self.start, self.target = start.to(device), (start + 0.05 * torch.randn_like(start)).to(device)
        self.images = torch.randn(6, 3, SIDE, SIDE).to(device).requires_grad_()
        self.logits = torch.randn(6, CLASSES).to(device).requires_grad_()
        self.log_alpha = torch.tensor(-2.0, device=device, requires_grad=True)
        self.draws = galaxy_draws(6 * STEPS, generator(1)).to(device)

    def gradients(self, way: str, momentum: float = 0.0) -> list[torch.Tensor]:
        """End, loss, and its gradients with respect to images, labels and step size."""
        batches = [galaxy_as_drawn(self.images, draws) for draws in self.draws.split(6, 1)]
        labels = [self.logits.softmax(1)] * STEPS
        end = unroll(self.network, self.start, batches, labels, self.log_alpha.exp(), way, momentum)
        loss = matching_loss(end, self.start, self.target)
        return [end.detach(), loss.detach(), *torch.autograd.grad(loss, [self.images, self.logits, self.log_alpha])]


@pytest.mark.parametrize("way", list(UNROLLS))
@pytest.mark.parametrize(("norm", "pooling"), CONVNETS)
def test_unroll(way: str, norm: NormName, pooling: PoolingName, device: torch.device) -> None:
    reference = "full" if UNROLLS[way].exact else way
    for momentum in (0.0, 0.9):
        found = Problem(device, norm, pooling).gradients(way, momentum)
        check(found, Problem(CPU, norm, pooling).gradients(reference, momentum))


@pytest.mark.parametrize("keep", ["everything", "outline", "nothing"])
@pytest.mark.parametrize(("norm", "pooling"), CONVNETS)
def test_products(keep: Any, norm: NormName, pooling: PoolingName, device: torch.device) -> None:
    def of(where: torch.device, plainly: bool) -> list[torch.Tensor]:
        problem = Problem(where, norm, pooling)
        derivatives = Derivatives(problem.network) if plainly else problem.network.derivatives
        images, shares = problem.images.detach(), problem.logits.detach().softmax(1)
        step = derivatives.linearise(problem.start, images, shares, keep)
        found = step.products(problem.target, True, True)
        results = [step.gradient, found.along, found.to_theta, found.to_images, found.to_labels]
        return [result for result in results if result is not None]

    found = of(device, plainly=False)
    assert len(found) == 5
    check(found, of(CPU, plainly=True))


@pytest.mark.parametrize("name", list(MATCHES))
def test_matching_losses(name: str, device: torch.device) -> None:
    vectors = torch.randn(3, 500, generator=generator(0))

    def of(where: torch.device) -> list[torch.Tensor]:
        student, start, target = vectors.to(where)
        student.requires_grad_()
        loss = MATCHES[name](student, start, target)
        return [loss.detach(), *torch.autograd.grad(loss, student)]

    check(of(device), of(CPU))


@pytest.mark.parametrize("strategy", ["galaxy", *FAMILIES])
@pytest.mark.parametrize("deterministic", [False, True])
def test_augmentations(strategy: str, deterministic: bool, device: torch.device) -> None:
    """Deterministic ones resample by gathering on a GPU."""
    pixels = torch.randn(2, 4, 3, SIDE, SIDE, generator=generator(0))

    def of(where: torch.device) -> list[torch.Tensor]:
        images = pixels.to(where).requires_grad_()
        results = augment(images[0], strategy, generator(1)), augment_each(images, strategy, [generator(2), generator(3)])
        weights = torch.linspace(0, 1, SIDE, device=where)
        squares = [(weights * result).square().sum() for result in results]
        (gradient,) = torch.autograd.grad(torch.stack(squares).sum(), images)
        return [*(result.detach() for result in results), gradient]

    expected = of(CPU)
    torch.use_deterministic_algorithms(deterministic)
    try:
        found = of(device)
    finally:
        torch.use_deterministic_algorithms(False)
    check(found, expected)


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_resampling_by_gathering(padding: str, device: torch.device) -> None:
    images, grid = torch.randn(2, 3, SIDE, SIDE), 2.4 * torch.rand(2, SIDE, SIDE, 2) - 1.2
    expected = F.grid_sample(images, grid, padding_mode=padding, align_corners=False)
    check([sample_by_gathering(images.to(device), grid.to(device), padding)], [expected])


def test_rotated_galaxies(device: torch.device) -> None:
    images, degrees = torch.randn(4, 3, SIDE, SIDE), torch.tensor([0.0, 36.0, 90.0, 200.0])
    check([rotated(images.to(device), degrees.to(device))], [rotated(images, degrees)])


def test_coresets(device: torch.device) -> None:
    features = torch.randn(40, 7, generator=generator(0))
    chosen = {
        name: [choose(features.to(where)).tolist() for where in (device, CPU)]
        for name, choose in (
            ("herding", lambda x: herding(x, 9)),
            ("k-centre", lambda x: k_centre(x, 9)),
            ("k-means-nearest", lambda x: k_means_nearest(x, 9, generator(1))),
        )
    }
    for name, (found, expected) in chosen.items():
        assert found == expected, name
        assert len(set(found)) == 9, name


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_networks_in_a_stack_equal_networks_alone(soft: bool, device: torch.device) -> None:
    """Experts of a group, and networks of an evaluation; a GPU stacks them by vmap."""
    torch.manual_seed(0)
    ensemble, alone = Ensemble(DESCRIPTION, device), Ensemble(DESCRIPTION)
    ensemble._stacks_by_vmap = True
    theta, images = ensemble.initial(range(5)).double(), torch.randn(5, 8, 3, SIDE, SIDE)
    labels = torch.rand(5, 8, CLASSES) if soft else torch.randint(CLASSES, (5, 8))
    weights = None if soft else torch.tensor([0.5, 1.0, 2.0])
    of_classes = None if weights is None else weights.to(device)
    found = ensemble.losses_logits_gradients(theta.to(device), images.to(device), labels.to(device), of_classes)
    theta, batches = theta.cpu(), [slice(i, i + 1) for i in range(5)]
    rows = [alone.losses_logits_gradients(theta[i], images[i], labels[i], weights) for i in batches]
    check(list(found), [torch.cat(parts) for parts in zip(*rows, strict=True)])
    scores = ensemble.logits(theta.to(device), images[0].to(device))
    check([scores], [torch.cat([alone.logits(theta[i], images[0]) for i in batches])])


def test_fresh_networks(device: torch.device) -> None:
    """Five trained at once on the device equal each trained alone on the CPU."""
    images, labels = torch.randn(6, 3, SIDE, SIDE, generator=generator(0)), torch.arange(6) % CLASSES
    protocol = Protocol(epochs=6, augmentation="galaxy")

    def trained(where: torch.device, seeds: range) -> list[torch.Tensor]:
        trainings = [Training(images.to(where), labels, [0.05], seed) for seed in seeds]
        return [FunctionalNetwork.parameters_of(model) for model in train_networks(trainings, DESCRIPTION, protocol)]

    check(trained(device, range(5)), [trained(CPU, range(i, i + 1))[0] for i in range(5)], within=1e-8)


def again(run: Callable[[], Outputs]) -> tuple[Callable[[], object], Outputs]:
    """The capture of a machine without CUDA: to replay is to run once more."""
    outputs = run()

    def replay() -> None:
        for output, new in zip(outputs, run(), strict=True):
            output.copy_(new)

    return replay, outputs


@pytest.mark.usefixtures("_deterministic")
@pytest.mark.parametrize("way", list(UNROLLS))
def test_a_captured_iteration_has_the_bits_of_a_plain_one(way: str, device: torch.device) -> None:
    """Three iterations with other starts and targets, images that change in place, and outputs that are kept."""
    problem = Problem(device)

    def work(drawn: Drawn) -> Outputs:
        assert drawn.numbers is not None
        problem.start, problem.target = drawn.start.to(device), drawn.target.to(device)
        problem.draws = drawn.numbers.to(device)
        return problem.gradients(way)

    replayed = Replayed(work, device, cuda_capture if device.type == "cuda" else again)
    start, target, rows = problem.start.cpu().clone(), problem.target.cpu().clone(), torch.arange(6)
    found, expected = [], []
    for i in range(3):
        numbers = galaxy_draws(6 * STEPS, generator(i))
        drawn = Drawn(0, i, (6,), start + 0.01 * i, target - 0.01 * i, rows, numbers)
        found.append(replayed(drawn))
        expected.append(work(drawn))
        with torch.no_grad():
            problem.images.mul_(0.9)
    assert not replayed.failed
    for ours, theirs in zip(found, expected, strict=True):
        assert all(torch.equal(one, two) for one, two in zip(ours, theirs, strict=True))
    assert not torch.equal(found[0][2], found[1][2])
