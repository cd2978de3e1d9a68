"""Which settings of experts go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gz_lightning.augmentation import check_strategy
from gz_lightning.data.datamodule import LABELS
from gz_lightning.errors import InputError
from gz_lightning.experts.schedule import SCHEDULES
from gz_lightning.experts.trajectories import check_storage

LATER = {"labels": "hard", "rotations": 1, "lr_schedule": "constant", "flat_rho": 0.0, "flat_alpha": 0.0}
"""Settings that shape a trajectory and that first stores did not have, with what they were then. A recipe names them only
where they are something else, so that those stores stay of one kind with later ones."""


def check_settings(settings: Mapping[str, Any]) -> None:
    """Check the settings of an :class:`gz_lightning.experts.module.ExpertModule`.

    Raises:
        InputError: If one is out of its range, or needs another one that is not given.
    """
    num_experts, train_epochs, first_expert = (settings[name] for name in ("num_experts", "train_epochs", "first_expert"))
    if num_experts < 1 or train_epochs < 1 or first_expert < 0:
        raise InputError(
            f"num_experts ({num_experts}) and train_epochs ({train_epochs}) must be at least 1, "
            f"first_expert ({first_expert}) at least 0"
        )
    if not settings["lr"] > 0:
        raise InputError(f"lr must be positive, not {settings['lr']}")
    for name in ("momentum", "weight_decay", "flat_rho", "flat_alpha", "checkpoint_minutes"):
        if not settings[name] >= 0:
            raise InputError(f"{name} may not be negative, but is {settings[name]}")
    if settings["flat_alpha"] and not settings["flat_rho"]:
        raise InputError("flat_alpha is a setting of flat trajectories: give flat_rho too (0.01 in FTD)")
    for name in ("experts_at_once", "rotations"):
        if settings[name] is not None and settings[name] < 1:
            raise InputError(f"{name} must be at least 1, not {settings[name]}")
    for name, known in (("lr_schedule", SCHEDULES), ("labels", LABELS)):
        if settings[name] not in known:
            raise InputError(f"{name} is one of {', '.join(known)}, not '{settings[name]}'")
    check_storage(settings["precision"], settings["compression"])
    check_strategy(settings["augmentation"])


def training_settings(settings: Mapping[str, Any], batch_size: int) -> dict[str, Any]:
    """Those that shape a trajectory, for the :class:`gz_lightning.experts.trajectories.Recipe`."""
    names = ("train_epochs", "lr", "momentum", "weight_decay", "augmentation", "seed")
    changed = {name: settings[name] for name, default in LATER.items() if settings[name] != default}
    return {name: settings[name] for name in names} | {"batch_size": batch_size} | changed
