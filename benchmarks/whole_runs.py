"""A whole distillation as one number: what the comparisons of settings are made of."""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from gz_lightning import GalaxyZoo2DataModule, SyntheticSet, TrajectoryMatching
from gz_lightning.errors import InputError


def val_accuracy(data: str, trajectories: str, settings: dict[str, Any]) -> tuple[float, float]:
    """Mean validation accuracy of fresh networks trained on the last images, and seconds; on one thread.

    A run that ends because nothing is finite any more counts as chance.
    """
    from lightning.pytorch import Trainer

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    galaxies = GalaxyZoo2DataModule(data)
    distiller = TrajectoryMatching(trajectories, **{"eval_it": settings["iterations"], **settings})
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            default_root_dir=folder, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False
        )
        try:
            trainer.fit(distiller, galaxies)
            accuracy = SyntheticSet.load(Path(folder) / "last.h5").results["val_accuracy"]
        except InputError:
            accuracy = 1 / galaxies.num_classes
    return accuracy, time.perf_counter() - begin
