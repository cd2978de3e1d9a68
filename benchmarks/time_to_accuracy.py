"""Processor seconds until a distillation is as good as the one it replaces.

    python benchmarks/time_to_accuracy.py --data gz5.h5 --experts experts --json benchmarks/results/time_to_accuracy.json

One seed of each variant, in turn, on one thread, by default settings but for those named here:

- ``stages``: stages alone (``--model.finish 0``), the default before there was a finish, until they end or have
  taken ``--stages`` iterations (our recipe of ten images per class had 600);
- ``finish``: the default run;
- ``fixed LR``: the published rule (a fixed range of start epochs, ``--max_start_epoch``; plain steps of the images) with an
  ``lr_img`` of ``--fixed``, each with as many iterations as ``stages`` took.

Evaluations (five networks of 300 epochs on the validation galaxies) are not counted, nor are the experts. The aim is the
accuracy that ``stages`` ends with. A variant has reached it at its first evaluation that is as good and after which the mean
of all later ones is as good too. ``fixed`` in the record sets the default run beside the best of the fixed ones in the same
way: its aim is what that one ends with, its ratio in parts of all the seconds that one took. Records are written as they
come, and those that the file holds are not made again.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from gz_lightning import GalaxyZoo2DataModule, TrajectoryMatching
from gz_lightning.distillation.callbacks import EvaluateSynthetic
from gz_lightning.storage.whole import atomic_write

EVALUATED: dict[str, Any] = {"num_eval": 5, "epoch_eval_train": 300}


class Timed(TrajectoryMatching):
    """Counts the processor time of its iterations."""

    seconds = 0.0

    def training_step(self, batch: int, batch_idx: int) -> None:
        """See :meth:`TrajectoryMatching.training_step`."""
        self.after[self.iteration] = self.seconds
        begin = time.process_time()
        super().training_step(batch, batch_idx)
        self.seconds += time.process_time() - begin
        self.after[self.iteration] = self.seconds

    def on_fit_start(self) -> None:
        """The search of the first step size counts as well."""
        self.after: dict[int, float] = {}
        begin = time.process_time()
        super().on_fit_start()
        self.seconds = time.process_time() - begin


def course(data: str, experts: str, settings: dict[str, Any]) -> list[dict[str, float]]:
    """Iteration, seconds and validation accuracy in per cent at each evaluation."""
    distiller = Timed(experts, **EVALUATED, **settings)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            default_root_dir=folder, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False
        )
        trainer.fit(distiller, GalaxyZoo2DataModule(data))
        evaluation = next(one for one in trainer.callbacks if isinstance(one, EvaluateSynthetic))  # type: ignore[attr-defined]
    return [
        {"iteration": iteration, "seconds": distiller.after.get(iteration, 0.0), "accuracy": 100 * mean}
        for iteration, mean, _ in evaluation.scores
    ]


def reached(points: list[dict[str, float]], aim: float) -> float | None:
    """Seconds at which an accuracy is reached and held, or None.

    Example:
        >>> points = [{"seconds": s, "accuracy": a} for s, a in ((0, 40), (10, 66), (20, 60), (30, 67), (40, 66))]
        >>> reached(points, 65), reached(points, 70)
        (30, None)
    """
    for place, point in enumerate(points):
        later = [one["accuracy"] for one in points[place:]]
        if point["accuracy"] >= aim and sum(later) / len(later) >= aim:
            return point["seconds"]
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="packed galaxies")
    parser.add_argument("--experts", required=True, help="folder of experts")
    parser.add_argument("--json", type=Path, required=True, help="file of the record")
    parser.add_argument("--ipc", type=int, default=10, help="of one image per class the default run has no finish")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", type=int, default=None, help="iterations of stages at most; default: until they end")
    parser.add_argument("--fixed", type=float, nargs="*", default=[10.0, 30.0, 100.0], help="lr_img of the published rule")
    parser.add_argument("--max_start_epoch", type=int, default=20, help="of the published rule")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    record: dict[str, Any] = json.loads(options.json.read_text()) if options.json.exists() else {"courses": {}}
    both = {"ipc": options.ipc, "seed": options.seed}

    def add(name: str, **settings: Any) -> None:
        if name in record["courses"]:
            return
        record["courses"][name] = course(options.data, options.experts, {**both, **settings})
        aim = record["courses"]["stages"][-1]["accuracy"]
        seconds = {one: reached(points, aim) for one, points in record["courses"].items()}
        used = record["courses"]["stages"][-1]["seconds"]
        ratios = {one: None if value is None else value / used for one, value in seconds.items()}
        machine = f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
        record.update(
            both, aim=aim, seconds=seconds, stages_seconds=used, ratio=ratios.get("finish"), ratios=ratios, machine=machine
        )
        if fixed := [points for one, points in record["courses"].items() if one.startswith("fixed")]:
            last = max((points[-1] for points in fixed), key=lambda point: point["accuracy"])
            when = reached(record["courses"]["finish"], last["accuracy"])
            record["fixed"] = {"aim": last["accuracy"], "ratio": when and when / last["seconds"]}
        with atomic_write(options.json) as temporary:
            temporary.write_text(json.dumps(record, indent=1) + "\n")
        print(name, {one: value and round(value, 3) for one, value in ratios.items()}, flush=True)

    add("stages", finish=0, eval_it=200, iterations=options.stages)
    add("finish", eval_it=40)
    iterations = int(record["courses"]["stages"][-1]["iteration"])
    for lr_img in options.fixed:
        rule = {"stage": "fixed", "image_update": "published", "max_start_epoch": options.max_start_epoch}
        add(f"fixed {lr_img:g}", **rule, lr_img=lr_img, iterations=iterations, eval_it=100)


if __name__ == "__main__":
    main()
