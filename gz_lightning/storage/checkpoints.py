"""Checkpoints: written atomically, verified by checksum before a run resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Trainer

from gz_lightning.errors import InputError
from gz_lightning.storage.tensors import load_signed, save_signed

LAST = Path("checkpoints") / "last.ckpt"
"""The checkpoint to resume from, in the run folder (``default_root_dir``)."""


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically and verifies their checksum on reading.

    Lightning's own writes into the system's temporary folder first: if that is on another disk, the move is a copy, and a
    kill during it leaves half a checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path`` atomically."""
        save_signed(checkpoint, path)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint onto the CPU, without running code from it.

        Raises:
            InputError: If it is damaged or not a checkpoint of this package.
        """
        try:
            return load_signed(path)
        except InputError as error:
            raise InputError(f"{error}; leave out --ckpt_path to start anew") from error


def read_by_checksum(trainer: Trainer) -> None:
    """Make a Trainer use :class:`WholeCheckpointIO`; call it in ``setup``."""
    trainer.strategy.checkpoint_io = WholeCheckpointIO()


def save_last(trainer: Trainer) -> Path:
    """Write ``LAST`` in a Trainer's run folder; under DDP, all processes must call this."""
    path = Path(trainer.default_root_dir) / LAST
    read_by_checksum(trainer)
    trainer.save_checkpoint(path, weights_only=False)
    return path
