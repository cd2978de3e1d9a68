"""Training experts: a plain loop as published beside ``gz-lightning fit``.

Both train the same number of experts, epoch by epoch, on the same galaxies with the same network, step size, batch size and
augmentation, and score validation galaxies after every epoch. They draw in different orders, so their accuracies agree as
those of different seeds do: mean and standard deviation over the experts stand beside the seconds.

    plain          one expert after the other; a DataLoader collates images one by one; each image is augmented by itself
    plain_batched  the same, but each batch is augmented at once
    plain_kept     plain, but freed memory stays with the process (gz_lightning/memory.py)
    ours           ExpertModule and Trainer, one expert at a time, with all it writes; freed memory stays with the process
    together       the same, as many experts at once as ``--experts_at_once`` says: in threads on a CPU, by vmap on a GPU

Each mode has a process to itself, and they take turns, ``--repeats`` times; seconds are medians. ``ratio`` is to ``plain``.

    python benchmarks/experts.py --data galaxies.h5 --json benchmarks/results/experts.json
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode
from turns import Turns

from gz_lightning.augmentation import augment
from gz_lightning.data.datamodule import GalaxyZoo2DataModule
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.experts.module import ExpertModule
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.memory import keep_freed_memory
from gz_lightning.networks.registry import build_network

MODES = ("plain", "plain_batched", "plain_kept", "ours", "together")


def network_of(settings: dict[str, Any], data: Galaxies) -> dict[str, Any]:
    return {"name": "ConvNet", "num_classes": data.num_classes, "resolution": data.resolution, "width": settings["width"]}


def plain(settings: dict[str, Any], data: Galaxies, batched: bool) -> list[float]:
    """Validation accuracies of experts trained as by the published ``buffer.py``."""
    device = settings["device"]
    train = TensorDataset(data.standardise(data.train.images), data.train.labels)
    val = TensorDataset(data.standardise(data.val.images), data.val.labels)
    accuracies, buffer = [], []
    for expert in range(settings["experts"]):
        network = build_network(network_of(settings, data), seed=1000 + expert).to(device)
        optimizer = torch.optim.SGD(network.parameters(), lr=settings["lr"])
        criterion = torch.nn.CrossEntropyLoss(weight=data.class_weights).to(device)
        draws = torch.Generator().manual_seed(expert)
        trajectory = [[p.detach().cpu().clone() for p in network.parameters()]]
        for _ in range(settings["epochs"]):
            hits, losses = 0, 0.0
            for images, labels in DataLoader(train, batch_size=settings["batch_size"], shuffle=True):
                images, labels = images.to(device), labels.to(device)
                if batched:
                    images = augment(images, settings["augmentation"], draws)
                else:
                    images = torch.cat([augment(image[None], settings["augmentation"], draws) for image in images])
                logits = network(images)
                loss = criterion(logits, labels)
                losses += loss.item() * len(labels)
                hits += int((logits.argmax(1) == labels).sum())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                hits = 0
                for images, labels in DataLoader(val, batch_size=settings["batch_size"]):
                    logits = network(images.to(device))
                    losses += F.cross_entropy(logits, labels.to(device)).item()
                    hits += int((logits.argmax(1) == labels.to(device)).sum())
            trajectory.append([p.detach().cpu().clone() for p in network.parameters()])
        buffer.append(trajectory)
        accuracies.append(hits / len(val))
    with tempfile.TemporaryDirectory() as folder:
        torch.save(buffer, Path(folder) / "replay_buffer_0.pt")
    return accuracies


def ours(settings: dict[str, Any], data: Galaxies, at_once: int) -> list[float]:
    """Validation accuracies of experts trained by ExpertModule."""
    names = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    quiet: dict[str, Any] = dict.fromkeys(names, False)
    with tempfile.TemporaryDirectory() as folder:
        module = ExpertModule(
            f"{folder}/experts",
            num_experts=settings["experts"],
            experts_at_once=at_once,
            train_epochs=settings["epochs"],
            lr=settings["lr"],
            augmentation=settings["augmentation"],
            width=settings["width"],
        )
        accelerator = "gpu" if settings["device"] == "cuda" else "cpu"
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=1,
            precision=settings["precision"],
            num_sanity_val_steps=0,
            default_root_dir=folder,
            **quiet,
        )
        trainer.fit(module, datamodule=GalaxyZoo2DataModule(settings["data"], batch_size=settings["batch_size"]))
        store = TrajectoryStore(f"{folder}/experts")
        last = store.metrics[store.metrics["epoch"] == store.num_epochs]
        return [float(value) for value in last["val_accuracy"]]


def flops_of_an_expert(settings: dict[str, Any], data: Galaxies) -> float:
    """Floating-point operations of the convolutions and matrix products of an expert, validation included."""
    network = build_network(network_of(settings, data)).to("meta")
    images = torch.empty(1, 3, data.resolution, data.resolution, device="meta")
    with FlopCounterMode(display=False) as counter:
        network(images).sum().backward()
    training = counter.get_total_flops()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images)
    return float(settings["epochs"] * (len(data.train) * training + len(data.val) * counter.get_total_flops()))


def matrix_product_rate(device: str, size: int = 2048) -> float:
    """FLOPs a second of a float32 matrix product, median of nine."""
    matrix = torch.randn(size, size, device=device)
    seconds = []
    for _ in range(9):
        begin = time.perf_counter()
        matrix @ matrix
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return 2 * size**3 / statistics.median(seconds)


def train(mode: str, settings: dict[str, Any]) -> tuple[list[float], float | None]:
    """Train experts in a mode: their validation accuracies, and the most GPU memory, in MiB."""
    quiet()
    data = Galaxies(settings["data"])
    on_gpu = settings["device"] == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    if mode in ("ours", "together", "plain_kept"):
        keep_freed_memory()
    if mode in ("ours", "together"):
        accuracies = ours(settings, data, 1 if mode == "ours" else settings["experts_at_once"])
    else:
        accuracies = plain(settings, data, batched=mode == "plain_batched")
    return accuracies, torch.cuda.max_memory_allocated() / 2**20 if on_gpu else None


def quiet() -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def measure(settings: dict[str, Any], data: Galaxies, modes: list[str], repeats: int) -> list[dict[str, Any]]:
    """One record for each mode."""
    turns = Turns(train, {mode: {} for mode in modes})
    for mode in modes:
        turns.run(mode, {**settings, "experts": 1, "epochs": 1})  # loads the libraries
    seconds: dict[str, list[float]] = {mode: [] for mode in modes}
    accuracies: dict[str, list[float]] = {}
    memory: dict[str, float | None] = {}
    peak: dict[str, float] = {}
    for _ in range(repeats):
        for mode in modes:
            taken, (accuracies[mode], memory[mode]), resident = turns.run(mode, settings)
            seconds[mode].append(taken)
            peak[mode] = resident / 2**20
    turns.end()
    rate = matrix_product_rate(settings["device"])
    flops = settings["experts"] * flops_of_an_expert(settings, data)
    records = []
    for mode in modes:
        taken, percent = statistics.median(seconds[mode]), [100 * value for value in accuracies[mode]]
        records.append(
            {
                "mode": mode,
                "seconds": taken,
                "ratio": statistics.median(a / b for a, b in zip(seconds[mode], seconds["plain"], strict=True)),
                "experts_per_hour": 3600 * settings["experts"] / taken,
                "val_accuracy": statistics.mean(percent),
                "val_accuracy_std": statistics.pstdev(percent),
                "gpu_mib": memory[mode],
                "peak_mib": peak[mode],
                "share_of_matrix_product_rate": flops / taken / rate,
                "all_seconds": seconds[mode],
                **{name: value for name, value in settings.items() if name != "data"},
                "threads": torch.get_num_threads(),
                "resolution": data.resolution,
                "galaxies": len(data.train),
            }
        )
    return records


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=str, help="packed galaxies; default: simulated ones")
    numbers = (("experts", 4), ("epochs", 5), ("width", 32), ("batch_size", 64), ("experts_at_once", 2), ("repeats", 3))
    for name, default in numbers:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--augmentation", default="color_crop_cutout_flip_scale_rotate")
    parser.add_argument("--precision", default="32-true", help="of ours: 32-true, bf16-mixed")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--json", type=Path, help="write the records here")
    settings = vars(parser.parse_args(arguments))
    quiet()
    path, repeats = settings.pop("json"), settings.pop("repeats")
    modes = list(dict.fromkeys(["plain", *settings.pop("modes")]))
    if settings["data"] is None:
        simulated = GalaxyZoo2DataModule()
        simulated.prepare_data()
        settings["data"] = str(simulated.path)
    data = Galaxies(settings["data"])
    records = measure(settings, data, modes, repeats)
    columns = ["mode", "seconds", "ratio", "experts_per_hour", "val_accuracy", "val_accuracy_std"]
    columns += ["gpu_mib", "peak_mib", "share_of_matrix_product_rate"]
    print(pd.DataFrame(records)[columns].to_string(index=False, float_format="{:.4g}".format))
    if path is not None:
        path.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
