"""A checkpoint inside a group of experts, to go on from."""

from __future__ import annotations

import time
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from gz_lightning.progress import say
from gz_lightning.storage.checkpoints import LAST, save_last

MOST_SHARE = 20
"""Training takes at least so many times as long as writing checkpoints."""


class GroupCheckpoint(Checkpoint):
    """Keeps ``checkpoints/last.ckpt`` in the run folder, always of a whole epoch.

    Whole experts are in their store and need none; this one holds those that are being trained, with all their epochs so
    far. A run shorter than ``minutes`` writes none.

    Args:
        minutes: Least time between two checkpoints; 0 writes one after every epoch.
    """

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes
        self.written_at = time.monotonic()
        self.cost = 0.0
        self.current = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Time counts from here; a run that goes on from a checkpoint keeps it up to date."""
        self.written_at = time.monotonic()
        self.current = trainer.ckpt_path is not None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write one if it is time, or if the last one is of a group that is whole now."""
        if trainer.world_size > 1:  # each process has a group of its own
            return
        begin = time.monotonic()
        whole = pl_module.epoch + 1 == pl_module.train_epochs  # type: ignore[operator]
        pause = max(60 * self.minutes, MOST_SHARE * self.cost) if self.minutes else 0
        if (whole and self.current) or begin - self.written_at >= pause:
            save_last(trainer)
            self.current = True
            self.written_at = time.monotonic()
            self.cost = self.written_at - begin

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say how to go on."""
        if self.current:
            path = Path(trainer.default_root_dir) / LAST
            say(f"go on from {path} with the same command and --ckpt_path last")
