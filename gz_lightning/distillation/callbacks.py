"""What a distillation does beside its iterations: evaluations and pictures, the course of the losses, checkpoints."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import WandbLogger
from matplotlib.figure import Figure

from gz_lightning.distillation.readings import Distiller, Note
from gz_lightning.errors import InputError
from gz_lightning.figures import MOST_IMAGES, at_places, leaf_figure, save_figure, stretched
from gz_lightning.interrupts import interrupt
from gz_lightning.progress import say, ticking
from gz_lightning.randomness import derived_seed
from gz_lightning.sets.sources import FIRST
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.storage.checkpoints import LAST, save_last
from gz_lightning.training import protocol
from gz_lightning.training.fresh import accuracies

COURSE = ("loss", "probe_loss", "real_loss", "step_size", "stage")
"""Numbers that make the course of a run."""
LOSSES = {
    "loss": "matching loss",
    "probe_loss": "probe loss, of the next start epoch",
    "real_loss": "cross entropy on real galaxies",
}
RUNNING = 25
"""Iterations of a running mean."""
COLLAPSED = 0.01
"""Of the first step size: a student with steps this small stays where it is, whatever the images show."""


def log_picture(trainer: Trainer, name: str, picture: Path) -> None:
    """Hand a picture to Weights & Biases, where that is a logger."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(name, [str(picture)])


