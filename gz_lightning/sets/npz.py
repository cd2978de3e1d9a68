"""A set as one file of NumPy arrays.

Shapes: M images, K leaves, S step sizes, H x W pixels.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gz_lightning.errors import Damaged, InputError, reading
from gz_lightning.sets.description import MOST_TEXT, read_description
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.storage.whole import atomic_write

ARRAYS = ("images", "labels", "step_sizes", "mean", "std")
BAD_NPZ = (zipfile.BadZipFile, OSError, ValueError, TypeError, SyntaxError, EOFError, NotImplementedError, RuntimeError)
"""What zipfile and NumPy's reader of headers raise on damaged archives."""


def write_npz(synthetic: SyntheticSet, description: Mapping[str, Any], path: Path) -> None:
    """Write ``images`` (standardised), ``labels``, ``step_sizes``, ``mean``, ``std``, ``class_names`` and ``description``.

    Atomically, and not compressed: noise hardly becomes smaller.
    """
    arrays = {name: getattr(synthetic, name).detach().cpu().numpy() for name in ARRAYS}
    names, told = np.array(synthetic.class_names), np.array(json.dumps(description))
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, class_names=names, description=told, **arrays)


def read_npz(path: Path) -> tuple[dict[str, Any], torch.Tensor, torch.Tensor]:
    """What :func:`write_npz` wrote.

    Returns:
        The description; standardised pixels, float32, shape (M, 3, H, W); leaves, shape (M,), or soft labels, shape (M, K).

    Raises:
        InputError: If it is no such file, or is damaged.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    with reading(path, "a NumPy archive", BAD_NPZ):
        archive = zipfile.ZipFile(path)
    with archive:
        try:
            names = "description", "images", "labels"
            text, images, labels = (_array(archive, name, path.stat().st_size) for name in names)
            if text.dtype.kind != "U" or text.ndim:
                raise Damaged("its description is no text")
            description = read_description(str(text[()])[:MOST_TEXT])
            side, number = description["resolution"], description["images"]
            if images.shape != (number, 3, side, side) or images.dtype != np.float32:
                raise Damaged(f"its images are {images.dtype} of the shape {images.shape}")
            if labels.dtype not in (np.int64, np.float32) or labels.ndim not in (1, 2) or len(labels) != number:
                raise Damaged(f"its labels are {labels.dtype} of the shape {labels.shape}")
        except Damaged as error:
            raise InputError(f"{path} was not written by 'gz-lightning export', or is damaged: {error}") from error
    return description, torch.from_numpy(images), torch.from_numpy(labels)


def _array(archive: zipfile.ZipFile, name: str, most: int) -> npt.NDArray[Any]:
    """An array of the archive, once its header agrees with the bytes that are there.

    Raises:
        Damaged: If it is missing, compressed, or claims more than there is.
    """
    try:
        member = archive.getinfo(f"{name}.npy")
        if member.compress_type != zipfile.ZIP_STORED or member.file_size > most:
            raise Damaged(f"its {name} are compressed, or larger than the file")
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            if version not in read_header:
                raise Damaged(f"its {name} are of version {version} of NumPy's format")
            shape, in_fortran, dtype = read_header[version](file)
            if dtype.hasobject or in_fortran or file.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
                raise Damaged(f"its {name} claim to be {dtype} of the shape {shape}, in {member.file_size} bytes")
            content = file.read()  # to the end, where the checksum is compared
        return np.frombuffer(content, dtype).reshape(shape).copy()
    except KeyError as error:
        raise Damaged(f"it lacks {name}") from error
    except Damaged:
        raise
    except BAD_NPZ as error:
        raise Damaged(f"its {name} cannot be read ({' '.join(str(error).split())})") from error
