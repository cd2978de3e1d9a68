"""Experts and their trajectories."""

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F

from gz_lightning.augmentation import augment
from gz_lightning.data.datamodule import GalaxyZoo2DataModule
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.experts.inspection import summary
from gz_lightning.experts.module import ExpertModule
from gz_lightning.experts.trajectories import METRICS, Recipe, TrajectoryStore, write_expert
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.networks.registry import build_network
from gz_lightning.randomness import derived_seed, generator
from tests.conftest import write_toy

SETTINGS: dict[str, Any] = {"train_epochs": 2, "lr": 0.05, "width": 4, "depth": 2, "augmentation": "galaxy"}
RECIPE = Recipe({"name": "ConvNet", "num_classes": 3, "resolution": 16, "width": 4}, "abc", {"lr": 0.1})
ONES = {name: [0.25, 0.75] for name in METRICS}


def fit(folder: Path, toy_path: Path, options: dict[str, Any], **settings: Any) -> ExpertModule:
    experts = ExpertModule(str(folder), **{**SETTINGS, **settings})
    pl.Trainer(**options).fit(experts, datamodule=GalaxyZoo2DataModule(str(toy_path), batch_size=16))
    return experts


def test_store_round_trip(tmp_path: Path) -> None:
    rows = torch.randn(3, 50)
    for expert in (4, 0):
        write_expert(tmp_path, expert, rows + expert, ONES, RECIPE)
    store = TrajectoryStore(tmp_path)
    assert (store.experts, store.num_epochs, store.num_parameters, len(store)) == ([0, 4], 2, 50, 2)
    assert store.recipe == RECIPE
    for epoch in range(3):
        assert torch.equal(store.parameters(4, epoch), rows[epoch] + 4)
    assert store.metrics[["expert", "epoch"]].to_numpy().tolist() == [[0, 1], [0, 2], [4, 1], [4, 2]]
    assert store.metrics["val_accuracy"].tolist() == [0.25, 0.75] * 2
    assert "validation accuracy 75.0 ± 0.0 %" in summary(store)


def test_store_refuses_what_does_not_belong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are no experts in .*'gz-lightning fit' trains some"):
        TrajectoryStore(tmp_path)
    write_expert(tmp_path, 0, torch.zeros(3, 50), ONES, RECIPE)
    with pytest.raises(InputError, match="no expert 1 at epoch 0: it has 1 experts and the epochs 0 to 2"):
        TrajectoryStore(tmp_path).parameters(1, 0)
    with pytest.raises(InputError, match="no expert 0 at epoch 3"):
        TrajectoryStore(tmp_path).parameters(0, 3)
    write_expert(tmp_path, 1, torch.zeros(3, 50), ONES, Recipe(RECIPE.network, "abc", {"lr": 0.2}))
    with pytest.raises(InputError, match=r"expert_0001.h5 is not of one kind .*training has lr 0.2 instead of 0.1"):
        TrajectoryStore(tmp_path)
    (tmp_path / "expert_0001.h5").write_bytes(b"no HDF5 at all")
    with pytest.raises(InputError, match=r"expert_0001.h5 .* is damaged"):
        TrajectoryStore(tmp_path)


def test_store_finds_damage_in_the_epoch_that_is_damaged(tmp_path: Path) -> None:
    rows = torch.randn(3, 5000)
    write_expert(tmp_path, 0, rows, ONES, RECIPE)
    path = tmp_path / "expert_0000.h5"
    content = bytearray(path.read_bytes())
    place = content.find(rows[1].numpy().tobytes())
    content[place + 4444] ^= 1
    path.write_bytes(content)
    store = TrajectoryStore(tmp_path)
    assert torch.equal(store.parameters(0, 0), rows[0])
    with pytest.raises(InputError, match=r"expert_0000.h5 .* is damaged"):
        store.parameters(0, 1)


def test_trajectory_against_the_plain_loop(tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any]) -> None:
    """SGD on class-balanced cross entropy, written out: the same parameters after every epoch."""
    fit(tmp_path, toy_path, trainer_options, num_experts=1, first_expert=3)
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


