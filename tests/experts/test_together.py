"""Experts trained together are those trained alone."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.states import TrainerFn

from gz_lightning.augmentation import augment
from gz_lightning.data.datamodule import GalaxyZoo2DataModule
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.experts import module
from gz_lightning.experts.capacity import fitting_number
from gz_lightning.experts.group import step_size
from gz_lightning.experts.module import ExpertModule
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.networks.ensemble import Ensemble
from gz_lightning.networks.registry import build_network
from gz_lightning.randomness import derived_seed, generator

SETTINGS: dict[str, Any] = {"train_epochs": 3, "lr": 0.05, "width": 4, "depth": 2}
NETWORK = {"name": "ConvNet", "num_classes": 3, "resolution": 8, "width": 4, "depth": 2}


def fit(folder: Path, toy_path: Path, options: dict[str, Any], **settings: Any) -> TrajectoryStore:
    experts = ExpertModule(str(folder), **{**SETTINGS, **settings})
    trainer = pl.Trainer(**options, default_root_dir=folder.parent)
    trainer.fit(experts, datamodule=GalaxyZoo2DataModule(str(toy_path), batch_size=16))
    return TrajectoryStore(folder)


def trajectories(store: TrajectoryStore) -> torch.Tensor:
    return torch.stack([store.trajectory(expert) for expert in store.experts])


def plain_loop(toy_path: Path, expert: int, settings: dict[str, Any]) -> torch.Tensor:
    """One expert in float64, every update written out."""
    data = Galaxies(toy_path)
    network = build_network(
        {"name": "ConvNet", "num_classes": 3, "resolution": 16, "width": 4, "depth": 2},
        seed=derived_seed(0, "initialisation", expert),
    ).double()
    parameters = list(network.parameters())
    velocity = [torch.zeros_like(p) for p in parameters]
    rows = [torch.nn.utils.parameters_to_vector(parameters).detach()]
    labels = data.train.labels
    weights = (len(labels) / (3 * torch.bincount(labels))).float().double()
    for epoch in range(3):
        lr = step_size(0.05, settings.get("lr_schedule", "constant"), epoch, 3)
        order = torch.randperm(len(labels), generator=generator(0, "order", expert, epoch))
        draws = generator(0, "augmentation", expert, epoch)
        for batch in order.split(16):
            torch.set_default_dtype(torch.float64)  # as Lightning does: the augmentation draws its numbers in float64
            try:
                images = augment(data.standardise(data.train.images[batch]).double(), settings["augmentation"], draws)
            finally:
                torch.set_default_dtype(torch.float32)

            loss = F.cross_entropy(network(images), labels[batch], weight=weights)
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for p, v, g in zip(parameters, velocity, gradients, strict=True):
                    v.mul_(settings.get("momentum", 0)).add_(g + settings.get("weight_decay", 0) * p)
                    p.sub_(lr * v)
        rows.append(torch.nn.utils.parameters_to_vector(parameters).detach())
    return torch.stack(rows)


def by_vmap(description: dict[str, Any], device: torch.device) -> Ensemble:
    """An ensemble that works as on a GPU."""
    ensemble = Ensemble(description, device)
    ensemble._stacks_by_vmap = True
    return ensemble


@pytest.mark.parametrize(
    "settings",
    [
        {"augmentation": "galaxy"},
        {
            "augmentation": "color_crop_cutout_flip_scale_rotate",
            "momentum": 0.9,
            "weight_decay": 0.01,
            "lr_schedule": "cosine",
        },
        {"augmentation": "galaxy", "lr_schedule": "step"},
    ],
    ids=["published", "better", "step"],
)
def test_together_in_float64_is_each_alone(
    settings: dict[str, Any],
    tmp_path: Path,
    toy_path: Path,
    trainer_options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stacks of two and one, threads, one at a time, and the plain loop: stored as float32, equal to its rounding."""
    double = trainer_options | {"precision": "64-true"}
    monkeypatch.setattr(module, "Ensemble", by_vmap)
    stacked = trajectories(fit(tmp_path / "stacked", toy_path, double, num_experts=3, experts_at_once=2, **settings))
    monkeypatch.undo()
    torch.set_num_threads(2)
    try:
        threads = trajectories(fit(tmp_path / "threads", toy_path, double, num_experts=3, experts_at_once=2, **settings))
    finally:
        torch.set_num_threads(1)
    alone = trajectories(fit(tmp_path / "alone", toy_path, double, num_experts=3, experts_at_once=1, **settings))
    torch.testing.assert_close(stacked, alone, rtol=2e-7, atol=1e-9)
    torch.testing.assert_close(threads, alone, rtol=2e-7, atol=1e-9)
    for expert in range(3):
        plain = plain_loop(toy_path, expert, settings)
        torch.testing.assert_close(stacked[expert].double(), plain, rtol=2e-7, atol=1e-8)