class EvaluateSynthetic(Callback):
    """Every ``eval_it`` outer iterations fresh networks are trained on the images and scored on validation galaxies.

    The run folder gets ``last.h5``, ``best.h5`` (the highest mean validation accuracy so far) and a picture each time.
    An evaluation comes before the iteration of its number, so a run that resumes there evaluates there as well.

    Args:
        eval_it: Outer iterations between evaluations.
        num_eval: Fresh networks in an evaluation.
        epochs: Epochs that each is trained for.
        seed: Seed of the networks; all evaluations of a run use the same.
    """

    def __init__(self, eval_it: int, num_eval: int, epochs: int, seed: int) -> None:
        self.eval_it, self.num_eval, self.epochs, self.seed = eval_it, num_eval, epochs, seed
        self.scores: list[tuple[int, float, float]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the images as they are before the first iteration."""
        distiller = cast(Distiller, pl_module)
        if trainer.is_global_zero and distiller.iteration == distiller.hparams["prev_iter"]:
            distiller.synthetic_set().save(Path(trainer.default_root_dir) / FIRST)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Evaluate where it is time."""
        distiller = cast(Distiller, pl_module)
        if distiller.iteration % self.eval_it == 0:
            self.evaluate(trainer, distiller)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the last images, and say which were the best.

        (Not in ``on_train_end``, which a run that resumes with nothing left to do does not reach.)
        """
        if not trainer.is_global_zero:
            return
        distiller = cast(Distiller, pl_module)
        if not self.scores or self.scores[-1][0] != distiller.iteration:
            self.evaluate(trainer, distiller)
        iteration, mean, _ = max(self.scores, key=lambda score: score[1])
        folder = Path(trainer.default_root_dir)
        say(f"best validation accuracy {100 * mean:.1f} % at iteration {iteration}: {folder / 'best.h5'}")

    def evaluate(self, trainer: Trainer, distiller: Distiller) -> None:
        """Score the images as they are now; save sets and picture."""
        if not trainer.is_global_zero:
            return
        synthetic, folder = distiller.synthetic_set(), Path(trainer.default_root_dir)
        accuracy = torch.tensor(self._accuracies(synthetic, distiller))
        mean, std = float(accuracy.mean()), float(accuracy.std(correction=0))
        synthetic.results = {"val_accuracy": mean, "val_accuracy_std": std}
        synthetic.save(folder / "last.h5")
        if all(mean > before for _, before, _ in self.scores):
            synthetic.save(folder / "best.h5")
        self.scores.append((synthetic.iteration, mean, std))
        title = f"iteration {synthetic.iteration}, validation accuracy {100 * mean:.1f} ± {100 * std:.1f} %"
        both = {"distilled": synthetic.denormalised(), "stretched": stretched(synthetic.images)}
        places = synthetic.places_by_leaf(MOST_IMAGES)
        rows = {name: at_places(pixels, places).flatten(0, 1) for name, pixels in both.items()}
        figure = leaf_figure(rows, synthetic.class_names, title)
        picture = save_figure(figure, folder / "pictures" / f"iteration_{synthetic.iteration:06d}.png")
        log_picture(trainer, "images", picture)
        for logger in trainer.loggers:
            logger.log_metrics({"val/accuracy": mean, "val/accuracy_std": std}, step=synthetic.iteration)
        say(title)
        lost = [name for name, row in zip(synthetic.class_names, places, strict=True) if row[0] < 0]
        if lost and synthetic.configuration["lr_label"]:
            say(f"no image is labelled {' or '.join(lost)} any more: learn the labels more slowly (--model.lr_label)")

    def _accuracies(self, synthetic: SyntheticSet, distiller: Distiller) -> list[float]:
        seed = derived_seed(self.seed, "evaluation")
        with ticking(f"iteration {synthetic.iteration}, networks trained on it", self.num_eval, quiet=True) as tick:
            return accuracies(
                synthetic.images.to(distiller.device),
                synthetic.labels,
                synthetic.network,
                synthetic.step_sizes.tolist(),
                protocol.Protocol(epochs=self.epochs, augmentation=synthetic.augmentation, seed=seed),
                distiller.galaxies,
                ["val"],
                self.num_eval,
                synthetic.configuration["syn_steps"],
                tick,
            )["val"]

    def state_dict(self) -> dict[str, Any]:
        """The scores so far."""
        return {"scores": [list(score) for score in self.scores]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume with them."""
        self.scores = [(int(iteration), mean, std) for iteration, mean, std in state_dict["scores"]]


def course_figure(course: pd.DataFrame) -> Figure:
    """Three panels above each other: losses, step size, stage.

    Args:
        course: Columns ``iteration`` and those of ``COURSE``; NaN where there was no probe.
    """
    figure = Figure(figsize=(7, 6.4), layout="constrained", dpi=120)
    losses, sizes, stages = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 1))
    across = course["iteration"]
    for name, label in LOSSES.items():
        if course[name].notna().any():
            (line,) = losses.plot(across, course[name], linewidth=0.5, alpha=0.35)
            running = course[name].rolling(RUNNING, min_periods=1).mean()
            losses.plot(across, running, linewidth=1.5, color=line.get_color(), label=label)
    losses.axhline(1, color="0.5", linewidth=0.8, linestyle="--")  # above it a student ends further off than it began
    losses.set_ylabel(f"loss, and mean of {RUNNING}")
    if losses.get_legend_handles_labels()[0]:  # no update, no loss
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

    def note(self, note: Note, distiller: Distiller) -> None:
        """Take note of an iteration; NaN where a number is not finite, or there was no probe."""
        finishing = distiller.finish.begun(note.iteration)
        probe = math.nan if finishing or distiller.stages.probe_epoch is None else note.probe_loss
        losses = (math.nan, probe, note.loss) if finishing else (note.loss, probe, math.nan)
        row = float(note.iteration + 1), *losses, note.step_size, float(distiller.stages.cap)
        self.course.append([value if math.isfinite(value) else math.nan for value in row])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw where it is time."""
        if cast(Distiller, pl_module).iteration % self.every == 0:
            self._draw(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the whole."""
        self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        if trainer.is_global_zero and self.course:
            figure = course_figure(pd.DataFrame(self.course, columns=["iteration", *COURSE]))
            picture = save_figure(figure, Path(trainer.default_root_dir) / "pictures" / "course.png")
            log_picture(trainer, "course", picture)

    def state_dict(self) -> dict[str, Any]:
        """The course so far."""
        return {"course": self.course}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume with it."""
        self.course = [list(row) for row in state_dict["course"]]


class CollapseWatch(Callback):
    """Says once that the learned step size has become useless: students stay where they are."""

    def __init__(self) -> None:
        self.collapsed = False

    def note(self, note: Note, distiller: Distiller) -> None:
        """Compare the step size with the first."""
        alpha = note.step_size
        if not self.collapsed and alpha < COLLAPSED * distiller.first_step_size:
            self.collapsed = True
            say(
                f"iteration {note.iteration}: the step size has fallen from {distiller.first_step_size:.2g} to "
                f"{alpha:.2g}: these images do not lead as far as the experts go. Match fewer epochs "
                f"(--model.expert_epochs, now {distiller.expert_epochs}) or earlier ones (--model.max_start_epoch, now "
                f"start epochs below {distiller.stages.cap})"
            )


class ResumeCheckpoint(Checkpoint):
    """Keeps ``checkpoints/last.ckpt`` in the run folder: every few minutes, at the end, and when interrupted.

    Ctrl-C or SIGTERM ends the current iteration first, so that the checkpoint is that of an uninterrupted run; a second one
    does not wait. (Lightning's ModelCheckpoint saves wherever the exception struck, which may be between the update of the
    images and its record.)

    Args:
        every: Also whenever the number of outer iterations is a multiple of this: before an evaluation, which is long.
        minutes: Time between checkpoints.
    """

    def __init__(self, every: int, minutes: float = 2.0) -> None:
        self.every, self.seconds = every, 60 * minutes
        self.interrupted = self.in_step = self.saved = False
        self.checked_at = 0.0
        self.previous: dict[int, Any] = {}

    @staticmethod
    def path(trainer: Trainer) -> Path:
        """The checkpoint of a Trainer's run folder."""
        return Path(trainer.default_root_dir) / LAST

    @classmethod
    def require_none(cls, trainer: Trainer) -> None:
        """Refuse a run folder with a checkpoint, which a new run would write over.

        Raises:
            InputError: If there is one.
        """
        if cls.path(trainer).exists():
            folder = trainer.default_root_dir
            raise InputError(f"{folder} holds a run already: resume it by --ckpt_path last, or name another --run_dir")

    def save(self, trainer: Trainer) -> None:
        """Write the checkpoint now."""
        cast(Distiller, trainer.lightning_module).readings.settle()
        save_last(trainer)
        self.saved = True
        self.checked_at = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over Ctrl-C and SIGTERM, where this is the main thread."""
        self.checked_at = time.monotonic()
        with contextlib.suppress(ValueError):  # not the main thread: signals do not arrive here
            self.previous = {sent: signal.signal(sent, self._interrupt) for sent in (signal.SIGINT, signal.SIGTERM)}

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self.interrupted or not self.in_step:
            interrupt(signum, frame)
        self.interrupted = True
        say("interrupted: ending this iteration (Ctrl-C again to stop at once)")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """From here on the iteration must end before an interrupt may."""
        self.in_step = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The iteration is complete."""
        self.in_step = False
        due = cast(Distiller, pl_module).iteration % self.every == 0 or trainer.is_last_batch or trainer.should_stop
        due = bool(due) or self.interrupted or time.monotonic() - self.checked_at > self.seconds
        if trainer.strategy.reduce_boolean_decision(due, all=False):  # under DDP all processes write it together
            self.save(trainer)
        if trainer.strategy.reduce_boolean_decision(self.interrupted, all=False):
            raise KeyboardInterrupt

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give Ctrl-C back. The checkpoint of the last iteration stays: a longer run can resume from it."""
        self._give_back()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how to resume what a time limit or a callback stopped."""
        distiller = cast(Distiller, pl_module)
        if trainer.is_global_zero and not distiller.finish.ended(distiller.iteration):
            most = distiller.iteration + distiller.finish.most(distiller.iteration)
            say(f"stopped after {distiller.iteration} of {most} iterations; {self._how_to_resume(trainer)}")
        self.saved = False  # what fails from here on is not this run

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say how to resume."""
        self._give_back()
        if self.saved:
            say(self._how_to_resume(trainer))

    def _how_to_resume(self, trainer: Trainer) -> str:
        path = self.path(trainer)
        return f"resume from {path} by the same command with --ckpt_path last" if path.exists() else "run it again"

    def _give_back(self) -> None:
        for sent, handler in self.previous.items():
            signal.signal(sent, handler)
        self.previous = {}
