"""Checkpoints that are whole whenever they are there, and that nobody goes on from if they are not what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Trainer

from gz_lightning.errors import InputError
from gz_lightning.storage.tensors import load_signed, save_signed

LAST = Path("checkpoints") / "last.ckpt"
"""Place of the checkpoint to go on from in the run folder (``default_root_dir``)."""


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it; reads it by its checksum.

    (Lightning's own goes through the system's folder of temporary files. Where that is another disk, the move is a copy, and
    a kill in the middle of it leaves half a checkpoint.)
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path``, whole or not at all."""
        save_signed(checkpoint, path)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint onto the CPU, running nothing.

        Raises:
            InputError: If it is damaged, or no checkpoint of this package.
        """
        try:
            return load_signed(path)
        except InputError as error:
            raise InputError(f"{error}; leave out --ckpt_path to begin anew") from error


def read_by_checksum(trainer: Trainer) -> None:
    """Have a Trainer read its checkpoint as :class:`WholeCheckpointIO` does; to be called from ``setup``."""
    trainer.strategy.checkpoint_io = WholeCheckpointIO()


def save_last(trainer: Trainer) -> Path:
    """Write the checkpoint of a Trainer's run folder; under DDP all processes call this together."""
    path = Path(trainer.default_root_dir) / LAST
    read_by_checksum(trainer)
    trainer.save_checkpoint(path, weights_only=False)
    return path
