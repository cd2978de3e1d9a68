"""Settings of a Trainer that cannot be honoured are refused before work begins."""

import inspect
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    EarlyStopping,
    GradientAccumulationScheduler,
    LambdaCallback,
    ModelCheckpoint,
    StochasticWeightAveraging,
    Timer,
)

from gz_lightning.errors import InputError
from gz_lightning.experts.callbacks import GroupLock
from gz_lightning.training.trainer import HONOURED, NEUTRAL, refuse_monitors, refuse_settings, refuse_trainer, settings_of


class Clip(pl.Callback):
    """Makes gradients smaller."""

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        for parameter in pl_module.parameters():
            assert parameter.grad is not None
            parameter.grad *= 0.1


class Shrink(Timer):
    """Makes parameters smaller, and says to be a clock."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:
        with torch.no_grad():
            for parameter in pl_module.parameters():
                parameter.mul_(0.9)


class Look(pl.Callback):
    """Changes nothing."""

    watches_only = True


def test_every_setting_is_honoured_or_has_neutral_values() -> None:
    parameters = inspect.signature(pl.Trainer).parameters
    assert set(parameters) <= {*HONOURED, *NEUTRAL}
    assert not set(HONOURED) & set(NEUTRAL)
    for name, neutral in NEUTRAL.items():
        assert parameters[name].default in neutral, name


OTHER: dict[str, Any] = {
    "barebones": True,
    "fast_dev_run": 1,
    "overfit_batches": 1,
    "limit_train_batches": 1,
    "limit_val_batches": 0,
    "limit_test_batches": 1,
    "limit_predict_batches": 1,
    "max_steps": 5,
    "max_epochs": 5,
    "min_steps": 3,
    "min_epochs": 2,
    "val_check_interval": 1,
    "check_val_every_n_epoch": 2,
    "num_sanity_val_steps": 3,
    "reload_dataloaders_every_n_epochs": 1,
    "accumulate_grad_batches": 2,
    "gradient_clip_val": 1.0,
    "gradient_clip_algorithm": "norm",
    "sync_batchnorm": True,
    "use_distributed_sampler": False,
    "inference_mode": False,
    "model_registry": "mine",
}


@pytest.mark.parametrize("name", NEUTRAL)
def test_what_has_another_value_is_refused_by_its_own_name(name: str, trainer_options: dict[str, Any]) -> None:
    options = {"barebones": True} if name == "barebones" else trainer_options | {name: OTHER[name]}
    with pytest.raises(InputError, match=rf"^--trainer\.{name} \S+ is not supported here: (use|leave)"):
        refuse_settings(settings_of(pl.Trainer(**options)), "fit")
    with pytest.raises(InputError, match=rf"^--trainer\.{name} \S+ is not supported here: (use|leave)"):
        refuse_settings({name: OTHER[name]}, "distill")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gradient_clip_val": 1.0}, "--trainer.gradient_clip_val 1.0 is not supported here: leave it out"),
        ({"max_epochs": 5}, "--trainer.max_epochs 5 is not supported here: use --model.iterations instead"),
        ({"val_check_interval": 0.5}, "--trainer.val_check_interval 0.5 is not supported here: use --model.eval_it instead"),
        ({"val_check_interval": "00:00:01:00"}, "--trainer.val_check_interval 0:01:00 is not supported here"),
        ({"precision": "bf16-mixed"}, "--trainer.precision must be one of 32-true here, not bf16-mixed"),
        (
            {"callbacks": [StochasticWeightAveraging(0.1)]},
            "StochasticWeightAveraging may change what is trained.*leave it out$",
        ),
        ({"callbacks": [BatchSizeFinder()]}, "BatchSizeFinder may change what is trained"),
        ({"callbacks": [GradientAccumulationScheduler({0: 2})]}, "GradientAccumulationScheduler may change what is trained"),
        ({"callbacks": [LambdaCallback()]}, "LambdaCallback may change what is trained"),
        ({"callbacks": [Look(), Clip()]}, "Clip may change what is trained.*if it does not, set watches_only = True in its"),
        ({"callbacks": [Shrink()]}, "Shrink may change what is trained"),
        ({"callbacks": [EarlyStopping("loss")]}, "EarlyStopping has no effect here: use --model.iterations instead"),
    ],
)
def test_what_would_shape_the_training_is_refused(
    settings: dict[str, Any], message: str, trainer_options: dict[str, Any]
) -> None:
    trainer = pl.Trainer(**trainer_options, **settings)
    with pytest.raises(InputError, match=message):
        refuse_trainer(trainer, "distill", ("32-true",))


def test_what_leaves_it_alone_passes(trainer_options: dict[str, Any]) -> None:
    refuse_trainer(pl.Trainer(**trainer_options), "fit", ("32-true",))
    watching: list[pl.Callback] = [EarlyStopping("val/loss"), Timer("00:00:01:00"), GroupLock(), Look()]
    shares: dict[str, Any] = {"limit_train_batches": 1.0, "limit_val_batches": 1.0, "val_check_interval": 1.0}
    trainer = pl.Trainer(**trainer_options, **shares, max_epochs=-1, callbacks=watching)
    refuse_trainer(trainer, "fit", ("32-true", "64-true"))


@pytest.mark.parametrize("monitor", ["val_loss", "loss/start_epoch_3", "los"])
def test_a_monitor_of_what_may_not_be_logged_is_refused(monitor: str, trainer_options: dict[str, Any]) -> None:
    checkpoint = ModelCheckpoint(monitor=monitor)
    trainer = pl.Trainer(**trainer_options | {"enable_checkpointing": True, "callbacks": [checkpoint]})
    with pytest.raises(InputError, match=f"ModelCheckpoint monitors '{monitor}', and what is logged .* is loss, lr$"):
        refuse_monitors(trainer, ("loss", "lr"))
    refuse_monitors(trainer, ("loss", monitor))
