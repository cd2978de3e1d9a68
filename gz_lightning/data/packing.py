"""PackedWriter: writes a packed file, pixels first, each row once, straight to its place.

The file is an HDF5 file from the beginning. Its pixels lie in one piece, so that any thread puts rows where they belong, in
any order, and whoever was interrupted goes on: a row is whole if it is that of its digest.

Shapes: N galaxies, K leaves, H x W pixels (H = W = ``resolution``).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from gz_lightning.data.selection import SPLITS
from gz_lightning.errors import Damaged, InputError
from gz_lightning.storage.hdf5 import dataset, get_text, has_dataset, new_hdf5, raw_hdf5, set_text, write_header
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


def check_training(splits: npt.NDArray[np.int64]) -> None:
    """Check that there are galaxies to train on.

    Raises:
        InputError: If no galaxy is in the training split.
    """
    if not (splits == SPLITS.index("train")).any():
        raise InputError(f"none of the {len(splits)} galaxies falls into the training split; take more galaxies")


def row_digest(row: npt.NDArray[np.uint8]) -> bytes:
    """SHA-256 of the pixels of one galaxy, by which damage is found."""
    return hashlib.sha256(np.ascontiguousarray(row).data).digest()


def content_fingerprint(
    digests: bytes,
    shape: tuple[int, ...],
    labels: npt.NDArray[np.int64],
    confidences: npt.NDArray[np.float64],
    object_ids: Sequence[str],
    splits: npt.NDArray[np.int64],
    class_names: Sequence[str],
    tree: str,
) -> str:
    """SHA-256 of all that a packed file holds of its galaxies, their pixels by their digests.

    Args:
        digests: Digests of the N rows of pixels, one after the other.
        shape: (N, 3, H, W).
        labels: This and the rest as :meth:`PackedWriter.finish` takes them.
        confidences: See there.
        object_ids: See there.
        splits: See there.
        class_names: See there.
        tree: See there.
    """
    digest = hashlib.sha256(digests)
    digest.update(json.dumps([tree, list(class_names), list(object_ids), shape]).encode())
    for array in (labels.astype("<i8"), confidences.astype("<f4"), splits.astype("<i8")):
        digest.update(array.tobytes())
    return digest.hexdigest()


class PackedWriter:
    """Writes the packed file at ``path``.

    A file that is there is gone on with if it is of the same plan and was never finished; any other is begun anew. Not
    finished, it stays as it is for the next time.

    Args:
        path: The file.
        number: N.
        resolution: Side of the images in pixels.
        plan: What the images are, in a word that changes with them.

    Attributes:
        resumed: Whether there are rows of an earlier time, see :meth:`keeps`.

    Example:
        >>> with PackedWriter(Path("a.h5.unfinished"), 100, 128) as writer:  # doctest: +SKIP
        ...     writer.put(0, images, training)
        ...     writer.finish(labels=labels, ...)
    """

    def __init__(self, path: Path, number: int, resolution: int, plan: str = "") -> None:
        self.path, self.number, self.shape = path, number, (3, resolution, resolution)
        self.row_bytes = 3 * resolution**2
        self.spare = path.with_name(f"{path.name}.part")
        self.plan = plan
        self.total, self.squares = np.zeros(3, np.int64), np.zeros(3, np.int64)  # of the training pixels; exact
        self.number_training = self.unsynced = 0
        self.lock = threading.Lock()

    def __enter__(self) -> PackedWriter:
        if self.path.exists() and not self.path.is_file():
            raise InputError(f"{self.path} is no file, where an unfinished one would lie; remove it")
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

    def _create(self) -> None:
        allocate(self.path, self.number * (math.prod(self.shape) + DIGEST) + HEADER)
        with report_unwritable(self.path, RuntimeError), new_hdf5(self.path) as file:
            early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            early.set_layout(h5py.h5d.CONTIGUOUS)
            early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            early.set_obj_track_times(False)  # the same galaxies make the same bytes
            for name, shape in ((b"images", (self.number, *self.shape)), (b"digests", (self.number, DIGEST))):
                h5py.h5d.create(file.id, name, h5py.h5t.STD_U8LE, h5py.h5s.create_simple(shape), early)
            set_text(file, "plan", self.plan)

    def _offsets(self) -> tuple[int, int] | None:
        """Where images and digests begin in the file; None where there is no unfinished file of this plan."""
        try:
            with raw_hdf5(self.path) as file:
                wanted = {"images": (self.number, *self.shape), "digests": (self.number, DIGEST)}
                if not all(has_dataset(file, name) for name in wanted) or get_text(file, "plan") != self.plan:
                    return None
                found = [dataset(file, name, "u", shape) for name, shape in wanted.items()]
                if any(own.dtype.itemsize != 1 or own.chunks is not None for own in found):
                    return None
                images, digests = (own.id.get_offset() for own in found)
                return int(images), int(digests)
        except Damaged:
            return None  # none, another file, or one that was killed while it was finished

    def _read(self, place: int, number: int, start: int, width: int) -> bytes:
        with self.lock:
            self.file.seek(start + place * width)
            return self.file.read(number * width)

    def _write(self, place: int, start: int, width: int, content: bytes | memoryview) -> None:
        left = memoryview(content).cast("B")
        with report_unwritable(self.path), self.lock:
            self.file.seek(start + place * width)
            while left:  # a disk that is nearly full takes less than it is given
                left = left[self.file.write(left) :]

    def put(self, place: int, rows: npt.NDArray[np.uint8], training: npt.NDArray[np.bool_]) -> None:
        """Write rows to their places. Any thread may.

        Args:
            place: Place of the first.
            rows: Shape (n, 3, H, W).
            training: Which of them are in the training split, shape (n,).

        Raises:
            InputError: If they cannot be written, as on a full disk.
        """
        rows = np.ascontiguousarray(rows)
        digests = b"".join(row_digest(row) for row in rows)
        self._write(place, self.images_at, self.row_bytes, rows.data)
        self._write(place, self.digests_at, DIGEST, digests)  # what has a digest was written before
        self._note(rows, training)

    def keeps(self, place: int, training: bool) -> bool:
        """Whether the row of a place is whole already; if so it is taken note of as by :meth:`put`."""
        pixels = self._read(place, 1, self.images_at, self.row_bytes)
        if hashlib.sha256(pixels).digest() != self._read(place, 1, self.digests_at, DIGEST):
            return False
        self._note(np.frombuffer(pixels, np.uint8).reshape(1, *self.shape), np.array([training]))
        return True

    def _note(self, rows: npt.NDArray[np.uint8], training: npt.NDArray[np.bool_]) -> None:
        """Sums of the training pixels."""
        sums = np.zeros((2, 3), np.int64)
        for row in rows[training]:  # float32 holds the sums of a row of up to 258 pixels
            exact = row.astype(np.float32 if row.shape[2] <= 2**24 // 255**2 else np.float64)
            for own, lines in zip(sums, (np.einsum("crp->cr", exact), np.einsum("crp,crp->cr", exact, exact)), strict=True):
                own += lines.sum(axis=1, dtype=np.float64).astype(np.int64)
        with self.lock:
            self.total += sums[0]
            self.squares += sums[1]
            self.number_training += int(training.sum())
            self.unsynced += rows.nbytes

    def sync(self) -> None:
        """Have what was written on the disk, if it is much."""
        if self.unsynced >= SYNC_EVERY:
            self.unsynced = 0
            with report_unwritable(self.path):
                os.fsync(self.file.fileno())

    def finish(
        self,
        output: Path,
        *,
        labels: npt.NDArray[np.int64],
        confidences: npt.NDArray[np.float64],
        object_ids: Sequence[str],
        splits: npt.NDArray[np.int64],
        class_names: Sequence[str],
        tree: str,
        configuration: Mapping[str, Any],
        used: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Add all but the images, and give the file its name; nothing is left at ``path``.

        Args:
            output: The name. What is there already is replaced.
            labels: Leaf of each galaxy, shape (n,).
            confidences: Leaf confidences, shape (n, K).
            object_ids: n object ids.
            splits: Place of each galaxy's split in ``SPLITS``, shape (n,).
            class_names: Names of the K leaves.
            tree: Name of the tree, or empty.
            configuration: Whatever made the file; written into it as JSON.
            used: Which of the N rows are there, shape (N,): n of them. Default: all.

        Raises:
            InputError: If no galaxy is in the training split.
            ValueError: If rows and labels are not as many.
        """
        used = np.ones(self.number, dtype=bool) if used is None else used
        if int(used.sum()) != len(labels):
            raise ValueError(f"{int(used.sum())} images were given for {len(labels)} labels")
        check_training(splits)
        if not used.all():
            self._without(used)
        object_ids = [str(object_id) for object_id in object_ids]
        rows = self._read(0, self.number, self.digests_at, DIGEST), (self.number, *self.shape)
        fingerprint = content_fingerprint(*rows, labels, confidences, object_ids, splits, class_names, tree)
        arrays = {"labels": labels.astype("<i8"), "confidences": confidences.astype("<f4"), "splits": splits.astype("<i8")}
        pixels = self.number_training * self.shape[1] * self.shape[2]
        mean = self.total / pixels
        names = [object_id.encode() for object_id in object_ids]
        size = sum(array.nbytes for array in arrays.values()) + len(names) * max(map(len, names))
        allocate(self.path, self.path.stat().st_size + size + len(json.dumps(configuration)) + HEADER)
        with (
            report_unwritable(self.path, RuntimeError),
            h5py.File(self.path, "r+", libver=("v110", "v110")) as file,
        ):
            for name, array in arrays.items():
                file.create_dataset(name, data=array, fletcher32=True)
            file.create_dataset("object_ids", data=np.array(names), fletcher32=True)
            file.attrs["mean"] = mean / 255
            file.attrs["std"] = np.sqrt(np.maximum(self.squares / pixels - mean**2, 0)) / 255
            set_text(file, "class_names", json.dumps(list(class_names)))
            set_text(file, "tree", tree)
            write_header(file, FORMAT, FORMAT_VERSION, configuration, fingerprint)
        with report_unwritable(output):
            os.fsync(self.file.fileno())  # the rename must not overtake the bytes
            self.path.replace(output)

    def _without(self, used: npt.NDArray[np.bool_]) -> None:
        """Go over to a file that has no places for what is not used."""
        with PackedWriter(self.spare, int(used.sum()), self.shape[1], self.plan) as copy:
            places = np.flatnonzero(used)
            for start in range(0, len(places), BATCH):
                rows = [self._read(int(place), 1, self.images_at, self.row_bytes) for place in places[start : start + BATCH]]
                copy._write(start, copy.images_at, self.row_bytes, b"".join(rows))
                digests = [self._read(int(place), 1, self.digests_at, DIGEST) for place in places[start : start + BATCH]]
                copy._write(start, copy.digests_at, DIGEST, b"".join(digests))
        self.file.close()
        self.spare.replace(self.path)
        self.number, self.images_at, self.digests_at = copy.number, copy.images_at, copy.digests_at
        self.file = self.path.open("r+b", buffering=0)


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
    with atomic_write(path) as temporary, PackedWriter(temporary, len(labels), resolution) as writer:
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
