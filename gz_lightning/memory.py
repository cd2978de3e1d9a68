"""Memory: keep what tensors free, check that long work fits before it begins, copy to a GPU without waiting for it."""

from __future__ import annotations

import ctypes
import functools
import os
import platform

import psutil
import torch

from gz_lightning.errors import InputError

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Parameters of glibc's mallopt(3)."""
LARGEST = 32 * 2**20
"""Allocations above this size (bytes) always go back to the system: the largest threshold that glibc allows."""
KEPT = 2**30
"""Freed memory that a process keeps at most, in bytes."""
OFF = "GZ_KEEP_MEMORY"


@functools.cache
def keep_freed_memory() -> bool:
    """Make the process keep memory that tensors free instead of returning it to the system.

    On a CPU every operation allocates a tensor and frees another. By default glibc returns larger ones to the system, which
    then hands out fresh pages, cleared one by one: training small networks on images of 32 to 64 px took 1.5 to 2 times as
    long. Results do not change. The command line calls this before commands that train; a notebook may do the same. The
    environment variable ``GZ_KEEP_MEMORY=0`` turns it off. Without glibc nothing happens.

    Returns:
        Whether memory is kept.
    """
    if os.environ.get(OFF) == "0" or platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((MMAP_THRESHOLD, LARGEST), (TRIM_THRESHOLD, KEPT), (TOP_PAD, 2 * LARGEST))
    return all(mallopt(name, value) == 1 for name, value in settings)


def free_memory(device: torch.device | str = "cpu") -> int:
    """Free memory of a device, in bytes."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def require_memory(needed: float, device: torch.device | str, what: str, advice: str) -> None:
    """Check free memory before long work begins.

    Args:
        needed: Bytes that the work takes at least.
        device: The device that it runs on.
        what: What needs the memory, for the message.
        advice: The setting that needs less, for the message.

    Raises:
        InputError: If less than ``needed`` is free.
    """
    free = free_memory(device)
    if needed > free:
        raise InputError(
            f"{what} take at least {needed / 2**30:.1f} GiB of memory, of which {free / 2**30:.1f} GiB are free "
            f"({torch.device(device)}); {advice}"
        )


def to_device(x: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """A tensor on a device, of one on the host a copy; the host does not wait until a GPU has done what it was told before.

    (An ordinary copy does: memory that is not pinned may change while a GPU reads it.)
    """
    if x.device.type == "cpu" and torch.device(device).type == "cuda":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)
