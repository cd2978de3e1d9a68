"""Fresh networks trained together against one after the other.

    python benchmarks/evaluation.py --json FILE

Five networks of the published kind are trained on a small set by every way there is (gz_lightning/evaluation/together.py).
The ways take turns within one run, and a ratio is the median of the ratios of neighbouring runs, so that whatever else the
machine does weighs on all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import torch

from gz_lightning.evaluation.protocol import Protocol
from gz_lightning.evaluation.together import Training, train_networks

CASES = {
    "ipc 1, 32 px, width 32": (1, 32, 32),
    "ipc 10, 32 px, width 32": (10, 32, 32),
    "ipc 1, 64 px, width 64": (1, 64, 64),
    "ipc 1, 16 px, width 8": (1, 16, 8),
}
CLASSES, NETWORKS = 5, 5
ONE_THREAD = "loop, one thread"
"""The loop where torch is kept from threads: on a busy machine they wait for each other."""
TARGETS = {"cpu": 0.6, "cuda": 0.25}
"""Seconds in units of the loop's that training together may take."""


def measure(case: tuple[int, int, int], device: torch.device, epochs: int, rounds: int) -> dict[str, dict[str, float]]:
    ipc, resolution, width = case
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(CLASSES * ipc, 3, resolution, resolution, generator=draws).to(device)
    labels = torch.arange(CLASSES).repeat_interleave(ipc)
    network = {"name": "ConvNet", "num_classes": CLASSES, "resolution": resolution, "width": width}
    trainings = [Training(images, labels, [0.01], seed) for seed in range(NETWORKS)]
    protocol = Protocol(epochs=epochs, augmentation="galaxy")

    def seconds(way: str, protocol: Protocol) -> float:
        threads = torch.get_num_threads()
        torch.set_num_threads(1 if way == ONE_THREAD else threads)
        start = time.perf_counter()
        models = train_networks(trainings, network, protocol, way="loop" if way == ONE_THREAD else way)
        float(next(models[-1].parameters()).detach().sum())  # waits for the device
        took = time.perf_counter() - start
        torch.set_num_threads(threads)
        return took

    ways = ("loop", ONE_THREAD, "threads", "vmap")
    for way in ways:
        seconds(way, Protocol(epochs=2, augmentation="galaxy"))
    runs = [{way: seconds(way, protocol) for way in ways} for _ in range(rounds)]
    return {
        "seconds": {way: round(statistics.median(run[way] for run in runs), 3) for way in ways},
        "ratio": {way: round(statistics.median(run[way] / run["loop"] for run in runs), 3) for way in ways[1:]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="Where to write the result.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    settings = parser.parse_args()
    device = torch.device(settings.device)
    load = os.getloadavg()[0]
    cases = {name: measure(case, device, settings.epochs, settings.rounds) for name, case in CASES.items()}
    chosen = "vmap" if device.type == "cuda" else "threads"
    first = next(iter(cases.values()))
    result = {
        "what": f"{NETWORKS} networks, {settings.epochs} epochs; ratio: seconds in units of the loop's",
        "way": chosen,
        "seconds": first["seconds"][chosen],
        "ratio": first["ratio"][chosen],
        "target": TARGETS[device.type],
        "cases": cases,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "load_before": round(load, 2),
        "load_after": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
    }
    text = json.dumps(result, indent=1)
    print(text)
    if settings.json:
        settings.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
