"""A checkpoint to go on from, always of a whole iteration."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from gz_lightning.interrupts import interrupt
from gz_lightning.progress import say
from gz_lightning.storage.checkpoints import LAST, save_last


class ResumeCheckpoint(Checkpoint):
    """Keeps ``checkpoints/last.ckpt`` in the run folder: every few minutes, at the end, and when interrupted.

    Ctrl-C or SIGTERM ends the iteration in hand first, so that the checkpoint is that of an uninterrupted run; a second one
    does not wait. (Lightning's ModelCheckpoint saves wherever the exception struck, which may be between the update of the
    images and the record of it.)

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

    def save(self, trainer: Trainer) -> None:
        """Write the checkpoint now."""
        save_last(trainer)
        self.saved = True
        self.checked_at = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over Ctrl-C and SIGTERM, where this is the main thread."""
        self.checked_at = time.monotonic()
        with contextlib.suppress(ValueError):  # not the main thread: interrupts do not come here
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
        """The iteration is whole."""
        self.in_step = False
        due = pl_module.iteration % self.every == 0 or trainer.is_last_batch or trainer.should_stop  # type: ignore[operator]
        due = bool(due) or self.interrupted or time.monotonic() - self.checked_at > self.seconds
        if trainer.strategy.reduce_boolean_decision(due, all=False):  # under DDP all processes write it together
            self.save(trainer)
        if trainer.strategy.reduce_boolean_decision(self.interrupted, all=False):
            raise KeyboardInterrupt

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give Ctrl-C back. The checkpoint of the last iteration stays as it is: a longer run can go on from there."""
        self._give_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say how to go on."""
        self._give_back()
        if self.saved:
            say(f"go on from {self.path(trainer)} with the same command and --ckpt_path last")

    def _give_back(self) -> None:
        for sent, handler in self.previous.items():
            signal.signal(sent, handler)
        self.previous = {}
