"""Files of ``torch.save``: written atomically with a checksum, read without running code.

A pickle can name functions to call. Files are read as tensors, numbers, text and plain containers only; anything else is
refused before it is called.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gz_lightning.errors import Damaged, InputError
from gz_lightning.storage.whole import atomic_write, report_unwritable

SIGNATURE = "content_sha256"
"""Key of the checksum in a file that :func:`save_signed` wrote."""
MOST_NODES = 10**7
"""Containers, numbers and tensors of a file at most; a file whose parts refer to each other has no end."""
BAD_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
)
"""What zipfile raises on damaged archives."""
BAD_PICKLE = (
    *(pickle.UnpicklingError, struct.error, ArithmeticError, AssertionError, AttributeError, EOFError, ImportError),
    *(LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError),
)
"""What torch.load raises on damaged files: its unpickler runs any sequence of opcodes on whatever is on its stack."""


def load_tensors(path: str | os.PathLike[str], mapped: bool = False) -> Any:
    """Read a file of ``torch.save``, onto the CPU.

    Args:
        path: The file.
        mapped: Map the tensors into memory instead of reading them; the file must then stay unchanged.

    Raises:
        InputError: If the file is absent, damaged, or holds more than tensors and plain containers.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise InputError(f"there is no file {path}")
    try:
        zipped = _check_archive(path)
        return _unpickle(path, mapped and zipped)
    except Damaged as error:
        raise InputError(f"{path} is no file of PyTorch tensors alone, or is damaged ({error})") from error


def _check_archive(path: Path) -> bool:
    """Whether a file is an archive; Damaged if a member does not match its checksum, which torch.load does not check."""
    try:
        if not zipfile.is_zipfile(path):
            return False  # the old format of torch.save
        with zipfile.ZipFile(path) as archive:
            compressed = any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist())
            bad_member = None if compressed else archive.testzip()
    except BAD_ARCHIVE as error:
        raise Damaged(_reason(error)) from error
    if compressed:
        raise Damaged("it is compressed inside, as torch.save never does")
    if bad_member is not None:
        raise Damaged(f"its part {bad_member} does not match its checksum")
    return True


def _unpickle(path: Path, mapped: bool) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about versions of pickle
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except BAD_PICKLE as error:
            raise Damaged(_reason(error)) from error


def _reason(error: Exception) -> str:
    """The line of an error that says what is wrong, without torch's advice to trust the file."""
    told = re.search(r"WeightsUnpickler error: (.*)", str(error))
    lines = (told[1] if told else str(error)).strip().splitlines() or [type(error).__name__]
    return lines[0].split(". Please use")[0][:200]


def plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor holds real numbers that are all in memory: a file may claim any shape over a single number."""
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized or tensor.dtype.is_complex:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def content_digest(content: Any) -> str:
    """SHA-256 of tensors and plain containers, independent of the file they were read from.

    Raises:
        Damaged: If there is something else among them, or they refer to each other without end.
    """
    digest, waiting, number = hashlib.sha256(), [content], 0
    while waiting:
        value = waiting.pop()
        number += 1
        if number > MOST_NODES:
            raise Damaged("it refers to its own parts without end")
        if isinstance(value, torch.Tensor):
            if not plain(value):
                raise Damaged("it holds a tensor that claims more than is there")
            digest.update(f"tensor {value.dtype} {tuple(value.shape)};".encode())
            flat = torch.cat([value.detach().cpu().reshape(-1)])  # laid out anew: that of an empty tensor may be any
            digest.update(flat.view(torch.uint8).numpy().data)
        elif isinstance(value, Mapping):
            digest.update(f"mapping {len(value)};".encode())
            waiting += [part for pair in value.items() for part in pair]
        elif isinstance(value, (list, tuple)):
            digest.update(f"{'list' if isinstance(value, list) else 'tuple'} {len(value)};".encode())
            waiting += value
        elif value is None or isinstance(value, (str, int, float, bool, bytes)):
            digest.update(f"{value!r};".encode("utf-8", "surrogatepass"))
        else:
            raise Damaged(f"it holds a {type(value).__name__}")
    return digest.hexdigest()


def save_tensors(content: Any, path: str | os.PathLike[str]) -> None:
    """``torch.save``, written atomically.

    Raises:
        InputError: If the system refuses the write.
    """
    # On a full disk torch raises RuntimeError.
    with atomic_write(path) as temporary, report_unwritable(path, RuntimeError):
        torch.save(content, temporary)


def save_signed(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write tensors and plain containers atomically, with their checksum.

    Raises:
        InputError: If the system refuses the write.
    """
    save_tensors({**content, SIGNATURE: content_digest(content)}, path)


def load_signed(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file that :func:`save_signed` wrote.

    Raises:
        InputError: As :func:`load_tensors`; or if the content does not match its checksum.
    """
    content = load_tensors(path)
    if not isinstance(content, dict) or not isinstance(signature := content.pop(SIGNATURE, None), str):
        raise InputError(f"{path} has no checksum of its content: this release did not write it")
    try:
        digest = content_digest(content)
    except Damaged as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if digest != signature:
        raise InputError(f"{path} is damaged: its content does not match its checksum")
    return content
