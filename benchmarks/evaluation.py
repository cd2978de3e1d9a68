"""Fresh networks trained together against one after the other.

    python benchmarks/evaluation.py --json FILE

Five networks of the published kind are trained on a small set in several ways. Each way has a process to itself, for what a
process does with freed memory decides as much as the way; the processes take turns within one run, and a ratio is the median
of the ratios of neighbouring turns, so that whatever else the machine does weighs on all alike.

    loop              one network after the other by autograd, the process as Python starts it: the unit of the ratios
    loop, one thread  the same where torch is kept from threads: on a busy machine they wait for each other
    loop, memory kept the same as loop, but freed memory stays with the process (gz_lightning/memory.py)
    threads           an ensemble (gz_lightning/networks/ensemble.py) as it works on a CPU, memory kept
    vmap              an ensemble as it works on a GPU
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from turns import Turns

from gz_lightning.augmentation import augment
from gz_lightning.memory import keep_freed_memory
from gz_lightning.networks.ensemble import Ensemble
from gz_lightning.networks.registry import build_network
from gz_lightning.randomness import derived_seed, generator
from gz_lightning.training import fresh
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
WAYS = ("loop", "loop, one thread", "loop, memory kept", "threads", "vmap")
TARGETS = {"cpu": 0.6, "cuda": 0.25}
"""Seconds in units of the loop's that training together may take."""


class VmapEnsemble(Ensemble):
    """Works as on a GPU, whatever the device."""

    def __init__(self, description: Mapping[str, Any], device: torch.device | str = "cpu") -> None:
        super().__init__(description, device)
        self._stacks_by_vmap = True


def loop(trainings: list[Training], network: dict[str, Any], protocol: Protocol) -> None:
    """One network after the other, by autograd and torch.optim."""
    for one in trainings:
        model = build_network(network, seed=derived_seed(one.seed, "initialisation")).to(one.images.device)
        optimizer = torch.optim.SGD(model.parameters(), 1.0, protocol.momentum, weight_decay=protocol.weight_decay)
        draws, labels = generator(one.seed, "training"), one.labels.to(one.images.device)
        for alpha in protocol.step_size_schedule(one.step_sizes):
            optimizer.param_groups[0]["lr"] = alpha
            for rows in torch.randperm(len(labels), generator=draws).to(labels.device).split(protocol.batch_size):
                images = augment(one.images[rows], protocol.augmentation, draws)
                optimizer.zero_grad()
                F.cross_entropy(model(images), labels[rows]).backward()
                optimizer.step()
    float(next(model.parameters()).detach().sum())  # waits for the device


def train(name: str, task: tuple[str, tuple[int, int, int, int], int]) -> None:
    """Train the networks of a case in one way."""
    device, (ipc, resolution, width, times), epochs = task
    if name == "loop, one thread":
        torch.set_num_threads(1)
    if name in ("loop, memory kept", "threads"):
        keep_freed_memory()
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(CLASSES * ipc, 3, resolution, resolution, generator=draws).to(device)
    labels = torch.arange(CLASSES).repeat_interleave(ipc)
    network = {"name": "ConvNet", "num_classes": CLASSES, "resolution": resolution, "width": width}
    trainings = [Training(images, labels, [0.01], seed) for seed in range(NETWORKS)]
    protocol = Protocol(epochs=times * epochs, augmentation="galaxy")
    if name.startswith("loop"):
        loop(trainings, network, protocol)
        return
    if name == "vmap":
        fresh.Ensemble = VmapEnsemble  # type: ignore[attr-defined]
    models = train_networks(trainings, network, protocol)
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
    turns = Turns(train, {name: {} for name in WAYS})
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
