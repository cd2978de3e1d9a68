"""Memory: what is freed and wanted again a moment later, and whether there is enough of it for what is to come."""

from __future__ import annotations

import ctypes
import functools
import os
import platform

import psutil
import torch

from gz_lightning.errors import InputError

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""The names of glibc's mallopt(3)."""
LARGEST = 32 * 2**20
"""Bytes above which memory is always given back: the largest that glibc allows."""
KEPT = 2**30
"""Bytes of freed memory that a process keeps at most."""
OFF = "GZ_KEEP_MEMORY"


@functools.cache
def keep_freed_memory() -> bool:
    """Have the process keep memory that tensors free, instead of giving it back and asking for it again.

    On a CPU every operation makes a tensor and frees another. By default glibc gives larger ones back to the system each
    time, which then hands out fresh pages, cleared one by one: training small networks on images of 32 to 64 px took one and
    a half to two times as long. Nothing else changes, results least of all. It is done when training begins; setting the
    environment variable ``GZ_KEEP_MEMORY=0`` leaves it out. On systems without glibc nothing happens.

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
    """Bytes that are free on a device."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def require_memory(needed: float, device: torch.device | str, what: str, advice: str) -> None:
    """Check that there is enough memory before long work begins.

    Args:
        needed: Bytes that it takes at least.
        device: Where.
        what: What takes them, for the message.
        advice: Which setting makes it less.

    Raises:
        InputError: If there is not.
    """
    free = free_memory(device)
    if needed > free:
        raise InputError(
            f"{what} take at least {needed / 2**30:.1f} GiB of memory, of which {free / 2**30:.1f} GiB are free "
            f"({torch.device(device)}); {advice}"
        )
