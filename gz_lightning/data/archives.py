"""Files of many images that are no tables: WebDataset tars, and HDF5 as Galaxy10 has it.

A sample of a tar is what follows each other under one key, which ends at the first dot of a name: ``<key>.image.jpg`` and
``<key>.labels.json``, whose entries are columns, or ``<key>.cls``. Galaxy10 has the pixels in ``images``, shape
(N, H, W, 3), and its classes in ``ans``.
"""

from __future__ import annotations

import contextlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd

from gz_lightning.errors import Damaged, InputError, reading
from gz_lightning.storage.hdf5 import DAMAGED_STRUCTURE, array, dataset, has_dataset, raw_hdf5, read_row_into

TAR_SUFFIXES, HDF5_SUFFIXES = (".tar",), (".h5", ".hdf5")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
KEY, CLASS = "__key__", "cls"
"""Columns of a tar beside those of its JSON: the key of a sample, and the content of ``<key>.cls``."""
MOST_JSON = 2**20
"""Bytes of the labels of one galaxy at most."""
HDF5_IMAGES, HDF5_CLASSES = "images", "ans"
Member = tuple[int, int]
"""Where the bytes of a member begin, and how many they are."""


def is_tar(path: Path) -> bool:
    """Whether a file is a tar by its name."""
    return path.name.lower().endswith(TAR_SUFFIXES)


def is_hdf5(path: Path) -> bool:
    """Whether a file is HDF5 by its name."""
    return path.name.lower().endswith(HDF5_SUFFIXES)


def tar_samples(path: Path) -> list[dict[str, Any]]:
    """The samples of a tar: each with its ``__key__`` and where its ``image``, ``json`` and ``cls`` are, as far as there.

    Raises:
        InputError: If it cannot be read, is cut off, or has two of one kind in a sample.
    """
    samples: list[dict[str, Any]] = []
    named: dict[str, str] = {}  # kinds of the last sample -> their members
    twice: tuple[str, str, str, str] | None = None
    if not path.is_file():  # a pipe would be waited for
        raise InputError(f"there is no file {path}")
    with reading(path, "tar", (OSError, EOFError, tarfile.TarError, ValueError)), tarfile.open(path) as archive:
        size = path.stat().st_size
        for member in archive:
            if not member.isfile() or member.name.rpartition("/")[2].startswith("."):
                continue
            folder, slash, name = member.name.rpartition("/")
            key = folder + slash + name.partition(".")[0]
            if not samples or samples[-1][KEY] != key:
                samples.append({KEY: key})
                named = {}
            lower = name.lower()
            kind = "image" if lower.endswith(IMAGE_SUFFIXES) else lower.rpartition(".")[2]
            if kind in ("image", "json", CLASS):
                if kind in named:
                    twice = twice or (named[kind], member.name, key, kind)
                named[kind] = member.name
                samples[-1][kind] = member.offset_data, member.size
            if member.offset_data + member.size > size:
                raise tarfile.ReadError(f"it ends within {member.name}")
        with path.open("rb") as file:  # tarfile takes a cut for the end
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"it is cut off after {len(samples)} samples")
    if twice is not None:
        one, other, key, kind = twice
        raise InputError(
            f"{path} has {one} and {other} in the sample {key}, of which only one can be its {kind}; a key ends at the "
            "first dot: rename keys with dots, or leave one of them out"
        )
    return samples


def read_members(path: Path, members: Sequence[Member | None]) -> Iterator[bytes | None]:
    """The bytes of some members of a tar."""
    with reading(path, "tar", (OSError,)):
        file = path.open("rb")
    with file:
        for member in members:
            if member is None:
                yield None
                continue
            with reading(path, "tar", (OSError,)):
                file.seek(member[0])
                content = file.read(member[1])
            yield content


