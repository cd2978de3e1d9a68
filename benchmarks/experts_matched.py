"""What the experts decide: the same distillation by experts of another number, width or augmentation.

    python benchmarks/experts_matched.py --data gz5.h5 --trajectories experts few_experts wide_experts --json FILE

Each folder of experts is one row: the same range of start epochs, steps, budget and seeds for all, and networks of the
experts' own kind trained with their augmentation. Test galaxies are not seen. Runs that the record holds already are not
done again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from whole_runs import recorded, val_accuracy

from gz_lightning.experts.trajectories import TrajectoryStore

SETTINGS = (
    "ipc",
    "lr_img",
    "iterations",
    "syn_steps",
    "expert_epochs",
    "max_start_epoch",
    "num_eval",
    "epoch_eval_train",
    "seed",
)
KEY = ("experts", "ipc", "iterations", "syn_steps", "seed")


def run(given: dict[str, Any]) -> dict[str, Any]:
    """One run; its record."""
    settings = {"stage": "fixed", **{name: given[name] for name in SETTINGS}}
    accuracy, seconds = val_accuracy(given["data"], given["trajectories"], settings)
    store = TrajectoryStore(given["trajectories"])
    of_store = {
        "number": len(store.experts),
        "width": store.recipe.network["width"],
        "augmentation": store.recipe.training["augmentation"],
    }
    return {"experts": given["experts"], **of_store, **settings, "val_accuracy": accuracy, "seconds": seconds}


def main(arguments: list[str] | None = None) -> None:
    """Do what is not recorded yet; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="packed galaxies")
    parser.add_argument("--trajectories", nargs="+", required=True, help="folders of experts; the record has their names")
    parser.add_argument("--json", type=Path, required=True, help="the record")
    for name, default in (("ipc", 1), ("iterations", 300), ("syn_steps", 20), ("expert_epochs", 5), ("max_start_epoch", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--num_eval", type=int, default=3)
    parser.add_argument("--epoch_eval_train", type=int, default=300)
    parser.add_argument("--lr_img", type=float, help="step size on the images; default: that of the library")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--processes", type=int, default=2)
    given = vars(parser.parse_args(arguments))
    path, seeds, folders, processes = (given.pop(name) for name in ("json", "seeds", "trajectories", "processes"))
    wanted = [
        {**given, "trajectories": folder, "experts": Path(folder).name, "seed": seed} for seed in seeds for folder in folders
    ]
    table = pd.DataFrame(recorded(path, wanted, KEY, run, processes))
    table = table.groupby(["experts", "number", "width", "augmentation", "ipc"], sort=False)
    shown = (100 * table["val_accuracy"].agg(["mean", "std", "min", "max"])).round(1)
    print(shown.assign(seeds=table.size(), seconds=table["seconds"].median().round(1)).to_string())


if __name__ == "__main__":
    main()
