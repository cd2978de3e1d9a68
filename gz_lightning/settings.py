"""Settings: the types of a signature check values and document them on the command line.

A module or command writes ``ipc: PositiveInt`` or ``stage: Literal["stage", "fixed"]`` into its signature;
:func:`check_settings` refuses any other value in one line that names the flag, on the command line and in a notebook alike.
"""

from __future__ import annotations

import functools
import inspect
import numbers
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, TypeVar, Union

from gz_lightning.errors import InputError

LARGEST = 3e38
"""Bound of a number: it fits float32. NaN is outside too."""
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, repr=False)
class Range:
    """The range of a number, for ``Annotated``. None: no bound."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def holds(self, value: float) -> bool:
        """Whether a number is inside."""
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def __repr__(self) -> str:
        bounds = ((">=", self.least), (">", self.above), ("<=", self.most), ("<", self.below))
        return " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)


@dataclass(frozen=True, repr=False)
class Like:
    """Lets objects pass that have some methods, for ``Annotated``: classes of libraries that are no requirement."""

    methods: tuple[str, ...]

    def __repr__(self) -> str:
        return ""


PositiveInt = Annotated[int, Range(least=1)]
NonNegativeInt = Annotated[int, Range(least=0)]
PositiveFloat = Annotated[float, Range(above=0)]
NonNegativeFloat = Annotated[float, Range(least=0)]
Share = Annotated[float, Range(least=0, most=1)]
if TYPE_CHECKING:
    AnyPath = str | os.PathLike[str]
    AnyTable = Any
else:
    AnyPath = Path
    AnyTable = Annotated[Path, Like(("features", "with_format", "column_names"))]
"""A path of any kind, in a notebook also the Galaxies read from it; the command line sees ``Path`` and makes one.
``AnyTable`` is a path too, or in a notebook a ``datasets.Dataset`` or a dictionary of them."""


def check_settings(owner: Callable[..., Any], settings: Mapping[str, Any], flag: str = "--") -> None:
    """Refuse the first setting whose value does not have its type in the signature.

    Args:
        owner: The function (of a class its ``__init__``) with the signature.
        settings: Values by name; names that the signature lacks are ignored.
        flag: Prefix of a name on the command line, such as ``--model.``.

    Raises:
        InputError: With flag, expected type and value.

    Example:
        >>> def distil(ipc: PositiveInt = 1, stage: Literal["stage", "fixed"] = "stage") -> None: ...
        >>> check_settings(distil, {"ipc": 0, "stage": "fixed"})
        Traceback (most recent call last):
        ...
        gz_lightning.errors.InputError: --ipc must be a whole number >= 1, not 0
    """
    for name, hint in _hints(owner).items():
        if name in settings and name != "return" and not _fits(hint, settings[name]):
            raise InputError(f"{flag}{name} must be {_described(hint)}, not {_shown(settings[name])}")


@functools.cache
def _hints(owner: Callable[..., Any]) -> dict[str, Any]:
    """The types of a signature; evaluating them takes longer than all checks."""
    return typing.get_type_hints(owner, include_extras=True)


def check_name(flag: str, name: str, table: Iterable[str]) -> None:
    """Refuse a name that is not in a table, such as UNROLLS or STAGES.

    Raises:
        InputError: With flag, name and all names of the table.
    """
    names = list(table)
    if name not in names:
        raise InputError(f"{flag} must be one of {', '.join(names)}, not '{name}'")


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator of a command that checks its settings by their types first."""
    hints = _hints(function)
    signature = inspect.signature(function)
    parameters = [parameter.replace(annotation=hints[name]) for name, parameter in signature.parameters.items()]

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        check_settings(function, signature.bind(*args, **kwargs).arguments)
        return function(*args, **kwargs)

    # As text the types would lose their ranges in the help: jsonargparse evaluates it without the extras.
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run


def _fits(hint: Any, value: Any) -> bool:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        ranges = [part for part in hint.__metadata__ if isinstance(part, Range)]
        if any(isinstance(part, Like) and _alike(part, value) for part in hint.__metadata__):
            return True
        return _fits(parts[0], value) and all(inside.holds(value) for inside in ranges)
    if origin in (Union, types.UnionType):
        return any(_fits(part, value) for part in parts)
    if origin is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if origin is list:
        return isinstance(value, (list, tuple)) and all(_fits(parts[0], item) for item in value)
    if hint is type(None):
        return value is None
    if hint is float:
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        return is_number and bool(abs(value) <= LARGEST)
    if hint is int:
        return not isinstance(value, bool) and isinstance(value, numbers.Integral)
    if inspect.isclass(hint) and issubclass(hint, os.PathLike):
        return isinstance(value, (str, os.PathLike))
    return isinstance(value, hint) if hint in (bool, str) else True


def _alike(like: Like, value: Any) -> bool:
    """Whether a value, or each of a dictionary's, has the methods."""
    values = list(value.values()) if isinstance(value, dict) else [value]
    return bool(values) and all(hasattr(one, method) for one in values for method in like.methods)


def _described(hint: Any) -> str:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return f"{_described(parts[0])} {' and '.join(str(part) for part in hint.__metadata__)}".rstrip()
    if origin in (Union, types.UnionType):
        return " or ".join(_described(part) for part in parts)
    if origin is Literal:
        return f"{'one of ' if len(parts) > 1 else ''}{', '.join(map(str, parts))}"
    if origin is list:
        return f"a list of which every item is {_described(parts[0])}"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return words.get(hint, "a path")


def _shown(value: Any) -> str:
    text = "null" if value is None else f"'{value}'" if isinstance(value, (str, os.PathLike)) else repr(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."
