"""Ctrl-C and SIGTERM raise KeyboardInterrupt and are remembered.

Remembered, because C code that a signal interrupts may raise another error instead (matplotlib: "Invalid affine
transformation matrix"), which would look like a bug.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_came: list[int] = []


def interrupt(signum: int, frame: FrameType | None) -> None:
    """A signal handler: remember the signal and raise KeyboardInterrupt."""
    _came.append(signum)
    raise KeyboardInterrupt


def interrupted() -> bool:
    """Whether a signal came since :func:`signals_interrupt` was entered."""
    return bool(_came)


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Handle SIGTERM, which batch systems send, like Ctrl-C: the block ends through its ``finally`` clauses."""
    _came.clear()
    try:
        handled = [sent for sent in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(sent) != signal.SIG_IGN]  # nohup
        before = {sent: signal.signal(sent, interrupt) for sent in handled}
    except ValueError:  # not the main thread, which alone receives signals
        yield
        return
    try:
        yield
    finally:
        for sent, handler in before.items():
            signal.signal(sent, handler)
