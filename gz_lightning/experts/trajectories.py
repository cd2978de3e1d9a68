"""TrajectoryStore: the parameters of every expert at every epoch.

A store is a folder with one HDF5 file per expert. A file appears only when its expert is finished, so several processes can
add to a folder while others read it; one (expert, epoch) is one chunk of one file. Parameters are kept as float32
or, at half the size, as float16 or bfloat16 (then as 16-bit integers, for HDF5 has no bfloat16).

Shapes: E epochs, P parameters. Epoch 0 is the initialisation, so a trajectory has E + 1 rows.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from gz_lightning.cost import counted
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import Damaged, InputError
from gz_lightning.networks.registry import build_network
from gz_lightning.storage.hdf5 import (
    array,
    attribute,
    check_all,
    create_hdf5,
    dataset,
    get_json,
    get_number,
    get_text,
    has_dataset,
    open_hdf5,
    read_values,
    set_text,
    write_header,
)
from gz_lightning.storage.text import naming_file

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


class TrajectoryStore:
    """The experts in a folder.

    Args:
        folder: A folder that ``gz-lightning fit`` has written into.

    Raises:
        InputError: If there is no expert in it, a file is none, or the files are not of one recipe and length.

    Example:
        >>> store = TrajectoryStore("experts")  # doctest: +SKIP
        >>> start, target = store.parameters(0, epoch=3), store.parameters(0, epoch=4)  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        files = sorted(self.folder.glob("expert_*.h5")) if self.folder.is_dir() else []
        if not files:
            raise InputError(f"there are no experts in {self.folder}; '{MADE_BY}' trains some")
        self.experts: list[int] = []
        self.fingerprints: list[str] = []
        for path in files:
            with self._open(path) as file:
                shape = stored_rows(file).shape
                network, training = (get_json(file, name, dict) for name in ("network", "configuration"))
                recipe = Recipe(network, get_text(file, "data"), training)
                expert = get_number(file, "expert")
                self.fingerprints.append(get_text(file, "fingerprint"))
            if path != file_of(self.folder, expert):
                raise InputError(
                    f"{path} holds expert {expert}, whose file is {file_of(self.folder, expert).name}; rename or remove it"
                )
            self.experts.append(expert)
            if path == files[0]:
                self.recipe, first_shape = recipe, shape
            if recipe != self.recipe or shape != first_shape:
                raise InputError(
                    f"{path} is not of one kind with {files[0]}: {describe_difference(recipe, self.recipe)}; "
                    "keep experts of different settings in different folders"
                )
        self.num_epochs: int = first_shape[0] - 1
        self.num_parameters: int = first_shape[1]
        self.fingerprint = hashlib.sha256("".join(self.fingerprints).encode()).hexdigest()

    @staticmethod
    def _open(path: Path) -> Any:
        return open_hdf5(path, FORMAT, FORMAT_VERSION, MADE_BY)

    def __len__(self) -> int:
        return len(self.experts)

    def network(self) -> nn.Module:
        """The network of the experts, freshly initialised.

        Raises:
            InputError: If there is no such network, or it has not as many parameters as the experts.
        """
        with naming_file(self.folder):
            return build_network(self.recipe.network, parameters=self.num_parameters)

    def require(self, expert: int, epoch: float) -> None:
        """Raise an InputError unless there is such an expert and its trajectory goes so far."""
        if expert not in self.experts or not 0 <= epoch <= self.num_epochs:
            raise InputError(
                f"{self.folder} has no expert {expert} at epoch {epoch:g}: it has {counted(len(self), 'expert')} "
                f"and the epochs 0 to {self.num_epochs}"
            )

    def parameters(self, expert: int, epoch: int) -> torch.Tensor:
        """theta*_epoch of an expert, shape (P,); epoch 0 is its initialisation.

        Raises:
            InputError: If there is no such expert or epoch, or its record is damaged.
        """
        self.require(expert, epoch)
        with self._open(file_of(self.folder, expert)) as file:
            return read_rows(file, epoch)

    def trajectory(self, expert: int) -> torch.Tensor:
        """theta*_0 .. theta*_E of an expert, shape (E + 1, P).

        Raises:
            InputError: If there is no such expert or its file is damaged.
        """
        if expert not in self.experts:
            raise InputError(f"{self.folder} has no expert {expert}; it has {', '.join(map(str, self.experts))}")
        with self._open(file_of(self.folder, expert)) as file:
            return read_rows(file)

    def confusion(self, expert: int) -> torch.Tensor | None:
        """Counts of the validation galaxies after the last epoch, row = leaf, column = prediction, shape (K, K), if kept."""
        with self._open(file_of(self.folder, expert)) as file:
            counts = read_confusion(file)
        return None if counts is None else torch.from_numpy(counts)

    @functools.cached_property
    def metrics(self) -> pd.DataFrame:
        """One row per expert and epoch 1..E: ``expert``, ``epoch`` and ``METRICS``."""
        tables = []
        for expert in self.experts:
            with self._open(file_of(self.folder, expert)) as file:
                columns = read_metrics(file)
            tables.append(pd.DataFrame({"expert": expert, "epoch": range(1, self.num_epochs + 1), **columns}))
        return pd.concat(tables, ignore_index=True)

    def __repr__(self) -> str:
        return (
            f"TrajectoryStore({self.folder}: {counted(len(self), 'expert')} of {counted(self.num_epochs, 'epoch')}, "
            f"{self.num_parameters:,} parameters, {self.recipe.network})"
        )


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


def whole_experts(folder: Path, recipe: Recipe) -> list[int]:
    """Numbers of the experts that a folder holds already.

    Raises:
        InputError: If they are not of this recipe.
    """
    if not folder.is_dir() or not any(folder.glob("expert_*.h5")):
        return []
    store = TrajectoryStore(folder)
    if store.recipe != recipe:
        raise InputError(
            f"{folder} holds experts of another kind: {describe_difference(store.recipe, recipe)}; "
            "name another --model.trajectories"
        )
    return store.experts


def last_parameters(folder: Path, recipe: Recipe) -> torch.Tensor:
    """The experts of a folder after their last epoch, shape (number of experts, P).

    Raises:
        InputError: If they are of another network or of other galaxies than a recipe.
    """
    store = TrajectoryStore(folder)
    if (store.recipe.network, store.recipe.data) != (recipe.network, recipe.data):
        raise InputError(f"{folder} holds experts of another kind: {describe_difference(store.recipe, recipe)}")
    return torch.stack([store.parameters(expert, store.num_epochs) for expert in store.experts])


def matching_experts(folder: str, galaxies: Galaxies, network: Mapping[str, Any]) -> TrajectoryStore:
    """The experts in ``folder``, after a check that they are of these galaxies and of this network.

    Args:
        folder: The TrajectoryStore.
        galaxies: The galaxies to distil.
        network: What the network must be; None stands for whatever it is.

    Raises:
        InputError: If they are of other galaxies or of another network.
    """
    store = TrajectoryStore(folder)
    if store.recipe.data != galaxies.fingerprint:
        raise InputError(
            f"the experts in {store.folder} were trained on other galaxies (fingerprint {store.recipe.data[:12]}) than "
            f"those of {galaxies.path} ({galaxies.fingerprint[:12]}); name the packed file they were trained on"
        )
    theirs = store.recipe.network
    wrong = [f"{n} {theirs.get(n)} instead of {v}" for n, v in network.items() if v is not None and theirs.get(n) != v]
    if wrong:
        raise InputError(f"the experts in {store.folder} are another network: {', '.join(wrong)}")
    return store
