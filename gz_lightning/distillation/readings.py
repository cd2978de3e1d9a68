"""What iterations leave on the device, and when the host reads it: a GPU works on while nobody looks.

A read makes the host wait until the GPU has done all that it was told. So the numbers of an iteration stay where they are
until they are logged, or until something depends on them, and then are read together and taken note of in order. On a CPU
there is nothing to wait for, and they are read at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LambdaCallback

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.distillation.finish import Finish
from gz_lightning.distillation.stages import FixedRange
from gz_lightning.distillation.updates import ADVICE, FiniteSteps
from gz_lightning.progress import say
from gz_lightning.sets.synthetic import SyntheticSet

FAR_OFF = 10.0
"""What a probe loss that is not finite counts as; a student that stays where it is has 1."""


@dataclass(frozen=True)
class Note:
    """An iteration in numbers of the host.

    Args:
        iteration: Its number.
        place: Experts and start epochs, in words.
        segments: The same in numbers; none of real galaxies.
        verdict: See :meth:`gz_lightning.distillation.updates.FiniteSteps.step`.
        loss: Mean matching loss of its segments.
        probe_loss: Mean probe loss.
        losses: Matching loss from each of its start epochs.
        step_sizes: Step size of each of them, after the update.
    """

    iteration: int
    place: str
    segments: Sequence[tuple[int, float]]
    verdict: int
    loss: float
    probe_loss: float
    losses: Mapping[int, float]
    step_sizes: Mapping[int, float]

    @property
    def step_size(self) -> float:
        """The first of its step sizes."""
        return next(iter(self.step_sizes.values()))


class Distiller(Protocol):
    """What readings and callbacks use of a TrajectoryMatching."""

    iteration: int
    stages: FixedRange
    finish: Finish
    steps: FiniteSteps
    readings: Readings
    lr_img: float
    log_step_sizes: torch.nn.Parameter
    expert_epochs: int
    first_step_size: float

    @property
    def galaxies(self) -> Galaxies:
        """The galaxies."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def hparams(self) -> Any:
        """Its settings."""

    @property
    def trainer(self) -> Trainer:
        """Its Trainer."""

    def without_way(self, segments: Sequence[tuple[int, float]]) -> str:
        """Which of some segments has no length, in words; empty if none."""

    def log_dict(self, dictionary: Mapping[str, Any]) -> None:
        """Log metrics."""

    def synthetic_set(self) -> SyntheticSet:
        """The distilled set as it is now."""


class Observer(Protocol):
    """What is told of every iteration, in order."""

    def note(self, note: Note, distiller: Distiller) -> None:
        """Take note of an iteration, before the stages do."""


