"""Whole runs on a GPU: the commands, resuming, determinism, and what cannot fit."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from gz_lightning.data.datamodule import GalaxyZoo2DataModule
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.distillation.module import TrajectoryMatching
from gz_lightning.distillation.start import require_unroll_memory
from gz_lightning.distillation.unroll import UNROLLS
from gz_lightning.errors import InputError
from gz_lightning.evaluation.evaluate import evaluate
from gz_lightning.experts.capacity import require_room
from gz_lightning.experts.module import ExpertModule
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.networks.convnet import ConvNet
from gz_lightning.networks.ensemble import Ensemble
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.storage.checkpoints import LAST

SHORT = {"syn_steps": 3, "iterations": 8, "eval_it": 100, "num_eval": 2, "epoch_eval_train": 4, "lr_teacher": 0.05}


def options(device: torch.device, folder: Path, **more: Any) -> dict[str, Any]:
    names = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    return {**dict.fromkeys(names, False), "accelerator": accelerator, "devices": 1, "default_root_dir": folder, **more}


def distilled(
    device: torch.device, toy: Path, experts: Path, folder: Path, callbacks: list[pl.Callback] | None = None, **settings: Any
) -> TrajectoryMatching:
    """A short distillation under deterministic algorithms, resumed where there is a checkpoint."""
    module = TrajectoryMatching(str(experts), **{**SHORT, **settings})
    trainer = pl.Trainer(**options(device, folder, deterministic=True, callbacks=callbacks))
    checkpoint = folder / LAST
    try:
        data = GalaxyZoo2DataModule(str(toy), batch_size=16)
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint if checkpoint.exists() else None)
    finally:
        torch.use_deterministic_algorithms(False)
    return module


def same(one: TrajectoryMatching, two: TrajectoryMatching) -> bool:
    pairs = zip((one.images, one.log_step_sizes), (two.images, two.log_step_sizes), strict=True)
    return all(torch.equal(a.cpu(), b.cpu()) for a, b in pairs) and one.stages.state_dict() == two.stages.state_dict()


def test_runs_are_deterministic_and_resume_to_the_same_bits(
    device: torch.device, toy_path: Path, toy_experts: Path, tmp_path: Path
) -> None:
    whole = distilled(device, toy_path, toy_experts, tmp_path / "whole", eval_it=5)
    distilled(device, toy_path, toy_experts, tmp_path / "cut", eval_it=5, iterations=5)
    assert same(distilled(device, toy_path, toy_experts, tmp_path / "cut", eval_it=5), whole)
    assert (
        SyntheticSet.load(tmp_path / "cut" / "best.h5").results == SyntheticSet.load(tmp_path / "whole" / "best.h5").results
    )


class Looking(pl.Callback):
    """A user's own, which might look at the metrics."""

    watches_only = True


def test_neither_a_graph_nor_late_reading_changes_a_bit(
    device: torch.device, toy_path: Path, toy_experts: Path, tmp_path: Path
) -> None:
    """A callback of one's own makes every iteration read at once."""
    given = device, toy_path, toy_experts
    eager = distilled(*given, tmp_path / "eager", graph="off", callbacks=[Looking()])
    captured = distilled(*given, tmp_path / "captured", graph="on" if device.type == "cuda" else "auto")
    assert not eager.readings.wait
    assert captured.readings.wait == (device.type == "cuda")
    assert not getattr(captured.matched, "failed", False)
    assert same(eager, captured)


