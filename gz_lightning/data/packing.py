"""The packed HDF5 file.

One file holds everything the rest of the package needs to know of its galaxies: pixels, labels, leaf confidences,
object ids, splits, the statistics of the training pixels, names, and what made it.

Shapes: N galaxies, K leaves, H x W pixels (H = W = ``resolution``).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import torch

from gz_lightning.data.selection import SPLITS
from gz_lightning.errors import InputError
from gz_lightning.files import create_hdf5, get_text, open_checked, set_text, write_header

FORMAT = "galaxies"
FORMAT_VERSION = 1
MADE_BY = "gz-lightning prepare"
BATCH = 64
"""Images in memory at a time while a file is written."""


def check_training(splits: npt.NDArray[np.int64]) -> None:
    """Check that there are galaxies to train on.

    Raises:
        InputError: If no galaxy is in the training split.
    """
    if not (splits == SPLITS.index("train")).any():
        raise InputError(f"none of the {len(splits)} galaxies falls into the training split; take more galaxies")


class PackedWriter:
    """Writes a packed file, images first; see :func:`packing`.

    Args:
        file: A new HDF5 file.
        resolution: Side of the images in pixels.
        beside: A thread that takes note of a batch (fingerprint, statistics) while it is written.
    """

    def __init__(self, file: h5py.File, resolution: int, beside: Executor) -> None:
        self.file, self.beside = file, beside
        self.shape = (3, resolution, resolution)
        self.digest = hashlib.sha256()
        self.total, self.squares = np.zeros(3, np.int64), np.zeros(3, np.int64)  # of the training pixels; exact
        self.number = self.number_training = 0
        # One galaxy a chunk: any row is one seek away. The checksum finds damage when it is read.
        self.images = file.create_dataset(
            "images", (0, *self.shape), np.uint8, maxshape=(None, *self.shape), chunks=(1, *self.shape), fletcher32=True
        )

    def add(self, batch: npt.NDArray[np.uint8], training: npt.NDArray[np.bool_]) -> None:
        """Add the next images.

        Args:
            batch: Shape (n, 3, H, W).
            training: Which of them are in the training split, shape (n,).
        """
        noted = self.beside.submit(self._note, batch, training)
        self.images.resize(self.number + len(batch), axis=0)
        self.images[self.number :] = batch
        self.number += len(batch)
        noted.result()

    def _note(self, batch: npt.NDArray[np.uint8], training: npt.NDArray[np.bool_]) -> None:
        self.digest.update(np.ascontiguousarray(batch).data)
        self.number_training += int(training.sum())
        for place in np.flatnonzero(training):  # float32 holds the sums of a row of up to 258 pixels
            exact = batch[place].astype(np.float32 if batch.shape[3] <= 2**24 // 255**2 else np.float64)
            rows = np.einsum("crp->cr", exact), np.einsum("crp,crp->cr", exact, exact)
            self.total += rows[0].sum(axis=1, dtype=np.float64).astype(np.int64)
            self.squares += rows[1].sum(axis=1, dtype=np.float64).astype(np.int64)

    def finish(
        self,
        *,
        labels: npt.NDArray[np.int64],
        confidences: npt.NDArray[np.float64],
        object_ids: Sequence[str],
        splits: npt.NDArray[np.int64],
        class_names: Sequence[str],
        tree: str,
        configuration: Mapping[str, Any],
    ) -> None:
        """Add all but the images; the arguments are those of :func:`write_packed`."""
        if self.number != len(labels):
            raise ValueError(f"{self.number} images were given for {len(labels)} labels")
        check_training(splits)
        shape = (self.number, *self.shape)
        self.digest.update(json.dumps([tree, list(class_names), list(object_ids), shape]).encode())
        arrays = {"labels": labels.astype("<i8"), "confidences": confidences.astype("<f4"), "splits": splits.astype("<i8")}
        for name, array in arrays.items():
            self.digest.update(array.tobytes())
            self.file.create_dataset(name, data=array, fletcher32=True)
        self.file.create_dataset("object_ids", data=np.array([str(i).encode() for i in object_ids]), fletcher32=True)
        pixels = self.number_training * self.shape[1] * self.shape[2]
        mean = self.total / pixels
        self.file.attrs["mean"] = mean / 255
        self.file.attrs["std"] = np.sqrt(np.maximum(self.squares / pixels - mean**2, 0)) / 255
        set_text(self.file, "class_names", json.dumps(list(class_names)))
        set_text(self.file, "tree", tree)
        write_header(self.file, FORMAT, FORMAT_VERSION, configuration, self.digest.hexdigest())


@contextlib.contextmanager
def packing(path: str | Path, resolution: int) -> Iterator[PackedWriter]:
    """A writer of a packed file that appears, whole, when the block ends without an error."""
    with create_hdf5(path) as file, ThreadPoolExecutor(1) as beside:
        yield PackedWriter(file, resolution, beside)


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
    training = splits == SPLITS.index("train")
    with packing(path, resolution) as writer:
        for batch in batches:
            writer.add(batch, training[writer.number : writer.number + len(batch)])
        writer.finish(
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
