"""Text files and the words of messages: nothing larger, deeper or longer than such text ever is."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml

from gz_lightning.errors import Damaged, InputError

T = TypeVar("T")
MOST_TEXT = 2**20
"""Bytes of a text file that are read at most: settings and records have some thousands."""
MOST_NODES, MOST_DEPTH = 10**5, 50
"""Values of a YAML file, and how deep they lie, at most: settings are some hundreds."""


def checked_json(text: str, name: str, kind: type[T]) -> T:
    """What JSON holds, if it is a dictionary, or a list of strings.

    Raises:
        Damaged: If it is something else.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise Damaged(f"{name} holds brackets within brackets") from None
    except ValueError as error:
        raise Damaged(f"{name} is no JSON: {error}") from error
    if not isinstance(value, kind) or (isinstance(value, list) and not all(isinstance(item, str) for item in value)):
        raise Damaged(f"{name} holds {short(value)}")
    return value


def read_text(path: str | os.PathLike[str], most: int = MOST_TEXT) -> str:
    """A text file that is no larger than such files are.

    Raises:
        InputError: If there is none, it is too large, or it is no text.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise InputError(f"there is no file {path}")
    try:
        if path.stat().st_size > most:
            raise InputError(f"{path} has {path.stat().st_size} bytes, more than such a file ever has")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """The plain values of a YAML file.

    Raises:
        InputError: As :func:`read_text`; or if it is no YAML of plain values, or they have no end.
    """
    text = read_text(path)
    try:
        found = yaml.safe_load(text)
        _check_end(found)
    except RecursionError:
        raise InputError(f"{path} cannot be read: it holds brackets within brackets") from None
    # PyYAML makes dates and numbers of what looks like some, and hashes of what may have none.
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError, LookupError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    return found


def _check_end(value: Any) -> None:
    """An alias may stand for much, again and again, or for what it is in."""
    waiting, number = [(value, 0)], 0
    while waiting:
        found, depth = waiting.pop()
        number += 1
        if number > MOST_NODES or depth > MOST_DEPTH:
            raise ValueError("its values refer to each other without end")
        if isinstance(found, dict):
            waiting += [(part, depth + 1) for pair in found.items() for part in pair]
        elif isinstance(found, (list, tuple, set)):
            waiting += [(part, depth + 1) for part in found]
        elif isinstance(found, str):
            found.encode()  # half of a pair of surrogates cannot be written again


@contextlib.contextmanager
def naming_file(path: str | os.PathLike[str]) -> Iterator[None]:
    """Put the name of a file before what an :class:`InputError` says, where whoever raises it does not know the file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def short(value: Any, most: int = 80) -> str:
    """What was found, for a message: never long, whatever it is."""
    if isinstance(value, (dict, list, tuple, set)):  # may refer to itself, or grow without end when it is written out
        return f"a {type(value).__name__} of {len(value)}" if len(value) > 3 else _few(value, most)
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        return f"a {type(value).__name__}"
    return text if len(text) <= most else f"{text[: most - 4]} ..."


def _few(value: Any, most: int) -> str:
    plain = (str, int, float, bool, type(None))
    items = [*value, *value.values()] if isinstance(value, dict) else list(value)
    if all(isinstance(item, plain) for item in items):
        return f"{value!r}" if len(text := repr(value)) <= most else f"{text[: most - 4]} ..."
    return f"a {type(value).__name__} of {len(value)}"
