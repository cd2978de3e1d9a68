"""Sets in the formats that others read: pictures by leaf, float TIFF, NumPy, the published ``.pt`` files, Hugging Face.

``read_exported`` gives back the pixels that were written: to the bit from ``npz``, ``pt`` and ``huggingface``, to the
rounding of single precision from ``tiff``, and as pictures of 8 bits hold them, rounded and clipped, from ``folder``.

Shapes: M images, K leaves, H x W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gz_lightning.errors import Damaged, InputError
from gz_lightning.memory import require_memory
from gz_lightning.sets.card import card
from gz_lightning.sets.description import (
    DESCRIPTION,
    MOST_TEXT,
    check_content,
    describe,
    described_set,
    labels_of,
    numbers,
    part,
    read_description,
)
from gz_lightning.sets.npz import read_npz, write_npz
from gz_lightning.sets.parquet import read_parquet, write_parquet
from gz_lightning.sets.pictures import read_pngs, read_tiffs, write_pngs, write_tiffs
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.storage.tensors import load_tensors, plain, save_tensors
from gz_lightning.storage.text import naming_file, read_text
from gz_lightning.storage.whole import new_folder

CERTAIN = 100.0
"""Logit of a hard label beside zeros: in single precision their softmax is 1 and zeros."""
UNTOLD: dict[str, Any] = {"accuracy": None, "licence": "Unknown.", "licence_id": "", "citation": []}
"""What a description says of accuracy, licence and citation where nobody does."""


@dataclass(frozen=True)
class Format:
    """A format that is a folder.

    Args:
        pixels: A set's pixels as the format stores them, shape (M, 3, H, W).
        write: Writes (set, its stored pixels, folder).
        read: Reads (folder, description) -> stored pixels, and labels, or None where the description alone has them.
        unit: Largest value of a picture, where the stored pixels are not standardised.
    """

    pixels: Callable[[SyntheticSet], torch.Tensor]
    write: Callable[[SyntheticSet, torch.Tensor, Path], None]
    read: Callable[[Path, Mapping[str, Any]], tuple[torch.Tensor, torch.Tensor | None]]
    unit: float | None = None


def write_pt(synthetic: SyntheticSet, pixels: torch.Tensor, folder: Path) -> None:
    """Write the published files: ``images_best.pt``, ``labels_best.pt`` and ``lr_best.pt``, and ``logits_best.pt`` for DATM.

    Several step sizes have no place in ``lr_best.pt``, which is then left out; the description has them.

    Args:
        synthetic: The set.
        pixels: Its standardised pixels, float32, shape (M, 3, H, W).
        folder: The folder.
    """
    leaves = len(synthetic.class_names)
    soft = synthetic.labels.ndim == 2
    logits = synthetic.labels.clamp(min=1e-30).log() if soft else CERTAIN * torch.eye(leaves)[synthetic.labels]
    files = {"images": pixels, "labels": synthetic.labels, "logits": logits}
    if len(synthetic.step_sizes) == 1:
        files["lr"] = synthetic.step_sizes[0]
    for name, tensor in files.items():
        save_tensors(tensor.detach().clone(), folder / f"{name}_best.pt")


def read_pt(folder: Path, description: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Standardised pixels and labels of the files that :func:`write_pt` wrote.

    Raises:
        Damaged: If they are not those of the description.
        InputError: If a file cannot be read.
    """
    found = {}
    step_sizes = numbers(description, "step_sizes")
    for name in ("images", "labels", *(["lr"] if len(step_sizes) == 1 else [])):
        found[name] = load_tensors(folder / f"{name}_best.pt")
        if not isinstance(found[name], torch.Tensor) or not plain(found[name]):
            raise Damaged(f"{name}_best.pt holds no numbers that are all there")
    if "lr" in found and (found["lr"].numel() != 1 or found["lr"].item() != step_sizes[0]):
        raise Damaged(f"lr_best.pt holds another step size than {DESCRIPTION}")
    return found["images"].detach(), found["labels"].detach()


