"""Area resizing against pixels cut up by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gz_lightning.data.resize import area_resize


def area_resize_by_hand(row: np.ndarray, resolution: int) -> np.ndarray:
    """Every pixel cut into ``resolution`` pieces; ``size`` pieces make one new pixel."""
    pieces = np.repeat(row, resolution, axis=0)
    return np.asarray(pieces.reshape(resolution, -1, *row.shape[1:]).mean(1))


@given(st.integers(1, 60), st.integers(1, 60))
def test_area_resize_against_cutting_pixels_up(size: int, resolution: int) -> None:
    resolution = min(size, resolution)
    images = np.random.default_rng(size).integers(0, 256, (1 + size % 6, size, size, 3), dtype=np.uint8)
    for pixels, found in zip(images, area_resize(list(images), resolution), strict=True):
        wanted = area_resize_by_hand(area_resize_by_hand(pixels, resolution).swapaxes(0, 1), resolution).transpose(2, 1, 0)
        assert np.abs(found - wanted).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(("size", "resolution"), [(300, 257), (424, 101), (1999, 64), (257, 128)])
def test_area_resize_of_white_is_white(size: int, resolution: int) -> None:
    """Where the whole numbers are largest, none overflows."""
    assert (area_resize([np.full((size, size, 3), 255, np.uint8)], resolution) == 255).all()
