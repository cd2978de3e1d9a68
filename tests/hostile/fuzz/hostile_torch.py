"""Files of torch.save: structured changes, and pickles that run code when they are loaded."""

from __future__ import annotations

import io
import pickle
import random
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from tests.hostile.fuzz.damage import hostile_tree, hostile_value


class Evil:
    """Its unpickling would run a command that writes a file."""

    def __init__(self, canary: Path, way: int) -> None:
        self.canary, self.way = canary, way

    def __reduce__(self) -> Any:
        import os
        import subprocess

        name = str(self.canary)
        ways: tuple[Any, ...] = (
            (open, (name, "w")),
            (os.mkdir, (name,)),
            (os.system, (f"touch '{name}'",)),
            (subprocess.check_call, (["touch", name],)),
            (eval, (f"open({name!r}, 'w')",)),
            (exec, (f"import pathlib; pathlib.Path({name!r}).touch()",)),
            (Path.touch, (self.canary,)),
            (torch.load, (name,)),
        )
        return ways[self.way % len(ways)]


def hostile_pickle(draws: random.Random, path: Path, canary: Path, whole: Any) -> str:
    """A file that runs code when it is unpickled without care, in one of the formats that torch.load knows."""
    way, form = draws.randrange(8), draws.choice(("pickle", "zip", "legacy", "inside", "key", "protocol 0"))
    evil = Evil(canary, way)
    if form == "pickle":
        path.write_bytes(pickle.dumps([evil]))
    elif form == "protocol 0":
        path.write_bytes(pickle.dumps(evil, protocol=0))
    elif form == "legacy":
        torch.save(evil, path, _use_new_zipfile_serialization=False)
    elif form == "inside" and isinstance(whole, dict):
        torch.save({**whole, draws.choice(list(whole)): evil}, path)
    elif form == "inside" and isinstance(whole, list):
        torch.save([*whole, evil], path)
    elif form == "key":
        torch.save({evil: 1} if way % 2 else [[[evil]]], path)
    else:
        torch.save(evil, path)
    return f"{path.name} runs code (way {way}, {form})"


def hostile_tensor(draws: random.Random, tensor: torch.Tensor) -> tuple[Any, str]:
    """Another tensor in its place."""
    flat = tensor.detach().clone().reshape(-1)
    place = draws.randrange(max(flat.numel(), 1))
    kind = draws.randrange(20)
    if kind < 5 and flat.numel():
        value = draws.choice((torch.nan, torch.inf, -torch.inf, -1.0, 1e30, 0.0, 3.0))
        if not flat.is_floating_point():
            value = draws.choice((-1, 3, 2**31, -(2**40)))
        where: Any = place if draws.random() < 0.7 else slice(None)
        flat[where] = torch.tensor(value).to(flat.dtype)
        return flat.reshape(tensor.shape), f"element {where} is {value}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch has remarks on both
        sparse = torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.long), torch.ones(1), (2**40,))
        quantized = torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.quint8)
    made: tuple[tuple[str, Any], ...] = (
        ("flat", flat),
        ("an axis more", tensor[None]),
        ("turned", tensor.mT if tensor.ndim > 1 else tensor[:-1] if tensor.ndim else tensor[None]),
        ("none", flat[:0]),
        ("terabytes of one number", torch.zeros(1).expand(2**38)),
        ("terabytes in its shape", torch.zeros(1, dtype=tensor.dtype).expand(2**30, *tensor.shape[1:])),
        ("float64", tensor.double()),
        ("complex", tensor.to(torch.complex64)),
        ("bool", tensor.bool()),
        ("float16", tensor.half()),
        ("sparse", sparse),
        ("meta", torch.empty(tensor.shape, device="meta")),
        ("quantized", quantized),
        ("a parameter", torch.nn.Parameter(tensor.clone().float())),
        ("a number", torch.tensor(0.5)),
    )
    name, found = made[draws.randrange(len(made))]
    return found, name


def _tensors(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, torch.Tensor):
        return [path]
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [found for key in keys for found in _tensors(value[key], (*path, key))]


def change_torch(draws: random.Random, path: Path, canary: Path) -> str:
    """Load a file, change one thing in it, and write it back; or make it one that runs code."""
    whole = torch.load(path, weights_only=True)
    kind = draws.randrange(10)
    if kind < 2:
        return hostile_pickle(draws, path, canary, whole)
    if kind == 2:
        return _repack(draws, path)
    tensors = _tensors(whole)
    if kind < 7 and tensors:
        where = draws.choice(tensors)
        owner = [whole]
        full = (0, *where)
        holder: Any = owner
        for key in full[:-1]:
            holder = holder[key]
        holder[full[-1]], how = hostile_tensor(draws, holder[full[-1]])
        (whole,) = owner
        how = f"{'/'.join(map(str, where))}: {how}"
    elif isinstance(whole, (dict, list)):
        whole, how = hostile_tree(draws, whole)
    else:
        whole = draws.choice((hostile_value(draws), [whole], {"images": whole}, (whole, whole), whole.tolist()))
        how = f"a {type(whole).__name__}"
    try:
        torch.save(whole, path, _use_new_zipfile_serialization=draws.random() < 0.8)
    except (NotImplementedError, RuntimeError):  # the old format does not know every kind of tensor
        torch.save(whole, path)
    return f"{path.name}: {how}"


def _repack(draws: random.Random, path: Path) -> str:
    """The archive with a member left out, doubled, compressed, or claiming another size."""
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    way = draws.choice(("compressed", "left out", "shorter", "doubled", "bomb", "stranger"))
    place = draws.randrange(len(members))
    name, content = members[place]
    if way == "left out":
        del members[place]
    elif way == "shorter":
        members[place] = (name, content[: len(content) // 2])
    elif way == "bomb":
        members[place] = (name, b"\0" * 50_000_000)
    elif way == "stranger":
        members.append(("../../escaped", b"x"))
    buffer = io.BytesIO()
    packing = zipfile.ZIP_DEFLATED if way in ("compressed", "bomb") else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        for name, content in members:
            archive.writestr(name, content)
    content = buffer.getvalue()
    path.write_bytes(content + content if way == "doubled" else content)
    return f"{path.name}: member {name} {way}"
