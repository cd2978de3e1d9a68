"""TrajectoryStore: the parameters of every expert at every epoch.

A store is a folder with one HDF5 file per expert (:mod:`gz_lightning.experts.expert_file`). A file appears only when its
expert is finished, so several processes can add to a folder while others read it.

Shapes: E epochs, P parameters. Epoch 0 is the initialisation, so a trajectory has E + 1 rows.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from gz_lightning.cost import counted
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.experts.expert_file import (
    FORMAT,
    FORMAT_VERSION,
    MADE_BY,
    Recipe,
    describe_difference,
    file_of,
    read_confusion,
    read_metrics,
    read_rows,
    stored_rows,
)
from gz_lightning.networks.registry import build_network
from gz_lightning.storage.hdf5 import get_json, get_number, get_text, open_hdf5
from gz_lightning.storage.text import naming_file


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