def test_votes_and_rotations_together(tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any]) -> None:
    settings = {"num_experts": 2, "labels": "votes", "rotations": 2, "train_epochs": 1, "augmentation": "galaxy"}
    double = trainer_options | {"precision": "64-true"}
    found = [fit(tmp_path / str(n), toy_path, double, experts_at_once=n, **settings) for n in (1, 2)]
    torch.testing.assert_close(trajectories(found[0]), trajectories(found[1]), rtol=2e-7, atol=1e-9)
    columns = ["train_loss", "train_accuracy", "val_loss", "val_accuracy"]
    assert abs(found[0].metrics[columns] - found[1].metrics[columns]).to_numpy().max() < 1e-9
    for expert in (0, 1):
        confusion = found[1].confusion(expert)
        assert confusion is not None
        accuracy = float(confusion.trace() / confusion.sum())
        assert found[1].metrics["val_accuracy"][expert] == pytest.approx(accuracy)


def test_schedules() -> None:
    assert [step_size(1.0, "constant", epoch, 4) for epoch in range(4)] == [1.0] * 4
    assert [step_size(1.0, "step", epoch, 4) for epoch in range(4)] == [1.0, 1.0, 1.0, 0.1]
    assert [round(step_size(1.0, "cosine", epoch, 4), 3) for epoch in range(4)] == [1.0, 0.854, 0.5, 0.146]


def test_one_at_a_time_where_there_is_no_gpu() -> None:
    assert fitting_number(Ensemble(NETWORK), (256, 3, 32, 32), 128) == 1


def test_validate_and_test_score_the_store(toy_experts: Path, toy: Galaxies, trainer_options: dict[str, Any]) -> None:
    store = TrajectoryStore(toy_experts)
    experts = ExpertModule(str(toy_experts), width=8, depth=2)
    trainer = pl.Trainer(**trainer_options)
    (found,) = trainer.validate(experts, datamodule=GalaxyZoo2DataModule(str(toy.path), batch_size=16), verbose=False)
    last = store.metrics[store.metrics["epoch"] == store.num_epochs]
    assert found["val/accuracy"] == pytest.approx(last["val_accuracy"].mean())
    assert found["val/loss"] == pytest.approx(last["val_loss"].mean(), rel=1e-4)
    (found,) = trainer.test(experts, datamodule=GalaxyZoo2DataModule(str(toy.path), batch_size=16), verbose=False)
    assert set(found) == {"test/loss", "test/accuracy", "test/accuracy_std"}
    with pytest.raises(InputError, match="another kind: its network has width 8 instead of 4"):
        trainer.test(
            ExpertModule(str(toy_experts), width=4, depth=2),
            datamodule=GalaxyZoo2DataModule(str(toy.path), batch_size=16),
            verbose=False,
        )


def test_processes_of_one_trainer_share_the_experts(
    tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """Three experts of two processes: one trains two, and each expert is the same as of one process, to the last bit."""
    alone = fit(tmp_path / "alone", toy_path, trainer_options, num_experts=3)
    strategy = DDPStrategy(start_method="spawn", process_group_backend="gloo")
    options = trainer_options | {"devices": 2, "strategy": strategy}
    shared = fit(tmp_path / "shared", toy_path, options, num_experts=3)
    assert shared.experts == [0, 1, 2]
    assert torch.equal(trajectories(shared), trajectories(alone))
    assert shared.metrics.equals(alone.metrics)
    assert "3 experts of 3 epochs" in capfd.readouterr().err


def test_no_process_of_several_takes_the_checkpoint_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.Trainer, "world_size", 2)
    experts = ExpertModule()
    experts.trainer = pl.Trainer(accelerator="cpu", logger=False)
    experts.trainer.state.fn = TrainerFn.FITTING
    with pytest.raises(InputError, match="a checkpoint is of the group of one process"):
        experts.on_load_checkpoint({"experts": {}})


def test_a_checkpoint_keeps_its_groups(tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any]) -> None:
    """Stopped in the second group of two, gone on with another size and more experts: the groups begun stay as they were."""
    settings = SETTINGS | {"num_experts": 4, "checkpoint_minutes": 0}

    class Stop(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if trainer.current_epoch == 4:
                raise RuntimeError("power cut")

    data = GalaxyZoo2DataModule(str(toy_path), batch_size=16)
    first = ExpertModule(str(tmp_path / "experts"), experts_at_once=2, **settings)
    with pytest.raises(RuntimeError, match="power cut"):
        pl.Trainer(**trainer_options, default_root_dir=tmp_path, callbacks=[Stop()]).fit(first, datamodule=data)
    second = ExpertModule(str(tmp_path / "experts"), experts_at_once=1, **(settings | {"num_experts": 5}))
    last = tmp_path / "checkpoints" / "last.ckpt"
    pl.Trainer(**trainer_options, default_root_dir=tmp_path).fit(second, datamodule=data, ckpt_path=last, weights_only=True)
    assert second.groups == [[0, 1], [2, 3], [4]]
    whole = fit(tmp_path / "whole", toy_path, trainer_options, num_experts=5)
    torch.testing.assert_close(
        trajectories(TrajectoryStore(tmp_path / "experts")), trajectories(whole), rtol=1e-3, atol=1e-5
    )
    other = ExpertModule(str(tmp_path / "others"), **(settings | {"lr": 0.1}))
    with pytest.raises(InputError, match=r"last.ckpt is of experts of another kind: its training has lr 0.05"):
        pl.Trainer(**trainer_options, default_root_dir=tmp_path).fit(
            other, datamodule=data, ckpt_path=last, weights_only=True
        )
