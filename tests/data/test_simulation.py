"""Simulated galaxies: what must repeat, what the volunteers say, and what a photometrist would measure.

Shapes: N galaxies, H x W pixels.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F

from gz_lightning.data.simulation import SimulatedGalaxies, simulate_galaxies
from gz_lightning.data.tree import TREES
from gz_lightning.errors import InputError

ANSWERS = TREES["simplified"].answers
PER_LEAF = 24
ROUND, IN_BETWEEN, CIGAR, EDGE_ON_BULGE, EDGE_ON, BAR_ARMS, BAR, ARMS, PLAIN, STAR = range(10)
QUESTIONS = ("a01 a02 a03", "a04 a05", "a06 a07", "a08 a09", "a16 a17 a18", "a25 a26 a27")


@pytest.fixture(scope="module")
def galaxies() -> SimulatedGalaxies:
    return simulate_galaxies(torch.arange(10).repeat(PER_LEAF), resolution=64, seed=1)


@pytest.fixture(scope="module")
def light(galaxies: SimulatedGalaxies) -> torch.Tensor:
    """Brightness above the sky, the stretch undone, shape (N, H, W)."""
    grey = galaxies.images.float().mean(1) / 255
    grey = grey - grey[:, [0, -1]].flatten(1).median(1).values[:, None, None]
    return torch.sinh(grey.clamp(0, 0.95) / 0.17)


def plane(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    axis = (torch.arange(side) + 0.5) / side - 0.5
    return axis[None, :], axis[:, None]


def moments(light: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Centroid (N, 2), axis ratio (N,) and major axis (N,) by second moments of the bright inner part, in frames."""
    x, y = plane(light.shape[-1])
    weight = (
        light.clamp(min=0) * (x**2 + y**2 < 0.4**2) * (light > 0.08 * light.flatten(1).quantile(0.995, 1)[:, None, None])
    )
    total = weight.sum((1, 2))
    cx, cy = (weight * x).sum((1, 2)) / total, (weight * y).sum((1, 2)) / total
    u, v = x - cx[:, None, None], y - cy[:, None, None]
    xx, yy, xy = ((weight * product).sum((1, 2)) / total for product in (u * u, v * v, u * v))
    middle, spread = (xx + yy) / 2, ((xx - yy) ** 2 / 4 + xy**2).sqrt()
    return torch.stack([cx, cy], 1), ((middle - spread) / (middle + spread)).clamp(min=0).sqrt(), (middle + spread).sqrt()


def median(values: torch.Tensor, galaxies: SimulatedGalaxies, leaf: int) -> float:
    return float(values[galaxies.labels == leaf].median())


def azimuthal_power(light: torch.Tensor, inner: float, outer: float) -> torch.Tensor:
    """Share of m = 2 to 4 in rings, after the ellipse of the galaxy is made a circle, shape (N,)."""
    x, y = plane(light.shape[-1])
    centre, ratio, _ = moments(light)
    u, v = x - centre[:, :1, None], y - centre[:, 1:, None]
    weight = light * (u**2 + v**2 < 0.3**2)
    angle = 0.5 * torch.atan2(2 * (weight * u * v).sum((1, 2)), (weight * (u * u - v * v)).sum((1, 2)))[:, None, None]
    a = u * angle.cos() + v * angle.sin()
    b = (v * angle.cos() - u * angle.sin()) / ratio.clamp(min=0.3)[:, None, None]
    radius, turn = torch.hypot(a, b), torch.atan2(b, a)
    rings = torch.linspace(inner, outer, 6)
    power = []
    for low, high in itertools.pairwise(rings.tolist()):
        ring = light * ((radius >= low) & (radius < high))
        waves = torch.stack([torch.exp(1j * m * turn) * ring for m in (2, 3, 4)]).sum((-2, -1)).abs()
        power.append(waves.norm(dim=0) / (ring.sum((1, 2)) + 1e-6))
    return torch.stack(power).mean(0)


def same(one: SimulatedGalaxies, other: SimulatedGalaxies) -> bool:
    votes = all(np.array_equal(one.votes[answer], other.votes[answer]) for answer in ANSWERS)
    return votes and torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


def cut(galaxies: SimulatedGalaxies, number: int) -> SimulatedGalaxies:
    votes = {answer: fraction[:number] for answer, fraction in galaxies.votes.items()}
    return SimulatedGalaxies(galaxies.images[:number], galaxies.labels[:number], votes)


def test_shapes_and_types(galaxies: SimulatedGalaxies) -> None:
    assert galaxies.images.shape == (10 * PER_LEAF, 3, 64, 64)
    assert galaxies.images.dtype == torch.uint8
    assert galaxies.labels.dtype == torch.int64
    assert set(galaxies.votes) == set(ANSWERS)
    assert all(fraction.dtype == np.float64 and fraction.shape == (10 * PER_LEAF,) for fraction in galaxies.votes.values())


