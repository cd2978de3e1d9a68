"""HDF5 files of the package: their header, and readers that check type, shape and size before they read.

The header holds the kind of file (``format``), the version of that format, the release that wrote it, the configuration
that made it and the fingerprint of its content. Opening a file checks the header first.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import numpy.typing as npt

from gz_lightning.errors import Damaged, InputError, Unreachable
from gz_lightning.storage.text import checked_json, short
from gz_lightning.storage.whole import atomic_write, report_unwritable
from gz_lightning.version import __version__

T = TypeVar("T")
MOST_SQUEEZED, SMALL = 100, 16 * 2**20
"""Limits on compressed values: times their stored size (parameters have 1.2), or this many bytes if that is more."""
MOST_CHUNKS = 10**7
"""Chunks of a dataset at most; experts have one per epoch."""
DAMAGED_BYTES = (OSError, OverflowError, RuntimeError, ValueError)
"""What h5py raises on damaged bytes."""
LOCKED = "unable to lock file"
"""What HDF5 says of a file that another process has open for writing, or where the file system has no locks."""
MARKED = "h5clear"
"""What HDF5 says of a file with the mark that is there as long as a process writes it, and stays if that is killed."""
NOT_OURS = (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE)
"""What the system answers where a file, whatever it holds, cannot be read."""
DAMAGED_STRUCTURE = (*DAMAGED_BYTES, KeyError, TypeError)
"""What h5py raises on damaged or missing objects: also KeyError (no such name) and TypeError (a type that NumPy lacks)."""


class LeftOpen(Damaged):
    """A file with the mark of a writer that does not hold its lock."""


@contextlib.contextmanager
def create_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Write a new HDF5 file atomically.

    The format of HDF5 1.10 has checksums of all its structures; with the older default, a flipped bit can make the library
    loop forever. Datasets need ``fletcher32=True`` for theirs. Text is stored at fixed length (:func:`set_text`), because
    text of variable length lies in a heap without a checksum.

    The file is built in memory and then written, because HDF5 cannot close a file that a full disk cuts short.

    Raises:
        InputError: If the system refuses the write.
    """
    with atomic_write(path) as temporary, report_unwritable(path):
        content = io.BytesIO()
        with h5py.File(content, "w", libver=("v110", "v110")) as file:
            yield file
        temporary.write_bytes(content.getbuffer())


def new_hdf5(path: Path) -> h5py.File:
    """Create a file in the format of :func:`create_hdf5`, written in place."""
    return open_lenient(path, "w", libver=("v110", "v110"))


def open_lenient(path: str | os.PathLike[str], mode: str, **settings: Any) -> h5py.File:
    """Open a file with HDF5's lock, or without where the file system has none.

    Raises:
        BlockingIOError: If another process has it open for writing.
    """
    try:
        return h5py.File(path, mode, **settings)
    except OSError as error:
        if isinstance(error, BlockingIOError) or LOCKED not in str(error):
            raise
        return h5py.File(path, mode, **settings, locking=False)


def set_text(file: h5py.File, name: str, text: str) -> None:
    """Write a text attribute of fixed length, which HDF5 covers with a checksum."""
    file.attrs[name] = np.bytes_(text.encode() or b"\0")


def write_header(file: h5py.File, kind: str, version: int, configuration: Mapping[str, Any], fingerprint: str) -> None:
    """Write the header of ``file``.

    Args:
        file: An HDF5 file open for writing.
        kind: Kind of file, such as ``galaxies``.
        version: Version of that format.
        configuration: The settings that made the file, as JSON can hold them.
        fingerprint: SHA-256 of the content, in hexadecimal.
    """
    set_text(file, "format", f"gz_lightning.{kind}")
    file.attrs["format_version"] = version
    set_text(file, "gz_lightning_version", __version__)
    set_text(file, "configuration", json.dumps(dict(configuration), sort_keys=True, default=str))
    set_text(file, "fingerprint", fingerprint)


@contextlib.contextmanager
def _reading(what: str, errors: tuple[type[Exception], ...] = DAMAGED_STRUCTURE) -> Iterator[None]:
    """Turn what h5py raises on a damaged file into Damaged. For calls of h5py alone, never around our code."""
    try:
        yield
    except errors as error:
        reason = "it is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise Damaged(f"{what} cannot be read: {reason}") from error


