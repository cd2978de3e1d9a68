"""The course of a distillation as a picture: matching loss, probe loss, step size and stage over the iterations."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from matplotlib.figure import Figure

from gz_lightning.figures import save_figure

NAMES = ("loss", "probe_loss", "step_size", "stage")
RUNNING = 25
"""Iterations of a running mean."""


def course_figure(course: pd.DataFrame) -> Figure:
    """Three panels above each other: losses, step size, stage.

    Args:
        course: Columns ``iteration`` and those of ``NAMES``; NaN where there was no probe.
    """
    figure = Figure(figsize=(7, 6.4), layout="constrained", dpi=120)
    losses, sizes, stages = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 1))
    across = course["iteration"]
    for name, label in (("loss", "matching loss"), ("probe_loss", "probe loss, of the epoch that comes next")):
        if course[name].notna().any():
            (line,) = losses.plot(across, course[name], linewidth=0.5, alpha=0.35)
            running = course[name].rolling(RUNNING, min_periods=1).mean()
            losses.plot(across, running, linewidth=1.5, color=line.get_color(), label=label)
    losses.axhline(1, color="0.5", linewidth=0.8, linestyle="--")  # above it a student ends further off than it began
    losses.set_ylabel(f"loss, and mean of {RUNNING}")
    losses.legend(fontsize=8)
    sizes.plot(across, course["step_size"], linewidth=0.8)
    sizes.set(ylabel="step size", yscale="log")
    stages.step(across, course["stage"], where="post", linewidth=1.2)
    stages.set(ylabel="start epochs", xlabel="iteration")
    for axis in (losses, sizes, stages):
        axis.grid(alpha=0.3)
    return figure


class Curves(Callback):
    """Keeps the course of a run, and draws ``pictures/course.png`` whenever the images are evaluated.

    Args:
        every: Iterations between pictures.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.course: list[list[float]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take note of the iteration."""
        metrics, iteration = dict(trainer.callback_metrics), float(pl_module.iteration)  # type: ignore[arg-type]
        if pl_module.stages.probe_epoch is None:  # type: ignore[union-attr]
            metrics.pop("probe_loss", None)  # it would be that of an earlier iteration
        self.course.append([iteration, *(float(metrics.get(name, math.nan)) for name in NAMES)])
        if pl_module.iteration % self.every == 0:  # type: ignore[operator]
            self._draw(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the whole."""
        self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        if not trainer.is_global_zero or not self.course:
            return
        figure = course_figure(pd.DataFrame(self.course, columns=["iteration", *NAMES]))
        picture = save_figure(figure, Path(trainer.default_root_dir) / "pictures" / "course.png")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("course", [str(picture)])

    def state_dict(self) -> dict[str, Any]:
        """The course so far."""
        return {"course": self.course}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from it."""
        self.course = [list(row) for row in state_dict["course"]]