def _labels(path: Path, samples: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The columns of some samples of a tar."""
    texts = read_members(path, [_small(path, sample, "json") for sample in samples])
    classes = read_members(path, [_small(path, sample, CLASS) for sample in samples])
    for sample, text, name in zip(samples, texts, classes, strict=True):
        row: dict[str, Any] = {KEY: sample[KEY]}
        if name is not None:
            row[CLASS] = name.decode(errors="replace").strip()
        if text is not None:
            try:
                content = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path}: the labels of {sample[KEY]} are no JSON ({error})") from error
            if not isinstance(content, dict):
                raise InputError(f"{path}: the labels of {sample[KEY]} are not named; give a JSON object")
            row = content | row
        yield row


def _small(path: Path, sample: dict[str, Any], kind: str) -> Member | None:
    member: Member | None = sample.get(kind)
    if member is not None and member[1] > MOST_JSON:
        raise InputError(f"{path}: the labels of {sample[KEY]} have {member[1]:,} bytes, more than labels ever have")
    return member


def tar_columns(path: Path) -> list[str]:
    """The columns of a tar, from its first sample.

    Raises:
        InputError: As :func:`tar_samples`, or if it has no sample or its labels are no JSON.
    """
    samples = tar_samples(path)
    if not samples:
        raise InputError(f"{path} holds no sample")
    return [str(name) for name in next(_labels(path, samples[:1]))]


def tar_rows(path: Path, columns: Sequence[str], rows: int) -> Iterator[pd.DataFrame]:
    """Some columns of a tar, so many samples at a time; what a sample lacks is NA."""
    samples = tar_samples(path)
    for start in range(0, len(samples), rows):
        found = [[row.get(column) for column in columns] for row in _labels(path, samples[start : start + rows])]
        yield pd.DataFrame(found, columns=list(columns)).replace({None: np.nan}).infer_objects()


def tar_pictures(path: Path, rows: npt.NDArray[np.int64]) -> Iterator[tuple[int, bytes | None]]:
    """The images of some samples of a tar: bytes, or None where a sample has none."""
    samples = tar_samples(path)
    wanted = rows.tolist()
    yield from zip(wanted, read_members(path, [samples[row].get("image") for row in wanted]), strict=True)


@contextlib.contextmanager
def _hdf5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file of anybody."""
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        with raw_hdf5(path) as file:
            yield file
    except Damaged as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def hdf5_columns(path: Path) -> list[str]:
    """The columns of an HDF5 file: its datasets that have one value for each image.

    Raises:
        InputError: If it cannot be read, has no images, or its classes are more or fewer than its images.
    """
    with _hdf5(path) as file:
        try:
            names = [name for name in file if isinstance(name, str)]  # bytes are no text, and no column of ours
            shapes = {name: getattr(file.get(name), "shape", None) for name in names}
        except DAMAGED_STRUCTURE as error:  # such as links in a circle
            raise Damaged(f"its parts cannot be read: {' '.join(str(error).split())}") from error
        if not has_dataset(file, HDF5_IMAGES):
            held = ", ".join(list(shapes)[:8]) or "nothing"
            raise InputError(
                f"{path} has no dataset '{HDF5_IMAGES}', which has the pixels in Galaxy10, shape (N, H, W, 3); it has {held}"
            )
        number = len(dataset(file, HDF5_IMAGES, "u", (None, None, None, 3)))
    columns = [name for name, shape in shapes.items() if shape == (number,)]
    other = {name: shape[0] for name, shape in shapes.items() if shape and len(shape) == 1 and shape != (number,)}
    if HDF5_CLASSES in other or (other and not columns):
        name = HDF5_CLASSES if HDF5_CLASSES in other else next(iter(other))
        raise InputError(
            f"{path}: '{name}' has {other[name]:,} values for {number:,} images, and nobody says which belong together; "
            "download the file again, or write it anew"
        )
    return columns


def hdf5_rows(path: Path, columns: Sequence[str], rows: int) -> Iterator[pd.DataFrame]:
    """Some columns of an HDF5 file, so many rows at a time."""
    with _hdf5(path) as file:
        values = {name: array(file, name, "fiuS", (None,), finite=False) for name in columns}
    frame = pd.DataFrame(values)
    for start in range(0, len(frame), rows):
        yield frame[start : start + rows].reset_index(drop=True)


def hdf5_side(path: Path) -> tuple[int, int]:
    """How many images an HDF5 file has, and their height in pixels."""
    with _hdf5(path) as file:
        shape = dataset(file, HDF5_IMAGES, "u", (None, None, None, 3)).shape
    return int(shape[0]), int(shape[1])


def hdf5_pictures(path: Path, rows: npt.NDArray[np.int64]) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """The pixels of some images of an HDF5 file, shape (H, W, 3)."""
    with _hdf5(path) as file:
        values = dataset(file, HDF5_IMAGES, "u", (None, None, None, 3))
        if values.dtype.itemsize != 1:
            raise Damaged(f"{HDF5_IMAGES} has the type {values.dtype}; pixels are of one byte")
        for row in rows.tolist():
            pixels = np.empty((1, *values.shape[1:]), np.uint8)
            read_row_into(values, row, pixels, 0)
            yield row, pixels[0]
