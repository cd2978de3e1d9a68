"""Errors of the user's input. Any other exception is a bug and shows its traceback."""

from __future__ import annotations


class InputError(ValueError):
    """A file, table, setting or flag that cannot be used as it is.

    The message is one line that names the file, row or setting, its value, and what to do. The command line prints it and
    ends with exit status 2; in a notebook it is a ``ValueError``.
    """


class Damaged(ValueError):  # noqa: N818 - the state of a file, as messages name it
    """A file whose content is not what it should be.

    The message says what is wrong inside the file. The code that opened the file adds its name and what to do, and raises
    an :class:`InputError`. It catches nothing but Damaged, so that a bug in a reader never looks like a damaged file.
    """
