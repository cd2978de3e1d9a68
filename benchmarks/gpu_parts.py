"""The parts of gpu.py, each an iterator of records: what is measured is known before the time is over."""

from __future__ import annotations

import functools
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from gpu_unroll import Record, Settings, seconds_of, unrolls
from limited import limited


def tests(settings: Settings) -> Iterator[Record]:
    """Counts, failures, and the cosines that the tests of precision print."""
    on_gpu = settings["device"] == "cuda"
    chosen = ["-m", "gpu"] if on_gpu else ["-k", "cpu and (coresets or bfloat16)"]
    shown = ["-rP", "-v", "--tb=short", "-W", "default", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *chosen, "tests/gpu", *shown]
    limit = max(settings["limit"] - 5, 5)
    ended, output = limited(command, limit, dict(os.environ))
    counts = {word: len(re.findall(rf"^tests/.* {word.upper()}\b", output, re.MULTILINE)) for word in ("passed", "failed")}
    skipped = len(re.findall(r"^tests/.* SKIPPED\b", output, re.MULTILINE))
    yield {
        **counts,
        "skipped": skipped,
        "ended": {0: "none failed", None: f"stopped after {limit:.0f} s"}.get(ended, f"exit status {ended}"),
        "failures": sorted(set(re.findall(r"^FAILED (.*)$", output, re.MULTILINE))),
        "cosines": re.findall(r"^cosine to float64.*$", output, re.MULTILINE),
        "end_of_output": "" if ended == 0 else output[-6000:],
    }


