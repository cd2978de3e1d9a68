"""What each option of the family brings: validation accuracy on the same galaxies, experts, seeds and budget.

    python benchmarks/options.py --data gz5.h5 --trajectories experts --json benchmarks/results/options.json

Every variant is the plain one (fixed range, one segment an iteration, hard labels) but for what its name says. Budget:
``--iterations`` unrolls; a variant of two segments an iteration has half as many iterations. Test galaxies are not seen.
Runs that the record holds already are not done again; it also holds those of options that brought nothing and left the code.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from whole_runs import recorded, val_accuracy

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stage, published rule": {"stage": "stage", "sigma_threshold": 5.0, "max_duration": 1000},
    "stage, 2 sigma": {"stage": "stage", "sigma_threshold": 2.0, "max_duration": 1000},
    "two segments": {"segments_per_step": 2},
    "labels of experts": {"labels": "experts"},
    "labels of experts, learned": {"labels": "experts", "lr_label": 2.0},
    "independent step sizes": {"step_sizes": "independent"},
    "first order": {"unroll": "first_order"},
    "published update": {"image_update": "published", "lr_img": 1.0},
}


def run(given: dict[str, Any]) -> dict[str, Any]:
    """One run; its record."""
    variant = VARIANTS[given["variant"]]
    iterations = given["iterations"] // variant.get("segments_per_step", 1)
    settings = {name: given[name] for name in ("max_start_epoch", "lr_img")}
    settings |= {"stage": "fixed", "iterations": iterations, **variant}
    settings |= {name: given[name] for name in ("ipc", "syn_steps", "seed", "num_eval", "epoch_eval_train")}
    accuracy, seconds = val_accuracy(given["data"], given["trajectories"], settings)
    return {
        "variant": given["variant"],
        **settings,
        "unrolls": given["iterations"],
        "val_accuracy": accuracy,
        "seconds": seconds,
    }


def main(arguments: list[str] | None = None) -> None:
    """Do what is not recorded yet; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="packed galaxies")
    parser.add_argument("--trajectories", required=True, help="their experts")
    parser.add_argument("--json", type=Path, required=True, help="the record")
    for name, default in (("ipc", 1), ("iterations", 300), ("syn_steps", 20), ("max_start_epoch", 8), ("num_eval", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--epoch_eval_train", type=int, default=300)
    parser.add_argument("--lr_img", type=float, help="step size on the images; default: that of the library")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--processes", type=int, default=2)
    given = vars(parser.parse_args(arguments))
    path, seeds, variants, processes = (given.pop(name) for name in ("json", "seeds", "variants", "processes"))
    runs = [{"variant": variant, "seed": seed, "unrolls": given["iterations"]} for seed in seeds for variant in variants]
    records = recorded(path, [{**given, **own} for own in runs], ("variant", "seed", "unrolls", "ipc"), run, processes)
    table = pd.DataFrame(records).groupby(["ipc", "unrolls", "variant"], sort=False)
    shown = (100 * table["val_accuracy"].agg(["mean", "std", "min", "max"])).round(1)
    print(shown.assign(seeds=table.size(), seconds=table["seconds"].median().round(1)).to_string())


if __name__ == "__main__":
    main()
