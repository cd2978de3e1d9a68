"""Checkpoints that are whole whenever they are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Trainer

from gz_lightning.files import save_tensors

LAST = Path("checkpoints") / "last.ckpt"
"""Place of the checkpoint to go on from in the run folder (``default_root_dir``)."""


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it.

    (Lightning's own goes through the system's folder of temporary files. Where that is another disk, the move is a copy, and
    a kill in the middle of it leaves half a checkpoint.)
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path``, whole or not at all."""
        save_tensors(checkpoint, path)


def save_last(trainer: Trainer) -> Path:
    """Write the checkpoint of a Trainer's run folder; under DDP all processes call this together."""
    path = Path(trainer.default_root_dir) / LAST
    trainer.strategy.checkpoint_io = WholeCheckpointIO()
    trainer.save_checkpoint(path, weights_only=False)
    return path
