"""Short distillations of the toy galaxies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from gz_lightning.data.datamodule import GalaxyZoo2DataModule
from gz_lightning.distillation.module import TrajectoryMatching

SETTINGS: dict[str, Any] = {
    "ipc": 2, "syn_steps": 3, "iterations": 6, "finish": 0, "eval_it": 100, "num_eval": 1, "epoch_eval_train": 2,
    "lr_teacher": 0.05,
}  # fmt: skip


class Distil:
    """Runs distillations of the toy galaxies."""

    def __init__(self, toy_path: Path, experts: Path, options: dict[str, Any]) -> None:
        self.toy_path, self.experts, self.options = toy_path, experts, options

    def __call__(
        self, folder: Path, ckpt_path: Path | None = None, callbacks: list[pl.Callback] | None = None, **settings: Any
    ) -> TrajectoryMatching:
        distiller = TrajectoryMatching(**{"trajectories": str(self.experts), **SETTINGS, **settings})
        trainer = pl.Trainer(**self.options, default_root_dir=folder, callbacks=callbacks)
        data = GalaxyZoo2DataModule(str(self.toy_path), batch_size=16)
        trainer.fit(distiller, datamodule=data, ckpt_path=ckpt_path)
        return distiller


@pytest.fixture
def float64() -> Iterator[None]:
    """Numbers are of double precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def distil(toy_path: Path, toy_experts: Path, trainer_options: dict[str, Any]) -> Distil:
    return Distil(toy_path, toy_experts, trainer_options)
