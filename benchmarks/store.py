"""Reading (expert, epoch) at random: a TrajectoryStore beside the published pickles.

The published code loads a whole ``replay_buffer_*.pt`` before it can use one epoch of one expert; a store reads just that.
Trajectories are those of ``--store``, repeated to ``--experts`` experts, or random walks of the published size where none is
named (their bytes do not compress as those of real experts do).

    python benchmarks/store.py --json benchmarks/results/experts_store.json
"""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gz_lightning.experts.exchange import export_buffers
from gz_lightning.experts.expert_file import COMPRESSIONS, METRICS, PRECISIONS, Recipe, write_expert
from gz_lightning.experts.trajectories import TrajectoryStore


def trajectories(given: dict[str, Any]) -> tuple[list[torch.Tensor], Recipe]:
    if given["store"] is not None:
        store = TrajectoryStore(given["store"])
        known = [store.trajectory(expert) for expert in store.experts]
        return [known[i % len(known)] for i in range(given["experts"])], store.recipe
    torch.manual_seed(0)
    network = {"name": "ConvNet", "num_classes": 9, "resolution": 128}
    steps = torch.randn(given["experts"], given["epochs"] + 1, 594_441) * 1e-3
    return list(steps.cumsum(1)), Recipe(network, "random walks", {})


def reads(given: dict[str, Any], store: TrajectoryStore) -> tuple[float, float]:
    """Seconds until the first (expert, epoch) is there, the store's opening included, and reads a second after."""
    begin = time.perf_counter()
    store = TrajectoryStore(store.folder)
    store.parameters(store.experts[-1], 0)
    first = time.perf_counter() - begin
    draws = random.Random(0)
    places = [(draws.choice(store.experts), draws.randint(0, store.num_epochs)) for _ in range(given["reads"])]
    begin = time.perf_counter()
    for expert, epoch in places:
        store.parameters(expert, epoch)
    return first, given["reads"] / (time.perf_counter() - begin)


def measure(given: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """One record for each way of storing."""
    rows, recipe = trajectories(given)
    unknown = {name: [math.nan] * (len(rows[0]) - 1) for name in METRICS}
    records = []
    for precision in PRECISIONS:
        for compression in COMPRESSIONS:
            place = folder / f"{precision}_{compression}"
            for expert, own in enumerate(rows):
                write_expert(place, expert, own, unknown, recipe, precision, compression)
            store = TrajectoryStore(place)
            first, rate = reads(given, store)
            size = sum(path.stat().st_size for path in place.iterdir()) / len(rows)
            lost = max(float((store.trajectory(e) - rows[e]).abs().max()) for e in store.experts)
            kept = {"way": f"store {precision} {compression}", "bytes_per_expert": size, "largest_error": lost}
            records.append({**kept, "first_read_seconds": first, "reads_per_second": rate})
    export_buffers(folder / "float32_none", folder / "published", experts_per_file=10)
    files = sorted((folder / "published").iterdir())
    begin = time.perf_counter()
    buffer = [expert for file in files for expert in torch.load(file)]
    first = time.perf_counter() - begin
    draws = random.Random(0)
    begin = time.perf_counter()
    for _ in range(given["reads"]):
        epochs = draws.choice(buffer)
        torch.cat([tensor.reshape(-1) for tensor in draws.choice(epochs)])
    rate = given["reads"] / (time.perf_counter() - begin)
    size = sum(path.stat().st_size for path in files) / len(rows)
    kept = {"way": "published pickles, all in memory", "bytes_per_expert": size, "largest_error": 0.0}
    records.append({**kept, "first_read_seconds": first, "reads_per_second": rate})
    shape = {"experts": len(rows), "epochs": len(rows[0]) - 1, "parameters": rows[0].shape[1], "reads": given["reads"]}
    return [record | shape for record in records]


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="folder of experts; default: random walks of the published size")
    for name, default in (("experts", 10), ("epochs", 10), ("reads", 300)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", type=Path, help="write the records here")
    given = vars(parser.parse_args(arguments))
    path = given.pop("json")
    with tempfile.TemporaryDirectory() as folder:
        records = measure(given, Path(folder))
    print(pd.DataFrame(records).to_string(index=False, float_format="{:.4g}".format))
    if path is not None:
        path.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
