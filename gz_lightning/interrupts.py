"""Ctrl-C and SIGTERM raise KeyboardInterrupt and are remembered.

Remembered, because C code that a signal interrupts may raise another error instead (matplotlib: "Invalid affine
transformation matrix"), which would look like a bug.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_came: list[int] = []
AGAIN_S = 0.01  # long enough for a destructor to end


def _sent_again(before: Callable[[sys.UnraisableHookArgs], object]) -> Callable[[sys.UnraisableHookArgs], None]:
    """A hook for ``sys.unraisablehook`` that sends again a signal whose interrupt Python dropped.

    In a destructor or a weak reference's callback Python prints an exception and goes on: the work would not end.
    """

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if _came and issubclass(unraisable.exc_type, KeyboardInterrupt):
            threading.Timer(AGAIN_S, os.kill, (os.getpid(), _came[-1])).start()
        else:
            before(unraisable)

    return hook


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
    unraisable = sys.unraisablehook
    sys.unraisablehook = _sent_again(unraisable)
    try:
        yield
    finally:
        sys.unraisablehook = unraisable
        for sent, handler in before.items():
            signal.signal(sent, handler)
