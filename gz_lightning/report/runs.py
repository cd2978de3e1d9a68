"""What a run folder holds, read for the report.

Shapes: M images, N training galaxies, K leaves, H x W pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import Damaged, InputError
from gz_lightning.evaluation.record import RECORD, Evaluation, read_evaluation
from gz_lightning.experts.trajectories import TrajectoryStore, matching_experts
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.storage.text import read_text, read_yaml
from gz_lightning.training.protocol import symmetric_copies

T = TypeVar("T")
MOST_LOGGED = 2**28
"""Bytes of a log at most; one of 10,000 iterations has 2 MB."""
MOST_STEPS = 10**12


@dataclass(frozen=True)
class Run:
    """A run of ``gz-lightning distill`` and what belongs to it.

    Args:
        name: Its folder's name; with the folder above where several runs share it.
        folder: The run folder.
        synthetic: The set of highest validation accuracy.
        metrics: What was logged, one row per logged iteration, the column ``step`` being the iteration.
        settings: The configuration it was started with.
        evaluation: The record of ``gz-lightning evaluate``, if there is one.
        galaxies: The galaxies it was distilled from, if their file is there.
        experts: The experts it matched, if they are there.
        remarks: What is missing, and how it could be shown.
    """

    name: str
    folder: Path
    synthetic: SyntheticSet
    metrics: pd.DataFrame
    settings: dict[str, Any]
    evaluation: Evaluation | None
    galaxies: Galaxies | None
    experts: TrajectoryStore | None
    remarks: tuple[str, ...]


def read_run(folder: Path, data: Path | None = None, experts: Path | None = None) -> Run:
    """Read a run folder.

    Args:
        folder: The run folder.
        data: The packed galaxies. Default: those that the run's configuration names.
        experts: The folder of experts. Default: likewise.

    Raises:
        InputError: If it is no run folder, a file in it is damaged, or what is named does not belong to it.
    """
    if not (folder / "best.h5").is_file():
        raise InputError(f"{folder} is no run folder of 'gz-lightning distill': there is no best.h5 in it")
    synthetic = SyntheticSet.load(folder / "best.h5")
    settings = _settings(folder)
    remarks: list[str] = []
    of_data = settings.get("data")
    configured = of_data.get("path") if isinstance(of_data, dict) else None
    galaxies = _optional(
        lambda path: _galaxies(path, synthetic), data, configured, "class means and nearest galaxies", "--data", remarks
    )
    trajectories = synthetic.configuration.get("trajectories")
    store = _optional(
        lambda path: _experts(path, synthetic, galaxies), experts, trajectories, "the experts' learning curves", "--experts",
        remarks,
    )  # fmt: skip
    record = folder / "evaluation" / RECORD
    if not record.is_file():
        remarks.append(f"Not evaluated yet: gz-lightning evaluate --synthetic {folder.name}/best.h5 --data PACKED_FILE")
    evaluation = read_evaluation(record) if record.is_file() else None
    return Run(
        folder.resolve().name, folder, synthetic, _metrics(folder), settings, evaluation, galaxies, store, tuple(remarks)
    )


def _optional(
    read: Callable[[Path], T], named: Path | None, configured: Any, what: str, flag: str, remarks: list[str]
) -> T | None:
    """What is named must be there; what the run was once made with may be gone."""
    if named is not None:
        return read(named)
    try:
        if isinstance(configured, str):
            return read(Path(configured))
        reason = "the run does not say where they are"
    except InputError as error:
        reason = str(error)
    remarks.append(f"Without {what} (name their place with {flag}): {reason}")
    return None


def _galaxies(path: Path, synthetic: SyntheticSet) -> Galaxies:
    galaxies = Galaxies(path)
    synthetic.check_fits(galaxies, "best.h5")
    return galaxies


def _experts(path: Path, synthetic: SyntheticSet, galaxies: Galaxies | None) -> TrajectoryStore:
    store = TrajectoryStore(path) if galaxies is None else matching_experts(str(path), galaxies, {})
    if store.recipe.data != synthetic.data:
        raise InputError(f"the experts in {path} were trained on other galaxies than those of the run")
    return store


def _settings(folder: Path) -> dict[str, Any]:
    """The configuration of the last start."""
    files = sorted(folder.glob("logs/version_*/config.yaml"), key=_version)
    if not files:
        return {}
    try:
        found = read_yaml(files[-1])
    except InputError as error:
        raise InputError(f"{error}; delete it to do without") from error
    return found if isinstance(found, dict) else {}


def _version(path: Path) -> int:
    number = path.parent.name.removeprefix("version_")
    return int(number) if number.isascii() and number.isdecimal() else -1


def _metrics(folder: Path) -> pd.DataFrame:
    """All logged rows of all starts, in the order of iterations; of one logged twice the later start's counts."""
    tables = []
    for file in sorted(folder.glob("logs/version_*/metrics.csv"), key=_version):
        try:
            tables.append(_numbers(read_text(file, MOST_LOGGED)))
        except (InputError, Damaged) as error:
            raise InputError(f"{file} cannot be read as a table ({error}); delete it to do without") from error
    tables = [table for table in tables if "step" in table.columns]
    if not tables:
        return pd.DataFrame({"step": []})
    return pd.concat(tables, ignore_index=True).groupby("step", as_index=False).last()


def _numbers(text: str) -> pd.DataFrame:
    """The numbers of a log; NaN for those that are not finite. Empty for a start that was refused before it logged any.

    Raises:
        Damaged: If a cell is not a number, or a step is negative.
    """
    try:
        table = pd.read_csv(io.StringIO(text), low_memory=False).apply(pd.to_numeric).astype("float64")
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except ValueError as error:  # pandas' own errors are ValueErrors
        raise Damaged(" ".join(str(error).split())) from error
    numbers = table.replace([np.inf, -np.inf], np.nan)
    if "step" in numbers and not numbers["step"].between(0, MOST_STEPS).all():
        raise Damaged("a step is not a number >= 0")
    return numbers


def nearest_galaxies(images: torch.Tensor, galaxies: Galaxies) -> torch.Tensor:
    """Places of the training galaxies nearest to M images, by distance of standardised pixels.

    Each image is compared as it lies and in its eight rotations and reflections, for galaxies have no up.

    Args:
        images: Standardised pixels, shape (M, 3, H, W).
        galaxies: Gives the training galaxies.

    Returns:
        int64, shape (M,).
    """
    known = galaxies.standardise(galaxies.train.images).flatten(1)
    turned, _ = symmetric_copies(images, torch.arange(len(images)))
    distance = torch.cdist(turned.flatten(1), known).view(8, len(images), -1).amin(0)
    return distance.argmin(1)
