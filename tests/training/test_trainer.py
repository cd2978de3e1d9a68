"""Settings of a Trainer that cannot be honoured are refused before work begins."""

from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    EarlyStopping,
    GradientAccumulationScheduler,
    StochasticWeightAveraging,
)

from gz_lightning.errors import InputError
from gz_lightning.training.trainer import refuse_settings

METRICS = ("loss", "val/loss")
INSTEAD = {"max_epochs": "--model.iterations"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gradient_clip_val": 1.0}, "--trainer.gradient_clip_val 1.0 is not supported here: leave it out"),
        ({"accumulate_grad_batches": 2}, "--trainer.accumulate_grad_batches 2"),
        ({"limit_train_batches": 3}, "--trainer.limit_train_batches 3"),
        ({"overfit_batches": 1}, "--trainer.overfit_batches 1|--trainer.limit_train_batches 1"),
        ({"fast_dev_run": True}, "--trainer.(fast_dev_run|limit_train_batches)"),
        ({"max_epochs": 5}, "--trainer.max_epochs 5 is not supported here: use --model.iterations instead"),
        ({"max_steps": 5}, "--trainer.max_steps 5"),
        ({"precision": "bf16-mixed"}, "--trainer.precision must be one of 32-true here, not bf16-mixed"),
        ({"callbacks": [StochasticWeightAveraging(0.1)]}, "StochasticWeightAveraging changes what is trained"),
        ({"val_check_interval": 0.5}, "--trainer.val_check_interval 0.5"),
        ({"callbacks": [BatchSizeFinder()]}, "BatchSizeFinder changes what is trained"),
        ({"callbacks": [GradientAccumulationScheduler({0: 2})]}, "GradientAccumulationScheduler changes what is trained"),
        ({"callbacks": [EarlyStopping("val_loss")]}, "EarlyStopping monitors 'val_loss', which is not logged here"),
    ],
)
def test_what_would_shape_the_training_is_refused(
    settings: dict[str, Any], message: str, trainer_options: dict[str, Any]
) -> None:
    trainer = pl.Trainer(**trainer_options, **settings)
    with pytest.raises(InputError, match=message):
        refuse_settings(trainer, ("32-true",), INSTEAD, METRICS)


def test_what_leaves_it_alone_passes(trainer_options: dict[str, Any]) -> None:
    stopping: list[pl.Callback] = [EarlyStopping("val/loss"), EarlyStopping("loss/start_epoch_3")]
    trainer = pl.Trainer(**trainer_options, max_epochs=-1, callbacks=stopping, max_time="00:01:00:00")
    refuse_settings(trainer, ("32-true", "64-true"), INSTEAD, METRICS)
