"""What goes wrong with a process: signals, a full disk, no permission, files taken away."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import random
import resource
import signal
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

LEAST, MOST = 200, 60_000
"""Bytes of a file at which the disk is full: from next to nothing to more than any file of these commands."""


@contextmanager
def nothing(process: BaseProcess, wait: float, folder: Path, fed_by: Path) -> Iterator[None]:
    """No fault."""
    yield


def signalled(number: signal.Signals) -> Callable[..., object]:
    """Send a signal at the moment."""

    @contextmanager
    def fault(process: BaseProcess, wait: float, folder: Path, fed_by: Path) -> Iterator[None]:
        process.join(wait)
        if process.is_alive():
            assert process.pid is not None
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)
        yield

    return fault


@contextmanager
def taken_away(process: BaseProcess, wait: float, folder: Path, fed_by: Path) -> Iterator[None]:
    """Something that is read is gone from the moment on, and comes back before the next time."""
    process.join(wait)
    aside = fed_by.with_name(f"{fed_by.name}.aside")
    fed_by.rename(aside)
    try:
        yield
    finally:
        aside.rename(fed_by)


@contextmanager
def not_permitted(process: BaseProcess, wait: float, folder: Path, fed_by: Path) -> Iterator[None]:
    """From the moment on nothing may be written into the folders that are there."""
    process.join(wait)
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    before = {}
    for path in folders:
        with suppress(FileNotFoundError):
            before[path] = path.stat().st_mode
            path.chmod(before[path] & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    try:
        yield
    finally:
        for path, mode in before.items():
            with suppress(FileNotFoundError):
                path.chmod(mode)


FAULTS: dict[str, Callable[..., object]] = {
    "SIGKILL": signalled(signal.SIGKILL),
    "SIGTERM": signalled(signal.SIGTERM),
    "SIGINT": signalled(signal.SIGINT),
    "full disk": nothing,  # a limit that the process sets itself, see prepare_process
    "not permitted": not_permitted,
    "taken away": taken_away,
    "no locks": nothing,  # of files; the process sees to it itself
}
"""Name -> context manager (process, seconds to wait, its folder, what it reads) around the rest of the process's life."""


def prepare_process(fault: str, seed: int) -> None:
    """What the process itself does for a fault before it begins."""
    if fault == "full disk":
        limit = random.Random(seed).randint(LEAST, MOST)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if fault == "no locks":
        fcntl.flock = no_locks
    if fault == "not permitted" and os.geteuid() == 0:
        drop_override()


def no_locks(file: object, operation: int) -> None:
    """What flock answers on a file system without locks."""
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def drop_override() -> None:
    """Have permissions count for root as well: without the capabilities that let it pass over them (Linux)."""

    class Header(ctypes.Structure):
        _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))

    class Data(ctypes.Structure):
        _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))

    libc = ctypes.CDLL(None, use_errno=True)
    header, data = Header(0x20080522, 0), (Data * 2)()  # version 3 of the interface
    if libc.capget(ctypes.byref(header), data) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    data[0].effective &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    if libc.capset(ctypes.byref(header), data) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def moment(draws: random.Random, duration: float) -> float:
    """A random moment of a process's life, in seconds."""
    return draws.uniform(0, 1.05) * duration


def wait_for(path: Path, seconds: float) -> bool:
    """Wait until a file is there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists():
            return True
        time.sleep(0.005)
    return False
