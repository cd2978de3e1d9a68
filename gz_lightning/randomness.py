"""Random generators that depend on a key alone.

The numbers of iteration 7 come from a generator made for iteration 7: a resumed run draws the same numbers, and evaluating
in between changes nothing.
"""

from __future__ import annotations

import hashlib

import torch


def derived_seed(*key: int | str) -> int:
    """A seed in [0, 2**63) from a key such as ``(seed, "expert", 3)``: the SHA-256 of the key."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big") >> 1


def generator(*key: int | str) -> torch.Generator:
    """A generator on the CPU, seeded by the key.

    Example:
        >>> int(torch.randint(100, (), generator=generator(0, "iteration", 7)))
        92
    """
    return torch.Generator().manual_seed(derived_seed(*key))
