"""Progress of long work on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

T = TypeVar("T")

console = Console(stderr=True)
"""Progress and remarks go to standard error; standard output holds results only."""


def say(text: str, style: str | None = None) -> None:
    """Print a remark to standard error, without markup or line wrapping."""
    console.print(text, style=style, soft_wrap=True, markup=False, highlight=False)


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield ``items`` while a bar shows how many of ``total`` are done, the rate, and the time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=True),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield from progress.track(items, total=total, description=description)
