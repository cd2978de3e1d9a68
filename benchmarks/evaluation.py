"""Fresh networks trained together against one after the other.

    python benchmarks/evaluation.py --json FILE

Five networks of the published kind are trained on a small set by every way there is (gz_lightning/evaluation/together.py).
Each way has a process of its own, for what a process does with freed memory decides as much as the way; the processes take
turns within one run, and a ratio is the median of the ratios of neighbouring turns, so that whatever else the machine does
weighs on all alike.

    loop              one network after the other by autograd, the process as Python starts it: what ratios are to
    loop, one thread  the same where torch is kept from threads: on a busy machine they wait for each other
    loop, memory kept the same as loop, but freed memory stays with the process (gz_lightning/memory.py)
    threads           what is used on a CPU: memory kept, gradient written out, small networks in stacks
    vmap              what is used on a GPU
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from pathlib import Path

import torch
from turns import Turns

from gz_lightning.memory import OFF
from gz_lightning.training.fresh import Training, train_networks
from gz_lightning.training.protocol import Protocol

CASES = {
    "ipc 1, 32 px, width 32": (1, 32, 32, 2),
    "ipc 10, 32 px, width 32": (10, 32, 32, 1),
    "ipc 1, 64 px, width 64": (1, 64, 64, 1),
    "ipc 1, 16 px, width 8": (1, 16, 8, 5),
}
"""Images per class, resolution, width, and epochs in units of ``--epochs``: turns of small networks last long enough so."""
CLASSES, NETWORKS = 5, 5
WAYS = {
    "loop": ("loop", False),
    "loop, one thread": ("loop", False),
    "loop, memory kept": ("loop", True),
    "threads": ("threads", True),
    "vmap": ("vmap", False),
}
"""Name -> way, and whether freed memory is kept."""
TARGETS = {"cpu": 0.6, "cuda": 0.25}
"""Seconds in units of the loop's that training together may take."""


def train(name: str, given: tuple[str, tuple[int, int, int, int], int]) -> None:
    """Train the networks of a case by a way."""
    device, (ipc, resolution, width, times), epochs = given
    if name == "loop, one thread":
        torch.set_num_threads(1)
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(CLASSES * ipc, 3, resolution, resolution, generator=draws).to(device)
    labels = torch.arange(CLASSES).repeat_interleave(ipc)
    network = {"name": "ConvNet", "num_classes": CLASSES, "resolution": resolution, "width": width}
    trainings = [Training(images, labels, [0.01], seed) for seed in range(NETWORKS)]
    models = train_networks(trainings, network, Protocol(epochs=times * epochs, augmentation="galaxy"), way=WAYS[name][0])
    float(next(models[-1].parameters()).detach().sum())  # waits for the device


def measure(
    case: tuple[int, int, int, int], turns: Turns, device: str, epochs: int, rounds: int
) -> dict[str, dict[str, float]]:
    for name in WAYS:
        turns.run(name, (device, case, 2))
    runs = [{name: turns.run(name, (device, case, epochs))[0] for name in WAYS} for _ in range(rounds)]
    return {
        "seconds": {name: round(statistics.median(run[name] for run in runs), 3) for name in WAYS},
        "ratio": {name: round(statistics.median(run[name] / run["loop"] for run in runs), 3) for name in WAYS},
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
    turns = Turns(train, {name: {OFF: "1" if kept else "0"} for name, (_, kept) in WAYS.items()})
    cases = {name: measure(case, turns, settings.device, settings.epochs, settings.rounds) for name, case in CASES.items()}
    turns.end()
    chosen = "vmap" if device.type == "cuda" else "threads"
    first = next(iter(cases.values()))
    result = {
        "what": f"{NETWORKS} networks, {settings.epochs} epochs (of small ones more); ratio: seconds in units of the loop's",
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
