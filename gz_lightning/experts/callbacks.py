"""What experts have beside their training: a lock and a checkpoint of their group."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from gz_lightning.experts.expert_file import file_of
from gz_lightning.progress import say
from gz_lightning.storage.checkpoints import LAST, save_last
from gz_lightning.storage.whole import locked, remove_unheld

MOST_SHARE = 20
"""Training takes at least so many times as long as writing checkpoints."""


class GroupCheckpoint(Checkpoint):
    """Keeps ``checkpoints/last.ckpt`` in the run folder, always of a whole epoch.

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
        """Write one if it is time, if the run stops inside a group, or if the last one is of a finished group."""
        if trainer.world_size > 1:  # each process has another group
            return
        begin = time.monotonic()
        finished = pl_module.epoch + 1 == pl_module.train_epochs  # type: ignore[operator]
        pause = max(60 * self.minutes, MOST_SHARE * self.cost) if self.minutes else 0
        stops = trainer.should_stop and not finished
        if (finished and self.current) or stops or begin - self.written_at >= pause:
            save_last(trainer)
            self.current = True
            self.written_at = time.monotonic()
            self.cost = self.written_at - begin

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What fails from here on is not this run."""
        self.current = False

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say how to resume."""
        if self.current:
            path = Path(trainer.default_root_dir) / LAST
            say(f"resume from {path} by the same command with --ckpt_path last")


class GroupLock(Callback):
    """Locks the experts in training, so that no two runs train the same into one store."""

    def __init__(self) -> None:
        self.locks = contextlib.ExitStack()
        self.place = -1

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go over to the locks of the next group, where one begins."""
        place = trainer.current_epoch // cast(int, pl_module.train_epochs)
        if place == self.place:
            return
        self.locks.close()
        self.place = place
        repeated = place + 1 == len(pl_module.groups) and pl_module.repeats_last  # type: ignore[arg-type]
        if not repeated:  # another process of this run has the lock
            for expert in pl_module.groups[place]:  # type: ignore[index]
                file = file_of(cast(Path, pl_module.folder), expert)
                self.locks.enter_context(
                    locked(
                        file.with_suffix(".lock"),
                        f"expert {expert} of {pl_module.folder}; wait for it, or give another --model.first_expert",
                    )
                )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remove those of killed runs: experts that are whole already are not locked any more."""
        folder = cast(Path, pl_module.folder)
        if trainer.is_global_zero:
            remove_unheld(folder.glob("expert_*.lock"))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Release them, however training ends."""
        self.locks.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Release them after a failure, where teardown is not called."""
        self.locks.close()
