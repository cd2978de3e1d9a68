"""Checkpoints of a Trainer: atomic, verified by checksum, no code of a file runs."""

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from gz_lightning.errors import InputError
from gz_lightning.storage.checkpoints import LAST, WholeCheckpointIO, read_by_checksum, save_last


def test_the_last_checkpoint_of_a_run(tmp_path: Path, trainer_options: dict[str, object]) -> None:
    trainer = pl.Trainer(**trainer_options, default_root_dir=tmp_path, max_steps=0)  # type: ignore[arg-type]
    module = pl.LightningModule()
    module.weight = torch.nn.Parameter(torch.arange(3.0))
    trainer.strategy.connect(module)
    path = save_last(trainer)
    assert path == tmp_path / LAST
    assert isinstance(trainer.strategy.checkpoint_io, WholeCheckpointIO)
    checkpoint = trainer.strategy.checkpoint_io.load_checkpoint(path)
    assert checkpoint["state_dict"]["weight"].tolist() == [0, 1, 2]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_damaged_checkpoint_says_how_to_start_anew(tmp_path: Path, trainer_options: dict[str, object]) -> None:
    trainer = pl.Trainer(**trainer_options, default_root_dir=tmp_path)  # type: ignore[arg-type]
    read_by_checksum(trainer)
    storage = trainer.strategy.checkpoint_io
    storage.save_checkpoint({"a": torch.zeros(3)}, tmp_path / "a.ckpt")
    content = (tmp_path / "a.ckpt").read_bytes()
    (tmp_path / "a.ckpt").write_bytes(content[:-100])
    with pytest.raises(InputError, match=r"a.ckpt .*damaged.*; leave out --ckpt_path to start anew"):
        storage.load_checkpoint(tmp_path / "a.ckpt")
