"""SyntheticSet: a small set of images with everything needed to train on it.

Shapes: M images (``ipc`` of each of K leaves), H x W pixels, S step sizes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import TensorDataset

from gz_lightning.augmentation import check_strategy
from gz_lightning.data.galaxies import Galaxies, denormalise
from gz_lightning.errors import Damaged, InputError
from gz_lightning.storage.hdf5 import (
    array,
    check_all,
    check_class_names,
    create_hdf5,
    dataset_dims,
    get_json,
    get_number,
    get_text,
    open_hdf5,
    set_text,
    write_header,
)
from gz_lightning.storage.tensors import content_digest
from gz_lightning.storage.text import naming_file, short

FORMAT = "synthetic"
FORMAT_VERSION = 1
MADE_BY = "gz-lightning distill"
LARGEST = 1e30
"""Standardised pixels are of the order of 1; beyond this float32 cannot even square them."""
LARGEST_MEAN, STD_RANGE = 1.5, (0.2, 6.0)
"""Over real galaxies standardised pixels have mean 0 and standard deviation 1; outside these bounds they were standardised
in another way or not at all."""
USED = "used"
"""In the configuration of a set, the values that its run has found for settings that were left out."""
SHARES_ROUNDING = 1e-3
"""How far the sum of soft labels may be from 1; float16 rounds to half of it."""


def not_shares(labels: torch.Tensor) -> str:
    """In words, the first row of soft labels that is not shares that add up to 1; empty where all are.

    Any other sum multiplies the loss, and so the step size.

    Args:
        labels: Shape (M, K).
    """
    rounding = max(SHARES_ROUNDING, torch.finfo(labels.dtype).eps if labels.is_floating_point() else 0.0)
    shares = labels.detach().double()
    sums, least = shares.sum(1), shares.min(1).values
    good = torch.isfinite(shares).all(1) & (least >= 0) & ((sums - 1).abs() <= rounding)
    if good.all():
        return ""
    row = int(good.int().argmin())
    if not torch.isfinite(shares[row]).all():
        return f"row {row} of its soft labels is not finite"
    if least[row] < 0:
        return (
            f"row {row} of its soft labels has {float(least[row]):.4g} and adds up to {float(sums[row]):.4g}: "
            "shares are at least 0 and add up to 1; if they are logits, take their softmax"
        )
    return (
        f"row {row} of its soft labels adds up to {float(sums[row]):.4g}, not to 1: divide each row by its sum or, if they "
        "are logits, take their softmax"
    )


def checked_tensors(arrays: Mapping[str, npt.NDArray[Any]], leaves: int) -> dict[str, torch.Tensor]:
    """Images, labels, step sizes and statistics of a set out of a file, checked against each other.

    Args:
        arrays: ``images``, ``labels``, ``step_sizes``, ``mean`` and ``std``, of the shapes that :class:`SyntheticSet` has.
        leaves: K.

    Raises:
        Damaged: If one of them is not what it should be; says which, and where.
    """
    images, labels = arrays["images"], arrays["labels"]
    if not len(images) or images.shape[2] != images.shape[3] or not images.shape[3]:
        raise Damaged(f"images has the shape {images.shape}; there should be some, and squares")
    check_all(np.abs(images.astype(np.float64)) < LARGEST, images, "images", f"below {LARGEST:g}", "image")
    if labels.ndim == 1:
        check_all((labels >= 0) & (labels < leaves), labels, "labels", f"a leaf of {leaves}", "image")
    elif problem := not_shares(torch.from_numpy(labels)):
        raise Damaged(problem)
    for name, good, expected, place in (
        ("step_sizes", arrays["step_sizes"] > 0, "above 0", "start epoch"),
        ("mean", (arrays["mean"] >= 0) & (arrays["mean"] <= 1), "in [0, 1]", "channel"),
        ("std", (arrays["std"] > 0) & (arrays["std"] <= 1), "in (0, 1]", "channel"),
    ):
        check_all(good, arrays[name], name, expected, place)
    names = ("images", "labels", "step_sizes", "mean", "std")
    tensors = {name: torch.from_numpy(arrays[name]) for name in names}
    return {name: tensor.float() if tensor.is_floating_point() else tensor.long() for name, tensor in tensors.items()}


def _tensors(file: h5py.File, leaves: int) -> dict[str, torch.Tensor]:
    """Images, labels, step sizes and statistics of an open file, checked against each other."""
    images = array(file, "images", "f", (None, 3, None, None), "image")
    hard = dataset_dims(file, "labels") == 1
    shape = (len(images),) if hard else (len(images), leaves)
    labels = array(file, "labels", "i" if hard else "f", shape, "image")
    step_sizes = array(file, "step_sizes", "f", (None,), "start epoch")
    mean, std = (array(file, name, "f", (3,), "channel") for name in ("mean", "std"))
    return checked_tensors({"images": images, "labels": labels, "step_sizes": step_sizes, "mean": mean, "std": std}, leaves)


def _augmentation(file: h5py.File, path: str | Path) -> str:
    with naming_file(path):
        return check_strategy(get_text(file, "augmentation"))


def _results(file: h5py.File) -> dict[str, float]:
    results: dict[str, Any] = get_json(file, "results", dict)
    if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in results.values()):
        raise Damaged(f"results holds {short(results)}, where it should hold numbers")
    return results


@dataclass
class SyntheticSet:
    """A small set of images to train a network on, distilled or of any other origin.

    Args:
        images: Standardised pixels, float32, shape (M, 3, H, W).
        labels: Leaves, int64, shape (M,); or soft labels, float32, shape (M, K), shares that add up to 1 in each row.
        step_sizes: The learned step sizes alpha, shape (S,): one, one for each start epoch, or none.
        class_names: Names of the K leaves.
        mean: Mean of the training pixels per channel, in [0, 1], shape (3,).
        std: Their standard deviation, in [0, 1], shape (3,).
        tree: Name of the tree; empty for class folders.
        network: Description of the network it was distilled for.
        augmentation: The augmentation it was distilled with.
        data: Fingerprint of the packed galaxies; empty if unknown.
        trajectories: Fingerprint of the experts; empty if there were none.
        iteration: Outer iterations of the distillation.
        configuration: The settings of the distillation.
        results: Scores by name, such as ``val_accuracy`` in [0, 1].

    Example:
        >>> synthetic = SyntheticSet.load("runs/ipc1/best.h5")  # doctest: +SKIP
        >>> synthetic.denormalised(), synthetic.step_sizes, synthetic.results  # doctest: +SKIP
    """

    images: torch.Tensor
    labels: torch.Tensor
    step_sizes: torch.Tensor
    class_names: tuple[str, ...]
    mean: torch.Tensor
    std: torch.Tensor
    tree: str = ""
    network: dict[str, Any] = field(default_factory=dict)
    augmentation: str = "none"
    data: str = ""
    trajectories: str = ""
    iteration: int = 0
    configuration: dict[str, Any] = field(default_factory=dict)
    results: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def hard_labels(self) -> torch.Tensor:
        """Leaves, int64, shape (M,)."""
        return self.labels if self.labels.ndim == 1 else self.labels.argmax(1)

    def places_by_leaf(self, most: int) -> torch.Tensor:
        """Places of the first ``most`` images of each leaf.

        Distilled sets begin with the same number of each leaf, but a learned label may move to another leaf.

        Returns:
            int64, shape (K, n), where n is the number of the largest leaf; -1 where a leaf has fewer.
        """
        places = [torch.nonzero(self.hard_labels == leaf).flatten()[:most] for leaf in range(len(self.class_names))]
        return pad_sequence(places, batch_first=True, padding_value=-1)

    @property
    def unclipped(self) -> torch.Tensor:
        """Pixels in units of [0, 1], float32, shape (M, 3, H, W): not clipped, so some lie below 0 or above 1."""
        return self.images * self.std[:, None, None] + self.mean[:, None, None]

    @property
    def cut_off(self) -> float:
        """Share of the pixel values that lie outside of [0, 1], and that a picture of 8 bits cuts off."""
        return float(((self.unclipped < 0) | (self.unclipped > 1)).float().mean())

    def denormalised(self) -> torch.Tensor:
        """Pixels to look at: float32, clipped to [0, 1], shape (M, 3, H, W)."""
        return denormalise(self.images, self.mean, self.std)

    def as_dataset(self) -> TensorDataset:
        """Pairs (standardised pixels, label) for a DataLoader; labels as they are, hard or soft.

        Example:
            >>> from torch.utils.data import DataLoader
            >>> synthetic = SyntheticSet.load("best.h5")  # doctest: +SKIP
            >>> batches = DataLoader(synthetic.as_dataset(), batch_size=256, shuffle=True)  # doctest: +SKIP
        """
        return TensorDataset(self.images, self.labels)

    def not_finite(self) -> str:
        """In words, the first image, label or step size that is not finite; empty where all are."""
        parts = (("image", self.images), ("label of image", self.labels), ("step size of start epoch", self.step_sizes))
        for name, tensor in parts:
            good = torch.isfinite(tensor.detach()).reshape(len(tensor), -1).all(1) if len(tensor) else torch.ones(1)
            if not good.all():
                return f"the {name} {int(good.int().argmin())} is not finite"
        return ""

    def save(self, path: str | Path) -> None:
        """Write the set into one HDF5 file, atomically.

        Raises:
            InputError: If a pixel, a label or a step size is not finite, or soft labels do not add up to 1; an older file at
                ``path`` is kept.
        """
        if problem := self.not_finite() or (not_shares(self.labels) if self.labels.ndim == 2 else ""):
            raise InputError(f"{path} is not written: {problem}")
        with create_hdf5(path) as file:
            for name in ("images", "labels", "step_sizes", "mean", "std"):
                file.create_dataset(name, data=getattr(self, name).detach().cpu().numpy(), fletcher32=True)
            for name in ("class_names", "network", "results"):
                set_text(file, name, json.dumps(getattr(self, name)))
            for name in ("tree", "augmentation", "data", "trajectories"):
                set_text(file, name, getattr(self, name))
            file.attrs["iteration"] = self.iteration
            write_header(file, FORMAT, FORMAT_VERSION, self.configuration, f"{self.data}+{self.trajectories}")

    @classmethod
    def load(cls, path: str | Path) -> SyntheticSet:
        """Read a set.

        Raises:
            InputError: If the file is no distilled set or is damaged.
        """
        with open_hdf5(path, FORMAT, FORMAT_VERSION, MADE_BY) as file:
            class_names = check_class_names(get_json(file, "class_names", list))
            return cls(
                **_tensors(file, len(class_names)),
                class_names=class_names,
                network=get_json(file, "network", dict),
                results=_results(file),
                tree=get_text(file, "tree"),
                augmentation=_augmentation(file, path),
                data=get_text(file, "data"),
                trajectories=get_text(file, "trajectories"),
                iteration=get_number(file, "iteration"),
                configuration=get_json(file, "configuration", dict),
            )

    @property
    def digest(self) -> str:
        """SHA-256 of images, labels and step sizes."""
        return content_digest([self.images, self.labels, self.step_sizes])

    @property
    def pixels(self) -> torch.Tensor:
        """Pixels as a picture holds them: uint8, clipped, shape (M, 3, H, W)."""
        return self.denormalised().mul(255).round().to(torch.uint8)

    def standardises(self, galaxies: Galaxies) -> bool:
        """Whether the galaxies are standardised as the set is."""
        return torch.allclose(self.mean, galaxies.mean) and torch.allclose(self.std, galaxies.std)

    def check_fits(self, galaxies: Galaxies, path: str | Path = "the set") -> None:
        """Check that the set can be used with these galaxies as they are standardised.

        Raises:
            InputError: If leaves, image size, or mean and standard deviation differ; says which.
        """
        self.check_leaves(galaxies, path)
        if not self.standardises(galaxies):
            raise InputError(f"{path} does not fit {galaxies.path}: {self._standardised_otherwise(galaxies)}")

    def check_leaves(self, galaxies: Galaxies, path: str | Path = "the set") -> None:
        """Check that leaves and image size are those of the galaxies.

        Raises:
            InputError: If they differ; says which.
        """
        problem = ""
        if self.class_names != galaxies.class_names:
            problem = (
                f"its leaves are {', '.join(self.class_names)}, those of the galaxies {', '.join(galaxies.class_names)}"
            )
        elif self.images.shape[1:] != galaxies.image_shape:
            problem = f"its images have {self.images.shape[-1]} px, the galaxies {galaxies.resolution} px"
        if problem:
            raise InputError(f"{path} does not fit {galaxies.path}: {problem}")

    def standardised(self, galaxies: Galaxies, path: str | Path = "the set") -> Galaxies:
        """The galaxies standardised as the set is, such as those of a colleague; the same object where they are already.

        Raises:
            InputError: If leaves or image size differ, or the galaxies would be far from mean 0 and standard deviation 1.
        """
        self.check_leaves(galaxies, path)
        if self.standardises(galaxies):
            return galaxies
        means, stds = (galaxies.mean - self.mean) / self.std, galaxies.std / self.std
        if (means.abs() > LARGEST_MEAN).any() or (stds < STD_RANGE[0]).any() or (stds > STD_RANGE[1]).any():
            raise InputError(
                f"{path} does not fit {galaxies.path}: {self._standardised_otherwise(galaxies)}, which is too far away to "
                "score them with the set's"
            )
        return galaxies.standardised_by(self.mean, self.std)

    def _standardised_otherwise(self, galaxies: Galaxies) -> str:
        return (
            f"its pixels are standardised with mean {self.mean.tolist()} and standard deviation {self.std.tolist()}, "
            f"those of the galaxies with {galaxies.mean.tolist()} and {galaxies.std.tolist()}"
        )
