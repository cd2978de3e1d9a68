"""Parsers of the commands: errors in one line, and help in the words of the docstrings."""

from __future__ import annotations

import argparse
import difflib
import enum
import inspect
import itertools
import json
import os
import re
import shutil
import stat
import textwrap
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter, get_loader, set_dumper, set_loader

from gz_lightning.errors import Damaged, InputError
from gz_lightning.storage.text import check_keys, read_yaml

UNRECOGNIZED = "unrecognized arguments: "
UNKNOWN = re.compile(
    rf"(?:{UNRECOGNIZED}(-\S+)|Group '([^']+)' does not accept option '([^']+)'|Option '([^']+)' is not acc)"
)
"""How jsonargparse names a flag or a key that it does not know."""
KEY = re.compile(r'^Parser key "([^"]*)": *')
UNION = re.compile(r"^Does not validate against any of the Union subtypes Subtypes: \[(.*?)\] Errors: .* Given value: (.*)$")
CLASS_PATH = re.compile(r"Problem with given class_path '([^']*)': (.*?)(?: - |$)")
NO_CLASS = re.compile(r"Expected a dot import path string: (\S+)")
CLASS = re.compile(r"<class '(\w+)'>")
MOST_SAID = 400
"""Characters of a message at most; a refused value may have any length."""
SECTION = re.compile(r"^(Args|Attributes|Example|Raises|Returns|Shape|Yields):$", re.MULTILINE)
ROLE = re.compile(r":\w+:`~?([^`]*)`")
"""A reference of a docstring, such as one to a class."""
MOST_COLUMNS = 100
RANGED = re.compile(r"Annotated\[(\w+), ([^\]]*)\]")


_load_yaml = get_loader("yaml")


def _load_settings(text: str) -> Any:
    """What jsonargparse reads a file or value with, without keys that are given twice or in two ways."""
    try:
        check_keys(text, dotted=True)
    except Damaged as error:
        raise yaml.YAMLError(str(error)) from error
    return _load_yaml(text)


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # yaml has no types
    """Writes a value of an enumeration as what it stands for: callbacks have such defaults."""


_Dumper.add_multi_representer(enum.Enum, lambda dumper, value: dumper.represent_data(value.value))


def _dump_settings(settings: Any) -> str:
    """What jsonargparse writes settings with, with the style of its own."""
    written: str = yaml.dump(settings, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False)
    return written


set_loader("yaml", _load_settings, (yaml.YAMLError,))
set_dumper("yaml", _dump_settings)


class OneLine(ArgumentParser):
    """A parser that raises :class:`InputError` where jsonargparse would print the usage and end the process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)  # an abbreviation is a typing mistake more often than not

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
        advice = self.advice(message)
        raise InputError(f"{plainer(message)}; {advice}'{self.prog} --help' lists the settings") from ex

    def advice(self, message: str) -> str:
        """What to do about a name that is no setting: the nearest flag, or that a value needs one."""
        if found := UNKNOWN.search(message):
            names = [name for name in found.groups() if name]
            flag = names[0] if names[0].startswith("-") else f"--{'.'.join(names)}"
            flags = [f"--{key}" for key in self.get_defaults().keys()]  # noqa: SIM118 - a Namespace, not a dictionary
            nearest = difflib.get_close_matches(flag.split("=")[0], flags, 1)
            return f"did you mean {nearest[0]}? " if nearest else ""
        if message.startswith(UNRECOGNIZED):
            return "a value follows its flag, as in --NAME VALUE; "
        return ""

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
            read_yaml(Path(path), dotted=True)
        return super().parse_path(path, *args, **kwargs)


def by_name(function: Callable[..., Any], args: Sequence[str]) -> list[str]:
    """Arguments of a command, with flags for the values that have none, and values for the flags that need none.

    Values before the first flag are the required settings of the function, in their order. A required list takes several
    values, with its flag or without. A flag of true or false alone means true.

    Args:
        function: The function that the command calls.
        args: What was typed.

    Example:
        >>> def report(runs: list[str], output: str = "report") -> None: ...
        >>> by_name(report, ["a", "b", "--output", "c"])
        ['--runs', '["a", "b"]', '--output', 'c']
        >>> by_name(report, ["--output", "c", "--runs", "a"])
        ['--runs', '["a"]', '--output', 'c']
    """
    hints, parameters = typing.get_type_hints(function), inspect.signature(function).parameters
    named, values = [], _values(args)
    rest = list(args[len(values) :])
    for name in (name for name, parameter in parameters.items() if parameter.default is parameter.empty):
        flag = f"--{name}"
        if typing.get_origin(hints[name]) is list:
            rest = [part for arg in rest for part in (arg.split("=", 1) if arg.startswith(f"{flag}=") else [arg])]
            if flag in rest:
                place = rest.index(flag)
                more = _values(rest[place + 1 :])
                values += more
                del rest[place : place + 1 + len(more)]
            if values and not values[0].startswith("["):
                values = [json.dumps(values)]
        if values:
            named += [flag, values.pop(0)]
    return [*named, *values, *bare_true(rest, [f"--{name}" for name, hint in hints.items() if hint is bool])]


def bare_true(args: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Arguments in which some flags, if no value follows, have the value true.

    Example:
        >>> bare_true(["--real", "--output", "x"], ["--real"])
        ['--real', 'true', '--output', 'x']
    """
    followed = zip(args, [*args, "-"][1:], strict=True)
    return [part for arg, after in followed for part in ([arg, "true"] if arg in flags and after[:1] == "-" else [arg])]


def _values(args: Sequence[str]) -> list[str]:
    """The arguments before the first flag."""
    return list(itertools.takewhile(lambda arg: not arg.startswith("-"), args))


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
        if imported := CLASS_PATH.search(rest):
            rest = f"{imported[1]} cannot be imported: {imported[2]}"
        elif named := NO_CLASS.search(rest):
            rest = f"there is no class {named[1]}; name one as package.module.Class"
        line = f"--{found[1]}: {rest[:1].lower()}{rest[1:]}"
    line = CLASS.sub(r"\1", line).replace("NoneType", "null")
    return line if len(line) <= MOST_SAID else f"{line[: MOST_SAID - 4]} ..."


class Formatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the paragraphs of the description, and shows a range as ``int >= 1``."""

    def _expand_help(self, action: argparse.Action) -> str:
        words = RANGED.sub(lambda found: f"{found[1]} {found[2]}".rstrip(), super()._expand_help(action))
        return ROLE.sub(r"\1", words)


def description(thing: Any) -> str:
    """The paragraphs of a docstring before its first section, wrapped for the terminal.

    Args:
        thing: A function or class with a docstring.

    Example:
        >>> from gz_lightning.experts.inspection import check
        >>> description(check)
        'Read everything, and name what is damaged.'
    """
    words = ROLE.sub(r"\1", SECTION.split(inspect.getdoc(thing) or "")[0]).replace("``", "").strip()
    return "\n\n".join(wrapped(part) for part in words.split("\n\n"))


def wrapped(paragraph: str) -> str:
    """A paragraph in lines of the terminal's width."""
    columns = min(shutil.get_terminal_size().columns, MOST_COLUMNS) - 2
    return textwrap.fill(" ".join(paragraph.split()), columns)
