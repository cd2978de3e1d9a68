"""Batched, differentiable augmentation: DSA and the galaxy strategy.

Each image of a batch has parameters drawn from an explicit generator; there is no loop over images, and gradients flow to
the pixels.

Shapes: N images, C channels, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from gz_lightning.errors import InputError
from gz_lightning.memory import to_device
from gz_lightning.shapes import Float, Tensor

Images = Float[Tensor, "N C H W"]
"""A batch; its functions give one of the same shape."""

DSA = "color_crop_cutout_flip_scale_rotate"
"""The strategy of the published results."""


def _uniform(images: torch.Tensor, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    """One number per image, uniform in [low, high), shape (N,)."""
    return to_device(torch.rand(len(images), generator=generator) * (high - low) + low, images.device).to(images.dtype)


def _affine(images: torch.Tensor, matrix: torch.Tensor, padding: str) -> torch.Tensor:
    """Resample about the centre; ``matrix``, shape (N, 2, 2), takes output to input coordinates."""
    grid = F.affine_grid(F.pad(matrix, (0, 1)), list(images.shape), align_corners=False)
    if images.is_cuda and torch.are_deterministic_algorithms_enabled():
        return sample_by_gathering(images, grid, padding)
    return F.grid_sample(images, grid, padding_mode=padding, align_corners=False)


def sample_by_gathering(images: Images, grid: Float[Tensor, "N H W 2"], padding: str) -> Images:
    """``F.grid_sample`` (bilinear) with a deterministic backward pass on a GPU.

    Args:
        images: Shape (N, C, H, W).
        grid: Places to read, shape (N, H, W, 2), in [-1, 1] where they are inside.
        padding: ``zeros`` or ``border``.
    """
    height, width = images.shape[2:]
    x, y = ((grid[..., 0] + 1) * width - 1) / 2, ((grid[..., 1] + 1) * height - 1) / 2
    if padding == "border":
        x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    left, top = x.floor(), y.floor()
    flat, total = images.flatten(2), torch.zeros_like(images)
    for right, below in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column, row = left + right, top + below
        weight = (x - left if right else left + 1 - x) * (y - top if below else top + 1 - y)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
        read = flat.gather(2, place.long().flatten(1)[:, None].expand(-1, images.shape[1], -1)).view_as(images)
        total = total + read * (weight * inside)[:, None]
    return total


def _rotation(angle: torch.Tensor) -> torch.Tensor:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)


def flip(images: Images, generator: torch.Generator) -> Images:
    """Mirror left and right with probability .5."""
    chosen = _uniform(images, 0, 1, generator) < 0.5
    return torch.where(chosen[:, None, None, None], images.flip(3), images)


def scale(images: Images, generator: torch.Generator, ratio: float = 1.2) -> Images:
    """Stretch each axis on its own by a factor in [1/ratio, ratio]; zero outside."""
    factors = torch.stack([_uniform(images, 1 / ratio, ratio, generator) for _ in range(2)], -1)
    return _affine(images, torch.diag_embed(factors), "zeros")


def rotate(images: Images, generator: torch.Generator, degrees: float = 15) -> Images:
    """Rotate by an angle in [-degrees, degrees); zero outside."""
    bound = math.radians(degrees)
    return _affine(images, _rotation(_uniform(images, -bound, bound, generator)), "zeros")


def crop(images: Images, generator: torch.Generator, ratio: float = 0.125) -> Images:
    """Shift each axis by whole pixels, up to ``ratio`` of the side; zero where nothing was."""
    for axis in (2, 3):
        side = images.shape[axis]
        most = int(side * ratio + 0.5)
        first = torch.randint(0, 2 * most + 1, (len(images), 1), generator=generator)
        place = to_device(first + torch.arange(side), images.device)
        padded = F.pad(images, (0, 0, most, most) if axis == 2 else (most, most))
        index = place[:, None, :, None] if axis == 2 else place[:, None, None, :]
        images = torch.take_along_dim(padded, index, axis)
    return images


def cutout(images: Images, generator: torch.Generator, ratio: float = 0.5) -> Images:
    """Set a square of ``ratio`` of the side to zero; its centre is anywhere, so part of it may lie outside."""
    inside = []
    for axis in (2, 3):
        side = images.shape[axis]
        size = int(side * ratio + 0.5)
        centre = torch.randint(0, side + (1 - size % 2), (len(images), 1), generator=generator)
        offset = torch.arange(side) - (centre - size // 2)
        inside.append(to_device((offset >= 0) & (offset < size), images.device))
    hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images.masked_fill(hole, 0)


def color(images: Images, generator: torch.Generator) -> Images:
    """Brightness, saturation and contrast.

    Adds a number in [-.5, .5); then stretches colours about the mean of the channels by a factor in [0, 2); then pixels
    about the mean of the image by a factor in [.5, 1.5).
    """
    images = images + _uniform(images, -0.5, 0.5, generator)[:, None, None, None]
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * _uniform(images, 0, 2, generator)[:, None, None, None]
    level = images.mean((1, 2, 3), keepdim=True)
    return level + (images - level) * _uniform(images, 0.5, 1.5, generator)[:, None, None, None]


def galaxy(images: Images, generator: torch.Generator, ratio: float = 1.2) -> Images:
    """Transformations that keep a galaxy's class: rotation, reflection with probability .5, scale in [1/ratio, ratio].

    One resampling does all three. What comes in from outside is filled with the nearest pixel of the border: that is sky,
    whereas zero is the mean brightness of standardised pixels, and reflection would mirror the core into a corner.
    """
    return galaxy_as_drawn(images, galaxy_draws(len(images), generator), ratio)


def galaxy_draws(number: int, generator: torch.Generator) -> Float[Tensor, "3 N"]:
    """What :func:`galaxy` draws for N images: for scale, reflection and angle a number in [0, 1) each, shape (3, N)."""
    return torch.stack([torch.rand(number, generator=generator) for _ in range(3)])


def galaxy_as_drawn(images: Images, draws: Float[Tensor, "3 N"], ratio: float = 1.2) -> Images:
    """:func:`galaxy` with given draws: the same operations whatever was drawn, all on the device of the images.

    Args:
        images: Shape (N, C, H, W).
        draws: Of :func:`galaxy_draws`, shape (3, N).
        ratio: Bound of the scale.
    """
    draws = to_device(draws, images.device)
    factor, handed, angle = draws[0] * (ratio - 1 / ratio) + 1 / ratio, draws[1], (draws[2] * (2 * math.pi)).to(images)
    mirror = 1 - 2 * (handed < 0.5).to(images)
    cos, sin = angle.cos(), angle.sin()
    matrix = torch.stack([cos * mirror, -sin, sin * mirror, cos], -1).view(-1, 2, 2) * factor.to(images)[:, None, None]
    return _affine(images, matrix, "border")


def augment_each(
    images: Float[Tensor, "n N C H W"], strategy: str, generators: Sequence[torch.Generator]
) -> Float[Tensor, "n N C H W"]:
    """Augment n batches, one with each generator, as :func:`augment` does one after the other.

    Args:
        images: Shape (n, N, C, H, W).
        strategy: See :func:`augment`.
        generators: n generators.

    Returns:
        Shape (n, N, C, H, W).
    """
    if check_strategy(strategy) == "galaxy":  # one resampling for all
        draws = torch.cat([galaxy_draws(images.shape[1], draws) for draws in generators], 1)
        return galaxy_as_drawn(images.flatten(0, 1), draws).view(images.shape)
    return torch.stack([augment(batch, strategy, draws) for batch, draws in zip(images, generators, strict=True)])


FAMILIES: dict[str, Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = {
    "color": color,
    "crop": crop,
    "cutout": cutout,
    "flip": flip,
    "scale": scale,
    "rotate": rotate,
}
"""The families of DSA (Zhao & Bilen 2021), with the published ranges."""


def check_strategy(strategy: str) -> str:
    """The strategy, if :func:`augment` has it.

    Raises:
        InputError: If it does not.
    """
    if strategy not in ("none", "galaxy") and not set(strategy.split("_")) <= set(FAMILIES):
        raise InputError(
            f"there is no augmentation '{strategy}': it is 'none', 'galaxy', or families of DSA "
            f"({', '.join(FAMILIES)}) joined by underscores such as '{DSA}'"
        )
    return strategy


def augment(images: Images, strategy: str, generator: torch.Generator) -> Images:
    """Augment a batch.

    Args:
        images: Standardised pixels, shape (N, C, H, W), on any device.
        strategy: ``none``; ``galaxy`` (any rotation, reflection and scale, see :func:`galaxy`); or families of DSA
            joined by underscores: one family is drawn for the batch, then parameters for each image. The
            published strategy is ``DSA``.
        generator: A generator on the CPU, whatever the device of the images: the draws are the same on each.

    Returns:
        Augmented pixels, shape (N, C, H, W).

    Raises:
        InputError: If there is no such strategy.

    Example:
        >>> draws = torch.Generator().manual_seed(0)
        >>> augment(torch.zeros(5, 3, 32, 32), "galaxy", draws).shape
        torch.Size([5, 3, 32, 32])
    """
    if check_strategy(strategy) == "none":
        return images
    if strategy == "galaxy":
        return galaxy(images, generator)
    families = strategy.split("_")
    family = families[int(torch.randint(len(families), (), generator=generator))]
    return FAMILIES[family](images, generator)
