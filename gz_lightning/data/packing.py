"""PackedWriter: writes a packed file, pixels first, each row once and straight to its place.

The file is an HDF5 file from the start, with its pixels in one piece: any thread writes any row, in any order. A row is
complete once its digest is that of its pixels, so an interrupted packing resumes.

Shapes: N galaxies, K leaves, H x W pixels (H = W = ``resolution``).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from gz_lightning.data.selection import SPLITS
from gz_lightning.errors import Damaged, InputError
from gz_lightning.storage.hdf5 import (
    dataset,
    get_text,
    has_dataset,
    new_hdf5,
    open_lenient,
    raw_hdf5,
    set_text,
    write_header,
)
from gz_lightning.storage.whole import allocate, atomic_write, report_unwritable

FORMAT = "galaxies"
FORMAT_VERSION = 2
MADE_BY = "gz-lightning prepare"
DIGEST = hashlib.sha256().digest_size
HEADER = 2**20
"""Bytes for what HDF5 itself adds to a packed file: some hundred kB at most."""
BATCH = 64
"""Images that are copied at a time."""
SYNC_EVERY = 2**24
"""Bytes after which the disk is told to begin with them, so that little is left to wait for at the end."""


def row_digest(row: npt.NDArray[np.uint8]) -> bytes:
    """SHA-256 of the pixels of one galaxy, which reveals damage."""
    return hashlib.sha256(np.ascontiguousarray(row).data).digest()


def one_leaf(number: int, leaf: str) -> str:
    """What is said of training galaxies that are all of one leaf."""
    which = "the only training galaxy is" if number == 1 else f"all {number} training galaxies are"
    return f"{which} of the leaf '{leaf}'; training needs at least two classes: take galaxies of other leaves as well"


@dataclass(frozen=True)
class Contents:
    """All that a packed file holds of its N galaxies beside their pixels.

    Args:
        labels: Leaf of each galaxy, int64, shape (N,).
        confidences: Leaf confidences, float, shape (N, K); stored as float32.
        object_ids: N object ids.
        splits: Split of each galaxy as a place in ``SPLITS``, int64, shape (N,).
        class_names: Names of the K leaves.
        tree: Name of the tree; empty for none.
    """

    labels: npt.NDArray[np.int64]
    confidences: npt.NDArray[np.floating[Any]]
    object_ids: Sequence[str]
    splits: npt.NDArray[np.int64]
    class_names: Sequence[str]
    tree: str

    @property
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Labels, confidences and splits by their names in the file."""
        return {
            "labels": self.labels.astype("<i8"),
            "confidences": self.confidences.astype("<f4"),
            "splits": self.splits.astype("<i8"),
        }

    def check_training(self) -> None:
        """Check that there are galaxies to train on.

        Raises:
            InputError: If no galaxy is in the training split, or all of them are of one leaf.
        """
        training = self.labels[self.splits == SPLITS.index("train")]
        leaves = np.unique(training).tolist()
        if not leaves:
            raise InputError(f"none of the {len(self.splits)} galaxies falls into the training split; take more galaxies")
        if len(leaves) < 2:
            raise InputError(one_leaf(len(training), self.class_names[leaves[0]]))

    def fingerprint(self, digests: bytes, shape: tuple[int, ...]) -> str:
        """SHA-256 of the galaxies.

        Args:
            digests: Digests of the N rows of pixels, concatenated.
            shape: Shape of the pixels, (N, 3, H, W).
        """
        digest = hashlib.sha256(digests)
        digest.update(json.dumps([self.tree, list(self.class_names), list(self.object_ids), shape]).encode())
        for array in self.arrays.values():
            digest.update(array.tobytes())
        return digest.hexdigest()


