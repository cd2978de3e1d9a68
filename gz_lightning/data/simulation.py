"""Simulated galaxies: SDSS-like gri composites of the ten leaves of the `simplified` tree, with simulated volunteers.

The parameters that set the leaves apart are drawn within the ranges of a table, everything else where it is used. Light
is the sum of a bulge, a disk, a bar, spiral arms and stars; then follow the seeing, the noise and the colour stretch of
the SDSS pictures. Lengths are in frames, the side of a picture: 4.24 Petrosian R90 of the galaxy, as in the central half
of a Galaxy Zoo 2 cut-out of 424 pixels of 0.02 R90. The resolution only samples that geometry. Brightness is in units of
the softening of the stretch, colours are g - r in magnitudes, and the bands are i, r, g, shown as red, green, blue.

Shapes: N galaxies, C galaxies of a chunk, H x W pixels, G grid points along a side, L components of light, S stars.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from gz_lightning.data.tree import TREES
from gz_lightning.errors import InputError

_ANSWERS = TREES["simplified"].answers  # what the volunteers are asked
_CHUNK = 20  # galaxies rendered together: some 120 MB at up to 128 pixels
_GRID = 128  # fewest grid points along a side: with fewer the cores of bulges alias
_STARS = 20  # most stars and neighbours in one frame
_FRAME = 4.24  # R90
_PIXEL = 0.396  # arcsec, SDSS camera
_SEEING = 1.3  # arcsec, median FWHM of the point spread function in r (Abazajian et al. 2009)
_EXTINCTION = (0.76, 1.0, 1.44)  # of dust in i, r, g relative to r (Schlegel et al. 1998)
_SKY_NOISE = 0.28  # standard deviation per SDSS pixel
_SKY_LIGHT = 4.5  # brightness of the sky that was subtracted: it still counts for the photon noise
_SATURATION = 300.0  # brightness at which the camera's pixels are full
_STRETCH = 0.17  # grey level per unit of arcsinh

# One row per leaf, set by eye and by the distributions of size, profile, colour and noise of 2,400 real cut-outs. The axis
# ratio is the apparent one, for an edge-on disk scale height over scale length; bulge is its share of the light, all of it
# in smooth galaxies; bar, arms and star are strengths in 0..1; brightness is the mean of the frame.
# fmt: off
_RANGES = (
    # axis ratio   R90, arcsec g - r         bulge         bar           arms          brightness  star
    ((0.84, 1.00), (4.0, 16.), (0.30, 1.00), (1.00, 1.00), (0.00, 0.10), (0.00, 0.10), (0.5, 1.4), (0.0, 0.2)),
    ((0.48, 0.81), (4.0, 16.), (0.20, 1.00), (1.00, 1.00), (0.00, 0.10), (0.00, 0.10), (0.5, 1.4), (0.0, 0.2)),
    ((0.24, 0.45), (4.0, 16.), (0.15, 0.95), (1.00, 1.00), (0.00, 0.10), (0.00, 0.10), (0.4, 1.0), (0.0, 0.2)),
    ((0.15, 0.35), (4.0, 16.), (0.45, 0.98), (0.20, 0.60), (0.00, 0.05), (0.00, 0.05), (0.4, 0.9), (0.0, 0.2)),
    ((0.10, 0.26), (4.0, 16.), (0.25, 0.90), (0.00, 0.05), (0.00, 0.05), (0.00, 0.05), (0.3, 0.7), (0.0, 0.2)),
    ((0.45, 1.00), (5.5, 18.), (0.10, 0.85), (0.03, 0.30), (0.50, 1.00), (0.45, 1.00), (0.5, 1.0), (0.0, 0.2)),
    ((0.45, 1.00), (5.5, 18.), (0.30, 0.85), (0.05, 0.35), (0.50, 1.00), (0.00, 0.25), (0.4, 1.0), (0.0, 0.2)),
    ((0.42, 1.00), (5.5, 18.), (0.10, 0.90), (0.03, 0.40), (0.00, 0.30), (0.45, 1.00), (0.5, 1.0), (0.0, 0.2)),
    ((0.42, 1.00), (5.5, 18.), (0.30, 0.85), (0.10, 0.40), (0.00, 0.30), (0.00, 0.25), (0.4, 1.0), (0.0, 0.2)),
    ((0.40, 1.00), (4.0, 16.), (0.40, 0.95), (1.00, 1.00), (0.00, 0.10), (0.00, 0.10), (0.1, 0.5), (0.6, 1.0)),
)
# fmt: on


@dataclass(frozen=True)
class SimulatedGalaxies:
    """Simulated galaxies, as :func:`simulate_galaxies` returns them.

    Attributes:
        images: RGB composites, uint8, shape (N, 3, H, W).
        labels: The leaf of the `simplified` tree each galaxy was made for, int64 in 0..9, shape (N,).
        votes: Answer, such as ``a01``, -> simulated vote fractions in [0, 1], float64, shape (N,). The fractions of
            one question's answers sum to one.
    """

    images: torch.Tensor
    labels: torch.Tensor
    votes: dict[str, npt.NDArray[np.float64]]


def simulate_galaxies(labels: torch.Tensor, *, resolution: int = 64, seed: int = 0) -> SimulatedGalaxies:
    """Simulate one galaxy for each label.

    Galaxy i depends on its label, i, ``resolution`` and ``seed`` alone: a longer list of labels begins with the galaxies
    of the shorter one, and no global random state is read or changed.

    Args:
        labels: Leaves of the `simplified` tree, int64 in 0..9, shape (N,).
        resolution: Side of the pictures in pixels, at least 8. Powers of two up to 128 show the same noise as well.
        seed: Seed of all random numbers, at least 0.

    Raises:
        InputError: If the labels are not leaves of that tree or the resolution is too small.

    Example:
        >>> simulate_galaxies(torch.arange(10), resolution=32).images.shape
        torch.Size([10, 3, 32, 32])
    """
    if labels.ndim != 1 or labels.dtype != torch.int64:
        raise InputError(f"labels are {labels.dtype} of shape {tuple(labels.shape)}; give torch.int64 of shape (N,)")
    if unknown := sorted(set(labels.tolist()) - set(range(len(_RANGES)))):
        raise InputError(f"labels contain {unknown}; give leaves of the simplified tree, 0 to {len(_RANGES) - 1}")
    if resolution < 8:
        raise InputError(f"resolution is {resolution}; give at least 8 pixels")
    labels, images, votes = labels.detach().cpu().clone(), [], []
    for index, chunk in enumerate(torch.split(labels, _CHUNK)):
        draws = _Draws(seed, index)
        # Always a full chunk, then a cut: the draws, and the rounding of the matrix products, do not depend on N
        galaxies = _Galaxies.draw(F.pad(chunk, (0, _CHUNK - len(chunk))), draws)
        votes.append(_vote(galaxies, draws)[: len(chunk)])
        images.append(_photograph(galaxies, resolution, draws)[: len(chunk)])
    fractions = torch.cat(votes).double().numpy().T
    return SimulatedGalaxies(torch.cat(images), labels, dict(zip(_ANSWERS, fractions, strict=True)))


class _Draws:
    """Random numbers of one chunk: a sequence for parameters and one, which depends on the resolution, for pixels."""

    def __init__(self, seed: int, index: int) -> None:
        states = np.random.SeedSequence([seed, index]).generate_state(2)
        self.parameters, self.pixels = (torch.Generator().manual_seed(int(state)) for state in states)

    def uniform(self, low: torch.Tensor | float, high: torch.Tensor | float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(_CHUNK, *shape, generator=self.parameters)

    def normal(self, scale: torch.Tensor | float, *shape: int) -> torch.Tensor:
        return scale * torch.randn(_CHUNK, *shape, generator=self.parameters)

    def chance(self, probability: torch.Tensor | float, *shape: int) -> torch.Tensor:
        return self.uniform(0, 1, *shape) < probability


@dataclass(frozen=True)
class _Galaxies:
    """What sets C galaxies apart: the columns of :data:`_RANGES`, each of shape (C,), and their labels."""

    labels: torch.Tensor
    axis_ratio: torch.Tensor
    r90: torch.Tensor
    color: torch.Tensor
    bulge: torch.Tensor
    bar: torch.Tensor
    arms: torch.Tensor
    brightness: torch.Tensor
    star: torch.Tensor

    @classmethod
    def draw(cls, labels: torch.Tensor, draws: _Draws) -> _Galaxies:
        low, high = torch.tensor(_RANGES)[labels].unbind(-1)
        share = draws.uniform(0, 1, len(_RANGES[0]))
        share[:, 2] = 1 - share[:, 2] ** torch.where(labels < 2, 2.2, 1.4)  # more galaxies are red
        columns = low + (high - low) * share
        columns[:, 1] = low[:, 1] * (high[:, 1] / low[:, 1]) ** share[:, 1]  # more galaxies are small
        columns[:, 6] *= draws.normal(torch.where((labels < 5) | (labels == 9), 0.5, 0.35)).exp()
        columns[:, 6].clamp_(max=2)
        return cls(labels, *columns.unbind(1))


def _vote(g: _Galaxies, draws: _Draws) -> torch.Tensor:
    """Vote fractions, shape (C, number of answers), in the order of ``_ANSWERS``.

    Each question is a logistic curve in the parameter that it is about, with the scatter of some forty volunteers.
    """

    def yes(evidence: torch.Tensor, width: float) -> torch.Tensor:
        return torch.sigmoid(evidence / width + draws.normal(0.35))

    # Features are easier to see in large galaxies
    featured = 3.6 * (1 - g.bulge).sqrt() + 0.8 * g.arms + 0.4 * g.bar + 0.4 * torch.log(g.r90 / 8) - 1.4
    scores = torch.stack([torch.zeros_like(featured), featured + draws.normal(0.35), 7 * g.star - 3.5], 1)
    smooth, disk, star = scores.softmax(1).unbind(1)
    edge_on = yes(0.385 - g.axis_ratio, 0.035)
    bar, arms, bulge = yes(g.bar - 0.4, 0.1), yes(g.arms - 0.35, 0.1), yes(g.bulge - 0.1, 0.04)
    circle = yes(g.axis_ratio - 0.825, 0.04)
    cigar = (1 - circle) * yes(0.465 - g.axis_ratio, 0.05)
    # fmt: off
    answers = {
        "a01": smooth, "a02": disk, "a03": star, "a04": edge_on, "a05": 1 - edge_on,
        "a06": bar, "a07": 1 - bar, "a08": arms, "a09": 1 - arms,
        "a16": circle, "a17": 1 - circle - cigar, "a18": cigar,
        "a25": 0.85 * bulge, "a26": 0.15 * bulge, "a27": 1 - bulge,
    }
    # fmt: on
    return torch.stack([answers[answer] for answer in _ANSWERS], 1)


def _photograph(g: _Galaxies, resolution: int, draws: _Draws) -> torch.Tensor:
    """The pictures of the galaxies, uint8, shape (C, 3, resolution, resolution)."""
    grid = math.ceil(_GRID / resolution) * resolution
    axis = (torch.arange(grid) + 0.5) / grid - 0.5
    arcsec = 1 / (_FRAME * g.r90[:, None])  # frames
    pixel = _PIXEL * arcsec
    seeing = _SEEING * draws.normal(0.1, 1).exp() * torch.tensor([0.98, 1.0, 1.03]) * arcsec / 2.355  # (C, 3)
    registration = draws.normal(0.07, 3, 2).clamp(-0.2, 0.2) * arcsec[..., None]  # of the bands on each other

    light = _blur(_light(g, axis, draws), axis, seeing, registration)
    light = light + _foreground(g, axis, seeing, draws)
    # Noise of SDSS pixels: where they are finer than the grid it averages out. JPEG keeps only the coarse part of its colour
    noise = torch.randn(light.shape, generator=draws.pixels)
    grey = _blur(3**0.5 * noise.mean(1, keepdim=True), axis, 0.36 * pixel, white=True)
    tint = _blur(noise, axis, 0.5 * pixel + 0.012, white=True)
    noise = (grey + 0.28 * tint) * (_SKY_NOISE * draws.normal(0.3, 1).exp() * (pixel * grid).clamp(max=1))[..., None, None]
    light = (light + (1 + light / _SKY_LIGHT).clamp(min=0).sqrt() * noise).clamp(max=_SATURATION)

    # Lupton et al. (2004): stretch the mean of the bands, keep their ratios, and scale down what is too bright
    mean = light.mean(1, keepdim=True).clamp(min=1e-4)
    colors = light * (_STRETCH * torch.asinh(mean) / mean)
    colors = (colors / colors.amax(1, keepdim=True).clamp(min=1)).clamp(min=0)
    colors = _blur(colors, axis, ((0.45 * pixel) ** 2 + 0.003**2).sqrt())  # the service enlarges finished composites
    return (F.avg_pool2d(colors, grid // resolution) * 255).round().to(torch.uint8)


def _light(g: _Galaxies, axis: torch.Tensor, draws: _Draws) -> torch.Tensor:
    """The galaxy's light above the atmosphere, shape (C, 3, G, G)."""
    uniform, normal, chance, where = draws.uniform, draws.normal, draws.chance, torch.where
    smooth, edge_on = (g.labels < 3) | (g.labels == 9), (g.labels == 3) | (g.labels == 4)
    center = 0.006 + normal(0.005, 2)  # real cut-outs have them a little right of and below the middle
    x, y = _rotate(axis - center[:, :1, None], axis[:, None] - center[:, 1:, None], uniform(0, math.pi))
    # Sizes follow from R90. It was measured in circular apertures, which see a flat galaxy as smaller than it is
    scatter = normal(where(smooth | edge_on, 0.25, 0.13)).exp() / _FRAME
    scale_length = scatter / where(edge_on, 2.1, 2.4)
    h, q = _wide(scale_length), _wide(g.axis_ratio)
    edge = _wide(where(smooth, uniform(2.2, 7.5), uniform(2.8, 5.0)))  # where the light ends, scale lengths
    soft = (0.3 / len(axis)) ** 2  # a core finer than the grid would depend on where the grid points fall

    # Sersic bulge with Ciotti & Bertin's (1999) b. Red galaxies are the concentrated ones (Blanton et al. 2003)
    n = (1 + 6 * (g.color - 0.45) + normal(0.9)).clamp(0.55, 5)
    n = _wide(where(smooth, where(g.labels == 2, n.clamp(max=1.4), n), uniform(1, 3)))
    b = 2 * n - 1 / 3 + 4 / (405 * n)
    half_light = where(edge_on, uniform(0.5, 1.2), uniform(0.4, 0.9)) * scale_length
    half_light = where(smooth, g.axis_ratio**-0.35 / 1.85 * scatter, half_light)
    flattening = where(smooth, g.axis_ratio, where(edge_on, uniform(0.55, 0.9), g.axis_ratio.sqrt()))
    radius = (x**2 + (y / _wide(flattening)) ** 2 + soft).sqrt()
    bulge = torch.exp(-b * (radius / _wide(half_light)) ** (1 / n)) * torch.sigmoid((edge - radius / h) / 0.3)

    # Edge-on disk: an exponential from the side, about x K1(x), and sech^2 above the plane (van der Kruit & Searle 1981)
    along, height = x.abs() / h, y / (h * q)
    side = torch.exp(-along) * (1 + math.pi / 2 * along).sqrt() * torch.sigmoid((edge - along) / 0.3)
    side = side / torch.cosh(height.clamp(-20, 20)) ** 2

    # Inclined disk: exponential in its plane (u, v). Bar on boxy ellipses (Athanassoula et al. 1990), ring at its ends
    u, v = _rotate(x / h, y / h / q, uniform(0, math.pi))
    r = (u**2 + v**2 + soft / h**2).sqrt()
    inside = torch.sigmoid((edge - r) / 0.45)
    disk = where(edge_on[:, None, None], side, torch.exp(-r) * inside)
    end, slimness = _wide(uniform(1.0, 1.7)), _wide(uniform(0.2, 0.35))
    bar = F.relu(1 - ((u / end).abs() ** 3 + (v / end / slimness).abs() ** 3) ** (2 / 3))
    ring = torch.exp(-0.5 * ((r - 1.1 * end) / 0.22) ** 2)

    # Arms: logarithmic spirals from the ends of the bar; irregular ones are warped, clumpy and lopsided
    turn, outward = torch.atan2(v, u), torch.log(r / end)
    irregular, phases = _wide(uniform(0.1, 1.0)), uniform(0, 2 * math.pi, 2)
    number = 2.0 + chance(0.35) + chance(0.35)
    winding = where(chance(0.5), -1, 1) / torch.tan(torch.deg2rad(uniform(12, 32)))  # 1 / tan(pitch angle)
    warp = irregular * torch.sin(turn + 2 * outward + _wide(phases[:, 0]))
    ridge = torch.cos(_wide(number) * (turn - _wide(winding) * outward) + warp) - 1
    clumps = _blur(torch.randn(r[:, None].shape, generator=draws.pixels), axis, torch.tensor([[0.012]]), white=True)[:, 0]
    arms = torch.exp(_wide(uniform(0.8, 3.0)) * ridge + 0.8 * irregular.sqrt() * clumps - r / 1.5)
    arms = arms * inside * torch.sigmoid((r - 0.8 * end) / 0.2)
    arms = arms * (1 + 0.5 * irregular * torch.cos(turn + _wide(phases[:, 1])))

    in_ring = where((g.labels == 6) | (g.labels == 8), uniform(0.1, 0.3), 0.0) * chance(0.75)
    shares = (1 - g.bulge)[:, None] * torch.stack([0.4 * g.bar, 0.45 * g.arms, in_ring], 1)
    shares = torch.cat([g.bulge[:, None], (1 - g.bulge - shares.sum(1))[:, None], shares], 1)  # (C, L)
    old, young = where(smooth, g.color, (g.color + 0.25).clamp(0.7, 0.95)), g.color - uniform(0.1, 0.3)
    spectra = _bands(torch.stack([old, g.color, old - 0.1, young, g.color], 1)) * g.brightness[:, None, None]
    parts = torch.stack([bulge, disk, bar, arms, ring], 1)
    parts = parts / parts.mean((2, 3), keepdim=True).clamp(min=1e-9)  # a bar seen edge-on may fall between grid points
    light = torch.einsum("clb,clyx->cbyx", spectra * shares[..., None], parts)

    # Dust lane of some edge-on disks, and a gradient of colour
    depth = uniform(0.5, 1.5) * (edge_on & chance(0.35))
    lane = torch.exp(-0.5 * ((height - _wide(normal(0.25))) / 0.35) ** 2 - along / 2) * _wide(depth)
    extinction, gradient = torch.tensor(_EXTINCTION)[:, None, None], (radius / h - 1.5) * _wide(0.05 + normal(0.12))
    return light * torch.exp(gradient[:, None] * (extinction - 1) - lane[:, None] * extinction)


