"""Errors of the user's input. Any other exception is a bug and shows its traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class InputError(ValueError):
    """A file, table, setting or flag that cannot be used as it is.

    The message is one line that names the file, row or setting, its value, and what to do. The command line prints it and
    ends with exit status 2; in a notebook it is a ``ValueError``.
    """


class Unreachable(InputError):  # noqa: N818 - the state of a file, as messages name it
    """A file that cannot be read now, whatever it holds: another process writes it, or it is not ours to read."""


class Damaged(ValueError):  # noqa: N818 - the state of a file, as messages name it
    """A file whose content is not what it should be.

    The message says what is wrong inside the file. The code that opened the file adds its name and what to do, and raises
    an :class:`InputError`. It catches nothing but Damaged, so that a bug in a reader never looks like a damaged file.
    """


@contextlib.contextmanager
def reading(source: Any, kind: str, errors: tuple[type[Exception], ...] = (Exception,)) -> Iterator[None]:
    """Turn what a reader's library raises on damaged files into InputError. For its calls alone, never around our code.

    Args:
        source: The file.
        kind: What it should be, such as ``CSV``.
        errors: What the library raises. astropy and pyarrow name no errors of theirs: on damaged bytes they raise whatever
            their own code runs into.
    """
    try:
        yield
    except errors as error:
        raise InputError(f"{source} cannot be read as {kind}: {' '.join(str(error).split())}") from error


def entries(folder: Path) -> list[Path]:
    """What a folder of the user holds, sorted by name.

    Raises:
        InputError: If it cannot be listed: it may have been taken away, or may not be ours to read.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be read: {error.strerror}") from error
