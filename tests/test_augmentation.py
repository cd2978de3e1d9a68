"""Batched augmentation against the published DSA, written out image by image."""

import functools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gz_lightning import augmentation
from gz_lightning.augmentation import DSA, FAMILIES, augment, augment_each, sample_by_gathering
from gz_lightning.errors import InputError
from gz_lightning.randomness import generator

N, SIDE = 5, 16


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(N, 3, SIDE, SIDE, generator=generator("images"), dtype=torch.float64)


def uniform(low: float, high: float, draws: torch.Generator) -> list[float]:
    return (torch.rand(N, generator=draws) * (high - low) + low).double().tolist()


def warp(image: torch.Tensor, matrix: list[list[float]], padding: str = "zeros") -> torch.Tensor:
    theta = torch.tensor([[*row, 0.0] for row in matrix], dtype=image.dtype)[None]
    grid = F.affine_grid(theta, [1, *image.shape], align_corners=False)
    return F.grid_sample(image[None], grid, padding_mode=padding, align_corners=False)[0]


def plain(family: str, images: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    """One family of the published code, a loop over images."""
    if family == "flip":
        return torch.stack([i.flip(2) if u < 0.5 else i for i, u in zip(images, uniform(0, 1, draws), strict=True)])
    if family == "scale":
        sx, sy = uniform(1 / 1.2, 1.2, draws), uniform(1 / 1.2, 1.2, draws)
        return torch.stack([warp(i, [[a, 0], [0, b]]) for i, a, b in zip(images, sx, sy, strict=True)])
    if family == "rotate":
        angles = uniform(-math.radians(15), math.radians(15), draws)
        return torch.stack(
            [warp(i, [[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]]) for i, t in zip(images, angles, strict=True)]
        )
    if family == "crop":
        for axis in (1, 2):
            shifts = torch.randint(0, 5, (N, 1), generator=draws).flatten().tolist()  # two pixels to either side
            moved = []
            for image, first in zip(images, shifts, strict=True):
                padded = F.pad(image, (0, 0, 2, 2) if axis == 1 else (2, 2))
                moved.append(padded.narrow(axis, first, SIDE))
            images = torch.stack(moved)
        return images
    if family == "cutout":
        rows = torch.randint(0, SIDE + 1, (N, 1), generator=draws).flatten().tolist()
        columns = torch.randint(0, SIDE + 1, (N, 1), generator=draws).flatten().tolist()
        images = images.clone()
        for n in range(N):
            top, left = max(rows[n] - 4, 0), max(columns[n] - 4, 0)
            images[n, :, top : max(rows[n] + 4, 0), left : max(columns[n] + 4, 0)] = 0
        return images
    brightness, saturation, contrast = (uniform(low, high, draws) for low, high in ((-0.5, 0.5), (0, 2), (0.5, 1.5)))
    out = []
    for image, b, s, c in zip(images, brightness, saturation, contrast, strict=True):
        image = image + b
        grey = image.mean(0, keepdim=True)
        image = (image - grey) * s + grey
        out.append((image - image.mean()) * c + image.mean())
    return torch.stack(out)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_and_its_gradient_against_the_published_loop(family: str, images: torch.Tensor) -> None:
    for seed in range(5):
        images.requires_grad_()
        found, wanted = augment(images, family, generator(seed, "x")), None
        draws = generator(seed, "x")
        torch.randint(1, (), generator=draws)  # the draw of the family
        wanted = plain(family, images, draws)
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
        weights = torch.randn(found.shape, generator=generator("w"), dtype=torch.float64)
        by_ours, by_loop = (torch.autograd.grad((out * weights).sum(), images)[0] for out in (found, wanted))
        torch.testing.assert_close(by_ours, by_loop, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("ratio", [1.2, 1.5])
def test_galaxy_against_a_loop_over_images(ratio: float, images: torch.Tensor) -> None:
    """Scale, mirror and angle in this order of draws; the border is filled with its nearest pixel."""
    ours, draws = generator("g"), generator("g")
    found = augmentation.galaxy(images, ours, *([] if ratio == 1.2 else [ratio]))
    factors, handed, turns = uniform(1 / ratio, ratio, draws), uniform(0, 1, draws), uniform(0, 2 * math.pi, draws)
    wanted = []
    for image, a, u, t in zip(images, factors, handed, turns, strict=True):
        mirror = -1 if u < 0.5 else 1
        matrix = [[a * mirror * math.cos(t), -a * math.sin(t)], [a * mirror * math.sin(t), a * math.cos(t)]]
        wanted.append(warp(image, matrix, "border"))
    torch.testing.assert_close(found, torch.stack(wanted), rtol=1e-10, atol=1e-10)
    assert torch.equal(ours.get_state(), draws.get_state())  # nothing more was drawn


def test_cutout_of_an_odd_size_against_a_loop_over_images() -> None:
    """Half of 10 pixels is 5: two before the centre, two behind it; of 6 it is 3. Centres are the pixels."""
    whole = torch.ones(60, 1, 10, 6)
    found = augmentation.cutout(whole, generator("c"))
    draws = generator("c")
    rows, columns = (torch.randint(0, side, (60, 1), generator=draws).flatten().tolist() for side in (10, 6))
    for image, row, column in zip(found, rows, columns, strict=True):
        wanted = torch.ones(1, 10, 6)
        wanted[:, max(row - 2, 0) : row + 3, max(column - 1, 0) : column + 2] = 0
        assert torch.equal(image, wanted)
    assert {0, 9} <= set(rows)


def test_crop_rounds_an_eighth_of_each_side() -> None:
    """An eighth of 12 pixels, 1.5, is two; of 8 it is one. Everything is shifted by as much, and no pixel is lost inside."""
    whole = torch.arange(1.0, 97.0).view(1, 1, 12, 8).expand(200, -1, -1, -1)
    shifts = set()
    for image in augmentation.crop(whole, generator("c")):
        middle = image[0, 5, 4] - whole[0, 0, 5, 4]
        down, right = divmod(int(middle) + 4, 8)
        shifts.add((down, right - 4))
        wanted = torch.zeros(12, 8)
        for y in range(12):
            for x in range(8):
                if 0 <= y + down < 12 and 0 <= x + right - 4 < 8:
                    wanted[y, x] = whole[0, 0, y + down, x + right - 4]
        assert torch.equal(image[0], wanted)
    assert shifts == {(down, right) for down in (-2, -1, 0, 1, 2) for right in (-1, 0, 1)}


def test_every_image_draws_its_own_parameters() -> None:
    same = torch.randn(3, SIDE, SIDE, generator=generator("one")).expand(8, -1, -1, -1)
    for family in (*FAMILIES, "galaxy"):
        out = augment(same, family, generator("draws"))
        assert len({tuple(image.flatten().tolist()) for image in out}) > 1, family


def test_one_family_is_drawn_for_the_batch() -> None:
    """A batch of ones: flip leaves it, cutout and crop bring zeros, colour shifts it."""
    ones, seen = torch.ones(4, 3, SIDE, SIDE), set()
    for seed in range(40):
        out = augment(ones, "color_cutout_flip", generator(seed))
        kind = "flip" if torch.equal(out, ones) else "cutout" if set(out.unique().tolist()) <= {0.0, 1.0} else "color"
        if kind == "color":
            assert (out == out[:, :1, :1, :1]).all()  # and no hole
        seen.add(kind)
    assert seen == {"flip", "cutout", "color"}


def test_galaxy_turns_all_the_way_and_mirrors() -> None:
    """The direction of an off-centre spot covers the circle; a handed figure comes out in both hands."""
    y, x = np.mgrid[:33, :33] - 16.0
    spot = torch.from_numpy(np.exp(-((x - 8) ** 2 + y**2) / 8) + 2 * np.exp(-(x**2 + (y - 8) ** 2) / 8)).float()
    out = augment(spot.expand(400, 3, -1, -1), "galaxy", generator("turn"))[:, 0].double().numpy()
    light = out.sum((1, 2))
    angle = np.arctan2((out * y).sum((1, 2)) / light, (out * x).sum((1, 2)) / light)
    assert np.histogram(angle, 8, (-np.pi, np.pi))[0].min() > 20
    # Third moments tell left hand from right: the brighter spot lies 90 degrees on, or 90 degrees back.
    first = np.array([np.unravel_index(image.argmax(), image.shape) for image in out]) - 16.0
    cross = np.cos(angle) * first[:, 0] - np.sin(angle) * first[:, 1]
    assert 140 < (cross > 0).sum() < 260
    distance = np.hypot(*first.T)
    assert 8 / 1.2 - 1 < distance.min() < 7.3 < 8.8 < distance.max() < 8 * 1.2 + 1


def test_galaxy_fills_corners_with_sky() -> None:
    sky = torch.full((20, 3, SIDE, SIDE), -1.0)
    torch.testing.assert_close(augment(sky, "galaxy", generator(0)), sky)


def test_draws_are_repeatable_and_none_is_none(images: torch.Tensor) -> None:
    state = torch.random.get_rng_state()
    assert torch.equal(augment(images, DSA, generator(3)), augment(images, DSA, generator(3)))
    assert augment(images, "none", generator(3)) is images
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_unknown_strategy_is_refused(images: torch.Tensor) -> None:
    with pytest.raises(InputError, match="no augmentation 'color_blur'.*'galaxy'.*color, crop, cutout"):
        augment(images, "color_blur", generator(0))
    assert augmentation.check_strategy("flip") == "flip"


@pytest.mark.parametrize("strategy", ["galaxy", DSA, "none"])
def test_several_batches_at_once_are_one_after_the_other(strategy: str) -> None:
    images = torch.randn(3, 4, 3, 16, 16, dtype=torch.float64)
    together = augment_each(images, strategy, [torch.Generator().manual_seed(i) for i in range(3)])
    alone = [augment(own, strategy, torch.Generator().manual_seed(i)) for i, own in enumerate(images)]
    assert torch.equal(together, torch.stack(alone))


@pytest.mark.parametrize("family", [*FAMILIES, "galaxy"])
def test_everything_is_where_the_images_are(family: str) -> None:
    """Draws are made on the CPU, whatever the device."""
    images = torch.zeros(N, 3, SIDE, SIDE, device="meta")
    out = augment(images, family, generator(0))
    assert (out.device, out.shape) == (images.device, images.shape)
    together = augment_each(images[None], family, [generator(0)])
    assert (together.device, together.shape) == (images.device, (1, *images.shape))


@pytest.mark.parametrize("family", [*FAMILIES, "galaxy"])
def test_images_keep_their_precision(family: str) -> None:
    for precision in (torch.float32, torch.float64):
        assert augment(torch.ones(N, 3, SIDE, SIDE, dtype=precision), family, generator(0)).dtype == precision


class OnGpu(torch.Tensor):
    """A tensor that says of itself what one on a GPU says."""

    is_cuda = True


def test_a_gpu_samples_by_gathering_where_results_must_repeat(
    images: torch.Tensor, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Elsewhere the backward pass of grid_sample repeats already, or need not."""
    wanted = [augmentation.rotate(images, generator("r")), augmentation.galaxy(images, generator("g"))]

    def grid_sample(*args: object, **settings: object) -> None:
        raise LookupError

    monkeypatch.setattr(F, "grid_sample", grid_sample)
    request.addfinalizer(lambda: torch.use_deterministic_algorithms(False))
    for deterministic, kind in ((False, OnGpu), (False, torch.Tensor), (True, torch.Tensor)):
        torch.use_deterministic_algorithms(deterministic)
        with pytest.raises(LookupError):
            augmentation.rotate(images.as_subclass(kind), generator("r"))
    found = [
        augmentation.rotate(images.as_subclass(OnGpu), generator("r")),
        augmentation.galaxy(images.as_subclass(OnGpu), generator("g")),
    ]
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours.as_subclass(torch.Tensor), theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_sampling_of_images_that_are_no_squares(padding: str) -> None:
    images = torch.randn(2, 1, 5, 9, dtype=torch.float64, generator=generator("oblong"))
    grid = 2.6 * torch.rand(2, 5, 9, 2, dtype=torch.float64, generator=generator("grid")) - 1.3
    found = sample_by_gathering(images, grid, padding)
    torch.testing.assert_close(found, F.grid_sample(images, grid, padding_mode=padding, align_corners=False))
    corners = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    edges = torch.stack(torch.meshgrid(corners, corners, indexing="xy"), -1).repeat(2, 3, 5, 1)[:, :5, :9]
    found = sample_by_gathering(images, edges, padding)
    torch.testing.assert_close(found, F.grid_sample(images, edges, padding_mode=padding, align_corners=False))


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_sampling_with_a_fixed_order_is_grid_sample(images: torch.Tensor, padding: str) -> None:
    """Values, and gradients of images and grid; places outside among them."""
    grid = 2.6 * torch.rand(N, SIDE, SIDE, 2, dtype=torch.float64, generator=generator("grid")) - 1.3
    upstream = torch.randn(images.shape, dtype=torch.float64, generator=generator("upstream"))
    gathered = functools.partial(sample_by_gathering, padding=padding)
    found = []
    for sample in (lambda x, g: F.grid_sample(x, g, padding_mode=padding, align_corners=False), gathered):
        x, g = images.clone().requires_grad_(), grid.clone().requires_grad_()
        values = sample(x, g)
        found.append([values.detach(), *torch.autograd.grad(values, [x, g], upstream)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
