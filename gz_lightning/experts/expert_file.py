"""The file of one expert: its parameters at every epoch, how well it learned, and what made it. HDF5.

One epoch is one chunk. Parameters are kept as float32 or, at half the size, as float16 or bfloat16 (then as 16-bit integers,
for HDF5 has no bfloat16).

Shapes: E epochs, P parameters, K leaves. Epoch 0 is the initialisation, so a trajectory has E + 1 rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import torch

from gz_lightning.errors import Damaged, InputError
from gz_lightning.storage.hdf5 import (
    array,
    attribute,
    check_all,
    create_hdf5,
    dataset,
    get_text,
    has_dataset,
    read_values,
    set_text,
    write_header,
)

FORMAT = "trajectory"
FORMAT_VERSION = 2
MADE_BY = "gz-lightning fit"
METRICS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
COMPRESSIONS = ("none", "gzip")


@dataclass(frozen=True)
class Recipe:
    """What all experts of a store have in common.

    Args:
        network: Description of the network, see :func:`gz_lightning.networks.registry.build_network`.
        data: Fingerprint of the packed galaxies.
        training: The training settings that shape a trajectory.
    """

    network: dict[str, Any]
    data: str
    training: dict[str, Any]

    def steps_per_epoch(self, galaxies: int) -> int | None:
        """Steps of an expert in an epoch of so many training galaxies; None if they are not known, as of imported ones."""
        batch_size, rotations = (self.training.get(name) for name in ("batch_size", "rotations"))
        if not (isinstance(batch_size, int) and isinstance(rotations, int) and batch_size > 0 and rotations > 0):
            return None
        return -(-galaxies * rotations // batch_size)


def file_of(folder: Path, expert: int) -> Path:
    """The file of an expert."""
    return folder / f"expert_{expert:04d}.h5"


def check_storage(precision: str, compression: str) -> None:
    """Raise an InputError unless there are such a precision and compression."""
    if precision not in PRECISIONS or compression not in COMPRESSIONS:
        raise InputError(
            f"precision is one of {', '.join(PRECISIONS)} and compression one of {', '.join(COMPRESSIONS)}; "
            f"found precision '{precision}', compression '{compression}'"
        )


def write_expert(
    folder: str | Path,
    expert: int,
    parameters: torch.Tensor,
    metrics: Mapping[str, list[float]],
    recipe: Recipe,
    precision: str = "float32",
    compression: str = "none",
    confusion: torch.Tensor | None = None,
) -> None:
    """Write one expert.

    Args:
        folder: The store.
        expert: Number of the expert, from 0.
        parameters: theta*_0 .. theta*_E, shape (E + 1, P).
        metrics: For each of ``METRICS`` E numbers, one for the end of each epoch; NaN where it was not measured.
        recipe: What made it.
        precision: ``float32``, ``float16`` or ``bfloat16``. Of the latter two the loss is kept beside the parameters.
        compression: ``none`` or ``gzip``, which takes off some tenths of parameters at 16 bits and little at 32.
        confusion: Counts of the validation galaxies after the last epoch, row = leaf, column = prediction, shape (K, K).

    Raises:
        InputError: If precision or compression is unknown, or parameters are too large for float16.
    """
    check_storage(precision, compression)
    exact = parameters.detach().cpu()
    kept = rounded(exact, precision, expert)
    rows = _stored(kept)
    packing = {"compression": "gzip", "shuffle": True} if compression == "gzip" else {}
    with create_hdf5(file_of(Path(folder), expert)) as file:
        # One chunk per epoch; the checksum finds damage when it is read.
        file.create_dataset("parameters", data=rows, chunks=(1, rows.shape[1]), fletcher32=True, **packing)
        for name in METRICS:
            file.create_dataset(f"metrics/{name}", data=metrics[name], dtype="f8", fletcher32=True)
        if confusion is not None:
            file.create_dataset("confusion", data=confusion.cpu().numpy(), dtype="i8", fletcher32=True)
        file.attrs["expert"] = expert
        set_text(file, "precision", precision)
        file.attrs["loss_of_precision"] = loss_of_precision(exact, kept)
        set_text(file, "network", json.dumps(recipe.network, sort_keys=True))
        set_text(file, "data", recipe.data)
        write_header(file, FORMAT, FORMAT_VERSION, recipe.training, fingerprint_of(kept))


def rounded(parameters: torch.Tensor, precision: str, expert: int) -> torch.Tensor:
    """Parameters of an expert as they will be stored, in any shape.

    Raises:
        InputError: If they are too large for the precision.
    """
    kept = parameters.to(PRECISIONS[precision]).contiguous()
    if not torch.isfinite(kept).all() and torch.isfinite(parameters).all():
        largest = float(parameters.abs().max())
        raise InputError(f"parameters of expert {expert} reach {largest:.3g}, too large for {precision}")
    return kept


def _stored(kept: torch.Tensor) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = (kept.view(torch.int16) if kept.dtype == torch.bfloat16 else kept).numpy()
    return values


def fingerprint_of(kept: torch.Tensor) -> str:
    """The fingerprint in the header of an expert with these :func:`rounded` parameters."""
    return hashlib.sha256(_stored(kept).tobytes()).hexdigest()


def equal_epochs(rows: Iterable[torch.Tensor]) -> tuple[int, int] | None:
    """The first two epochs that have the same parameters, if any: where a trajectory comes back, nothing can be matched.

    Args:
        rows: Parameters of the epochs, each of shape (P,).

    Example:
        >>> equal_epochs(torch.tensor([[0.0, 1.0], [2.0, 3.0], [-0.0, 1.0]]))
        (0, 2)
    """
    seen: dict[bytes, int] = {}
    for epoch, row in enumerate(rows):
        first = seen.setdefault(hashlib.sha256(_stored(row + 0).data).digest(), epoch)  # + 0 makes 0 of -0
        if first != epoch:
            return first, epoch
    return None


def loss_of_precision(exact: torch.Tensor, kept: torch.Tensor) -> float:
    """What rounding does to the steps that students match.

    Args:
        exact: theta*_0 .. theta*_E, shape (E + 1, P).
        kept: The same, rounded.

    Returns:
        The largest |rounding error of theta*_s| / |theta*_s - theta*_(s-1)| over s; 0 where nothing was rounded.
    """
    error = (kept.double() - exact.double()).norm(dim=1)[1:]
    way = exact.double().diff(dim=0).norm(dim=1)
    return float((error / way.clamp(min=torch.finfo(torch.float64).tiny)).max()) if error.any() else 0.0


def stored_rows(file: h5py.File) -> h5py.Dataset:
    """The parameters of an open file as they are stored, shape (E + 1, P).

    Raises:
        Damaged: If there are none, or not of the type and shape that they should have.
    """
    precision = get_text(file, "precision")
    if precision not in PRECISIONS:
        raise Damaged(f"its precision is {precision:.40}; it can be {', '.join(PRECISIONS)}")
    rows = dataset(file, "parameters", "i" if precision == "bfloat16" else "f", (None, None))
    size = torch.finfo(PRECISIONS[precision]).bits // 8
    if rows.shape[0] < 2 or not rows.shape[1] or rows.dtype.itemsize != size:
        raise Damaged(f"parameters has the shape {rows.shape} and the type {rows.dtype}; it should hold {precision}")
    return rows


def read_rows(file: h5py.File, epoch: int | None = None) -> torch.Tensor:
    """Parameters of an open file as float32: of one epoch, shape (P,), or of all, shape (E + 1, P).

    Raises:
        Damaged: As :func:`stored_rows`; if they are not those of their checksum, or one is not finite, with its epoch.
    """
    return parameters_of(read_values(stored_rows(file), ... if epoch is None else epoch), epoch)


def parameters_of(stored: npt.NDArray[Any], epoch: int | None = None) -> torch.Tensor:
    """Stored parameters as float32: of one epoch, shape (P,), or of all, shape (E + 1, P).

    Raises:
        Damaged: If one is not finite, with its epoch.
    """
    rows = torch.from_numpy(stored)
    rows = rows.view(torch.bfloat16).float() if stored.dtype.kind == "i" else rows.float()
    good = torch.isfinite(rows).all(-1)
    if not good.all():
        bad = [epoch] if epoch is not None else torch.nonzero(~good).flatten().tolist()
        raise Damaged(f"the parameters of epoch {', '.join(map(str, bad))} are not finite")
    return rows


def read_metrics(file: h5py.File) -> dict[str, npt.NDArray[np.float64]]:
    """``METRICS`` of an open file, each of shape (E,); NaN where they were not measured.

    Raises:
        Damaged: If one is missing, not one number for each epoch, or an accuracy not in [0, 1].
    """
    epochs = stored_rows(file).shape[0] - 1
    metrics = {name: array(file, f"metrics/{name}", "f", (epochs,), finite=False) for name in METRICS}
    for name in METRICS:
        if name.endswith("accuracy"):
            good = np.isnan(metrics[name]) | ((metrics[name] >= 0) & (metrics[name] <= 1))
            check_all(good, metrics[name], name, "an accuracy in [0, 1]", "epoch (from 0)")
    return metrics


def read_confusion(file: h5py.File) -> npt.NDArray[np.int64] | None:
    """Counts of an open file, shape (K, K), if it has any.

    Raises:
        Damaged: If they are not whole numbers of at least 0, as many of each leaf.
    """
    if not has_dataset(file, "confusion"):
        return None
    counts = array(file, "confusion", "iu", (None, None))
    if counts.shape[0] != counts.shape[1]:
        raise Damaged(f"confusion has the shape {counts.shape}; it should have a row and a column for each leaf")
    check_all(counts >= 0, counts, "confusion", "a number of galaxies")
    return counts.astype(np.int64)


def read_loss_of_precision(file: h5py.File) -> float:
    """See :func:`loss_of_precision`.

    Raises:
        Damaged: If it is no number.
    """
    value = attribute(file, "loss_of_precision")
    if not isinstance(value, (np.floating, np.integer)) or not value >= 0:
        raise Damaged(f"loss_of_precision is {value!r:.40}")
    return float(value)


def describe_difference(stored: Recipe, expected: Recipe) -> str:
    """In words, what two recipes do not agree on."""
    if stored.data != expected.data:
        return f"its galaxies are others (fingerprint {stored.data[:12]} instead of {expected.data[:12]})"
    for what, here, there in (
        ("network", stored.network, expected.network),
        ("training", stored.training, expected.training),
    ):
        names = [name for name in sorted({*here, *there}) if here.get(name) != there.get(name)]
        if names:
            return f"its {what} has " + ", ".join(f"{n} {here.get(n)} instead of {there.get(n)}" for n in names)
    return "its number of epochs or parameters differs"
