"""Parsers of the commands: errors in one line, and help in the words of the docstrings."""

from __future__ import annotations

import argparse
import inspect
import os
import re
import shutil
import stat
import textwrap
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, DefaultHelpFormatter
from lightning.pytorch.cli import LightningArgumentParser

from gz_lightning.errors import InputError
from gz_lightning.storage.text import read_yaml

KEY = re.compile(r'^Parser key "([^"]*)": *')
UNION = re.compile(r"^Does not validate against any of the Union subtypes Subtypes: \[(.*?)\] Errors: .* Given value: (.*)$")
CLASS = re.compile(r"<class '(\w+)'>")
MOST_SAID = 400
"""Characters of a message at most; a refused value may have any length."""
SECTION = re.compile(r"^(Args|Attributes|Example|Raises|Returns|Shape|Yields):$", re.MULTILINE)
MOST_COLUMNS = 100
RANGED = re.compile(r"Annotated\[(\w+), ([^\]]*)\]")


class OneLine(ArgumentParser):
    """A parser that raises :class:`InputError` where jsonargparse would print the usage and end the process."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise an error in one line.

        Raises:
            InputError: From the parser of a command.
            ArgumentError: From parsers inside of it, which jsonargparse uses to try the types of a value.
        """
        if isinstance(ex, InputError):
            raise ex
        if not self.exit_on_error:
            super().error(message, ex)
        raise InputError(f"{plainer(message)}; '{self.prog} --help' lists the settings") from ex

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the command line.

        Raises:
            InputError: If a setting cannot be used, or a file of settings cannot be read.
        """
        try:
            return super().parse_args(*args, **kwargs)
        except (OSError, UnicodeError, RecursionError) as error:  # of a file that a value names, which jsonargparse reads
            self.error(f"the settings cannot be read: {error}", error)

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        """Parse a file that holds plain values within the limits of :func:`read_yaml`."""
        mode = os.stat(path).st_mode if os.path.exists(path) else 0
        if not stat.S_ISFIFO(mode):  # a shell's <(command) can be read only once
            read_yaml(Path(path))
        return super().parse_path(path, *args, **kwargs)


class LightningOneLine(OneLine, LightningArgumentParser):
    """The same for the commands of LightningCLI."""


def plainer(message: str) -> str:
    """A message of jsonargparse in one line, without Python's words.

    Example:
        >>> plainer('Parser key "model.ipc": Option is not an integer')
        '--model.ipc: option is not an integer'
    """
    line = " ".join(message.split())
    if found := KEY.match(line):
        rest = line[found.end() :]
        if union := UNION.match(rest):
            rest = f"expected {' or '.join(union[1].split(', '))}. Got value: {union[2]}"
        line = f"--{found[1]}: {rest[:1].lower()}{rest[1:]}"
    line = CLASS.sub(r"\1", line).replace("NoneType", "null")
    return line if len(line) <= MOST_SAID else f"{line[: MOST_SAID - 4]} ..."


class Formatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the paragraphs of the description, and shows a range as ``int >= 1``."""

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
