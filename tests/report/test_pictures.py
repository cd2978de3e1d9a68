"""Pictures inside of the page."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gz_lightning.errors import InputError
from gz_lightning.report.pictures import WIDEST, file_picture, pixel_picture, rounded_bound, scale_css, signed_colours


def test_pixels_come_back_as_they_were() -> None:
    pixels = torch.randint(256, (3, 5, 7), dtype=torch.uint8)
    for given in (pixels, pixels / 255):
        picture = pixel_picture(given, "a picture")
        with Image.open(io.BytesIO(picture.png)) as image:
            back = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        assert torch.equal(back, pixels)
        assert (picture.width, picture.height, picture.name) == (7, 5, "")
    assert picture.data.startswith("data:image/png;base64,iVBOR")


def test_red_is_above_zero_and_blue_below() -> None:
    red, white, blue = signed_colours(torch.tensor([[5.0, 0.0, -5.0]]), 2.0)[:, 0].T.tolist()
    assert red[0] > 2 * red[2]
    assert blue[2] > 2 * blue[0]
    assert min(white) > 0.95
    assert scale_css().count("rgb(") == 11


@pytest.mark.parametrize(("largest", "bound"), [(0.0, 1.0), (0.23, 0.3), (0.3, 0.3), (7.1, 8.0), (96.0, 100.0)])
def test_bounds_have_one_digit_and_hold_the_values(largest: float, bound: float) -> None:
    assert rounded_bound(torch.tensor([largest, -largest / 2]), share=1.0) == pytest.approx(bound)


def test_pictures_of_the_run_are_made_smaller_or_refused(tmp_path: Path) -> None:
    Image.new("RGBA", (2 * WIDEST, WIDEST)).save(tmp_path / "a.png")
    picture = file_picture(tmp_path / "a.png", "large")
    assert (picture.width, picture.height) == (WIDEST, WIDEST // 2)
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"b.png cannot be read as a picture .*; delete it to do without"):
        file_picture(tmp_path / "b.png", "broken")
