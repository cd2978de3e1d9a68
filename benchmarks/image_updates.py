"""Validation accuracy against ``lr_img`` over three decades: the published update of the images and the normalised one.

    python benchmarks/image_updates.py --data gz5.h5 --trajectories experts --json benchmarks/results/image_updates.json

Each run is a whole distillation, then fresh networks are scored on validation galaxies (test galaxies are not looked at).
Both updates begin with the step size of the same search, match the same segments and have the same budget; only the
update and ``lr_img`` differ. Runs that the record holds already are not done again, so that several calls (other
resolutions, images per class, seeds) make one record, and an interrupted one resumes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from whole_runs import recorded, val_accuracy

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.distillation.updates import UPDATES
from gz_lightning.figures import save_figure

GRIDS = {"published": (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0), "normalised": (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)}
BUDGET = ("iterations", "syn_steps", "batch_syn", "expert_epochs", "max_start_epoch", "num_eval", "epoch_eval_train")
KEY = ("resolution", "ipc", "image_update", "lr_img", "seed", "iterations", "syn_steps", "expert_epochs")


def distil(given: dict[str, Any]) -> dict[str, Any]:
    """One run; its record."""
    settings = {name: given[name] for name in ("ipc", "image_update", "lr_img", "seed", *BUDGET)}
    accuracy, seconds = val_accuracy(given["data"], given["trajectories"], {**settings, "stage": "fixed"})
    galaxies = Galaxies(given["data"])
    sizes = {"resolution": galaxies.resolution, "classes": galaxies.num_classes}
    return {**settings, **sizes, "val_accuracy": accuracy, "seconds": seconds}


def figure(table: pd.DataFrame) -> Any:
    """A panel for each resolution and ipc, a line for each update, and the ``lr_img`` of who names none."""
    from matplotlib.figure import Figure

    panels = list(table.groupby(["resolution", "ipc"]))
    drawn = Figure(figsize=(4 * len(panels), 3.4), layout="constrained", dpi=120)
    for axis, ((resolution, ipc), rows) in zip(drawn.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for update, own in rows.groupby("image_update"):
            each = 100 * own.groupby("lr_img")["val_accuracy"].agg(["mean", "min", "max"])
            (line,) = axis.plot(each.index, each["mean"], marker="o", label=update, linewidth=1)
            axis.fill_between(each.index, each["min"], each["max"], color=line.get_color(), alpha=0.15)
        axis.axvline(UPDATES["normalised"].lr_img(resolution), color="0.6", linewidth=1, linestyle="--")
        axis.set(xscale="log", xlabel="lr_img", title=f"{resolution} px, ipc {ipc}")
        axis.grid(alpha=0.3)
    drawn.axes[0].set_ylabel("validation accuracy, %")
    drawn.axes[0].legend()
    return drawn


def main(arguments: list[str] | None = None) -> None:
    """Do what is not recorded yet; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="packed galaxies")
    parser.add_argument("--trajectories", required=True, help="their experts")
    parser.add_argument("--json", type=Path, required=True, help="the record; the plot is written beside it")
    for name, default in (("ipc", 1), ("iterations", 400), ("syn_steps", 20), ("expert_epochs", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--max_start_epoch", type=int, default=8)
    parser.add_argument("--batch_syn", type=int, help="images in each step of the student; default: all")
    parser.add_argument("--num_eval", type=int, default=3)
    parser.add_argument("--epoch_eval_train", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--grid", type=float, nargs="+", help="lr_img; default: seven over three decades")
    parser.add_argument("--updates", nargs="+", default=list(GRIDS), choices=list(GRIDS))
    parser.add_argument("--processes", type=int, default=2)
    given = vars(parser.parse_args(arguments))
    path, seeds, updates, processes = (given.pop(name) for name in ("json", "seeds", "updates", "processes"))
    resolution = Galaxies(given["data"]).resolution
    runs = [(seed, update, lr_img) for seed in seeds for update in updates for lr_img in given["grid"] or GRIDS[update]]
    names = ("seed", "image_update", "lr_img")
    wanted = [{**given, **dict(zip(names, run, strict=True)), "resolution": resolution} for run in runs]
    records = recorded(path, wanted, KEY, distil, processes)
    table = pd.DataFrame(records)
    save_figure(figure(table), path.with_suffix(".png"))
    shown = table.pivot_table("val_accuracy", ["resolution", "ipc", "image_update"], "lr_img")
    print((100 * shown).round(1).to_string(na_rep=""))


if __name__ == "__main__":
    main()
