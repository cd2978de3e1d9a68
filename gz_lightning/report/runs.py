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
from gz_lightning.sets.sources import FIRST, unfinished
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.settings import AnyPath
from gz_lightning.storage.text import read_text, read_yaml
from gz_lightning.training.protocol import symmetric_copies

T = TypeVar("T")
MOST_LOGGED = 2**28
"""Bytes of a log at most; one of 10,000 iterations has 2 MB."""
MOST_STEPS = 10**12


@dataclass(frozen=True)
class Run:
    """A run of ``gz-lightning distill`` with its galaxies, experts and evaluation.

    Args:
        name: Name of the folder.
        folder: The run folder.
        synthetic: The set that the evaluation scored, in the first row of its table; without one, that of highest validation
            accuracy.
        file: Name of its file.
        metrics: What was logged, one row per logged iteration; the column ``step`` is the iteration.
        settings: The configuration of the last start; empty if there is none.
        evaluation: The record of ``gz-lightning evaluate``; None if there is none.
        galaxies: The galaxies it was distilled from; None if their file is missing.
        experts: The experts it matched; None if they are missing.
        first: The set before the first iteration; None if the run kept none.
        moments: Iterations and pictures of the images at them, in order.
        remarks: What is missing, and how to add it.
    """

    name: str
    folder: Path
    synthetic: SyntheticSet
    file: str
    metrics: pd.DataFrame
    settings: dict[str, Any]
    evaluation: Evaluation | None
    galaxies: Galaxies | None
    experts: TrajectoryStore | None
    first: SyntheticSet | None
    moments: tuple[tuple[int, Path], ...]
    remarks: tuple[str, ...]


def read_run(folder: Path, data: AnyPath | None = None, experts: AnyPath | None = None) -> Run:
    """Read a run folder.

    Args:
        folder: The run folder.
        data: The packed galaxies, or Galaxies. Default: those that the run's configuration names.
        experts: The folder of experts. Default: the one that the set's configuration names.

    Raises:
        InputError: If it is no run folder, a file in it is damaged, or galaxies or experts do not belong to it.
    """
    if not (folder / "best.h5").is_file():
        raise InputError(f"{folder} is no run folder of 'gz-lightning distill': there is no best.h5 in it")
    settings = _settings(folder)
    remarks: list[str] = []
    evaluation, file, synthetic = _scored(folder, remarks)
    if state := unfinished(folder):
        remarks.append(state)
    data_settings = settings.get("data")
    configured = data_settings.get("path") if isinstance(data_settings, dict) else None
    what = "real galaxies beside the images, and what networks see in them (name their place with --data)"
    galaxies = _optional(lambda path: _galaxies(path, synthetic, file), data, configured, what, remarks)
    if galaxies is not None and galaxies.fingerprint != synthetic.data:
        remarks.append("The real galaxies are others than those of the distillation")
    configured = synthetic.configuration.get("trajectories")
    what = "the experts' learning curves (name their place with --experts)"
    store = _optional(lambda path: _experts(path, synthetic, galaxies), experts, configured, what, remarks)
    first = _first(folder, synthetic, remarks)
    return Run(
        folder.resolve().name, folder, synthetic, file, _metrics(folder), settings, evaluation, galaxies, store,
        first, _moments(folder), tuple(remarks),
    )  # fmt: skip


def _first(folder: Path, synthetic: SyntheticSet, remarks: list[str]) -> SyntheticSet | None:
    """The images that the distillation began with."""
    if not (folder / FIRST).is_file():
        remarks.append(f"Without the first images and the difference from them: there is no {FIRST} in {folder.name}")
        return None
    first = SyntheticSet.load(folder / FIRST)
    if first.images.shape != synthetic.images.shape or not torch.equal(first.mean, synthetic.mean):
        remarks.append(f"Without the first images and the difference from them: {FIRST} is of another run")
        return None
    return first


def _moments(folder: Path) -> tuple[tuple[int, Path], ...]:
    """Iterations and pictures of the images at them."""
    files = [path for path in folder.glob("pictures/iteration_*.png") if path.is_file()]
    numbers = [(path.stem.removeprefix("iteration_"), path) for path in files]
    return tuple(sorted((int(number), path) for number, path in numbers if number.isascii() and number.isdecimal()))