@contextlib.contextmanager
def raw_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Open any HDF5 file for reading.

    Raises:
        Damaged: If it is not an HDF5 file, or was left open by its writer (:class:`LeftOpen`).
        Unreachable: If another process is writing it, or the system lets nobody read it.
    """
    try:
        file = open_lenient(path, "r")
    except BlockingIOError as error:
        raise Unreachable(f"{path} is being written by another process; wait for it, and run again") from error
    except DAMAGED_BYTES as error:
        if isinstance(error, OSError) and error.errno in NOT_OURS:
            raise Unreachable(f"{path} cannot be read: {os.strerror(error.errno)}") from error
        if MARKED in str(error):
            raise LeftOpen(
                "a process that had it open for writing was killed, or still has; if none has, take away the mark with "
                f"'h5clear --status {path}' (of the HDF5 tools) and look at what it holds"
            ) from error
        raise Damaged(f"it cannot be read: {' '.join(str(error).split())}") from error
    try:
        yield file
    finally:
        with contextlib.suppress(RuntimeError):  # a damaged file may not even close
            file.close()


@contextlib.contextmanager
def open_hdf5(path: str | os.PathLike[str], kind: str, version: int, made_by: str) -> Iterator[h5py.File]:
    """Open an HDF5 file of this package for reading and check its header.

    Args:
        path: The file.
        kind: The kind it must be, such as ``galaxies``.
        version: The version of that format.
        made_by: The command that makes such a file, for the error message.

    Raises:
        InputError: If the file is absent, not HDF5, or of another kind or version; or if the block raises Damaged. An
            :class:`Unreachable` one if it cannot be read now.
    """
    path = Path(path)
    if not os.path.isfile(path):  # Path.is_file raises OSError where a name is too long
        raise InputError(f"there is no file {path}; '{made_by}' makes one")
    try:
        with raw_hdf5(path) as file:
            _check_header(path, file, kind, version, made_by)
            yield file
    except LeftOpen as error:
        raise Unreachable(f"{path}: {error}") from error
    except Damaged as error:
        raise InputError(f"{path} is not a file of {kind} or is damaged ({error}); '{made_by}' makes a new one") from error


def _check_header(path: Path, file: h5py.File, kind: str, version: int, made_by: str) -> None:
    with _reading("its header"):
        has_format = "format" in file.attrs
    format_name = get_text(file, "format") if has_format else "not one of gz_lightning"
    if format_name != f"gz_lightning.{kind}":
        raise InputError(f"{path} is not a file of {kind}: its format is {format_name:.60}; '{made_by}' makes one")
    file_version = get_number(file, "format_version")
    if file_version != version:
        raise InputError(
            f"{path} has format version {file_version}, written by gz_lightning "
            f"{get_text(file, 'gz_lightning_version'):.60}; this release ({__version__}) reads version {version}: "
            f"install the other one, or make the file anew with '{made_by}'"
        )


def has_dataset(file: h5py.File, name: str) -> bool:
    """Whether a file has a dataset or group of that name."""
    with _reading(name):
        return name in file


def dataset_dims(file: h5py.File, name: str) -> int:
    """Number of axes of a dataset.

    Raises:
        Damaged: If it is missing or cannot be read.
    """
    with _reading(name):
        values = file[name]
        shape = values.shape if isinstance(values, h5py.Dataset) else None
    if shape is None:
        raise Damaged(f"{name} holds no values")
    return len(shape)


def attribute(file: h5py.File, name: str) -> Any:
    """An attribute as h5py returns it.

    Raises:
        Damaged: If it is missing or cannot be read.
    """
    with _reading(name):
        return file.attrs[name]


def get_text(file: h5py.File, name: str) -> str:
    """Read an attribute that :func:`set_text` wrote.

    Raises:
        Damaged: If it is missing or not text.
    """
    value = attribute(file, name)
    if not isinstance(value, bytes):
        raise Damaged(f"the attribute {name} is not text")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise Damaged(f"the attribute {name} holds bytes that are no text ({error.reason})") from error


def get_json(file: h5py.File, name: str, kind: type[T]) -> T:
    """A text attribute that holds JSON of a kind, see :func:`checked_json`.

    Raises:
        Damaged: If it is missing or something else.
    """
    return checked_json(get_text(file, name), name, kind)


def get_number(file: h5py.File, name: str) -> int:
    """An attribute that is a whole number >= 0.

    Raises:
        Damaged: If it is missing or something else.
    """
    value = attribute(file, name)
    if not isinstance(value, (int, np.integer)) or value < 0:
        raise Damaged(f"{name} is {short(value)}, not a whole number")
    return int(value)


def get_vector(file: h5py.File, name: str, length: int) -> npt.NDArray[np.float64]:
    """An attribute of ``length`` finite numbers.

    Raises:
        Damaged: If it is missing or something else.
    """
    value = attribute(file, name)
    numbers = np.asarray(value) if isinstance(value, (np.ndarray, np.generic)) else np.empty(0)
    if numbers.shape != (length,) or numbers.dtype.kind not in "fiu" or not np.isfinite(numbers).all():
        raise Damaged(f"{name} is {short(value)}, not {length} numbers")
    return numbers.astype(np.float64)


def dataset(file: h5py.File, name: str, kinds: str, shape: Sequence[int | None]) -> h5py.Dataset:
    """A dataset of the expected type and shape, all values of which are in this file.

    A file may claim any shape or point to other files: both are refused before memory is allocated.

    Args:
        file: The open file.
        name: Name of the dataset.
        kinds: Allowed types as NumPy's letters: ``f`` numbers, ``i`` and ``u`` whole numbers, ``S`` text.
        shape: Its shape; None allows any length.

    Raises:
        Damaged: If it is missing, of another type or shape, or its values are not all in the file.
    """
    with _reading(name):
        values = file[name]
        holds_values = isinstance(values, h5py.Dataset) and values.shape is not None
        elsewhere = holds_values and (values.file != file or bool(values.external) or values.is_virtual)
        kind = values.dtype.kind if holds_values else ""
    if not holds_values:
        raise Damaged(f"{name} holds no values")
    fits = len(values.shape) == len(shape) and all(n in (None, m) for n, m in zip(shape, values.shape, strict=True))
    if kind not in kinds or not fits:
        lengths = ", ".join("any" if number is None else str(number) for number in shape)
        raise Damaged(f"{name} has the shape {values.shape} and the type {values.dtype}; its shape should be ({lengths})")
    if elsewhere:
        raise Damaged(f"the values of {name} are in another file")
    # The size of what is open: of its name there may be another file by now, or none.
    if not _is_whole(values, os.fstat(file.id.get_vfd_handle()).st_size):
        raise Damaged(f"{name} claims the shape {values.shape}, which is more than is there")
    return values


def _is_whole(values: h5py.Dataset, size: int) -> bool:
    """Whether a file of ``size`` bytes holds all values of a dataset: HDF5 reads unwritten ones as zeros."""
    with _reading(values.name):
        claimed = math.prod(values.shape) * values.dtype.itemsize  # not .nbytes, which overflows
        squeezed, chunks = values.compression is not None, values.chunks
    if claimed > (max(MOST_SQUEEZED * size, SMALL) if squeezed else size):
        return False
    if chunks is not None:
        number = math.prod(-(-length // of) for length, of in zip(values.shape, chunks, strict=True))
        if number > MOST_CHUNKS:  # HDF5 visits every chunk: a false claim would take hours
            return False
        with _reading(values.name):
            if values.id.get_num_chunks() != number:
                return False
    with _reading(values.name):
        stored: int = values.id.get_storage_size()
    return claimed <= (max(MOST_SQUEEZED * stored, SMALL) if squeezed else stored) and stored <= size


def read_values(values: h5py.Dataset, index: Any = ...) -> npt.NDArray[Any]:
    """Values of a :func:`dataset` in native byte order.

    Raises:
        Damaged: If they do not match their checksum.
    """
    with _reading(values.name.lstrip("/"), DAMAGED_BYTES):
        read = np.asarray(values[index])
    return read.astype(read.dtype.newbyteorder("="), copy=False)


def read_row_into(values: h5py.Dataset, row: int, out: npt.NDArray[Any], place: int) -> None:
    """Read one row of a :func:`dataset` into ``out[place]`` without a copy.

    Raises:
        Damaged: If it cannot be read.
    """
    with _reading(values.name.lstrip("/"), DAMAGED_BYTES):
        values.read_direct(out, row, place)


def array(
    file: h5py.File, name: str, kinds: str, shape: Sequence[int | None], places: str = "", finite: bool = True
) -> npt.NDArray[Any]:
    """All values of a :func:`dataset`, in native byte order.

    Args:
        file: The open file.
        name: Name of the dataset.
        kinds: See :func:`dataset`.
        shape: See :func:`dataset`.
        places: What the first axis counts, such as ``galaxy``, for the message.
        finite: Whether all numbers must be finite.

    Raises:
        Damaged: As :func:`dataset`; if a checksum does not match; or if a number is not finite, with its place.
    """
    values = read_values(dataset(file, name, kinds, shape))
    if values.dtype.kind == "f" and finite:
        check_all(np.isfinite(values), values, name, "a finite number", places)
    return values


def check_all(good: npt.NDArray[np.bool_], values: npt.NDArray[Any], name: str, expected: str, places: str = "") -> None:
    """Raise Damaged for the first value that is not good.

    Args:
        good: Whether a value is good, shape of ``values``.
        values: The values.
        name: Their name, for the message.
        expected: What they should be, in words.
        places: What the first axis counts, such as ``galaxy``.
    """
    if not good.all():
        place = np.unravel_index(int(np.argmin(good)), good.shape)
        where = f" of {places} {place[0]}" if places else f" at {tuple(map(int, place))}"
        raise Damaged(f"{name}{where} is {values[place]}, which is not {expected}")


def check_class_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names of the leaves, checked.

    Raises:
        Damaged: If there are none, or one is empty or occurs twice.
    """
    if not names or not all(names) or len(set(names)) < len(names):
        raise Damaged(f"the names of the leaves are {short(names)}, but each leaf needs a name that no other has")
    return tuple(names)
