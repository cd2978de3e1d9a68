"""The packed HDF5 file.

One file holds everything the rest of the package needs to know of its galaxies: pixels, labels, leaf confidences,
object ids, splits, the statistics of the training pixels, names, and what made it.

Shapes: N galaxies, K leaves, H x W pixels (H = W = ``resolution``).
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gz_lightning.data.selection import SPLITS
from gz_lightning.errors import InputError
from gz_lightning.files import create_hdf5, get_text, open_checked, set_text, write_header

FORMAT = "galaxies"
FORMAT_VERSION = 1
MADE_BY = "gz-lightning prepare"
BATCH = 256
"""Images in memory at a time while a file is written."""


def check_training(splits: npt.NDArray[np.int64]) -> None:
    """Check that there are galaxies to train on.

    Raises:
        InputError: If no galaxy is in the training split.
    """
    if not (splits == SPLITS.index("train")).any():
        raise InputError(f"none of the {len(splits)} galaxies falls into the training split; take more galaxies")


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
    shape = (len(labels), 3, resolution, resolution)
    digest = hashlib.sha256(json.dumps([tree, list(class_names), list(object_ids), shape]).encode())
    for array in (labels.astype("<i8"), confidences.astype("<f4"), splits.astype("<i8")):
        digest.update(array.tobytes())
    total, squares, pixels = np.zeros(3, np.int64), np.zeros(3, np.int64), 0  # of the training pixels; exact
    with create_hdf5(path) as file:
        # One galaxy a chunk: any row is one seek away. The checksum finds damage when it is read.
        images = file.create_dataset("images", shape, np.uint8, chunks=(1, *shape[1:]), fletcher32=True)
        start = 0
        for batch in batches:
            images[start : start + len(batch)] = batch
            digest.update(np.ascontiguousarray(batch).data)
            for image in batch[splits[start : start + len(batch)] == SPLITS.index("train")]:
                channels = image.reshape(3, -1).astype(np.uint16)
                total += channels.sum(axis=1, dtype=np.int64)
                squares += (channels * channels).sum(axis=1, dtype=np.int64)
                pixels += channels.shape[1]
            start += len(batch)
        if start != len(labels):
            raise ValueError(f"{start} images were given for {len(labels)} labels")
        file.create_dataset("labels", data=labels.astype("<i8"), fletcher32=True)
        file.create_dataset("confidences", data=confidences.astype("<f4"), fletcher32=True)
        file.create_dataset("object_ids", data=np.array([str(i).encode() for i in object_ids]), fletcher32=True)
        file.create_dataset("splits", data=splits.astype("<i8"), fletcher32=True)
        mean = total / pixels
        file.attrs["mean"] = mean / 255
        file.attrs["std"] = np.sqrt(np.maximum(squares / pixels - mean**2, 0)) / 255
        set_text(file, "class_names", json.dumps(list(class_names)))
        set_text(file, "tree", tree)
        write_header(file, FORMAT, FORMAT_VERSION, configuration, digest.hexdigest())


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
            return torch.from_numpy(file["images"][...])

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
            images, places = file["images"], rows.cpu().numpy()
            for place in np.argsort(places, kind="stable"):  # the disk is read in one direction
                images.read_direct(pixels, int(places[place]), int(place))
        return torch.from_numpy(pixels)


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
    """
    with open_checked(path, FORMAT, FORMAT_VERSION, MADE_BY) as file:
        packed = Packed(
            path=Path(path),
            labels=torch.from_numpy(file["labels"][...]),
            confidences=torch.from_numpy(file["confidences"][...]),
            object_ids=tuple(object_id.decode() for object_id in file["object_ids"][...].tolist()),
            splits=torch.from_numpy(file["splits"][...]),
            mean=torch.tensor(file.attrs["mean"], dtype=torch.float32),
            std=torch.tensor(file.attrs["std"], dtype=torch.float32),
            class_names=tuple(json.loads(get_text(file, "class_names"))),
            tree=get_text(file, "tree"),
            configuration=json.loads(get_text(file, "configuration")),
            fingerprint=get_text(file, "fingerprint"),
            image_shape=tuple(file["images"].shape[1:]),
            in_memory=in_memory,
        )
    if in_memory:
        _ = packed.images  # damage shows now, not in the middle of the work
    if not (packed.std > 0).all():
        raise InputError(f"{path}: a channel of the training images is the same everywhere, so it cannot be standardised")
    return packed
