"""Experts against the plain loop, alone and together, whole and interrupted."""

import math
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
from gz_lightning.experts.batches import Batches
from gz_lightning.experts.group import step_size
from gz_lightning.experts.module import ExpertModule
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.networks.ensemble import Ensemble
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.networks.registry import build_network
from gz_lightning.randomness import derived_seed, generator
from tests.conftest import write_toy
from tests.no_waiting import NoWaiting

SETTINGS: dict[str, Any] = {"train_epochs": 2, "lr": 0.05, "width": 4, "depth": 2, "augmentation": "galaxy"}
THREE: dict[str, Any] = {"train_epochs": 3, "lr": 0.05, "width": 4, "depth": 2}


def train(folder: Path, toy_path: Path, options: dict[str, Any], **settings: Any) -> ExpertModule:
    experts = ExpertModule(str(folder), **{**SETTINGS, **settings})
    pl.Trainer(**options).fit(experts, datamodule=GalaxyZoo2DataModule(str(toy_path), batch_size=16))
    return experts


def fit(folder: Path, toy_path: Path, options: dict[str, Any], **settings: Any) -> TrajectoryStore:
    experts = ExpertModule(str(folder), **{**THREE, **settings})
    trainer = pl.Trainer(**options, default_root_dir=folder.parent)
    trainer.fit(experts, datamodule=GalaxyZoo2DataModule(str(toy_path), batch_size=16))
    return TrajectoryStore(folder)


def trajectories(store: TrajectoryStore) -> torch.Tensor:
    return torch.stack([store.trajectory(expert) for expert in store.experts])


