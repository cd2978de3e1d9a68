"""What a set says of itself where it travels: ``set.json`` beside its images, or inside of them.

It holds everything of a :class:`~gz_lightning.sets.synthetic.SyntheticSet` but the pixels, and a digest of these, so that a
description beside the images of another set is noticed.

Shapes: M images, K leaves, S step sizes, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from gz_lightning.augmentation import check_strategy
from gz_lightning.errors import Damaged, InputError
from gz_lightning.sets.synthetic import LARGEST, SyntheticSet, checked_tensors
from gz_lightning.storage.hdf5 import check_class_names
from gz_lightning.storage.tensors import content_digest
from gz_lightning.storage.text import checked_json, short
from gz_lightning.version import __version__

DESCRIPTION = "set.json"
FORMAT, FORMAT_VERSION = "gz_lightning.set", 1
MOST_TEXT = 64 * 2**20
"""Bytes of a description at most; soft labels are in it."""
PLACES = ("trajectories", "load_syn_image")
"""Settings of a distillation that are paths: they name folders of a machine, and stay there."""
SEALED = ("class_names", "labels", "step_sizes", "mean", "std", "augmentation", "network")
"""What ``content`` is a digest of, beside the pixels; the rest may be edited, such as the licence."""
T = TypeVar("T")


def describe(synthetic: SyntheticSet, stored: str, pixels: torch.Tensor, more: Mapping[str, Any]) -> dict[str, Any]:
    """The description of a set.

    Args:
        synthetic: The set.
        stored: How its pixels are stored: a name of :data:`gz_lightning.sets.formats.FORMATS`.
        pixels: The pixels as they are stored.
        more: What to know beside it: accuracy, licence, citation.
    """
    kept = {name: value for name, value in synthetic.configuration.items() if name not in PLACES}
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "gz_lightning_version": __version__,
        "stored": stored,
        "images": len(synthetic),
        "resolution": synthetic.images.shape[-1],
        "class_names": list(synthetic.class_names),
        "labels": synthetic.labels.tolist(),
        "step_sizes": synthetic.step_sizes.tolist(),
        "mean": synthetic.mean.tolist(),
        "std": synthetic.std.tolist(),
        "augmentation": synthetic.augmentation,
        "network": synthetic.network,
        "tree": synthetic.tree,
        "data": synthetic.data,
        "trajectories": synthetic.trajectories,
        "iteration": synthetic.iteration,
        "configuration": kept,
        "results": synthetic.results,
        "cut_off": synthetic.cut_off,
        **more,
    }
    return {**description, "content": _digest(pixels, description)}


def read_description(text: str) -> dict[str, Any]:
    """A description out of its text.

    Raises:
        Damaged: If it is none, or of a version that this release does not read.
    """
    description: dict[str, Any] = checked_json(text, "it", dict)
    name, version = part(description, "format", str), part(description, "format_version", int)
    if name != FORMAT or version != FORMAT_VERSION:
        raise Damaged(
            f"it is {name:.60} version {short(version)}; this release ({__version__}) reads {FORMAT} {FORMAT_VERSION}"
        )
    number, side = part(description, "images", int), part(description, "resolution", int)
    if number < 1 or side < 1:
        raise Damaged(f"it is of {short(number)} images of {short(side)} px")
    return description


def part(description: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """A value of a description; Damaged if it is missing or of another type."""
    value = description.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise Damaged(f"its {name} is {short(value)}")
    return value


def numbers(description: Mapping[str, Any], name: str, length: int | None = None) -> npt.NDArray[np.float32]:
    """A list of finite numbers of a description, single precision; Damaged if it is something else."""
    values = part(description, name, list)
    are_numbers = all(isinstance(value, (int, float)) and abs(value) < LARGEST for value in values)
    if not are_numbers or (length is not None and len(values) != length):
        raise Damaged(f"its {name} is {short(values)}")
    return np.array(values, dtype=np.float32)


def labels_of(description: Mapping[str, Any]) -> npt.NDArray[Any]:
    """The labels that a description lists: leaves, int64, shape (M,), or soft labels, float32, shape (M, K).

    Raises:
        Damaged: If it lists none, or not as many as images.
    """
    values = part(description, "labels", list)
    leaves, number = len(part(description, "class_names", list)), part(description, "images", int)
    if len(values) != number:
        raise Damaged(f"it lists {len(values)} labels of {number} images")
    if all(isinstance(value, int) and 0 <= value < leaves for value in values):
        return np.array(values, dtype=np.int64)
    if not all(isinstance(row, list) for row in values):
        raise Damaged(f"its labels are {short(values)}, not leaves below {leaves}")
    return np.stack([numbers({"labels": row}, "labels", leaves) for row in values])


def described_set(description: Mapping[str, Any], images: torch.Tensor, labels: torch.Tensor) -> SyntheticSet:
    """The set of a description.

    Args:
        description: The description.
        images: Standardised pixels, float32, shape (M, 3, H, W).
        labels: Leaves, shape (M,), or soft labels, shape (M, K).

    Raises:
        Damaged: If description and images are not those of a set.
    """
    class_names = check_class_names(checked_names(description))
    arrays = {name: numbers(description, name, length) for name, length in (("step_sizes", None), ("mean", 3), ("std", 3))}
    number, leaves = len(images), len(class_names)
    if (tuple(labels.shape), labels.dtype) not in (((number,), torch.int64), ((number, leaves), torch.float32)):
        raise Damaged(f"its labels are {labels.dtype} of the shape {tuple(labels.shape)}")
    arrays |= {"images": images.numpy(), "labels": labels.numpy()}
    tensors = checked_tensors(arrays, leaves)
    results = part(description, "results", dict)
    if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in results.values()):
        raise Damaged(f"its results are {short(results)}")
    try:
        augmentation = check_strategy(part(description, "augmentation", str))
    except InputError as error:
        raise Damaged(str(error)) from error
    return SyntheticSet(
        **tensors,
        class_names=class_names,
        augmentation=augmentation,
        results=results,
        network=part(description, "network", dict),
        configuration=part(description, "configuration", dict),
        iteration=part(description, "iteration", int),
        tree=part(description, "tree", str),
        data=part(description, "data", str),
        trajectories=part(description, "trajectories", str),
    )


def checked_names(description: Mapping[str, Any]) -> list[str]:
    """The names of the leaves; Damaged if they are not text."""
    names = part(description, "class_names", list)
    if not all(isinstance(name, str) for name in names):
        raise Damaged(f"its class_names are {short(names)}")
    return names


def check_content(description: Mapping[str, Any], pixels: torch.Tensor) -> None:
    """Check that a description has not changed, and is that of these pixels as they are stored.

    Raises:
        Damaged: If it is not.
    """
    if _digest(pixels, description) != part(description, "content", str):
        raise Damaged(f"its {', '.join(SEALED)}, or the images, are not what they were written as")


def _digest(pixels: torch.Tensor, description: Mapping[str, Any]) -> str:
    return content_digest([pixels, {name: description.get(name) for name in SEALED}])
