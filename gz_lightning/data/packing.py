"""The packed HDF5 file.

One file holds everything the rest of the package needs to know of its galaxies: pixels, labels, leaf confidences,
object ids, splits, the statistics of the training pixels, names, and what made it.

Shapes: N galaxies, K leaves, H x W pixels (H = W = ``resolution``).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import torch

from gz_lightning.checked import array, check_all, check_class_names, dataset, get_json, get_number, get_vector
from gz_lightning.data.packed_writer import (
    DIGEST,
    FORMAT,
    FORMAT_VERSION,
    PackedWriter,
    check_training,
    content_fingerprint,
    row_digest,
)
from gz_lightning.data.selection import SPLITS
from gz_lightning.data.votes import MOST_DEBIASED
from gz_lightning.errors import InputError
from gz_lightning.files import get_text, open_checked, written_whole

MADE_BY = "gz-lightning prepare"


def write_packed(
    path: str | Path,
    batches: Iterable[npt.NDArray[np.uint8]],
    *,
    resolution: int,
    labels: npt.NDArray[np.int64],
    confidences: npt.NDArray[np.float64],
    object_ids: Sequence[str],
    splits: npt.NDArray[np.int64],
    class_names: Sequence[str],
    tree: str,
    configuration: Mapping[str, Any],
) -> None:
    """Write a packed file, whole or not at all.

    Args:
        path: The file.
        batches: The N images in order, in batches of shape (n, 3, H, W).
        resolution: Side of the images in pixels.
        labels: Leaf of each galaxy, shape (N,).
        confidences: Leaf confidences, shape (N, K).
        object_ids: N object ids.
        splits: Place of each galaxy's split in ``SPLITS``, shape (N,).
        class_names: Names of the K leaves.
        tree: Name of the tree, or empty.
        configuration: Whatever made the file; written into it as JSON.

    Raises:
        InputError: If no galaxy is in the training split.
    """
    check_training(splits)
    training, place = splits == SPLITS.index("train"), 0
    with written_whole(path) as temporary, PackedWriter(temporary, len(labels), resolution) as writer:
        for batch in batches:
            writer.put(place, batch, training[place : place + len(batch)])
            place += len(batch)
        writer.finish(
            temporary,
            labels=labels,
            confidences=confidences,
            object_ids=object_ids,
            splits=splits,
            class_names=class_names,
            tree=tree,
            configuration=configuration,
        )


@dataclass(frozen=True)
class Packed:
    """The content of a packed file.

    Args:
        path: The file.
        labels: Leaf of each galaxy, int64, shape (N,).
        confidences: Leaf confidences in [0, 1], float32, shape (N, K).
        object_ids: N object ids.
        splits: Place of each galaxy's split in ``SPLITS``, int64, shape (N,).
        mean: Mean of the training pixels per channel, in [0, 1], float32, shape (3,).
        std: Their standard deviation, in [0, 1], float32, shape (3,).
        class_names: Names of the K leaves.
        tree: Name of the tree, or empty.
        configuration: What made the file.
        fingerprint: SHA-256 of the content.
        image_shape: (3, H, W).
        in_memory: Whether all pixels are held in memory; if not, they are read by rows.
    """

    path: Path
    labels: torch.Tensor
    confidences: torch.Tensor
    object_ids: tuple[str, ...]
    splits: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor
    class_names: tuple[str, ...]
    tree: str
    configuration: dict[str, Any]
    fingerprint: str
    image_shape: tuple[int, int, int]
    in_memory: bool

    def __len__(self) -> int:
        return len(self.labels)

    @functools.cached_property
    def images(self) -> torch.Tensor:
        """All pixels, uint8, shape (N, 3, H, W), RGB; read when first asked for, and kept."""
        with open_checked(self.path, FORMAT, FORMAT_VERSION, MADE_BY) as file:
            pixels = array(file, "images", "u", (len(self), *self.image_shape))
            _check_rows(file, range(len(pixels)), pixels)
        return torch.from_numpy(pixels)

    @property
    def soft_labels(self) -> torch.Tensor:
        """Leaf confidences divided by their sum: what share of the votes each leaf has, float32, shape (N, K)."""
        return soft_labels(self.confidences)

    def pixels(self, rows: torch.Tensor) -> torch.Tensor:
        """Pixels of some galaxies, uint8, shape (n, 3, H, W): from memory, or those rows alone from the file.

        Args:
            rows: Their places, int64, shape (n,).

        Raises:
            InputError: If the file is damaged.
        """
        if self.in_memory:
            return self.images[rows]
        pixels = np.empty((len(rows), *self.image_shape), np.uint8)
        with open_checked(self.path, FORMAT, FORMAT_VERSION, MADE_BY) as file:
            images, places = dataset(file, "images", "u", (len(self), *self.image_shape)), rows.cpu().numpy()
            for place in np.argsort(places, kind="stable"):  # the disk is read in one direction
                images.read_direct(pixels, int(places[place]), int(place))
            _check_rows(file, places.tolist(), pixels)
        return torch.from_numpy(pixels)


def _check_rows(file: h5py.File, places: Sequence[int], pixels: npt.NDArray[np.uint8]) -> None:
    """Raise OSError where pixels are not those that were written (files of version 1 have checksums of HDF5's)."""
    if get_number(file, "format_version") < 2:
        return
    digests = _digests(file)
    for place, row in zip(places, pixels, strict=True):
        if row_digest(row) != digests[place].tobytes():
            raise OSError(f"the pixels of galaxy {place} are not those of its checksum")


def _digests(file: h5py.File) -> npt.NDArray[np.uint8]:
    """Digests of the rows of pixels, shape (N, 32)."""
    return array(file, "digests", "u", (len(file["images"]), DIGEST))


def soft_labels(confidences: torch.Tensor) -> torch.Tensor:
    """Leaf confidences as soft labels: divided by their sum, so that each galaxy's add up to 1.

    Args:
        confidences: In [0, 1], float, shape (N, K), each row with a leaf above 0.
    """
    return confidences / confidences.sum(-1, keepdim=True)


def read_packed(path: str | Path, in_memory: bool = True) -> Packed:
    """Read a packed file.

    Args:
        path: The file.
        in_memory: Read all pixels at once; if not, they are read by rows when they are needed.

    Raises:
        InputError: If it is no packed file, is damaged, or its images hold a channel without any contrast.

    Example:
        >>> packed = read_packed("gz2.h5")  # doctest: +SKIP
        >>> packed.images.shape, packed.class_names, packed.configuration["tree"]  # doctest: +SKIP
    """
    with open_checked(path, FORMAT, FORMAT_VERSION, MADE_BY) as file:
        packed = _read_all_but_pixels(Path(path), file, in_memory)
    if in_memory:
        _ = packed.images  # damage shows now, not in the middle of the work
    if not (packed.std > 0).all():
        raise InputError(f"{path}: a channel of the training images is the same everywhere, so it cannot be standardised")
    return packed


def _read_all_but_pixels(path: Path, file: h5py.File, in_memory: bool) -> Packed:
    """The content of an open file, once its values are known to go together."""
    labels = array(file, "labels", "i", (None,))
    number, class_names = len(labels), check_class_names(get_json(file, "class_names", list))
    shape = dataset(file, "images", "u", (number, 3, None, None)).shape
    if shape[2] != shape[3] or not shape[2] or not number:
        raise ValueError(f"images has the shape {shape}; its galaxies should be squares")
    confidences = array(file, "confidences", "f", (number, len(class_names)), "galaxy")
    splits = array(file, "splits", "i", (number,))
    check_all((labels >= 0) & (labels < len(class_names)), labels, "labels", f"a leaf of {len(class_names)}", "galaxy")
    check_all((splits >= 0) & (splits < len(SPLITS)), splits, "splits", f"a split of {len(SPLITS)}", "galaxy")
    good = (confidences >= 0) & (confidences <= MOST_DEBIASED)
    check_all(good, confidences, "confidences", "a confidence in [0, 1]", "galaxy")
    best = confidences.max(axis=1)
    check_all(best > 0, best, "the largest of confidences", "above 0", "galaxy")
    object_ids = tuple(object_id.decode() for object_id in array(file, "object_ids", "S", (number,)).tolist())
    mean, std = (get_vector(file, name, 3) for name in ("mean", "std"))
    if not ((mean >= 0) & (mean <= 1) & (std >= 0) & (std <= 1)).all():
        raise ValueError(f"mean {mean.tolist()} and std {std.tolist()} are not those of pixels in [0, 1]")
    tree, fingerprint = get_text(file, "tree"), get_text(file, "fingerprint")
    if get_number(file, "format_version") >= 2:  # version 1 made its fingerprint of the pixels themselves
        content = labels, confidences, object_ids, splits, class_names, tree
        if content_fingerprint(_digests(file).tobytes(), shape, *content) != fingerprint:
            raise ValueError("its content is not that of its fingerprint")
    return Packed(
        path=path,
        labels=torch.from_numpy(labels.astype(np.int64)),
        confidences=torch.from_numpy(confidences.astype(np.float32)),
        object_ids=object_ids,
        splits=torch.from_numpy(splits.astype(np.int64)),
        mean=torch.tensor(mean, dtype=torch.float32),
        std=torch.tensor(std, dtype=torch.float32),
        class_names=class_names,
        tree=tree,
        configuration=get_json(file, "configuration", dict),
        fingerprint=fingerprint,
        image_shape=tuple(shape[1:]),
        in_memory=in_memory,
    )
