"""Files of ``torch.save``: read without running anything, whole or not at all, and with a checksum where they are our own.

A pickle can name functions to call. These are read as tensors, numbers, text and plain containers alone; what holds anything
else is refused before any of it is called.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gz_lightning.errors import InputError
from gz_lightning.storage.whole import atomic_write, report_unwritable

SIGNATURE = "content_sha256"
"""Key of the checksum in a file of our own."""
MOST_NODES = 10**7
"""Containers, numbers and tensors of a file: one that refers to its parts again and again has no end."""


def load_tensors(path: str | os.PathLike[str], mapped: bool = False) -> Any:
    """Read a file of ``torch.save``, onto the CPU.

    Args:
        path: The file.
        mapped: Leave the tensors in the file, which then must stay as it is, until they are used.

    Raises:
        InputError: If there is none, it holds more than tensors and plain containers, or is damaged.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise InputError(f"there is no file {path}")
    try:
        zipped = zipfile.is_zipfile(path)
        if zipped:
            _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions of pickle
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and zipped)
    except Exception as error:  # whatever unpickling of any bytes may raise
        raise InputError(f"{path} is no file of PyTorch tensors alone, or is damaged ({_reason(error)})") from error


def _check_archive(path: Path) -> None:
    """Compare every member with its checksum, which torch.load does not."""
    with zipfile.ZipFile(path) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("it is compressed inside, as torch.save never does")
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"its part {damaged} is not that of its checksum")


def _reason(error: Exception) -> str:
    """The line of an error that says what is wrong; what torch adds is advice to trust the file."""
    told = re.search(r"WeightsUnpickler error: (.*)", str(error))
    lines = (told[1] if told else str(error)).strip().splitlines() or [type(error).__name__]
    return lines[0].split(". Please use")[0][:200]


def plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is of real numbers, each of which is in memory: a file may claim any shape of a single number."""
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized or tensor.dtype.is_complex:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def content_digest(content: Any) -> str:
    """SHA-256 of tensors and plain containers, whatever file they were read from.

    Raises:
        ValueError: If there is something else among them, or no end to them.
    """
    digest, waiting, number = hashlib.sha256(), [content], 0
    while waiting:
        value = waiting.pop()
        number += 1
        if number > MOST_NODES:
            raise ValueError("it refers to its own parts without end")
        if isinstance(value, torch.Tensor):
            if not plain(value):
                raise ValueError("it holds a tensor that claims more than is there")
            digest.update(f"tensor {value.dtype} {tuple(value.shape)};".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        elif isinstance(value, Mapping):
            digest.update(f"mapping {len(value)};".encode())
            waiting += [part for pair in value.items() for part in pair]
        elif isinstance(value, (list, tuple)):
            digest.update(f"{'list' if isinstance(value, list) else 'tuple'} {len(value)};".encode())
            waiting += value
        elif value is None or isinstance(value, (str, int, float, bool, bytes)):
            digest.update(f"{value!r};".encode("utf-8", "surrogatepass"))
        else:
            raise ValueError(f"it holds a {type(value).__name__}")
    return digest.hexdigest()


def save_tensors(content: Any, path: str | os.PathLike[str]) -> None:
    """``torch.save``, whole or not at all.

    Raises:
        InputError: If the system does not let it be written.
    """
    # Where the disk is full, torch says RuntimeError.
    with atomic_write(path) as temporary, report_unwritable(path, RuntimeError):
        torch.save(content, temporary)


def save_signed(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write tensors and plain containers with their checksum, whole or not at all.

    Raises:
        InputError: If the system does not let it be written.
    """
    save_tensors({**content, SIGNATURE: content_digest(content)}, path)


def load_signed(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what :func:`save_signed` wrote.

    Raises:
        InputError: As :func:`load_tensors`; or if it is not what was written.
    """
    content = load_tensors(path)
    if not isinstance(content, dict) or not isinstance(signature := content.pop(SIGNATURE, None), str):
        raise InputError(f"{path} has no checksum of its content: this release has not written it")
    try:
        found = content_digest(content)
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if found != signature:
        raise InputError(f"{path} is damaged: its content is not that of its checksum")
    return content
