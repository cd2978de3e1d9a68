"""Values read from files, once they are known to be what they should be: a file may hold anything.

What is wrong is raised as ValueError (KeyError where something is missing) in words that say where it is;
:func:`gz_lightning.files.open_checked` adds the file and what to do.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import numpy.typing as npt
import yaml

from gz_lightning.errors import InputError
from gz_lightning.files import get_text

T = TypeVar("T")
MOST_TEXT = 2**20
"""Bytes of a text file that are read at most: settings and records have some thousands."""
MOST_NODES, MOST_DEPTH = 10**5, 50
"""Values of a YAML file, and how deep they lie, at most: settings are some hundreds."""
MOST_SQUEEZED, SMALL = 100, 16 * 2**20
"""Compressed values may be so many times as large as what is stored of them (parameters: 1.2 times), or of so many bytes."""
MOST_CHUNKS = 10**7
"""Experts have one for each epoch; packed files of version 1 one for each galaxy."""


def dataset(file: h5py.File, name: str, kinds: str, shape: Sequence[int | None]) -> h5py.Dataset:
    """A dataset that can be read: nothing larger than its file is made room for, and nothing is read from elsewhere.

    Args:
        file: The open file.
        name: Name of the dataset.
        kinds: What its values may be, as NumPy's letters: ``f`` numbers, ``i`` and ``u`` whole numbers, ``S`` text.
        shape: Its shape; None where any length will do.

    Raises:
        KeyError: If there is none.
        ValueError: If it is of another type or shape, or its values are not all in the file.
    """
    found = file[name]
    if not isinstance(found, h5py.Dataset) or found.shape is None:
        raise ValueError(f"{name} holds no values")
    fits = len(found.shape) == len(shape) and all(n in (None, m) for n, m in zip(shape, found.shape, strict=True))
    if found.dtype.kind not in kinds or not fits:
        wanted = ", ".join("any" if number is None else str(number) for number in shape)
        raise ValueError(f"{name} has the shape {found.shape} and the type {found.dtype}; its shape should be ({wanted})")
    if found.file != file or found.external or found.is_virtual:
        raise ValueError(f"the values of {name} are in another file")
    if not _is_whole(found, os.path.getsize(file.filename)):
        raise ValueError(f"{name} claims the shape {found.shape}, which is more than is there")
    return found


def _is_whole(found: h5py.Dataset, size: int) -> bool:
    """Whether a file of so many bytes holds all values of a dataset: what was never written would be read as zeros."""
    wanted = math.prod(found.shape) * found.dtype.itemsize  # not .nbytes, which overflows
    squeezed = found.compression is not None
    if wanted > (max(MOST_SQUEEZED * size, SMALL) if squeezed else size):
        return False
    if found.chunks is not None:
        chunks = math.prod(-(-length // of) for length, of in zip(found.shape, found.chunks, strict=True))
        # HDF5 looks at each: of a file that claims too many this alone would take hours.
        if chunks > MOST_CHUNKS or found.id.get_num_chunks() != chunks:
            return False
    stored: int = found.id.get_storage_size()
    return wanted <= (max(MOST_SQUEEZED * stored, SMALL) if squeezed else stored) and stored <= size


def array(
    file: h5py.File, name: str, kinds: str, shape: Sequence[int | None], places: str = "", finite: bool = True
) -> npt.NDArray[Any]:
    """The values of a :func:`dataset`, numbers in the machine's own order of bytes.

    Args:
        file: The open file.
        name: Name of the dataset.
        kinds: See :func:`dataset`.
        shape: See :func:`dataset`.
        places: What the first axis counts, such as ``galaxy``.
        finite: Whether a number must be finite.

    Raises:
        KeyError: If there is none.
        ValueError: As :func:`dataset`; or if a number is not finite, with its place.
        OSError: If they are not those of their checksum.
    """
    values = np.asarray(dataset(file, name, kinds, shape)[...])
    if values.dtype.kind == "f" and finite:
        check_all(np.isfinite(values), values, name, "a finite number", places)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def check_all(good: npt.NDArray[np.bool_], values: npt.NDArray[Any], name: str, wanted: str, places: str = "") -> None:
    """Raise ValueError unless all is good, naming the first place that is not.

    Args:
        good: Whether each value is.
        values: The values, of the same shape.
        name: What they are.
        wanted: What they should be, in words.
        places: What the first axis counts, such as ``galaxy``.
    """
    if not good.all():
        place = np.unravel_index(int(np.argmin(good)), good.shape)
        where = f" of {places} {place[0]}" if places else f" at {tuple(map(int, place))}"
        raise ValueError(f"{name}{where} is {values[place]}, which is not {wanted}")


def get_json(file: h5py.File, name: str, kind: type[T]) -> T:
    """A text attribute that holds JSON.

    Raises:
        KeyError: If there is none.
        ValueError: If it is something else.
    """
    return checked_json(get_text(file, name), name, kind)


def checked_json(text: str, name: str, kind: type[T]) -> T:
    """What JSON holds, if it is a dictionary, or a list of strings.

    Raises:
        ValueError: If it is something else.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError(f"{name} holds brackets within brackets") from None
    if not isinstance(found, kind) or (isinstance(found, list) and not all(isinstance(item, str) for item in found)):
        raise ValueError(f"{name} holds {short(found)}")
    return found


