"""Cut-outs: crop, orientation, and images that cannot be used."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gz_lightning.data.cutouts import read_cutout
from gz_lightning.errors import InputError


def test_central_crop_and_orientation(tmp_path: Path) -> None:
    """The central half of a 40 px image, halved: each pixel the mean of four, not transposed, channels in order."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    wanted = pixels[10:30, 10:30].astype(float).reshape(10, 2, 10, 2, 3).mean((1, 3)).transpose(2, 0, 1)
    np.testing.assert_array_equal(read_cutout(tmp_path / "a.png", 10, 0.5), np.rint(wanted).astype(np.uint8))
    whole = read_cutout(tmp_path / "a.png", 40, 1.0)
    np.testing.assert_array_equal(whole, pixels.transpose(2, 0, 1))


def test_a_cutout_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "no.jpg").write_text("no image")
    with pytest.raises(InputError, match=r"no.jpg cannot be read as an image"):
        read_cutout(tmp_path / "no.jpg", 10)
    Image.new("RGB", (30, 40)).save(tmp_path / "small.png")
    with pytest.raises(InputError, match=r"small.png has 30 x 40 pixels.* of 15 px is smaller than the resolution 16"):
        read_cutout(tmp_path / "small.png", 16)


def test_an_image_larger_than_any_is_refused_by_itself_too(tmp_path: Path) -> None:
    Image.new("P", (10_000, 9_500)).save(tmp_path / "large.png")
    with pytest.raises(InputError, match="large.png cannot be read as an image: .* could be decompression bomb"):
        read_cutout(tmp_path / "large.png", 8)


def rgba(alpha: int | np.ndarray[Any, Any]) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 4), dtype=np.uint8)
    pixels[..., 3] = alpha
    return Image.fromarray(pixels)


def test_transparent_pixels_are_refused(tmp_path: Path) -> None:
    half = np.full((40, 40), 255)
    half[:, 20:] = 0
    for name, alpha in (("clear", 0), ("faint", 128), ("half", half)):
        rgba(alpha).save(tmp_path / f"{name}.png")
        with pytest.raises(InputError, match=f"{name}.png has transparent pixels"):
            read_cutout(tmp_path / f"{name}.png", 10)
    rgba(0).convert("RGB").convert("P").save(tmp_path / "palette.png", transparency=bytes([0] * 256))
    with pytest.raises(InputError, match="palette.png has transparent pixels"):
        read_cutout(tmp_path / "palette.png", 10)
    rgba(255).save(tmp_path / "opaque.png")
    rgba(255).convert("RGB").save(tmp_path / "plain.png")
    np.testing.assert_array_equal(read_cutout(tmp_path / "opaque.png", 10), read_cutout(tmp_path / "plain.png", 10))


@pytest.mark.parametrize("colour", ["black", "white", (9, 8, 7)])
def test_an_image_of_one_colour_is_refused(colour: str | tuple[int, ...], tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), colour).save(tmp_path / "flat.jpg")
    with pytest.raises(InputError, match="flat.jpg shows nothing: all its pixels have one colour"):
        read_cutout(tmp_path / "flat.jpg", 10)
