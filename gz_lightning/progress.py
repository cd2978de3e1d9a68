"""Progress of long work: bars on a terminal, a few plain lines in a pipe, a log file or a notebook."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

try:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn
except ImportError:  # a machine that was not set up by pip: plain lines
    console = None
else:
    console = Console(stderr=True)
    """Progress and remarks go to standard error; standard output holds results only."""

T = TypeVar("T")
PAUSE = 10.0
"""Seconds between plain lines at least."""
PARTS = 10
"""Plain lines about one piece of work at most, beside the first and the last."""
MEASURED = 3
"""Updates before the time left is told."""


def say(text: str, style: str | None = None) -> None:
    """Print a remark to standard error, without markup or line wrapping; above the bars, if there are any."""
    if console is None:
        print(text, file=sys.stderr)
    else:
        console.print(text, style=style, soft_wrap=True, markup=False, highlight=False)


def clock(seconds: float) -> str:
    """A time in words.

    Example:
        >>> clock(21), clock(725), clock(7384)
        ('0:21', '12:05', '2:03:04')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class _Lines:
    """The bars on the terminal, below each other: one display holds all, for there can be only one at a time."""

    def __init__(self) -> None:
        self.display: Progress | None = None

    def add(self, total: float | None) -> TaskID:
        """A further bar; with the first the display begins."""
        if self.display is None:
            columns = BarColumn(bar_width=20), TextColumn("{task.description}", markup=False)
            self.display = Progress(*columns, console=console, transient=True)
            self.display.start()
        return self.display.add_task("", total=total)

    def remove(self, bar: TaskID) -> None:
        """Take a bar away; with the last the display ends."""
        if self.display is not None:
            self.display.remove_task(bar)
            if not self.display.tasks:
                self.display.stop()
                self.display = None


_lines = _Lines()


class Bar:
    """The progress of one piece of work: what is done in words, and after a few measured steps the time left.

    On a terminal a bar, which is gone once the work is done. Elsewhere a plain line after ten seconds, and at each tenth of
    the work after that, no two within ten seconds. Either way one line remains when the work is done.

    Args:
        text: What is done, in words.
        total: How much there is to do, in any unit; None: nobody knows.
        done: How much of it was done before.
        quiet: Leave no line at the end.
    """

    def __init__(self, text: str, total: float | None, done: float = 0.0, quiet: bool = False) -> None:
        self.text, self.total, self.done, self.quiet = text, total, done, quiet
        self.began = self.said = time.monotonic()
        self.updates, self.part = 0, -1
        self.measured_from = (self.began, done)
        self.is_shown = os.environ.get("LOCAL_RANK", "0") == "0"  # of several processes of a run the first has the terminal
        has_bars = self.is_shown and console is not None and console.is_terminal and not console.is_jupyter
        self.line = _lines.add(total) if has_bars else None
        self._show()

    @property
    def seconds_left(self) -> float | None:
        """Seconds until all is done, at the pace so far; None while it is not known. The first step is left out."""
        begin, before = self.measured_from
        if self.total is None or self.updates < MEASURED or self.done <= before:
            return None
        return (time.monotonic() - begin) / (self.done - before) * max(self.total - self.done, 0)

    def update(self, done: float, text: str | None = None) -> None:
        """Tell how much is done, and in which words."""
        self.done, self.text = done, self.text if text is None else text
        self.updates += 1
        if self.updates == 1:
            self.measured_from = (time.monotonic(), done)
        self._show()

    def close(self, whole: bool = True) -> None:
        """End the bar; ``whole``: the work is done, and a line on it remains."""
        if self.line is not None:
            _lines.remove(self.line)
        if whole and not self.quiet and self.is_shown:
            say(f"{self.text} ({clock(time.monotonic() - self.began)})")

    def _show(self) -> None:
        left = self.seconds_left
        words = self.text if left is None else f"{self.text}, {clock(left)} left"
        if self.line is not None and _lines.display is not None:
            _lines.display.update(self.line, completed=self.done, description=words)
        elif left is not None and self.total is not None and self.is_shown:
            now, part = time.monotonic(), int(PARTS * self.done / self.total)
            if part > self.part and now - self.said >= PAUSE and self.done < self.total:
                self.said, self.part = now, part
                say(words)


@contextlib.contextmanager
def doing(text: str) -> Iterator[None]:
    """Say what the block does: a moving bar on a terminal while it runs, one line elsewhere."""
    bar = Bar(text, None, quiet=True)
    if bar.line is None and bar.is_shown:
        say(f"{text} ...")
    try:
        yield
    finally:
        bar.close()


@contextlib.contextmanager
def ticking(things: str, total: int, quiet: bool = False, work: float | None = None) -> Iterator[Callable[..., None]]:
    """A bar for work that tells its own progress: the block gets a function to call with what was done since its last call.

    Args:
        things: What is counted, in the plural.
        total: How many there are.
        quiet: See :class:`Bar`.
        work: The sum of their weights, where some take longer than others: the time left goes by these.

    Example:
        >>> with ticking("fresh networks", 3) as tick:
        ...     tick(0.5)
        ...     tick(2.5, of="random real")
        >>> with ticking("fresh networks", 3, work=10) as tick:
        ...     tick(2, of="random real")
        ...     tick(1, of="full data", weight=8)
    """
    bar, counted = Bar(f"{things}: 0 of {total:,}", total if work is None else work, quiet=quiet), 0.0

    def tick(share: float, of: str = "", weight: float = 1.0) -> None:
        nonlocal counted
        counted += share
        whole = min(int(counted + 1e-6), total)  # shares add up to a whole number but for rounding
        bar.update(bar.done + share * weight, f"{things}: {whole:,} of {total:,}{of and f' ({of})'}")

    try:
        yield tick
    except BaseException:
        bar.close(whole=False)
        raise
    bar.close()


def track(items: Iterable[T], description: str, total: int, quiet: bool = False) -> Iterator[T]:
    """Yield ``items`` while a bar shows how many of ``total`` are done, and the time left; ``quiet`` as of :class:`Bar`."""
    bar, number = Bar(f"{description}: 0 of {total:,}", total, quiet=quiet), 0
    try:
        for number, item in enumerate(items, 1):
            yield item
            bar.update(number, f"{description}: {number:,} of {total:,}")
    finally:
        bar.close(number >= total)
