"""What work will take, said in one line before it begins; a dry run says it and ends there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import psutil

from gz_lightning.progress import say

LATER = 2e8
"""Bytes that every process takes later, for figures, loggers and freed memory that it keeps. Without them .93, 1.1, 1.1 GB
were announced for fit, distill and evaluate (five classes of 32 px, width 32, one thread), and 1.1, 1.3, 1.1 GB taken."""


class DryRunEnds(Exception):  # noqa: N818 - no error
    """A dry run has said what the work would take, and ends; nothing was written."""


_dry = ContextVar("dry", default=False)


def is_dry() -> bool:
    """Whether nothing may be written, for the work is only to say what it would take."""
    return _dry.get()


@contextlib.contextmanager
def dry_run(on: bool = True) -> Iterator[None]:
    """Make the block a dry run: it ends at :func:`announce`, with nothing written."""
    before = _dry.set(on)
    try:
        yield
    except DryRunEnds:
        if not on:
            raise
        say("a dry run: nothing was trained or written")
    finally:
        _dry.reset(before)


def announce(work: str, memory: float, disk: float, place: object) -> None:
    """Say what work that is about to begin takes.

    Args:
        work: What is to be done, in words and numbers.
        memory: Bytes that it takes at most, as far as can be told, beside what the process holds already.
        disk: Bytes that it writes.
        place: Where it writes them.

    Raises:
        DryRunEnds: In a dry run.
    """
    held = psutil.Process().memory_info().rss
    say(f"{work}; {size(disk)} in {place}, about {size(held + LATER + memory)} of memory")
    if is_dry():
        raise DryRunEnds


def size(number: float) -> str:
    """Bytes in words.

    Example:
        >>> size(7.5e9), size(356e6), size(1200)
        ('7.5 GB', '0.36 GB', 'under 1 MB')
    """
    if number >= 1e8:
        return f"{number / 1e9:.2g} GB"
    return f"{number / 1e6:.0f} MB" if number >= 1e6 else "under 1 MB"


def counted(number: int, what: str) -> str:
    """A number of things, in words.

    Example:
        >>> counted(1, "network"), counted(2000, "evaluation")
        ('1 network', '2,000 evaluations')
    """
    return f"{number:,} {what}{'s' * (number != 1)}"