class PackedWriter:
    """Writes the packed file at ``path``.

    An unfinished file of the same plan is resumed; any other is overwritten. A file that is not finished stays for the next
    run.

    Args:
        path: The file.
        number: N.
        resolution: Side of the images in pixels.
        plan: Identifies the images and how they are decoded.

    Attributes:
        resumed: Whether the file may hold rows of an earlier run, see :meth:`keeps`.

    Example:
        >>> with PackedWriter(Path("a.h5.unfinished"), 100, 128) as writer:  # doctest: +SKIP
        ...     writer.put(0, images, training)
        ...     writer.finish(Path("a.h5"), contents, configuration)
    """

    def __init__(self, path: Path, number: int, resolution: int, plan: str = "") -> None:
        self.path, self.number, self.shape = path, number, (3, resolution, resolution)
        self.row_bytes = 3 * resolution**2
        self.spare = path.with_name(f"{path.name}.part")
        self.plan = plan
        self.total, self.squares = np.zeros(3, np.int64), np.zeros(3, np.int64)  # of the training pixels; exact
        self.number_training = self.unsynced = 0
        self.described = False  # whether an earlier run ended between adding the labels and renaming the file
        self.lock = threading.Lock()

    def __enter__(self) -> PackedWriter:
        if self.path.exists() and not self.path.is_file():
            raise InputError(f"{self.path} is not a file, but an unfinished packing would go there; remove it")
        with report_unwritable(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.spare.unlink(missing_ok=True)  # of a run that was killed
        offsets = self._offsets()
        self.resumed = offsets is not None
        if offsets is None:
            self._create()
            offsets = self._offsets()
            assert offsets is not None
        self.images_at, self.digests_at = offsets
        with report_unwritable(self.path):
            self.file = self.path.open("r+b", buffering=0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.file.close()

    @property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {"images": (self.number, *self.shape), "digests": (self.number, DIGEST)}

    def _create(self) -> None:
        allocate(self.path, self.number * (math.prod(self.shape) + DIGEST) + HEADER)
        with report_unwritable(self.path, RuntimeError), new_hdf5(self.path) as file:
            early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            early.set_layout(h5py.h5d.CONTIGUOUS)
            early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            early.set_obj_track_times(False)  # the same galaxies make the same bytes
            for name, shape in self._shapes.items():
                h5py.h5d.create(file.id, name.encode(), h5py.h5t.STD_U8LE, h5py.h5s.create_simple(shape), early)
            set_text(file, "plan", self.plan)

    def _offsets(self) -> tuple[int, int] | None:
        """Where images and digests begin in the file; None if it is not an unfinished file of this plan."""
        try:
            with raw_hdf5(self.path) as file:
                if not all(has_dataset(file, name) for name in self._shapes) or get_text(file, "plan") != self.plan:
                    return None
                images, digests = (dataset(file, name, "u", shape) for name, shape in self._shapes.items())
                if any(values.dtype.itemsize != 1 or values.chunks is not None for values in (images, digests)):
                    return None
                self.described = len(file) > len(self._shapes)
                return int(images.id.get_offset()), int(digests.id.get_offset())
        except Damaged:
            return None  # missing, another file, or killed while it was finished

    def _read(self, place: int, number: int, start: int, width: int) -> bytes:
        with self.lock:
            self.file.seek(start + place * width)
            return self.file.read(number * width)

    def _write(self, place: int, start: int, width: int, content: bytes | memoryview) -> None:
        rest = memoryview(content).cast("B")
        with report_unwritable(self.path), self.lock:
            self.file.seek(start + place * width)
            while rest:  # a nearly full disk takes only a part
                rest = rest[self.file.write(rest) :]

    def put(self, place: int, rows: npt.NDArray[np.uint8], training: npt.NDArray[np.bool_]) -> None:
        """Write rows to their places, from any thread.

        Args:
            place: Place of the first.
            rows: Shape (n, 3, H, W).
            training: Which of them are in the training split, shape (n,).

        Raises:
            InputError: If they cannot be written, as on a full disk.
        """
        rows = np.ascontiguousarray(rows)
        self._write(place, self.images_at, self.row_bytes, rows.data)
        self._write(place, self.digests_at, DIGEST, b"".join(map(row_digest, rows)))  # after the pixels that they vouch for
        self._count(rows, training)

    def keeps(self, place: int, training: bool) -> bool:
        """Whether the row at a place is complete already; if so it counts as if :meth:`put`."""
        row = self._row(place)
        if row_digest(row) != self._read(place, 1, self.digests_at, DIGEST):
            return False
        self._count(row[None], np.array([training]))
        return True

    def drop_training(self, place: int) -> None:
        """Take a training galaxy, which is going to be unused, out of the statistics."""
        self._count(self._row(place)[None], np.array([True]), -1)

    def digests(self) -> list[bytes]:
        """Digests of the N rows of pixels."""
        content = self._read(0, self.number, self.digests_at, DIGEST)
        return [content[start : start + DIGEST] for start in range(0, len(content), DIGEST)]

    def _row(self, place: int) -> npt.NDArray[np.uint8]:
        return np.frombuffer(self._read(place, 1, self.images_at, self.row_bytes), np.uint8).reshape(self.shape)

    def _count(self, rows: npt.NDArray[np.uint8], training: npt.NDArray[np.bool_], sign: int = 1) -> None:
        """Add rows to the sums of the training pixels, or subtract them."""
        sums = np.zeros((2, 3), np.int64)
        for row in rows[training]:  # float32 holds the sums of a row of up to 258 pixels
            exact = row.astype(np.float32 if row.shape[2] <= 2**24 // 255**2 else np.float64)
            for i, lines in enumerate((np.einsum("crp->cr", exact), np.einsum("crp,crp->cr", exact, exact))):
                sums[i] += lines.sum(axis=1, dtype=np.float64).astype(np.int64)
        with self.lock:
            self.total += sign * sums[0]
            self.squares += sign * sums[1]
            self.number_training += sign * int(training.sum())
            self.unsynced += rows.nbytes

    def sync(self) -> None:
        """Flush to the disk once there is much to flush."""
        if self.unsynced >= SYNC_EVERY:
            self.unsynced = 0
            with report_unwritable(self.path):
                os.fsync(self.file.fileno())

    def finish(
        self,
        output: Path,
        contents: Contents,
        configuration: Mapping[str, Any],
        used: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Add everything but the pixels, and rename the file to ``output``.

        Args:
            output: The finished file; an existing one is replaced.
            contents: Labels and the like of the galaxies.
            configuration: What made the file; written into it as JSON.
            used: Which of the N rows the contents are of, shape (N,). Default: all.

        Raises:
            InputError: As :meth:`Contents.check_training`.
            ValueError: If there are not as many rows as labels.
        """
        used = np.ones(self.number, dtype=bool) if used is None else used
        if int(used.sum()) != len(contents.labels):
            raise ValueError(f"{int(used.sum())} images for {len(contents.labels)} labels")
        contents.check_training()
        if self.described or not used.all():
            self._compact(used)
        fingerprint = contents.fingerprint(b"".join(self.digests()), self._shapes["images"])
        pixels = self.number_training * self.shape[1] * self.shape[2]
        mean = self.total / pixels
        arrays = contents.arrays | {"object_ids": np.array([object_id.encode() for object_id in contents.object_ids])}
        size = sum(array.nbytes for array in arrays.values()) + len(json.dumps(dict(configuration), default=str))
        allocate(self.path, self.path.stat().st_size + size + HEADER)
        with (
            report_unwritable(self.path, RuntimeError),
            open_lenient(self.path, "r+", libver=("v110", "v110")) as file,
        ):
            for name, array in arrays.items():
                file.create_dataset(name, data=array, fletcher32=True)
            file.attrs["mean"] = mean / 255
            file.attrs["std"] = np.sqrt(np.maximum(self.squares / pixels - mean**2, 0)) / 255
            set_text(file, "class_names", json.dumps(list(contents.class_names)))
            set_text(file, "tree", contents.tree)
            write_header(file, FORMAT, FORMAT_VERSION, configuration, fingerprint)
        with report_unwritable(output):
            os.fsync(self.file.fileno())  # the rename must not overtake the bytes
            self.path.replace(output)

    def _compact(self, used: npt.NDArray[np.bool_]) -> None:
        """Move to a file of nothing but the used rows."""
        with PackedWriter(self.spare, int(used.sum()), self.shape[1], self.plan) as copy:
            places = np.flatnonzero(used)
            for start in range(0, len(places), BATCH):
                batch = places[start : start + BATCH].tolist()
                pixels = [self._read(place, 1, self.images_at, self.row_bytes) for place in batch]
                copy._write(start, copy.images_at, self.row_bytes, b"".join(pixels))
                digests = [self._read(place, 1, self.digests_at, DIGEST) for place in batch]
                copy._write(start, copy.digests_at, DIGEST, b"".join(digests))
        self.file.close()
        self.spare.replace(self.path)
        self.number, self.images_at, self.digests_at = copy.number, copy.images_at, copy.digests_at
        self.file = self.path.open("r+b", buffering=0)


def write_packed(
    path: str | Path,
    batches: Iterable[npt.NDArray[np.uint8]],
    contents: Contents,
    *,
    resolution: int,
    configuration: Mapping[str, Any],
) -> None:
    """Write a packed file atomically.

    Args:
        path: The file.
        batches: The N images in order, in batches of shape (n, 3, H, W).
        contents: Labels and the like of the N galaxies.
        resolution: Side of the images in pixels.
        configuration: What made the file; written into it as JSON.

    Raises:
        InputError: As :meth:`Contents.check_training`.
    """
    contents.check_training()
    training, place = contents.splits == SPLITS.index("train"), 0
    with atomic_write(path) as temporary, PackedWriter(temporary, len(training), resolution) as writer:
        for batch in batches:
            writer.put(place, batch, training[place : place + len(batch)])
            place += len(batch)
        writer.finish(temporary, contents, configuration)