def random_galaxies(path: Path, resolution: int, number: int, classes: int = 10) -> Path:
    """A packed file of noise: what is timed does not depend on what the images show."""
    import numpy as np

    from gz_lightning.data.packing import Contents, write_packed

    labels = np.arange(number) % classes
    contents = Contents(
        labels=labels,
        confidences=np.eye(classes)[labels],
        object_ids=[str(i) for i in range(number)],
        splits=np.array([(0, 0, 0, 1, 2)[i // classes % 5] for i in range(number)]),
        class_names=[f"leaf {k}" for k in range(classes)],
        tree="",
    )
    images = np.random.default_rng(0).integers(0, 256, (number, 3, resolution, resolution), dtype=np.uint8)
    write_packed(path, [images], contents, resolution=resolution, configuration={})
    return path


def experts(settings: Settings) -> Iterator[Record]:
    """Seconds of an expert trained by the plain loop, and of one among ten and among a hundred."""
    from experts import train

    cases, groups = [(32, 32, 1000, 5), (128, 128, 500, 2)], [10, 100]
    if settings["tiny"]:
        cases, groups = [(16, 4, 40, 1)], [2]
    given = {
        "device": settings["device"],
        "lr": 0.01,
        "batch_size": 256,
        "augmentation": "color_crop_cutout_flip_scale_rotate",
    }
    given["precision"] = "32-true"
    with tempfile.TemporaryDirectory() as folder:
        for resolution, width, number, epochs in cases:
            data = str(random_galaxies(Path(folder) / f"{resolution}.h5", resolution, number))
            case = {**given, "data": data, "width": width, "epochs": epochs}
            train("together", {**case, "experts": 2, "experts_at_once": 2, "epochs": 1})  # loads the libraries
            one = seconds_of(functools.partial(train, "plain", {**case, "experts": 1}), settings["device"])
            shown = {"resolution": resolution, "width": width, "galaxies": number, "epochs": epochs}
            yield {**shown, "mode": "plain", "seconds_a_piece": one}
            for group in groups:
                run = {**case, "experts": group, "experts_at_once": group}
                seconds, memory = [], None
                for _ in range(1 if group > 10 else 2):
                    begin = time.perf_counter()
                    memory = train("together", run)[1]
                    seconds.append((time.perf_counter() - begin) / group)
                yield {
                    **shown,
                    "mode": f"{group} together",
                    "seconds_a_piece": min(seconds),
                    "ratio_to_plain": min(seconds) / one,
                    "peak_mib": memory,
                }


def evaluations(settings: Settings) -> Iterator[Record]:
    """Seconds of a fresh network trained by a loop, and of one among 5 and among 25."""
    from evaluation import loop

    from gz_lightning.training.fresh import Training, train_networks
    from gz_lightning.training.protocol import Protocol

    device, tiny = settings["device"], settings["tiny"]
    cases, epochs = [(1, 32, 32), (10, 32, 32), (1, 128, 128)], 100
    if tiny:
        cases, epochs = [(1, 16, 4)], 2
    for ipc, resolution, width in cases:
        images = torch.randn(10 * ipc, 3, resolution, resolution, device=device)
        labels = torch.arange(10).repeat(ipc)
        network = {"name": "ConvNet", "num_classes": 10, "resolution": resolution, "width": width}
        trainings = [Training(images, labels, [0.01], seed) for seed in range(25)]
        protocol = Protocol(epochs=epochs, augmentation="galaxy")
        loop(trainings[:1], network, Protocol(epochs=2, augmentation="galaxy"))
        one = seconds_of(functools.partial(loop, trainings[:2], network, protocol), device) / 2
        shown = {"ipc": ipc, "resolution": resolution, "width": width, "epochs": epochs}
        yield {**shown, "mode": "loop", "seconds_a_piece": one}
        for number in (5, 25):
            chosen = trainings[:number]
            train_networks(chosen, network, Protocol(epochs=2, augmentation="galaxy"))
            piece = seconds_of(functools.partial(train_networks, chosen, network, protocol), device) / number
            yield {**shown, "mode": f"{number} together", "seconds_a_piece": piece, "ratio_to_loop": piece / one}


def distillation(settings: Settings) -> Iterator[Record]:
    """Experts for a third of the time, then a default distillation for a good third: minutes and validation accuracy."""
    import lightning.pytorch as pl

    from gz_lightning.data.datamodule import GalaxyZoo2DataModule
    from gz_lightning.data.galaxies import Galaxies
    from gz_lightning.distillation.module import TrajectoryMatching
    from gz_lightning.experts.module import ExpertModule
    from gz_lightning.experts.trajectories import TrajectoryStore
    from gz_lightning.sets.synthetic import SyntheticSet

    tiny, limit = settings["tiny"], settings["limit"]
    if settings["data"] is None and not tiny:
        yield {"skipped": "no galaxies: name a packed file by --data"}
        return
    names = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    options: dict[str, Any] = {**dict.fromkeys(names, False), "devices": 1}
    options["accelerator"] = "gpu" if settings["device"] == "cuda" else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        data = settings["data"] or str(random_galaxies(Path(folder) / "tiny.h5", 16, 60, classes=2))
        galaxies = Galaxies(data)
        width = 4 if tiny else galaxies.resolution
        shape = {"num_experts": 2, "train_epochs": 2} if tiny else {"num_experts": 10, "train_epochs": 12}
        begin = time.monotonic()
        module = ExpertModule(f"{folder}/experts", width=width, augmentation="galaxy", **shape)  # type: ignore[arg-type]
        options["max_time"] = {"seconds": int(limit / 3)}
        pl.Trainer(**options, default_root_dir=f"{folder}/fit").fit(module, GalaxyZoo2DataModule(data))
        store = TrajectoryStore(f"{folder}/experts")
        reached = store.metrics[store.metrics["epoch"] == store.num_epochs]["val_accuracy"].mean()
        minutes = (time.monotonic() - begin) / 60
        yield {"what": "experts", **shape, "number": len(store), "minutes": minutes, "val_accuracy": float(reached)}
        begin = time.monotonic()
        short = {"iterations": 3, "syn_steps": 2, "lr_teacher": 0.05, "num_eval": 1, "epoch_eval_train": 2} if tiny else {}
        distiller = TrajectoryMatching(f"{folder}/experts", **short)  # type: ignore[arg-type]
        options["max_time"] = {"seconds": int(limit * 0.4)}
        pl.Trainer(**options, default_root_dir=f"{folder}/run").fit(distiller, GalaxyZoo2DataModule(data))
        best = SyntheticSet.load(f"{folder}/run/best.h5")
        yield {
            "what": "distillation",
            "resolution": galaxies.resolution,
            "width": width,
            "leaves": galaxies.num_classes,
            "iterations": distiller.iteration,
            "minutes": (time.monotonic() - begin) / 60,
            "captured": getattr(distiller.matched, "failed", None) is False,
            "best_iteration": best.iteration,
            **best.results,
        }


PARTS: dict[str, Callable[[Settings], Iterator[Record]]] = {
    "tests": tests,
    "unroll": unrolls,
    "experts": experts,
    "evaluation": evaluations,
    "distillation": distillation,
}
