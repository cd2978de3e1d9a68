"""Atomic writes, locks, and checks of disk space."""

from __future__ import annotations

import contextlib
import functools
import glob
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from gz_lightning.cost import is_dry
from gz_lightning.errors import InputError, entries
from gz_lightning.progress import say


@contextlib.contextmanager
def report_unwritable(path: str | os.PathLike[str], *more: type[Exception]) -> Iterator[None]:
    """Turn the system's errors on writing ``path`` (full disk, no permission) into an :class:`InputError`.

    Args:
        path: The file that the block writes.
        *more: Other errors that mean the same: torch raises RuntimeError on a full disk.
    """
    kinds: tuple[type[Exception], ...] = (OSError, *more)
    try:
        yield
    except kinds as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(f"{path} cannot be written: {reason}; make room or allow it, and run the same again") from error


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it to ``path`` when the block succeeds.

    Raises:
        InputError: If the system refuses the write.

    Example:
        >>> with atomic_write("table.csv") as temporary:  # doctest: +SKIP
        ...     temporary.write_text("a,b")
    """
    assert not is_dry(), "a dry run writes nothing"
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
            temporary.chmod(0o666 & ~umask)  # mkstemp makes files readable by their owner only
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


@contextlib.contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` and rename it to ``path`` when the block succeeds.

    Raises:
        InputError: If ``path`` exists already and is not an empty folder, or the system refuses to write.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or entries(path)):
        raise InputError(f"{path} exists already and is not empty; name another folder")
    with report_unwritable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=".part") as temporary:
            whole = Path(temporary) / path.name
            whole.mkdir()
            yield whole
            whole.replace(path)


def _remove_stale(path: Path) -> None:
    """Remove temporary files of ``path`` that dead processes left."""
    _remove(path.parent.glob(f".{glob.escape(path.name)}.*.part"))


def remove_stale(folder: Path) -> None:
    """Remove temporary files that dead processes left in a run folder, two levels deep.

    :func:`atomic_write` removes those of its own path; a resumed run logs into a new folder and would leave the old ones.
    """
    for depth in ("", "*/", "*/*/"):
        _remove(folder.glob(f"{depth}.*.part"))


def remove_unheld(locks: Iterable[Path]) -> None:
    """Remove lock files that nobody holds: a process that was killed cannot remove its own."""
    for lock in locks:
        with contextlib.suppress(InputError, OSError), locked(lock, "it"):
            pass


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
    except OSError:  # another user's process
        return True
    return True


@contextlib.contextmanager
def locked(lock: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Hold an exclusive lock while the block runs.

    The system releases the lock when the process ends, even if it is killed. Where there are no such locks (Windows, some
    network file systems), nothing is refused, and a remark says so once. A dry run writes nothing and locks nothing.

    Args:
        lock: The lock file; removed at the end.
        what: What is locked and what to do instead, for the message.

    Raises:
        InputError: If another process holds the lock.
    """
    if is_dry():
        yield
        return
    try:
        import fcntl
    except ImportError:
        _remark_unprotected()
        yield
        return
    lock = Path(lock)
    with report_unwritable(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a+")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            acquired = lock.exists() and os.path.samestat(os.fstat(file.fileno()), lock.stat())
        except BlockingIOError:
            acquired = False
        except OSError:  # a file system without locks
            _remark_unprotected()
            acquired = True
        if not acquired:
            raise InputError(f"another run is writing {what}")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                lock.unlink()


@functools.cache
def _remark_unprotected() -> None:
    say("there are no file locks here: do not start a second run into the same folder, which could not be refused")


def require_disk(needed: float, folder: Path, what: str, advice: str) -> None:
    """Check free disk space before long work begins.

    Args:
        needed: Bytes to be written.
        folder: Target folder; need not exist yet.
        what: What needs the space, for the message.
        advice: How to need less, for the message.

    Raises:
        InputError: If there is less than ``needed``.
    """
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise InputError(
            f"{what} take {needed / 1e9:.2f} GB in {folder}, where {free / 1e9:.2f} GB are free: make room, or {advice}"
        )


def allocate(path: Path, size: int) -> None:
    """Reserve disk space for a file that HDF5 writes in place, see :func:`create_hdf5`.

    Args:
        path: The file; created if absent, its content is kept.
        size: Bytes.

    Raises:
        InputError: If there is not enough space or no permission.
    """
    with report_unwritable(path), path.open("ab") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
