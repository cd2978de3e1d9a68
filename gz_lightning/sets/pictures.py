"""Sets as pictures: PNGs in a folder of each leaf, and TIFFs that keep what a PNG cuts off.

Shapes: M images, H x W pixels.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gz_lightning.data.cutouts import BAD_IMAGE, refusing_huge
from gz_lightning.data.tree import leaf_folder
from gz_lightning.errors import Damaged, InputError, reading
from gz_lightning.sets.description import checked_names, labels_of, part
from gz_lightning.sets.synthetic import SyntheticSet


def class_folder(label: int, class_names: Sequence[str]) -> str:
    """The folder of a leaf: its number, then its name, so that the alphabetical order is that of the leaves.

    Example:
        >>> class_folder(1, ("completely round", "cigar shaped"))
        '01_cigar_shaped'
    """
    digits = max(2, len(str(len(class_names) - 1)))
    return f"{label:0{digits}d}_{leaf_folder(class_names[label])}"


def write_pngs(synthetic: SyntheticSet, pixels: torch.Tensor, folder: Path) -> None:
    """Write ``01_leaf/00003.png`` and so on: the number of the leaf, and the place of the image in the set.

    Args:
        synthetic: The set.
        pixels: Its pixels, uint8, shape (M, 3, H, W).
        folder: An empty folder.

    Raises:
        InputError: If learned labels have left a leaf without images: ImageFolder takes no empty folder.
    """
    names, labels = synthetic.class_names, synthetic.hard_labels.tolist()
    if empty := sorted(set(range(len(names))) - set(labels)):
        raise InputError(
            f"pictures are not written: no image is labelled {' or '.join(names[leaf] for leaf in empty)}, and "
            "torchvision's ImageFolder takes no empty folder; the other formats write the set as it is"
        )
    for label in range(len(names)):
        (folder / class_folder(label, names)).mkdir()
    for place, label in enumerate(labels):
        picture = Image.fromarray(pixels[place].permute(1, 2, 0).numpy())
        picture.save(folder / class_folder(label, names) / f"{place:05d}.png")


def read_pngs(folder: Path, description: Mapping[str, Any]) -> tuple[torch.Tensor, None]:
    """Pixels of the pictures that :func:`write_pngs` wrote, uint8, shape (M, 3, H, W).

    Raises:
        Damaged: If there are more or fewer pictures than described.
        InputError: If one cannot be read.
    """
    names, side = checked_names(description), part(description, "resolution", int)
    files = [folder / class_folder(label, names) / f"{place:05d}.png" for place, label in enumerate(_leaves(description))]
    if (found := sum(1 for leaf in {file.parent for file in files} for _ in leaf.glob("*.png"))) != len(files):
        raise Damaged(f"it is of {len(files)} pictures, and there are {found}")
    return torch.stack([read_png(file, side, "the set") for file in files]), None


def read_png(file: Path, side: int, of: str) -> torch.Tensor:
    """Pixels of one picture, uint8, shape (3, side, side).

    Args:
        file: The picture.
        side: Its side in pixels.
        of: What else has that side, for the message.

    Raises:
        InputError: If it cannot be read, or has another size.
    """
    if not os.path.isfile(file):
        raise InputError(f"{file} is no file")
    try:
        with refusing_huge(), Image.open(file) as picture:
            width, height = picture.size
            pixels = np.asarray(picture.convert("RGB") if (width, height) == (side, side) else None)
    except BAD_IMAGE as error:
        raise InputError(f"{file} cannot be read as an image: {' '.join(str(error).split())}") from error
    if (width, height) != (side, side):
        raise InputError(f"{file} has {width} x {height} px, {of} {side} px")
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def write_tiffs(synthetic: SyntheticSet, pixels: torch.Tensor, folder: Path) -> None:
    """Write ``00003_leaf.tiff`` and so on: three pages, red, green and blue, in single precision.

    They lie in no folders of leaves: ImageFolder would take them, and turn every pixel into 0 or 1.

    Args:
        synthetic: The set.
        pixels: Its pixels in units of [0, 1], not clipped, float32, shape (M, 3, H, W).
        folder: An empty folder.
    """
    for place, label in enumerate(synthetic.hard_labels.tolist()):
        red, green, blue = (Image.fromarray(page.numpy()) for page in pixels[place])
        red.save(folder / _tiff(place, label, synthetic.class_names), save_all=True, append_images=[green, blue])


def read_tiffs(folder: Path, description: Mapping[str, Any]) -> tuple[torch.Tensor, None]:
    """Pixels of the images that :func:`write_tiffs` wrote, float32, shape (M, 3, H, W).

    Raises:
        InputError: If one cannot be read.
    """
    names, side = checked_names(description), part(description, "resolution", int)
    files = [folder / _tiff(place, label, names) for place, label in enumerate(_leaves(description))]
    return torch.stack([_read_tiff(file, side) for file in files]), None


def _read_tiff(file: Path, side: int) -> torch.Tensor:
    if not os.path.isfile(file):
        raise InputError(f"{file} is no file")
    pages = []
    # PIL raises whatever it runs into on a damaged TIFF, and warns of what it cannot understand.
    with reading(file, f"a TIFF of three pages of {side} x {side} numbers"), warnings.catch_warnings():
        warnings.simplefilter("error")
        with Image.open(file, formats=["TIFF"]) as picture:
            for page in range(max(3, getattr(picture, "n_frames", 1))):
                picture.seek(page)
                if (picture.mode, picture.size) != ("F", (side, side)):
                    raise Damaged(f"page {page + 1} is {picture.mode} of {picture.size[0]} x {picture.size[1]}")
                pages.append(np.array(picture))
    return torch.from_numpy(np.stack(pages))


def _tiff(place: int, label: int, class_names: Sequence[str]) -> str:
    return f"{place:05d}_{leaf_folder(class_names[label])}.tiff"


def _leaves(description: Mapping[str, Any]) -> list[int]:
    labels = torch.from_numpy(labels_of(description))
    leaves: list[int] = (labels if labels.ndim == 1 else labels.argmax(1)).tolist()
    return leaves
