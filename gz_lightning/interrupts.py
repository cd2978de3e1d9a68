"""Ctrl-C and SIGTERM as KeyboardInterrupt, remembered.

Remembered, because not every KeyboardInterrupt arrives: code in C that is at work at that moment may make another error of
it (matplotlib: "Invalid affine transformation matrix"), which is nobody's mistake.
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
    """SIGTERM, which batch systems send, ends what is done here as Ctrl-C does: with everything put in order."""
    _came.clear()
    try:
        heeded = [sent for sent in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(sent) != signal.SIG_IGN]  # nohup
        before = {sent: signal.signal(sent, interrupt) for sent in heeded}
    except ValueError:  # not the main thread: signals do not come here
        yield
        return
    try:
        yield
    finally:
        for sent, handler in before.items():
            signal.signal(sent, handler)
