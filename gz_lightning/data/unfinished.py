"""UnfinishedPacking: the cut-outs decoded so far, so that an interrupted ``prepare`` goes on where it was.

The file is a plan (SHA-256 of what is to be decoded, in hexadecimal) and one record after the other: a mark, a checksum,
the pixels. It can only grow. Whatever is behind the last whole record is dropped when it is opened again.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from gz_lightning.errors import InputError

_HEAD = struct.Struct("<BI")
_PLAN = 64  # hexadecimal digits
_CUTOUT, _REJECT = 1, 2


def plan_of(files: Sequence[Path], resolution: int, crop: float, size: tuple[int, int] | None) -> str:
    """SHA-256 of what is to be decoded and how: names, sizes and times of the files, and the settings."""
    digest = hashlib.sha256(json.dumps([1, resolution, crop, size]).encode())
    for file in files:
        try:
            state = os.stat(file)
            digest.update(f"{file}\0{state.st_size}\0{state.st_mtime_ns}\0".encode())
        except OSError:
            digest.update(f"{file}\0missing\0".encode())
    return digest.hexdigest()


class UnfinishedPacking:
    """Cut-outs of one plan on disk, in order.

    Args:
        path: The file; one that is there and of the same plan is gone on with, any other is begun anew.
        plan: See :func:`plan_of`.
        resolution: Side of the cut-outs in pixels.

    Example:
        >>> with UnfinishedPacking(Path("a.unfinished"), plan, 128) as unfinished:  # doctest: +SKIP
        ...     rest = files[len(unfinished) :]
        ...     for cutouts, records in decode_cutouts(rest, 128, 0.5, None, 2, unfinished.records):
        ...         unfinished.append(cutouts, records)
    """

    def __init__(self, path: Path, plan: str, resolution: int) -> None:
        self.path = path
        self.plan = plan.encode()
        self.shape = (3, resolution, resolution)
        self.record = _HEAD.size + 3 * resolution**2
        self.used: list[bool] = []

    def __len__(self) -> int:
        """How many files are done, rejects among them."""
        return len(self.used)

    def __enter__(self) -> UnfinishedPacking:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = self.path.open("r+b" if self.path.exists() else "w+b", buffering=0)
        if self.file.read(_PLAN) == self.plan:
            while (mark := self._mark()) is not None:
                self.used.append(mark == _CUTOUT)
        else:
            self.file.seek(0)
            self.file.write(self.plan)
        self.file.seek(_PLAN + len(self.used) * self.record)
        self.file.truncate()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.file.close()

    def _mark(self) -> int | None:
        """The mark of the next record; None where there is no whole one."""
        record = self.file.read(self.record) or b""
        if len(record) < self.record:
            return None
        mark, checksum = _HEAD.unpack_from(record)
        whole = mark in (_CUTOUT, _REJECT) and zlib.adler32(memoryview(record)[_HEAD.size :]) == checksum
        return int(mark) if whole else None

    def records(self, cutouts: Sequence[npt.NDArray[np.uint8] | str]) -> bytes:
        """Cut-outs and rejects as they are written. Any thread may ask for them."""
        parts = []
        for cutout in cutouts:
            rejected = isinstance(cutout, str)
            pixels = bytes(self.record - _HEAD.size) if isinstance(cutout, str) else cutout.tobytes()
            parts += [_HEAD.pack(_REJECT if rejected else _CUTOUT, zlib.adler32(pixels)), pixels]
        return b"".join(parts)

    def append(self, cutouts: Sequence[npt.NDArray[np.uint8] | str], records: bytes) -> None:
        """Add the next cut-outs, or rejects.

        Args:
            cutouts: Each of shape (3, H, W), or why a file was rejected.
            records: What :meth:`records` makes of them.

        Raises:
            InputError: If they cannot be written, as on a full disk.
        """
        left = memoryview(records)
        try:
            while left:  # a disk that is nearly full takes less than it is given
                left = left[self.file.write(left) :]
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error}; make room and run the same again") from error
        self.used += [not isinstance(cutout, str) for cutout in cutouts]

    def cutouts(self) -> Iterator[npt.NDArray[np.uint8] | None]:
        """What is done so far, in order: cut-outs of shape (3, H, W), None for a reject. Nothing may be added meanwhile."""
        for place, used in enumerate(self.used):
            self.file.seek(_PLAN + place * self.record + _HEAD.size)
            yield np.frombuffer(self.file.read(self.record - _HEAD.size), np.uint8).reshape(self.shape) if used else None
        self.file.seek(_PLAN + len(self.used) * self.record)