def test_same_seed_same_bytes(galaxies: SimulatedGalaxies) -> None:
    assert same(cut(galaxies, 60), simulate_galaxies(galaxies.labels[:60], resolution=64, seed=1))


def test_other_seed_other_bytes(galaxies: SimulatedGalaxies) -> None:
    other = simulate_galaxies(galaxies.labels[:10], resolution=64, seed=2)
    assert (other.images != galaxies.images[:10]).flatten(1).any(1).all()
    assert not np.array_equal(other.votes["a01"], galaxies.votes["a01"][:10])


@pytest.mark.parametrize("number", [0, 1, 20, 33])
def test_a_longer_list_begins_with_the_galaxies_of_a_shorter_one(galaxies: SimulatedGalaxies, number: int) -> None:
    assert same(cut(galaxies, number), simulate_galaxies(galaxies.labels[:number], resolution=64, seed=1))


def test_a_galaxy_does_not_depend_on_the_labels_of_the_others(galaxies: SimulatedGalaxies) -> None:
    labels = galaxies.labels[:20].clone()
    labels[5:] = STAR
    assert torch.equal(simulate_galaxies(labels, resolution=64, seed=1).images[:5], galaxies.images[:5])


def test_no_galaxy_appears_twice(galaxies: SimulatedGalaxies) -> None:
    assert len(galaxies.images[galaxies.labels == ROUND].flatten(1).unique(dim=0)) == PER_LEAF


def test_global_random_state_is_neither_read_nor_changed() -> None:
    torch.manual_seed(3)
    before, before_numpy = torch.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002
    first = simulate_galaxies(torch.arange(10), resolution=16)
    assert torch.equal(torch.get_rng_state(), before)
    assert repr(np.random.get_state()) == before_numpy  # noqa: NPY002
    torch.manual_seed(4)
    assert same(first, simulate_galaxies(torch.arange(10), resolution=16))


def test_the_caller_keeps_its_labels() -> None:
    labels = torch.arange(10)
    galaxies = simulate_galaxies(labels, resolution=8)
    labels.zero_()
    assert galaxies.labels.tolist() == list(range(10))


def test_resolution_only_samples(galaxies: SimulatedGalaxies) -> None:
    coarse = simulate_galaxies(galaxies.labels[:20], resolution=32, seed=1)
    pooled = F.avg_pool2d(galaxies.images[:20].float(), 2)
    assert (pooled - coarse.images).abs().max() <= 1  # both were rounded to whole grey levels
    other = simulate_galaxies(galaxies.labels[:20], resolution=96, seed=1)  # another grid, so other noise
    assert all(np.array_equal(other.votes[answer], coarse.votes[answer]) for answer in ANSWERS)
    for one, two in zip(coarse.images.float(), other.images.float(), strict=True):
        coarser = [F.adaptive_avg_pool2d(image, 16).flatten() for image in (one, two)]
        assert float(torch.corrcoef(torch.stack(coarser))[0, 1]) > 0.9


@pytest.mark.parametrize("question", QUESTIONS)
def test_votes_of_a_question_sum_to_one(galaxies: SimulatedGalaxies, question: str) -> None:
    fractions = np.stack([galaxies.votes[answer] for answer in question.split()])
    assert fractions.min() >= 0
    assert fractions.sum(0) == pytest.approx(1, abs=1e-6)


def confidences(seed: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    galaxies = simulate_galaxies(torch.arange(10).repeat(40), resolution=8, seed=seed)
    return TREES["simplified"].confidences(galaxies.votes), galaxies.labels.numpy()


def test_volunteers_find_the_leaf_and_are_not_all_sure() -> None:
    confidence, labels = confidences(seed=5)
    agree = confidence.argmax(1) == labels
    assert agree.mean() >= 0.98
    assert min(agree[labels == leaf].mean() for leaf in range(10)) >= 0.9
    own = confidence[np.arange(len(labels)), labels]
    for leaf in range(10):
        low, high = np.percentile(own[labels == leaf], [5, 95])
        assert low < 0.75 < high + 0.05
        assert high - low > 0.15
        assert high < 0.99


def test_axis_ratio_falls_from_round_to_edge_on(galaxies: SimulatedGalaxies, light: torch.Tensor) -> None:
    _, ratio, _ = moments(light)
    ratios = [median(ratio, galaxies, leaf) for leaf in (ROUND, IN_BETWEEN, CIGAR, EDGE_ON)]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] > 0.85
    assert 0.6 < ratios[1] < 0.85
    assert ratios[2] < 0.55
    assert ratios[3] < 0.4


def test_galaxies_are_centred_and_fill_the_frame(galaxies: SimulatedGalaxies, light: torch.Tensor) -> None:
    centre, _, major = moments(light)
    regular = galaxies.labels != STAR
    assert float(centre[regular].norm(dim=1).median()) < 1.5 / 64
    assert float(centre[regular].norm(dim=1).quantile(0.9)) < 3 / 64
    assert 0.04 < float(major[regular].median()) < 0.2


