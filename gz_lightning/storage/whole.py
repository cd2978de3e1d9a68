"""Files written whole or not at all, and locks: one process at a time writes a folder."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from gz_lightning.errors import InputError


@contextlib.contextmanager
def report_unwritable(path: str | os.PathLike[str], *more: type[Exception]) -> Iterator[None]:
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
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it to ``path`` once the block has ended without an error.

    Raises:
        InputError: If the system does not let it be written.

    Example:
        >>> with atomic_write("table.csv") as temporary:  # doctest: +SKIP
        ...     temporary.write_text("a,b")
    """
    path = Path(path)
    with report_unwritable(path):
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


def _remove_stale(path: Path) -> None:
    """Remove the temporary files of ``path`` that processes left which are no more."""
    _remove(path.parent.glob(f".{glob.escape(path.name)}.*.part"))


def remove_stale(folder: Path) -> None:
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
def locked(lock: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Refuse a second process that wants to write the same, for as long as the block runs.

    The system gives the claim back whenever the process ends, however it ends. Where it has no such locks (Windows, some
    network file systems) nothing is refused.

    Args:
        lock: A file that stands for the claim; it is gone at the end.
        what: What is locked, and how to get on without it, for the message.

    Raises:
        InputError: If another process has it.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    lock = Path(lock)
    with report_unwritable(lock):
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


def allocate(path: Path, size: int) -> None:
    """Make sure that a file can have ``size`` bytes, before HDF5 takes them for granted, see :func:`create_hdf5`.

    Args:
        path: The file; it may be there or not. What it holds stays.
        size: Bytes.

    Raises:
        InputError: If the system has no room for it, or does not let it be written.
    """
    with report_unwritable(path), path.open("ab") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
