"""The one exception that means: what the user gave cannot be used."""

from __future__ import annotations


class InputError(ValueError):
    """A file, table, setting or flag that cannot be used as it is.

    The message names the file, row or setting, says what was found and what to do. The command line prints it as one
    line and ends with exit status 2; in a notebook it is an ordinary ``ValueError``.
    """
