"""HDF5 files opened, changed in one thing and closed again: HDF5 itself finds nothing wrong with them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.hostile.fuzz.damage import TEXTS, hostile_tree, hostile_value

Change = Callable[[random.Random, h5py.File, str], str]
TERABYTES = 2**42


def _names(file: h5py.File) -> list[str]:
    found: list[str] = []
    file.visititems(lambda name, what: found.append(name) if isinstance(what, h5py.Dataset) else None)
    return found


def _rewrite(file: h5py.File, name: str, values: Any, **options: Any) -> None:
    """The same dataset with other values, checksums and all."""
    old = file[name]
    packing = {"chunks": old.chunks, "compression": old.compression, "fletcher32": old.fletcher32}
    if np.shape(values) != old.shape or np.asarray(values).dtype.kind not in "iufb":
        packing = {}
    del file[name]
    file.create_dataset(name, data=values, **(packing | options))


def one_value(draws: random.Random, file: h5py.File, name: str) -> str:
    """Another number in one or all places; of floats mostly one that is none."""
    values = np.array(file[name][...])
    if not values.size or values.dtype.kind not in "iuf":
        return missing(draws, file, name)
    if values.dtype.kind == "f":
        value: Any = draws.choice((np.nan, np.inf, -np.inf, -1.0, 2.0, 1e30, 0.0))
    else:
        limits = np.iinfo(values.dtype)
        value = draws.choice((limits.max, limits.min, 0, 1, 3, 255, *([-1] if limits.min else [])))
    place: Any = draws.randrange(values.size)
    if draws.random() < 0.2:
        place = slice(None)
    with np.errstate(over="ignore"):
        values.reshape(-1)[place] = np.asarray(value).astype(values.dtype)
    _rewrite(file, name, values)
    return f"{name}[{place}] is {value}"


def other_type(draws: random.Random, file: h5py.File, name: str) -> str:
    """The same numbers, or none, as another type."""
    values = np.array(file[name][...])
    types = (
        "f8",
        "f2",
        ">f4",
        "i1",
        "u1",
        "<i8",
        ">i8",
        "bool",
        "c8",
        "S3",
        "O",
        "compound",
        "vlen",
        "enum",
        "ref",
        "opaque",
    )
    kind = draws.choice(types)
    del file[name]
    try:
        if kind == "O":
            file.create_dataset(name, data=np.array(["text"] * max(len(np.atleast_1d(values)), 1), dtype=object))
        elif kind == "compound":
            file.create_dataset(name, values.shape, np.dtype([("a", "f4"), ("b", "i8")]))
        elif kind == "vlen":
            file.create_dataset(name, values.shape, h5py.vlen_dtype(np.float32))
        elif kind == "enum":
            file.create_dataset(name, values.shape, h5py.enum_dtype({"A": 0, "B": 1}))
        elif kind == "ref":
            file.create_dataset(name, values.shape, h5py.ref_dtype)
        elif kind == "opaque":
            file.create_dataset(name, values.shape, np.dtype("V5"))
        else:
            with np.errstate(all="ignore"):
                file.create_dataset(name, data=values.astype(kind))
    except (TypeError, ValueError):  # numbers that this type cannot hold
        file.create_dataset(name, values.shape, "f8")
    return f"{name} is of type {kind}"


def other_shape(draws: random.Random, file: h5py.File, name: str) -> str:
    """Fewer or more values, or another number of axes."""
    values = np.array(file[name][...])
    ways: dict[str, Callable[[], Any]] = {
        "fewer": lambda: values[:-1],
        "none": lambda: values[:0],
        "more": lambda: np.concatenate([values, values[-1:]]),
        "doubled": lambda: np.concatenate([values, values]),
        "an axis more": lambda: values[None],
        "flat": lambda: values.reshape(-1),
        "a number": lambda: values.reshape(-1)[0],
        "turned": lambda: values.T,
        "last axis shorter": lambda: values[..., :-1],
        "last axis longer": lambda: np.concatenate([values, values[..., -1:]], axis=-1),
        "rows in another order": lambda: values[::-1],
        "null": lambda: h5py.Empty("f4"),
    }
    way = draws.choice(list(ways))
    made = ways[way]()
    if isinstance(made, h5py.Empty):
        del file[name]
        file[name] = made
    else:
        _rewrite(file, name, np.ascontiguousarray(made))
    return f"{name}: {way}"


def terabytes(draws: random.Random, file: h5py.File, name: str) -> str:
    """A dataset that claims more than any machine has, and stores nothing or next to nothing."""
    old = file[name]
    shape, dtype = list(old.shape) or [1], old.dtype
    axis = draws.randrange(len(shape))
    shape[axis] = draws.choice((TERABYTES, 2**31, 10**7))
    options: dict[str, Any] = draws.choice(
        ({}, {"compression": "gzip"}, {"fletcher32": True}, {"maxshape": (None,) * len(shape)})
    )
    chunks = tuple(min(side, 64) for side in shape)
    del file[name]
    try:
        made = file.create_dataset(name, tuple(shape), dtype, chunks=chunks, **options)
    except (ValueError, OverflowError, OSError):
        shape[axis] = 2**31
        made = file.create_dataset(name, tuple(shape), dtype, chunks=chunks, **options)
    if draws.random() < 0.5:
        made[(0,) * len(shape)] = np.zeros((), dtype)
    return f"{name} claims the shape {tuple(shape)} {options}"


def elsewhere(draws: random.Random, file: h5py.File, name: str) -> str:
    """A link, or a dataset whose values lie in another file or nowhere."""
    old = file[name]
    shape, dtype, folder = old.shape or (1,), old.dtype, Path(file.filename).parent
    kind = draws.choice(("soft loop", "dangling", "external", "external loop", "virtual", "raw", "group", "other"))
    others = [other for other in _names(file) if other != name]
    del file[name]
    if kind == "soft loop":
        file[name] = h5py.SoftLink(f"/{name}")
    elif kind == "dangling":
        file[name] = h5py.SoftLink("/nowhere")
    elif kind == "external":
        (folder / "other file.bin").write_bytes(b"x" * 10)
        file[name] = h5py.ExternalLink("other file.bin", "/x")
    elif kind == "external loop":
        file[name] = h5py.ExternalLink(Path(file.filename).name, f"/{name}")
    elif kind == "virtual":
        layout = h5py.VirtualLayout(shape, dtype)
        layout[...] = h5py.VirtualSource("nowhere.h5", "x", shape)
        file.create_virtual_dataset(name, layout)
    elif kind == "raw":
        file.create_dataset(name, shape, dtype, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])
    elif kind == "group":
        file.create_group(name)
    else:
        file[name] = file[draws.choice(others)] if others else h5py.SoftLink("/")
    return f"{name} is {kind}"


def missing(draws: random.Random, file: h5py.File, name: str) -> str:
    """A dataset is gone, or has another name."""
    way = draws.choice(("deleted", "renamed"))
    if way == "renamed":
        file.move(name, f"{name}_")
    else:
        del file[name]
    return f"{name} is {way}"


def attribute(draws: random.Random, file: h5py.File, name: str) -> str:
    """An attribute of the file is gone, of another type, or another text or number; JSON is changed inside."""
    key = draws.choice(sorted(file.attrs))
    value = file.attrs[key]
    if draws.random() < 0.12:
        del file.attrs[key]
        return f"the attribute {key} is deleted"
    if isinstance(value, bytes) and value[:1] in (b"{", b"[") and draws.random() < 0.6:
        changed, how = hostile_tree(draws, json.loads(value))
        return _set(file, key, np.bytes_(json.dumps(changed).encode()), f"in {key}, {how}")
    if isinstance(value, bytes) and draws.random() < 0.5:
        text = draws.choice((*TEXTS[:9], "[" * 50_000, '{"a": 1', "gz_lightning.trajectory", "gz_lightning.synthetic"))
        return _set(file, key, np.bytes_(text.encode()[:60_000] or b"\0"), f"{key} is {text!r:.40}")
    values = (
        *("text", np.bytes_(b"\xff\xfe"), np.float64("nan"), np.float64("inf"), -1, 2**62, 0.5, np.array([1, 2, 3]), True),
        *(np.zeros((3, 0)), h5py.Empty("f8"), np.array(["a", "b"], dtype=object), np.array([np.nan, 0.5, 0.5]), 99, 0),
        *(np.array([-1.0, 0.5, 2.0]), np.zeros(3), np.array([1e30] * 3), np.array([0.1, 0.1]), np.complex64(1j)),
    )
    found = draws.choice(values)
    return _set(file, key, found, f"{key} is {found!r:.60}")


def _set(file: h5py.File, key: str, value: Any, how: str) -> str:
    del file.attrs[key]
    try:
        file.attrs[key] = value
    except (OSError, RuntimeError, ValueError, TypeError):  # larger than an attribute may be, or no zero byte in it
        file.attrs[key] = -1
        return f"{key} is -1"
    return how


def more(draws: random.Random, file: h5py.File, name: str) -> str:
    """Things that nobody asked for."""
    extra = file.create_group("extra")
    for i in range(draws.choice((1, 50))):
        extra.create_dataset(f"{i}", (TERABYTES,), "u1", chunks=(64,))
        file.attrs[f"extra {i} {'x' * 100}"] = str(hostile_value(draws))[:500].replace("\0", "")
    return "more datasets and attributes"


CHANGES: tuple[Change, ...] = (
    *(one_value, one_value, one_value, other_type, other_type, other_shape, other_shape, terabytes),
    *(elsewhere, missing, attribute, attribute, attribute, more),
)


def change_hdf5(draws: random.Random, path: Path) -> str:
    """Change one thing in a file; most changes are to a dataset."""
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        return f"{path.name}: {draws.choice(CHANGES)(draws, file, draws.choice(_names(file)))}"
