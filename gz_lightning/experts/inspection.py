"""What a store of experts holds, how well they learned, and whether all of it can be read.

Shapes: E epochs, P parameters, K leaves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger

from gz_lightning.cost import counted
from gz_lightning.errors import Damaged, InputError, Unreachable
from gz_lightning.experts.expert_file import (
    FORMAT,
    FORMAT_VERSION,
    MADE_BY,
    equal_epochs,
    file_of,
    parameters_of,
    read_confusion,
    read_loss_of_precision,
    read_metrics,
    stored_rows,
)
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.figures import confusion_figure, experts_figure, save_figure
from gz_lightning.progress import say, track
from gz_lightning.storage.hdf5 import get_text, open_hdf5, read_values


def summary(store: TrajectoryStore) -> str:
    """One line on a store: how many experts, and their accuracy at the last epoch."""
    last: Any = store.metrics[store.metrics["epoch"] == store.num_epochs]["val_accuracy"] * 100
    return (
        f"{counted(len(store), 'expert')} of {counted(store.num_epochs, 'epoch')} in {store.folder}: validation accuracy "
        f"{last.mean():.1f} ± {last.std(ddof=0):.1f} % ({last.min():.1f} to {last.max():.1f})"
    )


def log_confusion(trainer: Trainer, counts: torch.Tensor, class_names: Sequence[str]) -> None:
    """Draw the confusion of a group of experts as ``confusion.png`` in the log folder, and hand it to Weights & Biases.

    Args:
        trainer: Its loggers tell where; without one nothing is drawn.
        counts: Validation galaxies after the last epoch, summed over the experts: row = leaf, column = prediction,
            shape (K, K).
        class_names: Names of the K leaves.
    """
    if not trainer.loggers or trainer.log_dir is None:
        return
    title = "validation galaxies"
    path = save_figure(confusion_figure(counts.cpu(), class_names, title), Path(trainer.log_dir) / "confusion.png")
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image("val/confusion", [str(path)])


def experts_table(store: TrajectoryStore) -> pd.DataFrame:
    """One row for each expert: accuracies after its last epoch in per cent, its best epoch, and how it is stored.

    Columns: ``expert``, ``train`` and ``val`` (accuracy, per cent), ``best`` (epoch of the best validation accuracy),
    ``MiB`` (of the file), ``precision``, ``lost`` (the largest rounding error of an epoch relative to the way it went).
    """
    rows = []
    for expert, epochs in store.metrics.groupby("expert"):
        path = file_of(store.folder, int(expert))
        with open_hdf5(path, FORMAT, FORMAT_VERSION, MADE_BY) as file:
            precision = get_text(file, "precision")
            lost = read_loss_of_precision(file)
        val = epochs["val_accuracy"]
        row = {"expert": int(expert), "train": 100 * epochs["train_accuracy"].iloc[-1], "val": 100 * val.iloc[-1]}
        row["best"] = "-" if val.isna().all() else int(epochs["epoch"].loc[val.idxmax()])
        rows.append({**row, "MiB": path.stat().st_size / 2**20, "precision": precision, "lost": lost})
    return pd.DataFrame(rows)


def info(trajectories: Path, figure: Path | None = None) -> str:
    """Tell what the experts of a folder are and how well they learned.

    Args:
        trajectories: Folder of the experts.
        figure: Draw their learning curves (mean and range) into this PNG file.

    Raises:
        InputError: If there are no experts, one is damaged, or a figure is asked of imported experts.
    """
    store = TrajectoryStore(trajectories)
    table = experts_table(store)
    size = f"{store.num_parameters:,} parameters, {table['MiB'].sum():.1f} MiB"
    lines = [
        f"{counted(len(store), 'expert')} of {counted(store.num_epochs, 'epoch')}, {size}",
        f"network: {_listed(store.recipe.network)}",
        f"training: {_listed(store.recipe.training)}",
        f"galaxies: fingerprint {store.recipe.data[:12]}",
        table.to_string(index=False, float_format="{:.4g}".format, na_rep="-"),
    ]
    if len(store) > 1 and table["val"].notna().all():
        lines.append(f"validation accuracy {table['val'].mean():.1f} ± {table['val'].std(ddof=0):.1f} %")
    if figure is not None:
        if store.metrics["val_accuracy"].isna().all():
            raise InputError(f"the experts in {trajectories} have no accuracies to draw: they were imported")
        save_figure(experts_figure(store.metrics, counted(len(store), "expert")), figure)
        say(f"learning curves in {figure}")
    return "\n".join(lines)


def _listed(values: dict[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def check(trajectories: Path) -> str:
    """Read everything, and name what is damaged.

    Args:
        trajectories: Folder of the experts.

    Raises:
        InputError: If there are no experts, or some are damaged, cannot be read now, or are not of one kind with the others.
    """
    files = sorted(trajectories.glob("expert_*.h5")) if trajectories.is_dir() else []
    if not files:
        raise InputError(f"there are no experts in {trajectories}; '{MADE_BY}' trains some")
    damaged, unread, reason = [], [], ""
    for path in track(files, "reading", len(files)):
        try:
            problem = damage(path)
        except Unreachable as error:
            unread.append(path.name)
            reason = reason or str(error)
            continue
        if problem:
            damaged.append(path.name)
            say(f"{path}: {problem}", style="red")
    parts, of = [], f"of {len(files)} experts in {trajectories}"
    if damaged:
        parts.append(
            f"{len(damaged)} {of} are damaged ({', '.join(damaged)}); delete these files and run '{MADE_BY}' again: it "
            "trains what is missing"
        )
    if unread:
        parts.append(f"{len(unread)} {of} could not be checked ({', '.join(unread)}): {reason}")
    if parts:
        raise InputError(". ".join(parts))
    store = TrajectoryStore(trajectories)
    return f"{counted(len(store), 'expert')} of {counted(store.num_epochs, 'epoch')} in {trajectories}: all whole"


def damage(path: Path) -> str:
    """What is wrong with the file of an expert, in words; empty if nothing is.

    Raises:
        Unreachable: If it cannot be read now.
    """
    try:
        with open_hdf5(path, FORMAT, FORMAT_VERSION, MADE_BY) as file:
            digest, bad, rows = hashlib.sha256(), dict[int, str](), stored_rows(file)

            def whole() -> Iterator[torch.Tensor]:
                for epoch in range(len(rows)):
                    try:
                        stored = read_values(rows, epoch)
                        digest.update(stored.data)
                        row = parameters_of(stored, epoch)
                    except Damaged as error:
                        bad[epoch] = str(error)
                    else:
                        yield row

            equal = equal_epochs(whole())
            if bad:
                return f"the parameters of epoch {', '.join(map(str, bad))} are damaged ({next(iter(bad.values()))})"
            if equal:
                return f"the parameters of epochs {equal[0]} and {equal[1]} are equal: there is no trajectory to match"
            if digest.hexdigest() != get_text(file, "fingerprint"):
                return "the parameters are not those of its fingerprint"
            read_metrics(file)
            read_confusion(file)
            read_loss_of_precision(file)
    except Unreachable:
        raise
    except InputError as error:
        return str(error)
    return ""
