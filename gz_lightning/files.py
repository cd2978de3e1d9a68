"""Files written whole or not at all, and the header that every HDF5 file of the package carries.

A header says what a file is (``format``), in which version, which release wrote it, the configuration that made it and
the fingerprint of what is in it; whoever reads one checks it first.
"""

from __future__ import annotations

import contextlib
import glob
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from gz_lightning import __version__
from gz_lightning.errors import InputError


@contextlib.contextmanager
def said_if_unwritable(path: str | os.PathLike[str], *more: type[Exception]) -> Iterator[None]:
    """Turn the errors of the system on writing ``path`` (a full disk, no permission) into an :class:`InputError`.

    Args:
        path: What is written in the block.
        *more: Other errors that mean the same: HDF5 says RuntimeError where a file cannot be closed.
    """
    kinds: tuple[type[Exception], ...] = (OSError, *more)
    try:
        yield
    except kinds as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(f"{path} cannot be written: {reason}; make room or allow it, and run the same again") from error


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it to ``path`` once the block has ended without an error.

    Raises:
        InputError: If the system does not let it be written.

    Example:
        >>> with written_whole("table.csv") as temporary:  # doctest: +SKIP
        ...     temporary.write_text("a,b")
    """
    path = Path(path)
    with said_if_unwritable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.{os.getpid()}.", suffix=".part")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())  # the rename must not overtake the bytes
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # mkstemp makes it readable by its owner only
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


def save_tensors(content: Any, path: str | os.PathLike[str]) -> None:
    """``torch.save``, whole or not at all.

    Raises:
        InputError: If the system does not let it be written.
    """
    # Where the disk is full, torch says RuntimeError.
    with written_whole(path) as temporary, said_if_unwritable(path, RuntimeError):
        torch.save(content, temporary)


def _remove_stale(path: Path) -> None:
    """Remove the temporary files of ``path`` that processes left which are no more."""
    _remove(path.parent.glob(f".{glob.escape(path.name)}.*.part"))


def remove_left(folder: Path) -> None:
    """Remove the temporary files that processes which are no more left in a run folder and two levels below.

    A run that goes on writes its logs into a new folder, and does not come upon those of the one before.
    """
    for depth in ("", "*/", "*/*/"):
        _remove(folder.glob(f"{depth}.*.part"))


def _remove(temporary: Iterable[Path]) -> None:
    for path in temporary:
        number = path.name.split(".")[-3:-2]  # .NAME.PROCESS.RANDOM.part
        if number and number[0].isdecimal() and not _runs(int(number[0])):
            with contextlib.suppress(OSError):
                path.unlink()


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True


@contextlib.contextmanager
def claimed(lock: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Refuse a second process that wants to write the same, for as long as the block runs.

    The system gives the claim back whenever the process ends, however it ends. Where it has no such locks (Windows, some
    network file systems) nothing is refused.

    Args:
        lock: A file that stands for the claim; it is gone at the end.
        what: What is claimed, and how to get on without it, for the message.

    Raises:
        InputError: If another process has it.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    lock = Path(lock)
    with said_if_unwritable(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a+")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = lock.exists() and os.path.samestat(os.fstat(file.fileno()), lock.stat())
        except BlockingIOError:
            mine = False
        except OSError:  # a file system without locks
            mine = True
        if not mine:
            raise InputError(f"another run is writing {what}")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                lock.unlink()


def require_disk(needed: float, folder: Path, what: str, advice: str) -> None:
    """Check that there is room on the disk before long work begins.

    Args:
        needed: Bytes that are going to be written.
        folder: Where to; it need not be there yet.
        what: What takes them, for the message.
        advice: What to do where there is not enough.

    Raises:
        InputError: If there is not.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise InputError(
            f"{what} take {needed / 1e9:.2f} GB in {folder}, where {free / 1e9:.2f} GB are free: make room, or {advice}"
        )