def test_interrupted_and_started_again_gives_the_same(
    tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped in the second expert: the first is kept as it is, the others are trained as if nothing had been."""
    fit(tmp_path / "whole", toy_path, trainer_options, num_experts=3)

    class Stop(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if trainer.current_epoch == 2:
                raise RuntimeError("power cut")

    experts = ExpertModule(str(tmp_path / "cut"), **SETTINGS, num_experts=3)
    trainer = pl.Trainer(**trainer_options, callbacks=[Stop()])
    with pytest.raises(RuntimeError, match="power cut"):
        trainer.fit(experts, datamodule=GalaxyZoo2DataModule(str(toy_path), batch_size=16))
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["expert_0000.h5"]
    first = (tmp_path / "cut" / "expert_0000.h5").stat().st_mtime_ns
    fit(tmp_path / "cut", toy_path, trainer_options, num_experts=3)
    assert "holds 1 of the 3 experts already" in capsys.readouterr().err.replace("\n", " ")
    assert (tmp_path / "cut" / "expert_0000.h5").stat().st_mtime_ns == first
    assert TrajectoryStore(tmp_path / "cut").fingerprint == TrajectoryStore(tmp_path / "whole").fingerprint
    again = fit(tmp_path / "cut", toy_path, trainer_options, num_experts=3)
    assert again.missing == []


def test_momentum_does_not_pass_from_one_expert_to_the_next(
    tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any]
) -> None:
    fit(tmp_path / "both", toy_path, trainer_options, num_experts=2, momentum=0.9)
    fit(tmp_path / "alone", toy_path, trainer_options, num_experts=1, first_expert=1, momentum=0.9)
    both, alone = TrajectoryStore(tmp_path / "both"), TrajectoryStore(tmp_path / "alone")
    assert torch.equal(both.parameters(1, 2), alone.parameters(1, 2))


def test_other_settings_or_galaxies_are_refused(tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any]) -> None:
    fit(tmp_path / "store", toy_path, trainer_options, num_experts=1)
    with pytest.raises(InputError, match=r"other kind: its network has width 4 instead of 8; name another"):
        fit(tmp_path / "store", toy_path, trainer_options, num_experts=2, width=8)
    with pytest.raises(InputError, match=r"its training has lr 0.05 instead of 0.1"):
        fit(tmp_path / "store", toy_path, trainer_options, num_experts=2, lr=0.1)
    with pytest.raises(InputError, match="its galaxies are others"):
        fit(tmp_path / "store", write_toy(tmp_path / "other.h5", seed=9), trainer_options, num_experts=2)


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
        fit(tmp_path, toy_path, trainer_options, num_experts=1, lr=1e20)
    assert not list(tmp_path.glob("*.h5"))


def test_a_plain_trainer_does(tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any]) -> None:
    """Its check before the first epoch, which has no expert to score yet, is left out."""
    options = {name: value for name, value in trainer_options.items() if name != "num_sanity_val_steps"}
    fit(tmp_path, toy_path, options, num_experts=1, train_epochs=1)
    assert len(TrajectoryStore(tmp_path)) == 1


def test_without_validation_galaxies_it_says_so(tmp_path: Path, trainer_options: dict[str, Any]) -> None:
    path = write_toy(tmp_path / "few.h5", per_class=2)  # of ten galaxies the first six are for training
    with pytest.raises(InputError, match=r"few.h5 has no val galaxies; prepare it with .*--val_fraction"):
        fit(tmp_path / "store", path, trainer_options)


class Poison(pl.Callback):
    """One pixel of one batch of the first expert is none: as from a broken disk or memory."""

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
    whole = fit(tmp_path / "whole", toy_path, trainer_options, **settings | {"checkpoint_minutes": 60})
    found, wanted = TrajectoryStore(tmp_path / "experts"), TrajectoryStore(whole.folder)
    assert all(torch.equal(found.trajectory(expert), wanted.trajectory(expert)) for expert in (0, 1))
