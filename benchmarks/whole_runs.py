"""A whole distillation as one number: what the comparisons of settings are made of."""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from gz_lightning import GalaxyZoo2DataModule, SyntheticSet, TrajectoryMatching
from gz_lightning.errors import InputError
from gz_lightning.storage.whole import atomic_write

Record = dict[str, Any]


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
            accuracy = 1 / galaxies.galaxies.num_classes
    return accuracy, time.perf_counter() - begin


def recorded(
    path: Path, wanted: Sequence[Record], key: Sequence[str], run: Callable[[Record], Record], processes: int
) -> list[Record]:
    """The record in ``path`` with the wanted runs in it: those that it lacks are done, and it is written after each.

    Args:
        path: JSON, a list of records.
        wanted: What ``run`` is given, once each.
        key: Names of what tells records apart, in what is given and in the record.
        run: Gives the record of one run; called in a process of its own.
        processes: So many at a time.
    """
    records: list[Record] = json.loads(path.read_text()) if path.exists() else []
    done = {tuple(record[name] for name in key) for record in records}
    todo = [given for given in wanted if tuple(given[name] for name in key) not in done]
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=1) as pool:
        for record in pool.imap_unordered(run, todo):
            print({name: record[name] for name in (*key, "val_accuracy", "seconds")}, flush=True)
            records.append(record)
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps(records, indent=1) + "\n")
    return records