@contextlib.contextmanager
def create_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """A new HDF5 file, written whole or not at all.

    Damage must be found, not read: the format of HDF5 1.10 keeps checksums of all its own structures (a flipped bit in
    the older default can make the library loop forever). Datasets bring theirs with ``fletcher32=True``; text goes in at
    fixed length (:func:`set_text`), because text of variable length lies in a heap without a checksum.

    It is made in memory and then written: HDF5 cannot close a file that a full disk cuts short, and says so again and again.
    """
    with written_whole(path) as temporary, said_if_unwritable(path):
        content = io.BytesIO()
        with h5py.File(content, "w", libver=("v110", "v110")) as file:
            yield file
        temporary.write_bytes(content.getbuffer())


def new_hdf5(path: Path) -> h5py.File:
    """A new file of the format of HDF5 1.10, see :func:`create_hdf5`, written where it is."""
    return h5py.File(path, "w", libver=("v110", "v110"))


def allocate(path: Path, size: int) -> None:
    """Make sure that a file can have ``size`` bytes, before HDF5 takes them for granted, see :func:`create_hdf5`.

    Args:
        path: The file; it may be there or not. What it holds stays.
        size: Bytes.

    Raises:
        InputError: If the system has no room for it, or does not let it be written.
    """
    with said_if_unwritable(path), path.open("ab") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)


def set_text(file: h5py.File, name: str, text: str) -> None:
    """Write a text attribute, which HDF5 keeps together with its checksum."""
    file.attrs[name] = np.bytes_(text.encode() or b"\0")


def get_text(file: h5py.File, name: str) -> str:
    """Read an attribute that :func:`set_text` wrote.

    Raises:
        KeyError: If there is none.
        TypeError: If it is not text.
    """
    value = file.attrs[name]
    if not isinstance(value, bytes):
        raise TypeError(f"the attribute {name} is not text")
    return value.decode()


def write_header(file: h5py.File, kind: str, version: int, configuration: Mapping[str, Any], fingerprint: str) -> None:
    """Write the header of ``file``.

    Args:
        file: An HDF5 file open for writing.
        kind: What the file is, such as ``galaxies``.
        version: Version of that format.
        configuration: Whatever made the file; must be writable as JSON.
        fingerprint: SHA-256 of the content, in hexadecimal.
    """
    set_text(file, "format", f"gz_lightning.{kind}")
    file.attrs["format_version"] = version
    set_text(file, "gz_lightning_version", __version__)
    set_text(file, "configuration", json.dumps(dict(configuration), sort_keys=True, default=str))
    set_text(file, "fingerprint", fingerprint)


@contextlib.contextmanager
def open_checked(path: str | os.PathLike[str], kind: str, version: int, made_by: str) -> Iterator[h5py.File]:
    """Open an HDF5 file of this package for reading, once its header says that it is one.

    Args:
        path: The file.
        kind: What it must be, such as ``galaxies``.
        version: The newest version of that format that can be read.
        made_by: The command that makes such a file, for the error message.

    Raises:
        InputError: If there is no such file, it is no HDF5 file, is of another format or of a newer version, or cannot
            be read to its end.
    """
    path = Path(path)
    if not os.path.isfile(path):  # of a name that is too long Path.is_file raises OSError
        raise InputError(f"there is no file {path}; '{made_by}' makes one")
    try:
        with h5py.File(path, "r") as file:
            _check_header(path, file, kind, version, made_by)
            yield file
    except InputError:
        raise
    except (KeyError, OSError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not a file of {kind} or is damaged ({reason}); '{made_by}' makes a new one") from error


def _check_header(path: Path, file: h5py.File, kind: str, version: int, made_by: str) -> None:
    found = get_text(file, "format") if "format" in file.attrs else "not one of gz_lightning"
    if found != f"gz_lightning.{kind}":
        raise InputError(f"{path} is not a file of {kind}: its format is {found:.60}; '{made_by}' makes one")
    found_version = file.attrs["format_version"]
    if not isinstance(found_version, np.integer) or found_version < 1:
        raise TypeError(f"its format version is {found_version!r:.40}")
    if found_version > version:
        raise InputError(
            f"{path} has format version {found_version}, written by gz_lightning "
            f"{get_text(file, 'gz_lightning_version')}; this release ({__version__}) reads up to version {version}: "
            "install a newer one"
        )
