"""Progress of long work on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

try:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
except ImportError:  # a machine that was not set up by pip: plain lines
    console = None
else:
    console = Console(stderr=True)
    """Progress and remarks go to standard error; standard output holds results only."""

T = TypeVar("T")


def say(text: str, style: str | None = None) -> None:
    """Print a remark to standard error, without markup or line wrapping."""
    if console is None:
        print(text, file=sys.stderr)
    else:
        console.print(text, style=style, soft_wrap=True, markup=False, highlight=False)


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield ``items`` while a bar shows how many of ``total`` are done, the rate, and the time left."""
    if console is None:
        say(f"{description}: {total}")
        yield from items
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=True),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield from progress.track(items, total=total, description=description)
