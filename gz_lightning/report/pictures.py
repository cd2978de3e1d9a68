"""Pictures of the page, as PNGs inside of it.

Shapes: H x W pixels.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image

from gz_lightning.data.cutouts import BAD_IMAGE, refusing_huge
from gz_lightning.errors import InputError

SIGNED = "RdBu_r"
"""Colours of signed numbers: red above 0, blue below."""
WIDEST = 1000
"""Pixels of a picture of the run's that are embedded, across."""


@dataclass(frozen=True)
class Picture:
    """A picture of the page.

    Args:
        alt: What it shows, in words.
        png: The PNG itself.
        width: In pixels as shown.
        height: Likewise.
        name: Its file beside the page, without ending; empty for the small ones, which have none.
    """

    alt: str
    png: bytes
    width: int
    height: int
    name: str = ""

    @property
    def data(self) -> str:
        """The PNG as a data URL."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


def figure_picture(name: str, figure: Figure, alt: str) -> Picture:
    """A figure, which is written beside the page too."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    width, height = figure.get_size_inches() * 96
    return Picture(alt, buffer.getvalue(), round(width), round(height), name)


def pixel_picture(pixels: torch.Tensor, alt: str) -> Picture:
    """An image pixel by pixel; the browser enlarges it.

    Args:
        pixels: In [0, 1], or uint8, shape (3, H, W).
        alt: What it shows, in words.
    """
    if pixels.is_floating_point():
        pixels = pixels.clamp(0, 1).mul(255).round().to(torch.uint8)
    return _encoded(Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()), alt)


def file_picture(path: Path, alt: str) -> Picture:
    """A picture that the run has drawn, at most ``WIDEST`` pixels wide.

    Raises:
        InputError: If it cannot be read.
    """
    try:
        with refusing_huge(), Image.open(path) as picture:
            shown = picture.convert("RGB")
    except BAD_IMAGE as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} cannot be read as a picture ({reason}); delete it to do without") from error
    shown.thumbnail((WIDEST, 4 * WIDEST))
    return _encoded(shown, alt)


def _encoded(image: Image.Image, alt: str) -> Picture:
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    return Picture(alt, buffer.getvalue(), *image.size)


def signed_colours(values: torch.Tensor, bound: float) -> torch.Tensor:
    """Signed numbers as colours: ``-bound`` is blue, 0 white, ``bound`` red.

    Args:
        values: Shape (H, W).
        bound: Above 0; what lies beyond is cut off.

    Returns:
        In [0, 1], shape (3, H, W).
    """
    shades = matplotlib.colormaps[SIGNED](Normalize(-bound, bound, clip=True)(values.double().numpy()))
    return torch.from_numpy(shades[..., :3]).permute(2, 0, 1).contiguous()


def scale_css() -> str:
    """The colours of :func:`signed_colours` as a gradient of CSS, from ``-bound`` to ``bound``."""
    stops = [matplotlib.colormaps[SIGNED](place / 10) for place in range(11)]
    return ", ".join(f"rgb({', '.join(str(round(255 * shade)) for shade in stop[:3])})" for stop in stops)


def rounded_bound(values: torch.Tensor, share: float = 0.995) -> float:
    """A bound that most values keep, rounded up to one digit; 1 where all are 0.

    Args:
        values: Of any shape, not empty.
        share: Share of the values within, 0 to 1.

    Example:
        >>> rounded_bound(torch.tensor([0.1, -0.23]), share=1.0)
        0.3
    """
    bound = float(f"{np.quantile(values.abs().double().numpy(), share):.4g}")
    if bound <= 0:
        return 1.0
    digit = 10.0 ** math.floor(math.log10(bound))
    return float(f"{math.ceil(bound / digit - 1e-9) * digit:.1g}")
