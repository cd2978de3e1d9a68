"""A user's mistake, or a damaged file. Any other exception is a bug of ours, and shows its traceback."""

from __future__ import annotations


class InputError(ValueError):
    """A file, table, setting or flag that cannot be used as it is.

    The message names the file, row or setting, says what was found and what to do. The command line prints it as one
    line and ends with exit status 2; in a notebook it is an ordinary ``ValueError``.
    """


class Damaged(ValueError):  # noqa: N818 - what readers find, named as such
    """What readers raise where a file does not hold what it should.

    The message says what is wrong inside the file. Whoever opened the file adds its name and what to do, and raises an
    :class:`InputError`; readers raise nothing else, so that an error of our own code is never taken for a damaged file.
    """
