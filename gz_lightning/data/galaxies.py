"""Galaxies: what a packed file holds, as plain data.

Shapes: N galaxies of the file, n of one split, K leaves, H x W pixels.
"""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from torch.utils.data import Dataset

from gz_lightning.data.packing import DIGEST, FORMAT, FORMAT_VERSION, MADE_BY, Contents, one_leaf, row_digest
from gz_lightning.data.selection import SPLITS
from gz_lightning.data.votes import MOST_DEBIASED
from gz_lightning.errors import Damaged, InputError
from gz_lightning.figures import image_grid
from gz_lightning.memory import to_device
from gz_lightning.settings import check_name
from gz_lightning.storage.hdf5 import (
    array,
    check_all,
    check_class_names,
    dataset,
    get_json,
    get_text,
    get_vector,
    open_hdf5,
    read_row_into,
)


def soft_labels(confidences: torch.Tensor) -> torch.Tensor:
    """Leaf confidences as soft labels, divided by their sum so that those of a galaxy add up to 1.

    Args:
        confidences: At least 0, float, shape (N, K); every row has a leaf above 0.
    """
    return confidences / confidences.sum(-1, keepdim=True)


def denormalise(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Standardised pixels, shape (..., 3, H, W), as pixels clipped to [0, 1]."""
    mean, std = (statistic.to(images.device)[:, None, None] for statistic in (mean, std))
    return (images * std + mean).clamp(0, 1)


class Split(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """The galaxies of one split.

    Args:
        galaxies: All galaxies of the file.
        rows: Rows of those in the split, int64, shape (n,).

    Attributes:
        labels: Leaves, int64, shape (n,).
        confidences: Leaf confidences in [0, 1], float32, shape (n, K).
        object_ids: n object ids.
    """

    def __init__(self, galaxies: Galaxies, rows: torch.Tensor) -> None:
        self.galaxies, self.rows = galaxies, rows
        self.labels, self.confidences = galaxies.labels[rows], galaxies.confidences[rows]
        self.object_ids = tuple(galaxies.object_ids[i] for i in rows.tolist())

    @property
    def in_memory(self) -> bool:
        """Whether the pixels are in memory; if not, they are read row by row."""
        return self.galaxies.in_memory

    @functools.cached_property
    def images(self) -> torch.Tensor:
        """All pixels of the split, uint8, shape (n, 3, H, W); read now if they are not in memory."""
        if not self.in_memory:
            return self.galaxies.pixels(self.rows)
        first, number = (int(self.rows[0]), len(self.rows)) if len(self.rows) else (0, 0)
        if torch.equal(self.rows, torch.arange(first, first + number)):
            return self.galaxies.images[first : first + number]  # a view: packed files are sorted by split
        return self.galaxies.images[self.rows]

    @property
    def soft_labels(self) -> torch.Tensor:
        """The volunteers' shares for each leaf, float32, shape (n, K); see :func:`soft_labels`."""
        return soft_labels(self.confidences)

    def pixels(self, places: torch.Tensor) -> torch.Tensor:
        """Pixels at some places of the split (int64, shape (m,)): uint8, shape (m, 3, H, W), from memory or the file."""
        return self.images[places] if self.in_memory else self.galaxies.pixels(self.rows[places])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int | list[int] | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels (uint8) and label of one galaxy, or of a list of them."""
        places = torch.as_tensor(index)
        pixels = self.pixels(places.reshape(-1))
        return pixels.reshape(*places.shape, *pixels.shape[1:]), self.labels[places]

    def of_class(self, label: int) -> torch.Tensor:
        """Places of the galaxies of one leaf in the split, the most confident first, int64."""
        return torch.nonzero(self.labels == label).flatten()


class Galaxies:
    """A packed file of galaxies, as ``gz-lightning prepare`` writes it.

    Args:
        path: The file.
        in_memory: Keep all pixels in memory as uint8; if not, they are read from the file row by row. Default: in memory if
            they take at most half of the machine's.

    Attributes:
        train: Galaxies to train on.
        val: Galaxies to choose settings on.
        test: Galaxies to score at the end.
        labels: Leaf of each galaxy, int64, shape (N,).
        confidences: Leaf confidences in [0, 1], float32, shape (N, K).
        object_ids: N object ids.
        splits: Split of each galaxy as a place in ``SPLITS``, int64, shape (N,).
        mean: Mean of the training pixels per channel, in [0, 1], float32, shape (3,).
        std: Their standard deviation, in [0, 1], float32, shape (3,).
        class_names: Names of the K leaves.
        tree: Name of the tree; empty for class folders that belong to none.
        configuration: The settings that made the file.
        fingerprint: SHA-256 of the galaxies: pixels, labels, confidences, object ids, splits and names of the leaves.
        image_shape: (3, H, W).

    Raises:
        InputError: If it is not a packed file, is damaged, or a channel of its images has no contrast.

    Example:
        >>> galaxies = Galaxies("gz2.h5")  # doctest: +SKIP
        >>> galaxies.train.images.shape, galaxies.class_names  # doctest: +SKIP
        >>> galaxies.show()  # doctest: +SKIP
    """

    def __init__(self, path: str | os.PathLike[str], in_memory: bool | None = None) -> None:
        self.path = Path(path)
        self.in_memory = _fits_memory(self.path) if in_memory is None else in_memory
        with open_hdf5(self.path, FORMAT, FORMAT_VERSION, MADE_BY) as file:
            self._read_contents(file)
        if self.in_memory:
            _ = self.images  # damage shows now, not in the middle of the work
        if not (self.std > 0).all():
            raise InputError(f"{path}: a channel of the training images has no contrast, so it cannot be standardised")
        self.train, self.val, self.test = (
            Split(self, torch.nonzero(self.splits == place).flatten()) for place in range(len(SPLITS))
        )

    def _read_contents(self, file: h5py.File) -> None:
        """Read and check everything but the pixels."""
        labels = array(file, "labels", "i", (None,))
        number, self.class_names = len(labels), check_class_names(get_json(file, "class_names", list))
        leaves = len(self.class_names)
        shape = dataset(file, "images", "u", (number, 3, None, None)).shape
        if shape[2] != shape[3] or not shape[2] or not number:
            raise Damaged(f"images has the shape {shape}; its galaxies should be squares")
        confidences = array(file, "confidences", "f", (number, leaves), "galaxy")
        splits = array(file, "splits", "i", (number,))
        check_all((labels >= 0) & (labels < leaves), labels, "labels", f"a leaf of {leaves}", "galaxy")
        check_all((splits >= 0) & (splits < len(SPLITS)), splits, "splits", f"a split of {len(SPLITS)}", "galaxy")
        in_range = (confidences >= 0) & (confidences <= MOST_DEBIASED)
        check_all(in_range, confidences, "confidences", f"a confidence in [0, {MOST_DEBIASED:g}]", "galaxy")
        best = confidences.max(axis=1)
        check_all(best > 0, best, "the largest of confidences", "above 0", "galaxy")
        try:
            self.object_ids = tuple(name.decode() for name in array(file, "object_ids", "S", (number,)).tolist())
        except UnicodeDecodeError as error:
            raise Damaged(f"object_ids holds bytes that are not text ({error.reason})") from error
        mean, std = (get_vector(file, name, 3) for name in ("mean", "std"))
        if not ((mean >= 0) & (mean <= 1) & (std >= 0) & (std <= 1)).all():
            raise Damaged(f"mean {mean.tolist()} and std {std.tolist()} are not those of pixels in [0, 1]")
        self.tree, self.fingerprint = get_text(file, "tree"), get_text(file, "fingerprint")
        contents = Contents(labels, confidences, self.object_ids, splits, self.class_names, self.tree)
        if contents.fingerprint(_digests(file, number).tobytes(), shape) != self.fingerprint:
            raise Damaged("its content is not that of its fingerprint")
        self.configuration = get_json(file, "configuration", dict)
        self.labels, self.splits = (torch.from_numpy(values.astype(np.int64)) for values in (labels, splits))
        self.confidences = torch.from_numpy(confidences.astype(np.float32))
        self.mean, self.std = (torch.tensor(values, dtype=torch.float32) for values in (mean, std))
        self.image_shape: tuple[int, int, int] = tuple(shape[1:])

    def __len__(self) -> int:
        return len(self.labels)

    def __fspath__(self) -> str:
        return str(self.path)

    @functools.cached_property
    def images(self) -> torch.Tensor:
        """All pixels, uint8, shape (N, 3, H, W), RGB; read on first use and kept."""
        with open_hdf5(self.path, FORMAT, FORMAT_VERSION, MADE_BY) as file:
            pixels = array(file, "images", "u", (len(self), *self.image_shape))
            _check_rows(_digests(file, len(self)), range(len(pixels)), pixels)
        return torch.from_numpy(pixels)

    def pixels(self, rows: torch.Tensor) -> torch.Tensor:
        """Pixels of some galaxies, uint8, shape (n, 3, H, W): from memory, or only those rows from the file.

        Args:
            rows: Rows of the galaxies, int64, shape (n,).

        Raises:
            InputError: If the file is damaged.
        """
        if self.in_memory:
            return self.images[rows]
        pixels = np.empty((len(rows), *self.image_shape), np.uint8)
        with open_hdf5(self.path, FORMAT, FORMAT_VERSION, MADE_BY) as file:
            images, places = dataset(file, "images", "u", (len(self), *self.image_shape)), rows.cpu().numpy()
            for place in np.argsort(places, kind="stable"):  # the disk is read in one direction
                read_row_into(images, int(places[place]), pixels, int(place))
            _check_rows(_digests(file, len(self)), places.tolist(), pixels)
        return torch.from_numpy(pixels)

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def resolution(self) -> int:
        """H = W in pixels."""
        return self.image_shape[-1]

    @property
    def has_votes(self) -> bool:
        """Whether the confidences are volunteers' votes, not the ones and zeros of class folders."""
        return bool(((self.train.confidences > 0) & (self.train.confidences < 1)).any())

    @property
    def class_weights(self) -> torch.Tensor:
        """Weights that make all leaves count alike in the training loss, shape (K,); 0 for a leaf without galaxies."""
        counts = torch.bincount(self.train.labels, minlength=self.num_classes)
        return torch.where(counts > 0, len(self.train) / (self.num_classes * counts.clamp(min=1)), 0.0)

    def standardise(self, images: torch.Tensor) -> torch.Tensor:
        """Turn uint8 pixels, shape (..., 3, H, W), into float32 of mean 0 and deviation 1 over the training split."""
        mean, std = (to_device(statistic, images.device)[:, None, None] for statistic in (self.mean, self.std))
        # In place: new memory costs more than the arithmetic.
        return images.to(torch.float32, copy=True).div_(255).sub_(mean).div_(std)

    def standardised_by(self, mean: torch.Tensor, std: torch.Tensor) -> Galaxies:
        """These galaxies, pixels shared, standardised with the statistics of other ones.

        Args:
            mean: Mean per channel, of pixels in [0, 1], shape (3,).
            std: Standard deviation per channel, above 0, shape (3,).
        """
        others = copy.copy(self)
        others.mean, others.std = mean, std
        others.train, others.val, others.test = (copy.copy(split) for split in (self.train, self.val, self.test))
        for split in (others.train, others.val, others.test):
            split.galaxies = others
        return others

    def denormalise(self, images: torch.Tensor) -> torch.Tensor:
        """Turn standardised pixels back into pixels for the eye, clipped to [0, 1]."""
        return denormalise(images, self.mean, self.std)

    def require(self, *splits: str) -> None:
        """Check that splits are not empty, and that the training galaxies are of two leaves at least.

        Raises:
            InputError: If one is empty, or all training galaxies are of one leaf.
        """
        for split in splits:
            if not len(getattr(self, split)):
                raise InputError(
                    f"{self.path} has no {split} galaxies; prepare it with more galaxies or a larger --{split}_fraction"
                )
        if "train" in splits and len(leaves := self.train.labels.unique().tolist()) < 2:
            raise InputError(f"{self.path}: {one_leaf(len(self.train), self.class_names[leaves[0]])}")

    def show(self, per_class: int = 8, split: str = "train") -> Figure:
        """Picture of the most confident galaxies, one row for each leaf.

        Args:
            per_class: Galaxies of each leaf, at least 1.
            split: ``train``, ``val`` or ``test``.

        Raises:
            InputError: If there is no such split, or ``per_class`` is below 1.
        """
        check_name("split", split, SPLITS)
        if per_class < 1:
            raise InputError(f"per_class must be at least 1, not {per_class}")
        galaxies: Split = getattr(self, split)
        rows = {name: galaxies.pixels(galaxies.of_class(k)[:per_class]) for k, name in enumerate(self.class_names)}
        return image_grid(rows, per_class)

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(getattr(self, split))} {split}" for split in SPLITS)
        rows = "" if self.in_memory else "; read by rows"
        return (
            f"Galaxies({self.path}: {counts}; {self.num_classes} leaves of '{self.tree or 'class folders'}'; "
            f"{self.resolution} px{rows})"
        )


def _digests(file: h5py.File, number: int) -> npt.NDArray[np.uint8]:
    """Digests of the rows of pixels, shape (N, 32)."""
    return array(file, "digests", "u", (number, DIGEST))


def _check_rows(digests: npt.NDArray[np.uint8], places: Sequence[int], pixels: npt.NDArray[np.uint8]) -> None:
    """Raise Damaged unless all pixels are those that were written."""
    for place, row in zip(places, pixels, strict=True):
        if row_digest(row) != digests[place].tobytes():
            raise Damaged(f"the pixels of galaxy {place} are not those of its checksum")


def _fits_memory(path: Path) -> bool:
    """Whether a file takes at most half of the machine's memory; True if the system does not tell how much there is."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return True
    return not path.exists() or path.stat().st_size <= memory / 2
