"""The checkpoint of a group, and the time left."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from gz_lightning.data.datamodule import GalaxyZoo2DataModule
from gz_lightning.experts.module import ExpertModule

SETTINGS: dict[str, Any] = {"num_experts": 2, "train_epochs": 3, "width": 4, "depth": 1}


class Noting(pl.Callback):
    """Notes before each epoch which epoch the checkpoint is of."""

    def __init__(self) -> None:
        self.epochs: list[int | None] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        last = Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"
        self.epochs.append(torch.load(last, weights_only=True)["epoch"] if last.exists() else None)


@pytest.mark.parametrize(("minutes", "epochs"), [(0.0, [None, 0, 1, 2, 3, 4]), (60.0, [None] * 6)])
def test_a_checkpoint_after_each_epoch_or_only_when_it_is_time(
    minutes: float, epochs: list[int | None], tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any]
) -> None:
    noting = Noting()
    experts = ExpertModule(str(tmp_path / "experts"), checkpoint_minutes=minutes, **SETTINGS)
    trainer = pl.Trainer(**trainer_options, default_root_dir=tmp_path, callbacks=[noting])
    trainer.fit(experts, datamodule=GalaxyZoo2DataModule(str(toy_path), batch_size=16))
    assert noting.epochs == epochs
    assert trainer.progress_bar_metrics["minutes_left"] == 0
    assert "minutes_left" not in trainer.logged_metrics