def get_number(file: h5py.File, name: str) -> int:
    """An attribute that is a whole number of at least 0.

    Raises:
        KeyError: If there is none.
        ValueError: If it is something else.
    """
    value = file.attrs[name]
    if not isinstance(value, (int, np.integer)) or value < 0:
        raise ValueError(f"{name} is {short(value)}, not a whole number")
    return int(value)


def get_vector(file: h5py.File, name: str, length: int) -> npt.NDArray[np.float64]:
    """An attribute that is so many finite numbers.

    Raises:
        KeyError: If there is none.
        ValueError: If it is something else.
    """
    value = file.attrs[name]
    found = np.asarray(value) if isinstance(value, (np.ndarray, np.generic)) else np.empty(0)
    if found.shape != (length,) or found.dtype.kind not in "fiu" or not np.isfinite(found).all():
        raise ValueError(f"{name} is {short(value)}, not {length} numbers")
    return found.astype(np.float64)


def check_class_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of leaves, each of which is there once.

    Raises:
        ValueError: If there are none, or one is empty or there twice.
    """
    if not names or not all(names) or len(set(names)) < len(names):
        raise ValueError(f"the names of the leaves are {short(names)}, but each leaf needs one of its own")
    return tuple(names)


def read_text(path: str | os.PathLike[str], most: int = MOST_TEXT) -> str:
    """A text file that is no larger than such files are.

    Raises:
        InputError: If there is none, it is too large, or it is no text.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise InputError(f"there is no file {path}")
    try:
        if path.stat().st_size > most:
            raise InputError(f"{path} has {path.stat().st_size} bytes, more than such a file ever has")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """The plain values of a YAML file.

    Raises:
        InputError: As :func:`read_text`; or if it is no YAML of plain values, or they have no end.
    """
    text = read_text(path)
    try:
        found = yaml.safe_load(text)
        _check_end(found)
    except RecursionError:
        raise InputError(f"{path} cannot be read: it holds brackets within brackets") from None
    # PyYAML makes dates and numbers of what looks like some, and hashes of what may have none.
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError, LookupError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    return found


def _check_end(value: Any) -> None:
    """An alias may stand for much, again and again, or for what it is in."""
    waiting, number = [(value, 0)], 0
    while waiting:
        found, depth = waiting.pop()
        number += 1
        if number > MOST_NODES or depth > MOST_DEPTH:
            raise ValueError("its values refer to each other without end")
        if isinstance(found, dict):
            waiting += [(part, depth + 1) for pair in found.items() for part in pair]
        elif isinstance(found, (list, tuple, set)):
            waiting += [(part, depth + 1) for part in found]
        elif isinstance(found, str):
            found.encode()  # half of a pair of surrogates cannot be written again


@contextlib.contextmanager
def said_of(path: str | os.PathLike[str]) -> Iterator[None]:
    """Put the name of a file before what an :class:`InputError` says, where whoever raises it does not know the file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def short(value: Any, most: int = 80) -> str:
    """What was found, for a message: never long, whatever it is."""
    if isinstance(value, (dict, list, tuple, set)):  # may refer to itself, or grow without end when it is written out
        return f"a {type(value).__name__} of {len(value)}" if len(value) > 3 else _few(value, most)
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        return f"a {type(value).__name__}"
    return text if len(text) <= most else f"{text[: most - 4]} ..."


def _few(value: Any, most: int) -> str:
    plain = (str, int, float, bool, type(None))
    items = [*value, *value.values()] if isinstance(value, dict) else list(value)
    if all(isinstance(item, plain) for item in items):
        return f"{value!r}" if len(text := repr(value)) <= most else f"{text[: most - 4]} ..."
    return f"a {type(value).__name__} of {len(value)}"