def _foreground(g: _Galaxies, axis: torch.Tensor, seeing: torch.Tensor, draws: _Draws) -> torch.Tensor:
    """Stars, neighbours, trails and sky, shape (C, 3, G, G); ``seeing`` is the width of a star in frames, shape (C, 3)."""
    uniform, chance, where = draws.uniform, draws.chance, torch.where
    crowding = 0.0035 * draws.normal(0.6).exp() * (_FRAME * g.r90) ** 2  # objects in the frame, by the square arcsec
    peak = 0.5 / uniform(0.001, 1, _STARS) * chance(crowding[:, None] / _STARS, _STARS)
    color = where(chance(0.3, _STARS), 1.45, uniform(0.2, 1.2, _STARS))
    size = where(chance(0.5, _STARS), uniform(1, 3, _STARS), 1.0)  # above the seeing's 1 it is a small galaxy
    place = uniform(-0.5, 0.5, _STARS, 2)

    # The first star may be bright. A star or artifact is a saturated star, one that outshines the galaxy beside it, a
    # double star, or a satellite's trail; other frames have a bright star nearby now and then
    odd, kind, nearby = g.labels == 9, uniform(0, 4).int(), chance(0.03)
    bright, passes = where(odd, kind < 3, nearby), odd & (kind == 3)
    away = where(odd, where(kind == 1, uniform(0.2, 0.5), uniform(0, 0.04)), uniform(0.45, 0.7))[:, None]
    toward = uniform(0, 2 * math.pi, 1)
    first = 10 ** (1.2 + 2.1 * where(odd, g.star, uniform(0.4, 1.0)))
    peak[:, 0] = where(bright, first, peak[:, 0])
    peak[:, 1] = where(odd & (kind == 2), first * uniform(0.2, 1.0), peak[:, 1])
    color[:, :2] = where(odd[:, None], uniform(0.2, 0.9, 2), color[:, :2])
    place[:, 0] = where(bright[:, None], away * torch.cat([toward.cos(), toward.sin()], 1), place[:, 0])
    place[:, 1] = where(odd[:, None], uniform(-0.12, 0.12, 2), place[:, 1])
    size[:, :2] = where((bright | odd)[:, None], 1.0, size[:, :2])

    # The survey's own model of a star is a sum of two Gaussians (Stoughton et al. 2002)
    sigma, heights = seeing[:, :, None] * size[:, None], (_bands(color) * peak[..., None]).mT / size[:, None] ** 2
    sigma, heights = torch.cat([sigma, 3 * sigma], 2)[..., None], torch.cat([heights, 0.05 * heights], 2)[..., None]
    across, down = (axis - place.repeat(1, 2, 1)[:, None, :, i, None] for i in (0, 1))  # (C, 1, 2S, G)
    light = (heights * torch.exp(-0.5 * (down / sigma) ** 2)).mT @ torch.exp(-0.5 * (across / sigma) ** 2)

    # Diffraction spikes, and the brown glow of what a bright star scatters over the frame
    x, y = axis - place[:, 0, :1, None], axis[:, None] - place[:, 0, 1:, None]
    glow = _wide(first.sqrt() * uniform(0.001, 0.004)) / (0.02 + x**2 + y**2)
    x, y = _rotate(x, y, uniform(0, math.pi))
    narrow = 2 * _wide(seeing[:, 1]) ** 2
    spikes = torch.exp(-(y**2) / narrow - x.abs() / 0.12) + torch.exp(-(x**2) / narrow - y.abs() / 0.12)
    spikes = spikes * _wide(first * uniform(0.005, 0.02))
    scattered = spikes[:, None] + glow[:, None] * _bands(torch.tensor(1.1))[:, None, None]
    # A trail differs from band to band: the camera takes them one after the other
    trail = _rotate(axis[None, None], axis[:, None], uniform(0, math.pi))[1] - _wide(uniform(-0.05, 0.05))
    trail = torch.exp(-(trail**2) / narrow)[:, None] * (uniform(-3, 6, 3).clamp(min=0) + uniform(0, 2, 1))[..., None, None]
    light = light + scattered * bright[:, None, None, None]
    light = light + (torch.tensor([0.02, 0.02, -0.04]) + draws.normal(0.02, 3))[..., None, None]  # what is left of the sky
    return light + trail * passes[:, None, None, None]