FORMATS: dict[str, Format] = {
    "folder": Format(lambda synthetic: synthetic.pixels, write_pngs, read_pngs, 255.0),
    "tiff": Format(lambda synthetic: synthetic.unclipped, write_tiffs, read_tiffs, 1.0),
    "pt": Format(lambda synthetic: synthetic.images, write_pt, read_pt),
    "huggingface": Format(lambda synthetic: synthetic.images, write_parquet, read_parquet),
}
"""The formats that are folders, by name; ``npz`` is a single file."""


def write_set(synthetic: SyntheticSet, to: str, output: str | Path, told: Mapping[str, Any] = UNTOLD) -> dict[str, Any]:
    """Write a set in a format, atomically, with its description.

    Args:
        synthetic: The set.
        to: ``npz`` or a name of ``FORMATS``.
        output: The file (``npz``), or a new or an empty folder.
        told: Accuracy, licence and citation, see ``UNTOLD``.

    Returns:
        The description.

    Raises:
        InputError: If the set cannot be written so, or the folder is not empty.
    """
    output = Path(output)
    if problem := synthetic.not_finite():
        raise InputError(f"{output} is not written: {problem}")
    pixels = (synthetic.images if to == "npz" else FORMATS[to].pixels(synthetic)).detach().cpu()
    description = describe(synthetic, to, pixels, {**UNTOLD, **told})
    if to == "npz":
        write_npz(synthetic, description, output)
        return description
    with new_folder(output) as folder:
        with naming_file(output):
            FORMATS[to].write(synthetic, pixels, folder)
        (folder / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(card(description), encoding="utf-8")
    return description


def described(path: Path) -> Path | None:
    """The description that belongs to a folder of an exported set or to its ``images_best.pt``; None: there is none."""
    folder = path.parent if path.name == "images_best.pt" else path
    found = folder / DESCRIPTION
    return found if path.exists() and found.is_file() else None


def read_exported(path: Path) -> SyntheticSet:
    """A set that was written by :func:`write_set`.

    Args:
        path: The ``.npz`` file, the folder, or the ``images_best.pt`` in it.

    Raises:
        InputError: If it is no such set, is damaged, or was changed.
    """
    if path.suffix == ".npz":
        source = path
        description, pixels, labels = read_npz(path)
    else:
        source = described(path) or path / DESCRIPTION
    try:
        if path.suffix != ".npz":
            description = read_description(read_text(source, MOST_TEXT))
            pixels, labels = _stored(source.parent, description)
        check_content(description, pixels)
        wanted = torch.from_numpy(labels_of(description))
        if labels.dtype != wanted.dtype or not torch.equal(labels, wanted):
            raise Damaged("its labels are not those of the images")
        unit = FORMATS[description["stored"]].unit if path.suffix != ".npz" else None
        if unit is not None:
            mean, std = (torch.from_numpy(numbers(description, name, 3))[:, None, None] for name in ("mean", "std"))
            pixels = pixels.float().div_(unit).sub_(mean).div_(std)
        return described_set(description, pixels, labels)
    except Damaged as error:
        advice = "" if path.suffix == ".npz" else "; remove it to read the images by themselves"
        raise InputError(f"{source} does not describe what lies with it, or is damaged: {error}{advice}") from error


def _stored(folder: Path, description: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels and labels as a format stores them, of the shapes that are described."""
    name = part(description, "stored", str)
    if name not in FORMATS:
        raise Damaged(f"it is stored as {name:.40}, where it can be {', '.join(FORMATS)}")
    number, side = part(description, "images", int), part(description, "resolution", int)
    require_memory(2 * 4 * 3 * number * side**2, "cpu", f"{number} images of {side} px in {folder}", "take a smaller set")
    pixels, labels = FORMATS[name].read(folder, description)
    if pixels.shape != (number, 3, side, side) or pixels.dtype not in (torch.float32, torch.uint8):
        raise Damaged(f"its images are {pixels.dtype} of the shape {tuple(pixels.shape)}")
    return pixels, torch.from_numpy(labels_of(description)) if labels is None else labels
