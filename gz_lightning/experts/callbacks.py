"""What goes along with training experts: the checkpoint of their group, and the time left."""

from __future__ import annotations

import time
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from gz_lightning.progress import say
from gz_lightning.storage.checkpoints import LAST, save_last

MOST_SHARE = 20
"""Training takes at least so many times as long as writing checkpoints."""


class GroupCheckpoint(Checkpoint):
    """Keeps ``checkpoints/last.ckpt`` in the run folder, always of the end of an epoch.

    Finished experts are in their store and need none; this one holds those in training, with all their epochs so far. A run
    shorter than ``minutes`` writes none.

    Args:
        minutes: Least time between two checkpoints; 0 writes one after every epoch.
    """

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes
        self.written_at = time.monotonic()
        self.cost = 0.0
        self.current = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a run that resumes from a checkpoint keeps it up to date."""
        self.written_at = time.monotonic()
        self.current = trainer.ckpt_path is not None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write one if it is time, or if the last one is of a group that is finished now."""
        if trainer.world_size > 1:  # each process has another group
            return
        begin = time.monotonic()
        finished = pl_module.epoch + 1 == pl_module.train_epochs  # type: ignore[operator]
        pause = max(60 * self.minutes, MOST_SHARE * self.cost) if self.minutes else 0
        if (finished and self.current) or begin - self.written_at >= pause:
            save_last(trainer)
            self.current = True
            self.written_at = time.monotonic()
            self.cost = self.written_at - begin

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say how to resume."""
        if self.current:
            path = Path(trainer.default_root_dir) / LAST
            say(f"go on from {path} with the same command and --ckpt_path last")


class TimeLeft(Callback):
    """Shows ``minutes_left`` in the progress bar."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.began_at, self.first_epoch = time.monotonic(), trainer.current_epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All epochs take the same time."""
        done = trainer.current_epoch + 1 - self.first_epoch
        left = (trainer.max_epochs or 0) - trainer.current_epoch - 1
        minutes = (time.monotonic() - self.began_at) / 60 / done * left
        pl_module.log("minutes_left", minutes, prog_bar=True, logger=False)