class Readings:
    """Numbers of iterations, and what is made of them once they are read.

    Args:
        distiller: The module.

    Attributes:
        wait: Whether numbers may stay unread; else they are due at once.
        observers: Callbacks that are told of every iteration.
        last_loss: Loss of the last iteration that was read; NaN before the first.
    """

    def __init__(self, distiller: Distiller) -> None:
        self.distiller, self.wait = distiller, False
        self.last_loss = math.nan
        self.observers: list[Observer] = []
        self.unread: list[tuple[int, str, Sequence[tuple[int, float]], Sequence[int], torch.Tensor]] = []

    def add(
        self,
        place: str,
        segments: Sequence[tuple[int, float]],
        means: Sequence[torch.Tensor],
        losses: Mapping[int, torch.Tensor],
        step_sizes: Mapping[int, torch.Tensor],
    ) -> None:
        """Take what the running iteration leaves, and read nothing.

        Args:
            place: Experts and start epochs, in words.
            segments: The same in numbers; none of real galaxies.
            means: Verdict, loss and probe loss, each of shape ().
            losses: Of each of its start epochs.
            step_sizes: Of the same start epochs.
        """
        numbers = torch.stack([x.to(means[1].dtype) for x in (*means, *losses.values(), *step_sizes.values())])
        self.unread.append((self.distiller.iteration, place, segments, list(losses), numbers))

    def due(self, batches: int) -> bool:
        """Whether the numbers are needed now.

        Args:
            batches: Iterations since the Trainer was started, the running one included.
        """
        done, settings = self.distiller.iteration + 1, self.distiller.hparams
        return (
            not self.wait
            or batches % max(self.distiller.trainer.log_every_n_steps, 1) == 0  # type: ignore[attr-defined]
            or len(self.unread) >= self.distiller.finish.patience(self.distiller.iteration)
            or done % settings["eval_it"] == 0
            or self.distiller.finish.most(done) == 0
        )

    def take(self) -> list[Note]:
        """Read all numbers, in one copy to the host."""
        unread, self.unread = self.unread, []
        if not unread:
            return []
        values = iter(torch.cat([numbers for *_, numbers in unread]).tolist())
        notes = []
        for iteration, place, segments, epochs, _ in unread:
            verdict, loss, probe_loss = next(values), next(values), next(values)
            losses, step_sizes = ({epoch: next(values) for epoch in epochs} for _ in range(2))
            notes.append(Note(iteration, place, segments, int(verdict), loss, probe_loss, losses, step_sizes))
        return notes

    def settle(self) -> None:
        """Read; log each iteration, let the stages take note of it, and say what was not finite.

        Raises:
            InputError: If too many updates in a row were refused.
        """
        distiller = self.distiller
        for note in self.take():
            for observer in self.observers:
                observer.note(note, distiller)
            if (wrong := distiller.steps.wrong(note.verdict, note.loss)) is None:
                self._record(note)
            else:
                place, trainer = f"iteration {note.iteration}, {note.place}", distiller.trainer
                last = Path(trainer.default_root_dir) / "last.h5"
                distiller.steps.advice = distiller.without_way(note.segments) or ADVICE
                distiller.steps.refused(wrong, place, distiller.synthetic_set(), last, write=trainer.is_global_zero)
            if distiller.finish.begins(note.iteration + 1):
                most = distiller.finish.iterations
                say(f"iteration {note.iteration}: the matching is over; {most} iterations on real galaxies follow")
            distiller.trainer.should_stop = distiller.trainer.should_stop or distiller.finish.ended(note.iteration + 1)

    def _record(self, note: Note) -> None:
        stages, finish = self.distiller.stages, self.distiller.finish
        finishing = finish.begun(note.iteration)
        self.last_loss = note.loss
        loss, rate = "loss", self.distiller.lr_img * stages.lr_factor
        if finishing:
            loss, rate = "real_loss", finish.lr_img(note.iteration)
        logged: dict[str, float] = {loss: note.loss, "stage": stages.cap, "step_size": note.step_size}
        logged |= {"step": note.iteration, "lr_img": rate}  # step: the loggers' axis
        if not finishing:
            logged |= {f"loss/start_epoch_{epoch}": value for epoch, value in note.losses.items()}
        logged |= {f"step_size/start_epoch_{epoch}": alpha for epoch, alpha in note.step_sizes.items()}
        probe = None if finishing or stages.probe_epoch is None else note.probe_loss
        if probe is not None:
            logged["probe_loss"] = probe
            if not math.isfinite(probe):
                say(f"iteration {note.iteration}: the probe loss ({probe}) is not finite; it counts as {FAR_OFF:g}")
                probe = FAR_OFF
        # As tensors of the host: of numbers Lightning would make some on the device.
        self.distiller.log_dict({name: torch.tensor(float(value)) for name, value in logged.items()})
        if not finishing:
            self._tell_stages(note.iteration, probe)

    def _tell_stages(self, iteration: int, probe: float | None) -> None:
        stages, sizes = self.distiller.stages, self.distiller.log_step_sizes
        before = stages.cap
        if (event := stages.record(probe)) is not None:
            say(f"iteration {iteration}: {event}; start epochs below {stages.cap} are matched")
        if len(sizes) > 1:
            with torch.no_grad():  # a new start epoch begins with the step size of the one before
                sizes[before : stages.cap] = sizes[before - 1]


def may_wait(trainer: Trainer, device: torch.device) -> bool:
    """Whether numbers may stay on the device: on a GPU, unless a callback might look at the metrics of any iteration.

    Those of Lightning that do name a metric to ``monitor``.
    """

    def looks(callback: Callback) -> bool:
        known = type(callback).__module__.split(".")[0] in ("gz_lightning", "lightning", "pytorch_lightning")
        return not known or isinstance(callback, LambdaCallback) or getattr(callback, "monitor", None) is not None

    return device.type == "cuda" and not any(map(looks, trainer.callbacks))  # type: ignore[attr-defined]