def test_position_angles_are_random(galaxies: SimulatedGalaxies, light: torch.Tensor) -> None:
    x, y = plane(light.shape[-1])
    long = light[(galaxies.labels == CIGAR) | (galaxies.labels == EDGE_ON)]
    twice = torch.atan2(2 * (long * x * y).sum((1, 2)), (long * (x * x - y * y)).sum((1, 2)))
    assert float(torch.exp(1j * twice).mean().abs()) < 3 / math.sqrt(len(long))


def test_spirals_have_arms(galaxies: SimulatedGalaxies, light: torch.Tensor) -> None:
    power = azimuthal_power(light, 0.08, 0.28)
    assert median(power, galaxies, ARMS) > 1.4 * median(power, galaxies, PLAIN)
    assert median(power, galaxies, BAR_ARMS) > 1.4 * median(power, galaxies, BAR)


def test_bars_make_the_middle_long(galaxies: SimulatedGalaxies, light: torch.Tensor) -> None:
    x, y = plane(light.shape[-1])
    weight = light * torch.exp(-(x**2 + y**2) / (2 * 0.03**2))
    twice = torch.complex((weight * (x * x - y * y)).sum((1, 2)), (weight * 2 * x * y).sum((1, 2)))
    ellipticity = twice.abs() / (weight * (x * x + y * y)).sum((1, 2))
    assert median(ellipticity, galaxies, BAR) > 1.5 * median(ellipticity, galaxies, PLAIN)
    assert median(ellipticity, galaxies, BAR_ARMS) > 1.5 * median(ellipticity, galaxies, ARMS)


def test_bulges_concentrate_the_light_of_edge_on_disks(galaxies: SimulatedGalaxies, light: torch.Tensor) -> None:
    x, y = plane(light.shape[-1])
    within = [(light * (x**2 + y**2 < radius**2)).sum((1, 2)) for radius in (0.06, 0.3)]
    concentration = within[0] / within[1]
    assert median(concentration, galaxies, EDGE_ON_BULGE) > 1.05 * median(concentration, galaxies, EDGE_ON)


def test_smooth_galaxies_are_redder_than_spirals_and_arms_bluer_than_bulges(galaxies: SimulatedGalaxies) -> None:
    images = galaxies.images.float() / 255
    x, y = plane(64)
    radius = (x**2 + y**2).sqrt()
    inner, outer = (images[..., ring].mean(-1) for ring in (radius < 0.05, (radius > 0.1) & (radius < 0.2)))
    color_inner, color_outer = inner[:, 0] / inner[:, 2], outer[:, 0] / outer[:, 2]
    assert median(color_outer, galaxies, ROUND) > 1.1 * median(color_outer, galaxies, ARMS)
    assert median(color_inner, galaxies, ARMS) > 1.1 * median(color_outer, galaxies, ARMS)


def test_some_stars_are_saturated(galaxies: SimulatedGalaxies) -> None:
    full = (galaxies.images.amin(1) > 220).flatten(1).any(1)
    assert full[galaxies.labels == STAR].float().mean() > 0.4
    assert full[galaxies.labels != STAR].float().mean() < 0.1


def test_pixels_are_distributed_like_those_of_the_composites(galaxies: SimulatedGalaxies) -> None:
    images = galaxies.images.double() / 255
    mean, std = images.mean((0, 2, 3)), images.std((0, 2, 3))
    # Published for the ten classes: .074 .061 .049 and .130 .101 .091; five classes of real galaxies: .098 .085 .066 and
    # .143 .120 .102
    assert all(0.05 < value < 0.12 for value in mean.tolist())
    assert all(0.08 < value < 0.16 for value in std.tolist())
    assert mean[0] > mean[1] > mean[2]
    sky = images[galaxies.labels != STAR][..., :3, :].mean(1)
    assert 0.005 < float(sky.median()) < 0.05


@pytest.mark.parametrize("resolution", [8, 24, 100])
def test_every_leaf_at_other_resolutions(resolution: int) -> None:
    images = simulate_galaxies(torch.arange(10), resolution=resolution).images
    assert images.shape == (10, 3, resolution, resolution)
    assert images.float().flatten(1).std(1).min() > 5


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 10]), r"labels contain \[10\]; give leaves"),
        (torch.tensor([-1, 3]), r"labels contain \[-1\]"),
        (torch.tensor([0.0, 1.0]), "torch.float32"),
        (torch.tensor([1, 2], dtype=torch.int32), "torch.int32"),
        (torch.tensor(3), r"shape \(\)"),
        (torch.zeros(2, 2, dtype=torch.int64), r"shape \(2, 2\)"),
    ],
)
def test_labels_that_are_no_leaves(labels: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        simulate_galaxies(labels)


def test_resolution_too_small() -> None:
    with pytest.raises(InputError, match="resolution is 7; give at least 8"):
        simulate_galaxies(torch.arange(3), resolution=7)
