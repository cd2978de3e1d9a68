"""Settings of the Trainer that the modules of this package cannot honour: refused before work begins."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from lightning.pytorch import Trainer, callbacks

from gz_lightning.errors import InputError

NEUTRAL: Mapping[str, Collection[object]] = {
    "gradient_clip_val": (None,),
    "accumulate_grad_batches": (1,),
    "limit_train_batches": (1.0,),
    "overfit_batches": (0.0,),
    "fast_dev_run": (False,),
    "val_check_interval": (1.0,),
    "max_epochs": (None, -1, 1000),  # 1000 is what Lightning makes of None
    "min_epochs": (None, 0),
    "max_steps": (-1,),
    "min_steps": (None,),
}
"""Settings of a Trainer that would change or cut short what is trained, with the values that leave it alone."""
SHAPING_CALLBACKS = (
    callbacks.BaseFinetuning,
    callbacks.BatchSizeFinder,
    callbacks.GradientAccumulationScheduler,
    callbacks.LearningRateFinder,
    callbacks.ModelPruning,
    callbacks.StochasticWeightAveraging,
    callbacks.WeightAveraging,
)
"""Callbacks that change parameters, gradients, batches or step sizes, of which no record would tell."""


def refuse_settings(
    trainer: Trainer, precisions: Collection[str], instead: Mapping[str, str], metrics: Collection[str]
) -> None:
    """Refuse a Trainer whose settings would shape the training without a record, or have no effect.

    Args:
        trainer: The Trainer.
        precisions: Values of ``precision`` that are supported.
        instead: Setting -> the setting of the module to use instead.
        metrics: What the module logs, for callbacks that monitor a metric; of ``loss`` also ``loss/start_epoch_3``.

    Raises:
        InputError: With the flag, and the setting to use instead.
    """
    for name, neutral in NEUTRAL.items():
        value = getattr(trainer, name)
        if value not in neutral:
            advice = f"use {instead[name]} instead" if name in instead else "leave it out"
            raise InputError(f"--trainer.{name} {value} is not supported here: {advice}")
    if trainer.precision not in precisions:
        raise InputError(f"--trainer.precision must be one of {', '.join(precisions)} here, not {trainer.precision}")
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, SHAPING_CALLBACKS):
            raise InputError(
                f"--trainer.callbacks: {type(callback).__name__} changes what is trained, and no record would tell: "
                "leave it out"
            )
        monitor = getattr(callback, "monitor", None)
        if monitor is not None and monitor.partition("/start_epoch_")[0] not in metrics:
            raise InputError(
                f"--trainer.callbacks: {type(callback).__name__} monitors '{monitor}', which is not logged here; "
                f"there are {', '.join(metrics)}"
            )
