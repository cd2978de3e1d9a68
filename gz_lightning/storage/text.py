"""Text, JSON and YAML within limits of size and depth, and values as messages show them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from gz_lightning.errors import Damaged, InputError

T = TypeVar("T")
MOST_TEXT = 2**20
"""Bytes of a text file at most; settings and records have some thousands."""
MOST_NODES, MOST_DEPTH = 10**5, 50
"""Values of a YAML file and their depth, at most; settings have some hundreds."""


def checked_json(text: str, name: str, kind: type[T]) -> T:
    """The value of a JSON text: a dictionary, or a list of strings.

    Args:
        text: The text.
        name: Its name, for the message.
        kind: ``dict`` or ``list``.

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
    """The text of a file of at most ``most`` bytes.

    Raises:
        InputError: If the file is absent, larger, or not UTF-8.
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


def read_yaml(path: str | os.PathLike[str], dotted: bool = False) -> Any:
    """The plain values of a YAML file.

    Args:
        path: The file.
        dotted: See :func:`check_keys`.

    Raises:
        InputError: As :func:`read_text`; or if it is not YAML of plain values, or larger than ``MOST_NODES`` or
            ``MOST_DEPTH``.
    """
    try:
        value = _parse_yaml(read_text(path), dotted)
        _check_values(value)
    except Damaged as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    return value


def check_keys(text: str, dotted: bool = False) -> None:
    """Refuse YAML in which a mapping has a key twice: PyYAML would take the last.

    Args:
        text: The YAML.
        dotted: Whether ``a.b: 1`` means ``a: {b: 1}``, as it does in settings: then both ways in one mapping are refused,
            for what comes last takes the place of the other.

    Raises:
        Damaged: With the key and both lines.
        yaml.YAMLError: If it is not YAML.
    """
    waiting, seen = [yaml.compose(text, Loader=yaml.SafeLoader)], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            continue
        seen.add(id(node))  # an alias is the same node again
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
            continue
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            waiting += (key, value)
            if isinstance(key, yaml.ScalarNode):
                line, name = key.start_mark.line + 1, (key.tag, key.value)
                if name in lines:
                    places = f"in line {line}" if lines[name] == line else f"in lines {lines[name]} and {line}"
                    raise Damaged(f"the key {short(key.value)} is given twice, {places}; remove one")
                lines[name] = line
        if dotted:
            _check_spellings({key: line for (_, key), line in lines.items()})


def _check_spellings(lines: Mapping[str, int]) -> None:
    for key, line in lines.items():
        parts = key.split(".")
        for whole in (".".join(parts[:number]) for number in range(1, len(parts))):
            if whole in lines:
                raise Damaged(
                    f"the key {short(whole)} is given in two ways, as {short(key)} in line {line} and as {short(whole)} in "
                    f"line {lines[whole]}, of which one would be lost; give all of it in one way"
                )


def _parse_yaml(text: str, dotted: bool) -> Any:
    try:
        check_keys(text, dotted)
        return yaml.safe_load(text)
    except RecursionError:
        raise Damaged("it holds brackets within brackets") from None
    except Damaged:
        raise
    # PyYAML converts what looks like a date or a number, and hashes keys of any type.
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError, LookupError) as error:
        raise Damaged(" ".join(str(error).split())) from error


def _check_values(root: Any) -> None:
    """Raise Damaged where values have no end (aliases may repeat or contain themselves) or text is not Unicode."""
    waiting, number = [(root, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        number += 1
        if number > MOST_NODES or depth > MOST_DEPTH:
            raise Damaged("its values refer to each other without end")
        if isinstance(value, dict):
            waiting += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, (list, tuple, set)):
            waiting += [(part, depth + 1) for part in value]
        elif isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
            raise Damaged("it holds half of a surrogate pair, which is not Unicode text")


@contextlib.contextmanager
def naming_file(path: str | os.PathLike[str]) -> Iterator[None]:
    """Prefix the message of an :class:`InputError` with the name of the file that its cause came from."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def short(value: Any, most: int = 80) -> str:
    """A value as a message shows it, at most ``most`` characters."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()  # 5.0, not np.float64(5.0)
    if isinstance(value, (dict, list, tuple, set)):  # its repr may have no end
        return f"a {type(value).__name__} of {len(value)}" if len(value) > 3 else _few(value, most)
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return f"a {type(value).__name__}"
    return text if len(text) <= most else f"{text[: most - 4]} ..."


def _few(value: Any, most: int) -> str:
    plain = (str, int, float, bool, type(None))
    items = [*value, *value.values()] if isinstance(value, dict) else list(value)
    if all(isinstance(item, plain) for item in items):
        return f"{value!r}" if len(text := repr(value)) <= most else f"{text[: most - 4]} ..."
    return f"a {type(value).__name__} of {len(value)}"