@pytest.mark.parametrize("settings", [{"augmentation": "flip_crop_cutout"}, {"labels": "experts", "lr_label": 1.0}], ids=str)
def test_other_settings(
    settings: dict[str, Any], device: torch.device, toy_path: Path, toy_experts: Path, tmp_path: Path
) -> None:
    """Near to a run on the CPU, in float32."""
    found, expected = (
        distilled(where, toy_path, toy_experts, tmp_path / where.type, iterations=2, **settings)
        for where in (device, torch.device("cpu"))
    )
    torch.testing.assert_close(found.images.detach().cpu(), expected.images.detach().cpu(), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("at_once", [1, 3])
def test_experts(at_once: int, device: torch.device, toy_path: Path, tmp_path: Path) -> None:
    """Three together or one by one, in float64, equal those of a CPU."""

    def trained(where: torch.device, folder: Path, number: int) -> TrajectoryStore:
        module = ExpertModule(str(folder), num_experts=3, experts_at_once=number, train_epochs=2, lr=0.05, width=8, depth=2)
        trainer = pl.Trainer(**options(where, folder / "run", precision="64-true"))
        trainer.fit(module, datamodule=GalaxyZoo2DataModule(str(toy_path), batch_size=16))
        return TrajectoryStore(folder)

    found = trained(device, tmp_path / "found", at_once)
    expected = trained(torch.device("cpu"), tmp_path / "expected", 1)
    for expert in range(3):
        torch.testing.assert_close(found.trajectory(expert), expected.trajectory(expert), rtol=1e-5, atol=1e-6)


def test_deterministic_evaluations_agree(device: torch.device, toy_path: Path, toy_experts: Path, tmp_path: Path) -> None:
    distilled(device, toy_path, toy_experts, tmp_path / "run", iterations=2)
    given: dict[str, Any] = {"baselines": ["random real"], "draws": 2, "step_sizes": [0.03], "full_epochs": 0}
    given |= {"num_eval": 3, "epochs": 6, "device": device.type, "deterministic": True}
    tables = [evaluate(tmp_path / "run" / "best.h5", toy_path, tmp_path / str(i), **given).table for i in range(2)]
    assert tables[0].equals(tables[1])
    assert len(tables[0]) >= 2


@pytest.mark.skipif(importlib.util.find_spec("jsonargparse") is None, reason="needs jsonargparse, which is not installed")
def test_commands(device: torch.device, toy_path: Path, tmp_path: Path) -> None:
    from gz_lightning.cli import main

    accelerator = ["--trainer.accelerator", "gpu" if device.type == "cuda" else "cpu", "--trainer.devices", "1"]
    common = ["--data.path", str(toy_path), "--data.batch_size", "16", "--wandb", "off", *accelerator]
    experts, run = tmp_path / "experts", tmp_path / "run"
    small = {"num_experts": 2, "train_epochs": 3, "width": 8, "depth": 2, "augmentation": "galaxy", "trajectories": experts}
    main(["fit", *common, "--run_dir", str(tmp_path / "fit"), *(f"--model.{name}={value}" for name, value in small.items())])
    short = {**SHORT, "iterations": 4, "trajectories": experts}
    main(["distill", *common, "--run_dir", str(run), *(f"--model.{name}={value}" for name, value in short.items())])
    main(
        [
            *["evaluate", "--synthetic", str(run / "best.h5"), "--data", str(toy_path), "--device", device.type],
            *[
                "--num_eval=1",
                "--epochs=3",
                "--draws=1",
                "--full_epochs=0",
                "--step_sizes=[0.03]",
                "--baselines=[random real]",
            ],
        ]
    )
    record = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert record["settings"]["device"] == device.type


def test_what_cannot_fit_is_refused_before_it_fails(device: torch.device, toy: Galaxies) -> None:
    convnet = ConvNet(3, 16, width=8, depth=2)
    theta, images = FunctionalNetwork.parameters_of(convnet).to(device), torch.zeros(3, 3, 16, 16, device=device)
    settings = {"objective": "match", "syn_steps": 10**9, "memory_budget": 0.25, "student_momentum": 0.0}
    for name, way in UNROLLS.items():
        with pytest.raises(InputError, match=rf"take at least .* GiB .*\({device.type}.*\); take fewer --model.syn_steps"):
            require_unroll_memory(way(), FunctionalNetwork(convnet), theta, images, {**settings, "unroll": name})
    ensemble = Ensemble({"name": "ConvNet", "num_classes": 3, "resolution": 16, "width": 8, "depth": 2}, device)
    ensemble.derivatives = None  # else a CPU works on portions of a batch
    given = {"train_epochs": 1, "compression": "gzip", "width": 8}
    with pytest.raises(InputError, match=rf"GiB of memory.*\({device.type}.*\); take a smaller --data.batch_size"):
        require_room(ensemble, 1, (10**8, 3, 16, 16), given, 1)