def test_trajectory_against_the_plain_loop(tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any]) -> None:
    """SGD on class-balanced cross entropy, written out: the same parameters after every epoch."""
    train(tmp_path, toy_path, trainer_options, num_experts=1, first_expert=3)
    store = TrajectoryStore(tmp_path)
    data = Galaxies(toy_path)
    network = build_network(store.recipe.network, seed=derived_seed(0, "initialisation", 3))
    assert torch.equal(store.parameters(3, 0), FunctionalNetwork.parameters_of(network))
    images, labels = data.train.images, data.train.labels
    weights = len(labels) / (3 * torch.bincount(labels))
    for epoch in range(2):
        order = torch.randperm(len(labels), generator=generator(0, "order", 3, epoch))
        draws = generator(0, "augmentation", 3, epoch)
        for rows in order.split(16):
            batch = augment((images[rows] / 255 - data.mean[:, None, None]) / data.std[:, None, None], "galaxy", draws)
            loss = F.cross_entropy(network(batch), labels[rows], weight=weights)
            gradients = torch.autograd.grad(loss, list(network.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                    parameter.sub_(0.05 * gradient)
        torch.testing.assert_close(store.parameters(3, epoch + 1), FunctionalNetwork.parameters_of(network))


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


def test_accuracies_are_those_of_the_parameters(toy_experts: Path, toy: Galaxies) -> None:
    store = TrajectoryStore(toy_experts)
    network = FunctionalNetwork(build_network(store.recipe.network))
    for row in store.metrics.itertuples():
        logits = network(store.parameters(row.expert, row.epoch), toy.standardise(toy.val.images))
        assert row.val_accuracy == pytest.approx(float((logits.argmax(1) == toy.val.labels).float().mean()))
        assert row.val_loss == pytest.approx(float(F.cross_entropy(logits, toy.val.labels)), rel=1e-4)
    last = store.metrics[store.metrics["epoch"] == 4]
    assert last["val_accuracy"].mean() > 0.6  # they learn: chance is a third
    assert not torch.equal(store.parameters(0, 0), store.parameters(1, 0))


def test_the_store_knows_the_galaxies(toy_experts: Path, toy: Galaxies) -> None:
    store = TrajectoryStore(toy_experts)
    assert store.recipe.data == toy.fingerprint
    assert store.recipe.network["width"] == 8
    assert store.recipe.training["batch_size"] == 16


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


def test_a_trainer_that_has_trained_scores_but_trains_no_more(
    tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """``fit`` then ``test`` is how every notebook does it; Lightning counts the epochs of a second ``fit`` on."""
    trainer, data = pl.Trainer(**trainer_options), GalaxyZoo2DataModule(str(toy_path), batch_size=16)
    experts = ExpertModule(str(tmp_path / "experts"), **{**SETTINGS, "checkpoint_minutes": 0})
    trainer.fit(experts, datamodule=data)
    (after,) = trainer.test(experts, datamodule=data, verbose=False)
    (fresh,) = pl.Trainer(**trainer_options).test(experts, datamodule=data, verbose=False)
    assert after == fresh
    for again in (experts, ExpertModule(str(tmp_path / "others"), **SETTINGS)):
        with pytest.raises(InputError, match=r"^this Trainer has trained before, .*: make a new one for each run$"):
            trainer.fit(again, datamodule=data)
    assert not (tmp_path / "others").exists()
    assert "resume from" not in capsys.readouterr().err  # nothing was interrupted


def test_a_share_of_the_galaxies_is_no_score(toy_experts: Path, toy_path: Path, trainer_options: dict[str, Any]) -> None:
    trainer = pl.Trainer(**trainer_options, limit_test_batches=0.5)
    with pytest.raises(InputError, match=r"^--trainer.limit_test_batches 0.5 is not supported here: leave it out$"):
        trainer.test(ExpertModule(str(toy_experts), width=8, depth=2), datamodule=GalaxyZoo2DataModule(str(toy_path)))


def test_interrupted_and_started_again_gives_the_same(
    tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped in the second expert: the first is kept as it is, the others are trained as if nothing had been."""
    train(tmp_path / "whole", toy_path, trainer_options, num_experts=3)

    class Stop(pl.Callback):
        watches_only = True

        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if trainer.current_epoch == 2:
                raise RuntimeError("power cut")

    experts = ExpertModule(str(tmp_path / "cut"), **SETTINGS, num_experts=3)
    trainer = pl.Trainer(**trainer_options, callbacks=[Stop()])
    with pytest.raises(RuntimeError, match="power cut"):
        trainer.fit(experts, datamodule=GalaxyZoo2DataModule(str(toy_path), batch_size=16))
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["expert_0000.h5"]
    first = (tmp_path / "cut" / "expert_0000.h5").stat().st_mtime_ns
    train(tmp_path / "cut", toy_path, trainer_options, num_experts=3)
    assert "holds 1 of the 3 experts already" in capsys.readouterr().err.replace("\n", " ")
    assert (tmp_path / "cut" / "expert_0000.h5").stat().st_mtime_ns == first
    assert TrajectoryStore(tmp_path / "cut").fingerprint == TrajectoryStore(tmp_path / "whole").fingerprint
    again = train(tmp_path / "cut", toy_path, trainer_options, num_experts=3)
    assert again.missing == []


def test_momentum_does_not_pass_from_one_expert_to_the_next(
    tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any]
) -> None:
    train(tmp_path / "both", toy_path, trainer_options, num_experts=2, momentum=0.9)
    train(tmp_path / "alone", toy_path, trainer_options, num_experts=1, first_expert=1, momentum=0.9)
    both, alone = TrajectoryStore(tmp_path / "both"), TrajectoryStore(tmp_path / "alone")
    assert torch.equal(both.parameters(1, 2), alone.parameters(1, 2))


def test_a_checkpoint_keeps_its_groups(tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any]) -> None:
    """Stopped in the second group of two, gone on with another size and more experts: the groups begun stay as they were."""
    settings = THREE | {"num_experts": 4, "checkpoint_minutes": 0}

    class Stop(pl.Callback):
        watches_only = True

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
    said = " ".join(capfd.readouterr().err.split())
    assert "3 experts of 3 epochs" in said
    steps = shared.recipe.steps_per_epoch(len(Galaxies(toy_path).train)) or 0
    assert steps
    words = f"3 experts x 3 epochs x {steps} steps ({9 * steps} in all), networks of {shared.num_parameters:,} parameters; "
    assert words in said


def test_no_process_of_several_takes_the_checkpoint_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.Trainer, "world_size", 2)
    experts = ExpertModule()
    experts.trainer = pl.Trainer(accelerator="cpu", logger=False)
    experts.trainer.state.fn = TrainerFn.FITTING
    with pytest.raises(InputError, match="a checkpoint is of the group of one process"):
        experts.on_load_checkpoint({"experts": {}})


def test_other_settings_or_galaxies_are_refused(tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any]) -> None:
    train(tmp_path / "store", toy_path, trainer_options, num_experts=1)
    with pytest.raises(InputError, match=r"other kind: its network has width 4 instead of 8; name another"):
        train(tmp_path / "store", toy_path, trainer_options, num_experts=2, width=8)
    with pytest.raises(InputError, match=r"its training has lr 0.05 instead of 0.1"):
        train(tmp_path / "store", toy_path, trainer_options, num_experts=2, lr=0.1)
    with pytest.raises(InputError, match="its galaxies are others"):
        train(tmp_path / "store", write_toy(tmp_path / "other.h5", seed=9), trainer_options, num_experts=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_experts": 0}, "--model.num_experts must be a whole number >= 1, not 0"),
        ({"first_expert": -1}, "--model.first_expert must be a whole number >= 0, not -1"),
        ({"experts_at_once": 0}, "--model.experts_at_once must be a whole number >= 1 or null, not 0"),
        ({"lr": 0.0}, "--model.lr must be a number > 0, not 0.0"),
        ({"momentum": -0.1}, "--model.momentum must be a number >= 0, not -0.1"),
        ({"lr_schedule": "linear"}, "--model.lr_schedule must be one of constant, cosine, step, not 'linear'"),
        ({"precision": "int8"}, "--model.precision must be one of float32, float16, bfloat16, not 'int8'"),
        ({"compression": "zip"}, "--model.compression must be one of none, gzip, not 'zip'"),
        ({"augmentation": "blur"}, "no augmentation 'blur'"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ExpertModule(**settings)


def test_an_expert_that_explodes_is_named(tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any]) -> None:
    with pytest.raises(
        InputError, match=r"the parameters of expert 0 are not finite after epoch 1 .*; .*--model.lr is 1e\+20"
    ):
        train(tmp_path, toy_path, trainer_options, num_experts=1, lr=1e20)
    assert not list(tmp_path.glob("*.h5"))


class Poison(pl.Callback):
    """One pixel of one batch of the first expert is none: as from a broken disk or memory."""

    watches_only = True  # it stands for a fault, of which no record tells

    def __init__(self, epoch: int, batch: int, value: float) -> None:
        self.epoch, self.batch, self.value = epoch, batch, value

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        assert isinstance(pl_module, ExpertModule)
        batches = pl_module.batches
        take = type(batches).take

        def poisoned(*args: Any) -> Any:
            images, targets, labels = take(batches, *args)
            if args[1] == 0:
                images[0, 0, 0, 0] = self.value
            return images, targets, labels

        due = (trainer.current_epoch, batch_idx) == (self.epoch, self.batch)
        batches.take = poisoned if due else take.__get__(batches)  # type: ignore[method-assign,assignment]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_goes_wrong_in_a_batch_is_named_and_nothing_whole_is_lost(
    value: float, tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any]
) -> None:
    settings = SETTINGS | {"num_experts": 2, "experts_at_once": 1, "train_epochs": 3, "checkpoint_minutes": 0}
    data = GalaxyZoo2DataModule(str(toy_path), batch_size=16)
    module = ExpertModule(str(tmp_path / "experts"), **settings)
    trainer = pl.Trainer(**trainer_options, default_root_dir=tmp_path, callbacks=[Poison(4, 1, value)])
    where = r"expert 1 are not finite after epoch 2 \(nor its loss from batch 2 of 4 on\)"
    with pytest.raises(InputError, match=where):
        trainer.fit(module, datamodule=data)
    assert TrajectoryStore(tmp_path / "experts").experts == [0]
    again = ExpertModule(str(tmp_path / "experts"), **settings)
    last = tmp_path / "checkpoints" / "last.ckpt"
    pl.Trainer(**trainer_options, default_root_dir=tmp_path).fit(again, datamodule=data, ckpt_path=last)
    whole = train(tmp_path / "whole", toy_path, trainer_options, **settings | {"checkpoint_minutes": 60})
    found, wanted = TrajectoryStore(tmp_path / "experts"), TrajectoryStore(whole.folder)
    assert all(torch.equal(found.trajectory(expert), wanted.trajectory(expert)) for expert in (0, 1))


def test_a_plain_trainer_does(tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any]) -> None:
    """Its check before the first epoch, which has no expert to score yet, is left out."""
    options = {name: value for name, value in trainer_options.items() if name != "num_sanity_val_steps"}
    train(tmp_path, toy_path, options, num_experts=1, train_epochs=1)
    assert len(TrajectoryStore(tmp_path)) == 1


def test_without_validation_galaxies_it_says_so(tmp_path: Path, trainer_options: dict[str, Any]) -> None:
    path = write_toy(tmp_path / "few.h5", per_class=2)  # of ten galaxies the first six are for training
    with pytest.raises(InputError, match=r"few.h5 has no val galaxies; prepare it with .*--val_fraction"):
        train(tmp_path / "store", path, trainer_options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "16-true"}, "--trainer.precision must be one of 32-true, 64-true, bf16-mixed here"),
        ({"gradient_clip_val": 1.0}, "--trainer.gradient_clip_val 1.0 is not supported here"),
        ({"max_epochs": 7}, "--trainer.max_epochs 7 is not supported here: use --model.train_epochs instead"),
    ],
)
def test_a_trainer_that_would_change_experts_is_refused(
    options: dict[str, Any], message: str, tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=message):
        fit(tmp_path / "store", toy_path, trainer_options | options)


def test_mixed_precision_trains(tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any]) -> None:
    settings = {"num_experts": 2, "train_epochs": 1}
    mixed = fit(tmp_path / "mixed", toy_path, trainer_options | {"precision": "bf16-mixed"}, experts_at_once=2, **settings)
    whole = fit(tmp_path / "whole", toy_path, trainer_options, **settings)
    assert not torch.equal(trajectories(mixed), trajectories(whole))
    torch.testing.assert_close(trajectories(mixed), trajectories(whole), rtol=0.1, atol=0.05)


def test_nothing_of_a_step_waits_for_a_gpu(toy_path: Path, tmp_path: Path, trainer_options: dict[str, Any]) -> None:
    """On the meta device, as a GPU stacks the experts: no read, nothing left on the CPU, few copies from the host."""
    settings: dict[str, Any] = {"num_experts": 3, "experts_at_once": 3, "train_epochs": 1, "width": 8, "depth": 2}
    experts = ExpertModule(str(tmp_path), augmentation="galaxy", rotations=2, **settings)
    trainer = pl.Trainer(**trainer_options, default_root_dir=tmp_path / "run")
    trainer.fit(experts, datamodule=GalaxyZoo2DataModule(str(toy_path), batch_size=16))
    meta = torch.device("meta")
    experts.to(meta)
    trainer.strategy.optimizers = [experts.configure_optimizers()]
    experts.ensemble.device, experts.ensemble._stacks_by_vmap = meta, True
    experts.class_weights = experts.class_weights.to(meta)
    experts.batches = Batches(experts.galaxies, 16, experts.hparams, meta)
    experts.batches.begin_epoch(experts.group.experts, 0)
    experts.train_tally.reset()
    with NoWaiting("meta") as mode:
        experts.training_step(0, 0)
    assert experts.batch_losses[-1].is_meta
    assert isinstance(experts.train_tally.loss_sum, torch.Tensor)
    assert experts.train_tally.loss_sum.is_meta
    assert mode.copies == 3 * 3  # mean, standard deviation and draws of each expert