def _scored(folder: Path, remarks: list[str]) -> tuple[Evaluation | None, str, SyntheticSet]:
    """The evaluation, and name and content of the set that it scored; without an evaluation of this run, best.h5."""
    record, best = folder / "evaluation" / RECORD, "best.h5"
    if not record.is_file():
        remarks.append(f"Not evaluated yet: gz-lightning evaluate --synthetic {folder.name}/{best} --data PACKED_FILE")
        return None, best, SyntheticSet.load(folder / best)
    evaluation = read_evaluation(record)
    digests: dict[str, Any] = evaluation.settings.get("sets", {})
    read = {}
    for file in dict.fromkeys(evaluation.distilled.values()):
        if Path(file).name != file or Path(file).suffix != ".h5" or not (folder / file).is_file():
            problem = f"it scored {file}, which is no set of this run"
        else:
            read[file] = SyntheticSet.load(folder / file)
            problem = "" if read[file].digest == digests.get(file) else f"{file} has changed since"
        if problem:
            remarks.append(f"Without the evaluation in {folder.name}/evaluation, as {problem}: evaluate again")
            return None, best, SyntheticSet.load(folder / best)
    if not read:
        raise InputError(f"{record} is damaged: it has no row of a distilled set; 'gz-lightning evaluate' makes a new one")
    remarks += [f"Evaluation: {remark}" for remark in evaluation.remarks]
    file, synthetic = next(iter(read.items()))
    if tuple(evaluation.confusion.index) != synthetic.class_names:
        raise InputError(f"{record} is damaged: its leaves are not those of {file}; 'gz-lightning evaluate' makes a new one")
    return evaluation, file, synthetic


def _optional(
    read: Callable[[AnyPath], T], path: AnyPath | None, configured: Any, what: str, remarks: list[str]
) -> T | None:
    """Read what the user named, or else what the run was made with; if the latter fails, a remark says why."""
    if path is not None:
        return read(path)
    try:
        if isinstance(configured, str):
            return read(configured)
        reason = "the run does not say where they are"
    except InputError as error:
        reason = str(error)
    remarks.append(f"Without {what}: {reason}")
    return None


def _galaxies(data: AnyPath, synthetic: SyntheticSet, file: str) -> Galaxies:
    galaxies = data if isinstance(data, Galaxies) else Galaxies(data)
    return synthetic.standardised(galaxies, file)


def _experts(path: AnyPath, synthetic: SyntheticSet, galaxies: Galaxies | None) -> TrajectoryStore:
    if galaxies is not None and galaxies.fingerprint == synthetic.data:
        store = matching_experts(str(path), galaxies, {})
    else:
        store = TrajectoryStore(Path(path))
    if store.recipe.data != synthetic.data:
        raise InputError(f"the experts in {path} were trained on other galaxies than those of the run")
    return store


def _settings(folder: Path) -> dict[str, Any]:
    """The configuration of the last start."""
    files = sorted(folder.glob("logs/version_*/config.yaml"), key=_version)
    if not files:
        return {}
    try:
        settings = read_yaml(files[-1])
    except InputError as error:
        raise InputError(f"{error}; delete it to do without") from error
    return settings if isinstance(settings, dict) else {}


def _version(path: Path) -> int:
    number = path.parent.name.removeprefix("version_")
    return int(number) if number.isascii() and number.isdecimal() else -1


def _metrics(folder: Path) -> pd.DataFrame:
    """The logged rows of all starts by iteration; where two starts logged the same one, the later start counts."""
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
    """The numbers of a log, empty for a start that was refused before it logged any.

    Those that are not finite in single precision, which metrics have, are NaN.

    Raises:
        Damaged: If a cell is not a number, or a step is negative.
    """
    try:
        table = pd.read_csv(io.StringIO(text), low_memory=False).apply(pd.to_numeric).astype("float64")
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except ValueError as error:  # pandas' own errors are ValueErrors
        raise Damaged(" ".join(str(error).split())) from error
    numbers = table.where(table.abs() <= np.finfo(np.float32).max)  # an axis has no room beyond 1e308, nor NaN
    if "step" in numbers and not numbers["step"].between(0, MOST_STEPS).all():
        raise Damaged("a step is not a number >= 0")
    return numbers


def nearest_galaxies(images: torch.Tensor, galaxies: Galaxies) -> torch.Tensor:
    """Places of the training galaxies nearest to M images, by distance of standardised pixels.

    Galaxies have no up: the distance is the smallest over the eight rotations and reflections of an image.

    Args:
        images: Standardised pixels, shape (M, 3, H, W).
        galaxies: Gives the training galaxies.

    Returns:
        int64, shape (M,).
    """
    real = galaxies.standardise(galaxies.train.images).flatten(1)
    turned, _ = symmetric_copies(images, torch.arange(len(images)))
    distance = torch.cdist(turned.flatten(1), real).view(8, len(images), -1).amin(0)
    return distance.argmin(1)
