"""What experts themselves reach, which is the most that matching their parameters can give.

Scores, on the validation galaxies, each expert after its last epoch and the averages of its last epochs (stochastic weight
averaging), without any distillation.

    python benchmarks/ceiling.py --data gz5.h5 --experts experts experts_cosine --json benchmarks/results/ceiling.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from gz_lightning import Galaxies, TrajectoryStore
from gz_lightning.networks.ensemble import Ensemble

AVERAGED = (1, 5, 10, 20)


def ceiling(folder: str, galaxies: Galaxies) -> list[dict[str, Any]]:
    """A row for each number of averaged epochs."""
    store = TrajectoryStore(folder)
    ensemble = Ensemble(store.recipe.network)
    images, labels = galaxies.standardise(galaxies.val.images), galaxies.val.labels
    training = store.recipe.training
    steps = store.num_epochs * (store.recipe.steps_per_epoch(len(galaxies.train)) or 0)
    rows = []
    for last in AVERAGED:
        theta = torch.stack([store.trajectory(expert)[-last:].mean(0) for expert in store.experts])
        hits = (ensemble.logits(theta, images).argmax(2) == labels).double().mean(1) * 100
        recipe = {name: training[name] for name in ("lr", "momentum", "lr_schedule")}
        accuracy = {"accuracy": float(hits.mean()), "spread": float(hits.std(correction=0))}
        rows.append(
            {**recipe, "experts": len(store), "epochs": store.num_epochs, "steps": steps, "averaged": last, **accuracy}
        )
    return rows


def main() -> None:
    """Print a table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="packed galaxies")
    parser.add_argument("--experts", required=True, nargs="+", help="folders of experts")
    parser.add_argument("--json", help="where to write the record")
    options = parser.parse_args()
    galaxies = Galaxies(options.data)
    rows = [row for folder in options.experts for row in ceiling(folder, galaxies)]
    print("lr    momentum schedule  experts epochs  steps  averaged  validation accuracy")
    for row in rows:
        print(
            f"{row['lr']:<6g}{row['momentum']:<9g}{row['lr_schedule']:<10}{row['experts']:<8}{row['epochs']:<8}"
            f"{row['steps']:<7}{row['averaged']:<10}{row['accuracy']:.1f} ± {row['spread']:.1f}"
        )
    if options.json:
        Path(options.json).write_text(json.dumps({"validation": len(galaxies.val), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
