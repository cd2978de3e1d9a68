"""The checkpoint of a group, and the time left."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from gz_lightning.data.datamodule import GalaxyZoo2DataModule
from gz_lightning.errors import InputError
from gz_lightning.experts.module import ExpertModule

SETTINGS: dict[str, Any] = {"num_experts": 2, "train_epochs": 3, "width": 4, "depth": 1}


class Noting(pl.Callback):
    """Notes before each epoch which epoch the checkpoint is of."""

    watches_only = True

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


def test_two_runs_do_not_train_the_same_experts(tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any]) -> None:
    """Run folders differ, the store is one: the second run refuses; other experts of the store may be trained."""
    settings = {**SETTINGS, "num_experts": 1, "train_epochs": 1}

    def fit(run: str, callbacks: list[pl.Callback], **changes: Any) -> None:
        trainer = pl.Trainer(**trainer_options, default_root_dir=tmp_path / run, callbacks=callbacks)
        experts = ExpertModule(str(tmp_path / "experts"), **{**settings, **changes})
        trainer.fit(experts, datamodule=GalaxyZoo2DataModule(str(toy_path), batch_size=16))

    class Meanwhile(pl.Callback):
        """Another run, in the middle of the first."""

        watches_only = True

        def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            with pytest.raises(InputError, match="another run is writing expert 0 of .*experts; wait for it, or give"):
                fit("b", [])
            fit("c", [], first_expert=1)
            assert (tmp_path / "experts" / "expert_0000.lock").exists()

    fit("a", [Meanwhile()])
    (tmp_path / "experts" / "expert_0001.lock").touch()  # of a run that was killed once its expert was whole
    fit("d", [])
    assert sorted(path.name for path in (tmp_path / "experts").iterdir()) == ["expert_0000.h5", "expert_0001.h5"]


def test_the_precision_of_the_trainer_makes_experts_of_another_kind(
    tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any]
) -> None:
    for precision in ("32-true", "64-true"):
        trainer = pl.Trainer(**trainer_options, default_root_dir=tmp_path / precision, precision=precision)
        experts = ExpertModule(str(tmp_path / "experts"), **SETTINGS)
        data = GalaxyZoo2DataModule(str(toy_path), batch_size=16)
        if precision == "32-true":
            trainer.fit(experts, datamodule=data)
            continue
        with pytest.raises(InputError, match="another kind: its training has trainer_precision 32-true instead of 64-true"):
            trainer.fit(experts, datamodule=data)
