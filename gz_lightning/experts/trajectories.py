"""TrajectoryStore: the parameters of every expert at every epoch.

A store is a folder with one HDF5 file per expert. A file appears only when its expert is whole, so a folder can be added
to by several processes and read at any moment; one (expert, epoch) is one chunk of one file.

Shapes: E epochs, P parameters. Epoch 0 is the initialisation, so a trajectory has E + 1 rows.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gz_lightning.errors import InputError
from gz_lightning.files import create_hdf5, get_text, open_checked, set_text, write_header

FORMAT = "trajectory"
FORMAT_VERSION = 1
MADE_BY = "gz-lightning fit"
METRICS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")


@dataclass(frozen=True)
class Recipe:
    """What all experts of a store have in common.

    Args:
        network: Description of the network, see :func:`gz_lightning.networks.build_network`.
        data: Fingerprint of the packed galaxies.
        training: The training settings that shape a trajectory.
    """

    network: dict[str, Any]
    data: str
    training: dict[str, Any]


def _file_of(folder: Path, expert: int) -> Path:
    return folder / f"expert_{expert:04d}.h5"


def write_expert(
    folder: str | Path, expert: int, parameters: torch.Tensor, metrics: Mapping[str, list[float]], recipe: Recipe
) -> None:
    """Write one whole expert.

    Args:
        folder: The store.
        expert: Number of the expert, from 0.
        parameters: theta*_0 .. theta*_E, shape (E + 1, P).
        metrics: For each of ``METRICS`` E numbers, one for each epoch's end.
        recipe: What made it.
    """
    rows = parameters.detach().cpu().contiguous().numpy()
    with create_hdf5(_file_of(Path(folder), expert)) as file:
        # One chunk per epoch; the checksum finds damage when it is read.
        file.create_dataset("parameters", data=rows, chunks=(1, rows.shape[1]), fletcher32=True)
        for name in METRICS:
            file.create_dataset(f"metrics/{name}", data=metrics[name], dtype="f8", fletcher32=True)
        file.attrs["expert"] = expert
        set_text(file, "network", json.dumps(recipe.network, sort_keys=True))
        set_text(file, "data", recipe.data)
        write_header(file, FORMAT, FORMAT_VERSION, recipe.training, hashlib.sha256(rows.tobytes()).hexdigest())


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
        fingerprints = []
        for path in files:
            with self._open(path) as file:
                shape = file["parameters"].shape
                recipe = Recipe(
                    json.loads(get_text(file, "network")),
                    get_text(file, "data"),
                    json.loads(get_text(file, "configuration")),
                )
                self.experts.append(int(file.attrs["expert"]))
                fingerprints.append(get_text(file, "fingerprint"))
            if path == files[0]:
                self.recipe, first_shape = recipe, shape
            if recipe != self.recipe or shape != first_shape:
                raise InputError(
                    f"{path} is not of one kind with {files[0]}: {describe_difference(recipe, self.recipe)}; "
                    "keep experts of different settings in different folders"
                )
        self.num_epochs, self.num_parameters = first_shape[0] - 1, first_shape[1]
        self.fingerprint = hashlib.sha256("".join(fingerprints).encode()).hexdigest()

    @staticmethod
    def _open(path: Path) -> Any:
        return open_checked(path, FORMAT, FORMAT_VERSION, MADE_BY)

    def __len__(self) -> int:
        return len(self.experts)

    def parameters(self, expert: int, epoch: int) -> torch.Tensor:
        """theta*_epoch of an expert, shape (P,); epoch 0 is its initialisation.

        Raises:
            InputError: If there is no such expert or epoch, or its record is damaged.
        """
        if expert not in self.experts or not 0 <= epoch <= self.num_epochs:
            raise InputError(
                f"{self.folder} has no expert {expert} at epoch {epoch}: it has {len(self)} experts "
                f"and the epochs 0 to {self.num_epochs}"
            )
        with self._open(_file_of(self.folder, expert)) as file:
            return torch.from_numpy(file["parameters"][epoch])

    @functools.cached_property
    def metrics(self) -> pd.DataFrame:
        """One row per expert and epoch 1..E: ``expert``, ``epoch`` and ``METRICS``."""
        tables = []
        for expert in self.experts:
            with self._open(_file_of(self.folder, expert)) as file:
                columns = {name: file[f"metrics/{name}"][...] for name in METRICS}
            tables.append(pd.DataFrame({"expert": expert, "epoch": range(1, self.num_epochs + 1), **columns}))
        return pd.concat(tables, ignore_index=True)

    def __repr__(self) -> str:
        return (
            f"TrajectoryStore({self.folder}: {len(self)} experts of {self.num_epochs} epochs, "
            f"{self.num_parameters:,} parameters, {self.recipe.network})"
        )


def describe_difference(found: Recipe, wanted: Recipe) -> str:
    """In words, what two recipes do not agree on."""
    if found.data != wanted.data:
        return f"its galaxies are others (fingerprint {found.data[:12]} instead of {wanted.data[:12]})"
    for what, here, there in (
        ("network", found.network, wanted.network),
        ("training", found.training, wanted.training),
    ):
        names = [name for name in sorted({*here, *there}) if here.get(name) != there.get(name)]
        if names:
            return f"its {what} has " + ", ".join(f"{n} {here.get(n)} instead of {there.get(n)}" for n in names)
    return "its number of epochs or parameters differs"
