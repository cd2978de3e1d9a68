"""Settings from the command line and from YAML files: whatever is wrong with them is said in one line."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentError, ArgumentParser
from lightning.pytorch.cli import LightningArgumentParser

from gz_lightning.errors import InputError
from gz_lightning.storage.text import read_yaml

KEY = re.compile(r'^Parser key "([^"]*)": *')
UNION = re.compile(r"^Does not validate against any of the Union subtypes Subtypes: \[(.*?)\] Errors: .* Given value: (.*)$")
CLASS = re.compile(r"<class '(\w+)'>")
MOST_SAID = 400
"""Characters of a message at most: a value that is refused may be of any length."""


class OneLine(ArgumentParser):
    """A parser of jsonargparse that raises :class:`InputError` where that would write a screenful and end the process."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong.

        Raises:
            InputError: Always; from the parsers inside of it, which it asks what they think of a value, ArgumentError.
        """
        if isinstance(ex, InputError):
            raise ex
        if not self.exit_on_error:
            super().error(message, ex)
        raise InputError(f"{plainer(message)}; '{self.prog} --help' lists the settings") from ex

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the command line.

        Raises:
            InputError: If it, or a file that it names, is not what it should be.
        """
        try:
            return super().parse_args(*args, **kwargs)
        except (InputError, ArgumentError):
            raise
        except Exception as error:  # whatever the parser meets in a file that holds anything
            self.error(f"the settings cannot be read: {type(error).__name__}: {error}", error)

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        """Parse a file, once it is known to hold plain values with an end to them."""
        kind = os.stat(path).st_mode if os.path.exists(path) else 0
        if not stat.S_ISFIFO(kind):  # a shell's <(command) can be read only once
            read_yaml(Path(path))
        return super().parse_path(path, *args, **kwargs)


class LightningOneLine(OneLine, LightningArgumentParser):
    """The same for the commands of LightningCLI."""


def plainer(message: str) -> str:
    """What jsonargparse says of a value, in one line and without Python's words.

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
