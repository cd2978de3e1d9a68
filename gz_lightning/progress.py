"""Progress of long work on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

T = TypeVar("T")

console = Console(stderr=True)
"""Where progress and remarks go: standard error, so that standard output holds results alone."""


def say(text: str, style: str | None = None) -> None:
    """A remark on standard error, as it is: nothing in it is markup, and no line is broken."""
    console.print(text, style=style, soft_wrap=True, markup=False, highlight=False)


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Pass ``items`` on while a bar shows how many of ``total`` are done, at which rate, and the time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=True),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield from progress.track(items, total=total, description=description)