def _bands(color: torch.Tensor) -> torch.Tensor:
    """Brightness in i, r, g relative to r, as a new last dimension; g - r = 0.43 and r - i = 0.19 is white."""
    # Galaxies and most stars have r - i = 0.22 + 0.21 (g - r), the reddest stars more
    red = 0.03 + 0.21 * color + 1.5 * F.relu(color - 1.2)
    return 10 ** (0.4 * torch.stack([red, torch.zeros_like(color), 0.43 - color], -1))


def _blur(
    images: torch.Tensor, axis: torch.Tensor, width: torch.Tensor, shift: torch.Tensor | None = None, white: bool = False
) -> torch.Tensor:
    """Convolves (C, L, G, G) images with Gaussians of ``width`` (C, L) after a ``shift`` (C, L, 2) along x and y, in frames.

    One matrix for each direction does it. It keeps light or, if ``white``, the variance of white noise.
    """
    width = width.clamp(min=0.4 / len(axis))[..., None, None]

    def matrix(move: torch.Tensor) -> torch.Tensor:
        weights = torch.exp(-0.5 * ((axis[:, None] - axis - move) / width) ** 2)
        return weights / (weights.norm(dim=-1, keepdim=True) if white else weights.sum(-1, keepdim=True))

    shift = torch.zeros(1, 1, 2) if shift is None else shift
    columns, rows = (matrix(move) for move in shift[..., None, None].unbind(2))
    blurred: torch.Tensor = rows @ images @ columns.mT
    return blurred


def _rotate(x: torch.Tensor, y: torch.Tensor, angle: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates along and across the direction ``angle`` (C,), both of shape (C, G, G)."""
    cos, sin = _wide(angle.cos()), _wide(angle.sin())
    return x * cos + y * sin, y * cos - x * sin


def _wide(parameter: torch.Tensor) -> torch.Tensor:
    """A parameter (C,) as an image (C, 1, 1)."""
    return parameter[:, None, None]
