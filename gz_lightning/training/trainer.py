"""Settings of the Trainer that the modules of this package cannot honour: refused before work begins."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta

from lightning.pytorch import Callback, Trainer, callbacks
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.trainer.states import TrainerFn

from gz_lightning.errors import InputError

NEUTRAL: Mapping[str, Collection[object]] = {
    "barebones": (False,),
    "fast_dev_run": (False, 0),
    "overfit_batches": (0.0, 0),
    "limit_train_batches": (None, 1.0),
    "limit_val_batches": (None, 1.0),
    "limit_test_batches": (None, 1.0),
    "limit_predict_batches": (None, 1.0),
    "max_steps": (-1,),
    "max_epochs": (None, -1),
    "min_steps": (None,),
    "min_epochs": (None, 0),
    "val_check_interval": (None, 1.0),
    "check_val_every_n_epoch": (1,),
    "num_sanity_val_steps": (None, 0, 2),
    "reload_dataloaders_every_n_epochs": (0,),
    "accumulate_grad_batches": (1,),
    "gradient_clip_val": (None,),
    "gradient_clip_algorithm": (None,),
    "sync_batchnorm": (False,),
    "use_distributed_sampler": (True,),
    "inference_mode": (True,),
    "model_registry": (None,),
}
"""Settings of a Trainer that would change or cut short what is trained, or have no effect, with the values that leave it
alone. Of batches 1 is a number and 1.0 a share. Those from which Lightning derives others come first."""
SCORING = ("barebones", "fast_dev_run", "limit_val_batches", "limit_test_batches", "limit_predict_batches")
"""Those that would cut short a score as well: all that ``Trainer.validate`` and ``Trainer.test`` are asked for, since a
Trainer that has trained still holds what a module has set."""
HONOURED = (
    *("accelerator", "strategy", "devices", "num_nodes", "precision", "plugins", "deterministic", "benchmark"),
    *("logger", "log_every_n_steps", "enable_autolog_hparams", "default_root_dir", "profiler", "detect_anomaly"),
    *("callbacks", "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "max_time"),
)
"""Settings of a Trainer that may have any value."""
INSTEAD: Mapping[str, Mapping[str, str]] = {
    "fit": dict.fromkeys(("max_epochs", "max_steps", "limit_train_batches"), "--model.train_epochs"),
    "distill": {
        # All iterations are one epoch, and EarlyStopping looks at the end of an epoch.
        **dict.fromkeys(("max_epochs", "max_steps", "limit_train_batches", "EarlyStopping"), "--model.iterations"),
        **dict.fromkeys(("val_check_interval", "check_val_every_n_epoch"), "--model.eval_it"),
    },
}
"""Command -> setting or callback of a Trainer -> the setting of the module that does what it is meant to."""
WATCHING = (
    *(callbacks.DeviceStatsMonitor, callbacks.EarlyStopping, callbacks.LearningRateMonitor, callbacks.ModelCheckpoint),
    *(callbacks.ModelSummary, callbacks.OnExceptionCheckpoint, callbacks.RichModelSummary, callbacks.RichProgressBar),
    *(callbacks.ThroughputMonitor, callbacks.Timer, callbacks.TQDMProgressBar, SaveConfigCallback),
)
"""Callbacks of Lightning that leave parameters, gradients, batches and step sizes alone."""


def refuse_settings(settings: Mapping[str, object], command: str) -> None:
    """Refuse settings of a Trainer that would shape the training without a record, or have no effect.

    Args:
        settings: Settings by name.
        command: ``fit`` or ``distill``.

    Raises:
        InputError: With the flag, and the setting to use instead.
    """
    for name, neutral in NEUTRAL.items():
        value = settings.get(name)
        if name in settings and not any(type(value) is type(one) and value == one for one in neutral):
            instead = INSTEAD[command].get(name)
            advice = f"use {instead} instead" if instead else "leave it out"
            shown = str(value).lower() if isinstance(value, bool) else value
            raise InputError(f"--trainer.{name} {shown} is not supported here: {advice}")


def settings_of(trainer: Trainer) -> dict[str, object]:
    """What a Trainer was given, as far as it can tell: Lightning makes 1000 of no ``max_epochs``."""
    settings = {name: getattr(trainer, name) for name in NEUTRAL if hasattr(trainer, name)}
    connector, seconds = trainer._accelerator_connector, getattr(trainer, "_val_check_time_interval", None)
    settings["sync_batchnorm"] = connector._layer_sync is not None
    settings["use_distributed_sampler"] = connector.use_distributed_sampler
    settings["inference_mode"] = trainer.validate_loop.inference_mode
    settings["model_registry"] = trainer._model_registry
    if seconds is not None:
        settings["val_check_interval"] = timedelta(seconds=seconds)
    if trainer.max_epochs == 1000:
        settings["max_epochs"] = None
    return settings


def refuse_trainer(trainer: Trainer, command: str, precisions: Collection[str]) -> None:
    """Refuse a Trainer whose settings or callbacks would shape the training without a record, or have no effect.

    Args:
        trainer: The Trainer.
        command: ``fit`` or ``distill``.
        precisions: Values of ``precision`` that are supported.

    Raises:
        InputError: With the flag, and the setting to use instead; or if the Trainer has trained before.
    """
    settings = settings_of(trainer)
    if trainer.state.fn in (TrainerFn.TESTING, TrainerFn.VALIDATING, TrainerFn.PREDICTING):
        settings = {name: settings[name] for name in SCORING if name in settings}
    elif trainer.fit_loop.epoch_progress.current.ready:
        raise InputError(
            "this Trainer has trained before, and Lightning would count its epochs on: make a new one for each run"
        )
    refuse_settings(settings, command)
    if trainer.precision not in precisions:
        raise InputError(f"--trainer.precision must be one of {', '.join(precisions)} here, not {trainer.precision}")
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        name = type(callback).__name__
        if instead := INSTEAD[command].get(name):
            raise InputError(f"--trainer.callbacks: {name} has no effect here: use {instead} instead")
        if not only_watches(callback):
            theirs = type(callback).__module__.startswith("lightning.")
            advice = "leave it out" if theirs else "leave it out or, if it does not, set watches_only = True in its class"
            raise InputError(f"--trainer.callbacks: {name} may change what is trained, and no record would tell: {advice}")


def only_watches(callback: Callback) -> bool:
    """Whether a callback is known, or says by ``watches_only = True``, to leave what is trained alone.

    What a callback does cannot be seen from outside, so a class derived from one of Lightning's must say it too.
    """
    known = type(callback) in WATCHING or type(callback).__module__.startswith("gz_lightning.")
    return known or getattr(callback, "watches_only", False) is True


def refuse_monitors(trainer: Trainer, logged: Collection[str]) -> None:
    """Refuse callbacks that monitor what is not logged.

    Args:
        trainer: The Trainer.
        logged: Metrics that are logged from the beginning.

    Raises:
        InputError: With the metrics that there are.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        monitor = getattr(callback, "monitor", None)
        if monitor is not None and monitor not in logged:
            raise InputError(
                f"--trainer.callbacks: {type(callback).__name__} monitors '{monitor}', and what is logged from the "
                f"beginning is {', '.join(logged)}"
            )
