"""Pictures by leaf, as ImageFolder reads them, and TIFFs that keep what a PNG cuts off."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from gz_lightning.errors import Damaged, InputError
from gz_lightning.sets.pictures import class_folder, read_pngs, read_tiffs, write_pngs, write_tiffs
from gz_lightning.sets.synthetic import SyntheticSet

NAMES = tuple(f"{letter} leaf" for letter in "lkjihgfedcba")
"""Twelve leaves whose order is not the alphabetical one, nor that of numbers without zeros before them."""


def made(leaves: int = 12) -> SyntheticSet:
    draws = torch.Generator().manual_seed(0)
    return SyntheticSet(
        images=2 * torch.randn(2 * leaves, 3, 8, 8, generator=draws),
        labels=torch.arange(leaves).repeat_interleave(2),
        step_sizes=torch.tensor([0.01]),
        class_names=NAMES[:leaves],
        mean=torch.tensor([0.2, 0.3, 0.4]),
        std=torch.tensor([0.1, 0.2, 0.3]),
    )


def description(synthetic: SyntheticSet) -> dict[str, Any]:
    return {
        "class_names": list(synthetic.class_names),
        "labels": synthetic.labels.tolist(),
        "images": len(synthetic),
        "resolution": 8,
    }


def test_image_folder_gives_the_labels_of_the_set(tmp_path: Path) -> None:
    synthetic = made()
    write_pngs(synthetic, synthetic.pixels, tmp_path)
    found = ImageFolder(str(tmp_path))
    assert found.targets == synthetic.labels.tolist()
    assert found.classes[10] == "10_b_leaf"
    for (picture, _), pixels in zip(found, synthetic.pixels, strict=True):
        assert np.array_equal(np.asarray(picture).transpose(2, 0, 1), pixels.numpy())


def test_pictures_are_read_back(tmp_path: Path) -> None:
    synthetic = made(3)
    write_pngs(synthetic, synthetic.pixels, tmp_path)
    pixels, labels = read_pngs(tmp_path, description(synthetic))
    assert torch.equal(pixels, synthetic.pixels)
    assert labels is None
    leaf = tmp_path / class_folder(1, synthetic.class_names)
    Image.new("RGB", (8, 8)).save(leaf / "00077.png")
    with pytest.raises(Damaged, match="it is of 6 pictures, and there are 7"):
        read_pngs(tmp_path, description(synthetic))
    (leaf / "00077.png").replace(leaf / "00002.png")
    (leaf / "00003.png").replace(leaf / "00004.png")
    with pytest.raises(InputError, match=r"00003.png is no file"):
        read_pngs(tmp_path, description(synthetic))


def test_a_leaf_without_images_is_no_folder_of_pictures(tmp_path: Path) -> None:
    """ImageFolder takes no empty folder; without it the leaves would have other numbers."""
    synthetic = made(3)
    synthetic.labels = torch.tensor([0, 0, 1, 1, 1, 1])
    with pytest.raises(InputError, match="no image is labelled j leaf, and torchvision's ImageFolder takes no empty folder"):
        write_pngs(synthetic, synthetic.pixels, tmp_path)


def test_a_tiff_keeps_what_a_png_cuts_off(tmp_path: Path) -> None:
    synthetic = made(3)
    pixels = synthetic.unclipped
    assert synthetic.cut_off == pytest.approx(float(((pixels < 0) | (pixels > 1)).sum()) / pixels.numel())
    assert synthetic.cut_off > 0.1
    write_tiffs(synthetic, pixels, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir())[-1] == "00005_j_leaf.tiff"
    assert torch.equal(read_tiffs(tmp_path, description(synthetic))[0], pixels)
    with pytest.raises(FileNotFoundError, match="any class folder"):  # it would turn these pixels into 0 and 1
        ImageFolder(str(tmp_path))


@pytest.mark.parametrize("kind", ["two pages", "another size", "8 bits", "nonsense", "gone"])
def test_a_tiff_that_does_not_fit_is_refused(tmp_path: Path, kind: str) -> None:
    synthetic = made(3)
    write_tiffs(synthetic, synthetic.unclipped, tmp_path)
    file = tmp_path / "00000_l_leaf.tiff"
    page = Image.fromarray(synthetic.unclipped[0, 0].numpy())
    if kind == "two pages":
        page.save(file, save_all=True, append_images=[page])
    elif kind == "another size":
        page.resize((9, 9)).save(file, save_all=True, append_images=[page, page])
    elif kind == "8 bits":
        Image.new("RGB", (8, 8)).save(file)
    elif kind == "nonsense":
        file.write_bytes(b"II*\0nonsense")
    else:
        file.unlink()
    with pytest.raises(InputError, match=r"00000_l_leaf.tiff (is no file|cannot be read as a TIFF of three pages of 8 x 8)"):
        read_tiffs(tmp_path, description(synthetic))
