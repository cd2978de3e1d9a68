"""Changes that know nothing of a format: bytes, whole files, and plain values in trees of dictionaries and lists."""

from __future__ import annotations

import copy
import math
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HUGE = 2**36
"""Size of a file with a hole: more than any memory here."""


def _places(draws: random.Random, content: bytes | bytearray) -> tuple[int, int]:
    """Beginning and end of a run of bytes, mostly short."""
    start = draws.randrange(len(content))
    return start, min(len(content), start + draws.choice((1, 4, 16, 64, 1 + draws.randrange(len(content)))))


def damaged_bytes(draws: random.Random, original: bytes) -> tuple[bytes, str]:
    """Bytes with some of them changed, and what was done to them."""
    content = bytearray(original)
    kinds = ("flip", "flip", "flip", "overwrite", "zero", "truncate", "insert", "duplicate", "delete", "append", "swap")
    done = []
    for _ in range(draws.choice((1, 1, 1, 2, 3))):
        if not content:
            break
        kind = draws.choice(kinds)
        start, end = _places(draws, content)
        if kind == "flip":
            for _ in range(draws.choice((1, 1, 2, 8))):
                content[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
        elif kind == "overwrite":
            content[start:end] = draws.randbytes(end - start)
        elif kind == "zero":
            content[start:end] = draws.choice((b"\0", b"\xff")) * (end - start)
        elif kind == "truncate":
            del content[start:]
        elif kind == "insert":
            content[start:start] = draws.choice((draws.randbytes(draws.choice((1, 7, 500))), b"9" * 30, b"\0" * 8, b"\n"))
        elif kind == "duplicate":
            content[start:start] = content[start:end]
        elif kind == "delete":
            del content[start:end]
        elif kind == "append":
            content += draws.choice((draws.randbytes(100), bytes(content), b"\0" * 4096))
        else:
            other, last = _places(draws, content)
            one, two = content[start:end], content[other:last]
            content[start:end], content[other : other + len(one)] = two, one
        done.append(f"{kind} at {start}")
    return bytes(content), ", ".join(done)


def damage_file(draws: random.Random, path: Path) -> str:
    """Change some bytes of a file in its place."""
    content, done = damaged_bytes(draws, path.read_bytes())
    path.write_bytes(content)
    return f"{path.name}: {done}"


def replace_file(draws: random.Random, path: Path, others: Sequence[Path], hole: bool = True, pipe: bool = True) -> str:
    """Put something else in the place of a file.

    Args:
        draws: Random numbers.
        path: The file.
        others: Files of other kinds.
        hole: Whether it may become a file larger than the memory.
        pipe: Whether it may become a pipe, which nobody ever writes into.
    """
    kinds = ["empty", "folder", "dangling", "loop", "link", "null", "zero", "other", "other", "text", "newlines"]
    kinds += ["hole"] * hole + ["pipe"] * pipe
    kind = draws.choice(kinds)
    original = path.read_bytes()
    path.unlink()
    if kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "dangling":
        path.symlink_to(path.with_name("nowhere"))
    elif kind == "loop":
        path.with_name("round").symlink_to(path)
        path.symlink_to("round")
    elif kind == "link":  # the one that is harmless
        target = path.with_name("target of the link")
        target.write_bytes(original)
        path.symlink_to(target.name)
    elif kind in ("null", "zero"):
        path.symlink_to(f"/dev/{kind}")
    elif kind == "other":
        other = draws.choice([other for other in others if other.name != path.name])
        shutil.copyfile(other, path)
        kind = f"a copy of {other.name}"
    elif kind == "text":
        path.write_text("this is no such file\n" * draws.choice((1, 100)))
    elif kind == "newlines":
        path.write_text("\n" * 5000)
    elif kind == "hole":
        path.write_bytes(original)
        os.truncate(path, HUGE)
    else:
        os.mkfifo(path)
    return f"{path.name} is now: {kind}"


def _deep(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


TEXTS = (
    "",
    " ",
    "text",
    "9" * 400,
    "a" * 100_000,
    "größe 星系",
    "a\nb\x1b[31m\0c",
    "../../../etc/passwd",
    "/dev/zero",
    "nan",
    "-1",
)
NUMBERS = (-1, 0, 1, 2, 10**30, -(10**9), 2**63, 1e308, -1e-300, 0.5, math.nan, math.inf, -math.inf)


def hostile_value(draws: random.Random) -> Any:
    """Something that is seldom expected."""
    kind = draws.randrange(5)
    if kind == 0:
        return draws.choice(TEXTS)
    if kind < 3:
        return draws.choice(NUMBERS)
    others: tuple[Any, ...] = (None, True, False, [], {}, [[]], {"a": 1}, [None] * 1000, _deep(40), {"": {"": []}})
    return copy.deepcopy(draws.choice(others))


def _nodes(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to all that is inside."""
    keys: Sequence[Any] = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [node for key in keys for node in ((*path, key), *_nodes(value[key], (*path, key)))]


def _at(value: Any, path: Sequence[Any]) -> Any:
    for key in path:
        value = value[key]
    return value


def hostile_tree(draws: random.Random, original: Any) -> tuple[Any, str]:
    """A copy of plain dictionaries and lists with one thing changed, and what it was."""
    value = copy.deepcopy(original)
    nodes = _nodes(value)
    if not nodes or draws.random() < 0.03:
        found = hostile_value(draws)
        return found, f"all is {found!r:.60}"
    # The length of a path is drawn first: what lies near the root decides more and is rare.
    depth = draws.choice(sorted({len(node) for node in nodes}))
    path = draws.choice([node for node in nodes if len(node) == depth])
    owner, key, name = _at(value, path[:-1]), path[-1], "/".join(map(str, path))
    kind = draws.choice(("replace", "replace", "replace", "delete", "rename", "wrap", "duplicate", "swap"))
    if kind == "delete":
        del owner[key]
    elif kind == "rename" and isinstance(owner, dict):
        owner[draws.choice((f"{key} ", "", "a" * 5000, "nonsense", str(key).upper()))] = owner.pop(key)
    elif kind == "wrap":
        owner[key] = draws.choice(([owner[key]], {"value": owner[key]}, str(owner[key])))
    elif kind == "duplicate" and isinstance(owner, list):
        owner.insert(key, copy.deepcopy(owner[key]))
    elif kind == "swap":
        other = draws.choice([node for node in nodes if node[: len(path)] != path and path[: len(node)] != node] or [path])
        there = _at(value, other[:-1])
        owner[key], there[other[-1]] = there[other[-1]], owner[key]
    else:
        kind, owner[key] = "replace", hostile_value(draws)
        return value, f"{name} is {owner[key]!r:.60}"
    return value, f"{kind} {name}"
