"""What ``--help`` says of a command: the words of its docstring, in paragraphs."""

from __future__ import annotations

import argparse
import inspect
import re
import shutil
import textwrap
from typing import Any

from jsonargparse import DefaultHelpFormatter

SECTION = re.compile(r"^(Args|Attributes|Example|Raises|Returns|Shape):$", re.MULTILINE)
MOST_COLUMNS = 100
RANGED = re.compile(r"Annotated\[(\w+), ([^\]]*)\]")


class Formatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """That of jsonargparse, but the description keeps its paragraphs, and a range reads ``int >= 1``."""

    def _expand_help(self, action: argparse.Action) -> str:
        return RANGED.sub(r"\1 \2", super()._expand_help(action))


def description(thing: Any) -> str:
    """The paragraphs of a docstring before its first section, wrapped for the terminal.

    Args:
        thing: A function or class with a docstring.

    Example:
        >>> from gz_lightning.experts.inspection import check
        >>> description(check)
        'Read everything, and name what is damaged.'
    """
    words = SECTION.split(inspect.getdoc(thing) or "")[0].replace("``", "").strip()
    columns = min(shutil.get_terminal_size().columns, MOST_COLUMNS) - 2
    return "\n\n".join(textwrap.fill(" ".join(part.split()), columns) for part in words.split("\n\n"))
