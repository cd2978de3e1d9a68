"""A module with one change."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A module with one change.

    Args:
        function: The function that is changed, with its class; empty outside functions.
        operator: The operator of mutmut.
        first: First line of the change.
        last: Last line of the change.
        body: The lines of that function.
        before: The changed lines as they were.
        after: And as they are.
        source: The whole module.
        number: Tells mutants apart that look the same, in one function.
    """

    function: str
    operator: str
    first: int
    last: int
    body: range
    before: str
    after: str
    source: str
    number: int

    @property
    def name(self) -> str:
        """What tells it from others; lines that move do not change it."""
        return hashlib.sha256(repr((self.function, self.before, self.after, self.number)).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Mutants:
    """All mutants of a module, and how many changes of it were left out as wording (see ``mutations.py``)."""

    kept: list[Mutant]
    wording: int
