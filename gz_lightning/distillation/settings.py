"""The settings of a distillation: what they may be, and which of them a run may go on with another value of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gz_lightning.augmentation import check_strategy
from gz_lightning.data.datamodule import LABELS
from gz_lightning.distillation.unroll import UNROLLS
from gz_lightning.errors import InputError

IMAGE_UPDATES = {"normalised": 0.003, "published": 1000.0}
"""Ways to update the images, and the default ``lr_img`` of each, at 32 px; see :func:`default_lr_img`."""
CHOICES = {
    "image_update": IMAGE_UPDATES,
    "labels": (*LABELS, "experts"),
    "step_sizes": ("global", "independent"),
    "unroll": UNROLLS,
}
COUNTS = ("ipc", "syn_steps", "expert_epochs", "segments_per_step", "eval_it", "num_eval", "epoch_eval_train", "batch_syn")
RATES = ("lr_img", "lr_lr", "lr_label", "skip_above", "memory_budget")
FREE_TO_CHANGE = (
    *("trajectories", "iterations", "eval_it", "num_eval", "epoch_eval_train", "load_syn_image"),
    *("unroll", "memory_budget", "compile"),  # but for rounding
)
"""Settings that a run may go on with a new value of: they do not shape the images, or are checked by fingerprint."""


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse settings that are out of their range; those that need the experts are checked when distillation begins.

    Args:
        settings: Settings of a :class:`gz_lightning.distillation.module.TrajectoryMatching` by name.

    Raises:
        InputError: With the name of the first that is out of its range.
    """
    for name in COUNTS:
        if settings[name] is not None and settings[name] < 1:
            raise InputError(f"{name} must be at least 1, not {settings[name]}")
    iterations, prev_iter = settings["iterations"], settings["prev_iter"]
    if not 0 <= prev_iter < iterations:
        raise InputError(f"iterations ({iterations}) must be more than prev_iter ({prev_iter}), which may not be negative")
    for name, known in CHOICES.items():
        if settings[name] not in known:
            raise InputError(f"{name} is one of {', '.join(known)}, not '{settings[name]}'")
    if settings["augmentation"] is not None:
        check_strategy(settings["augmentation"])
    if settings["ema"] is not None and not 0 < settings["ema"] < 1:
        raise InputError(f"ema must be between 0 and 1 (0.999, say), not {settings['ema']}")
    if settings["labels"] == "hard" and settings["lr_label"]:
        raise InputError("lr_label: hard labels are not learned; choose --model.labels experts or votes")
    for name in RATES:
        if settings[name] is not None and not (settings[name] >= 0 and math.isfinite(settings[name])):
            raise InputError(f"{name} must be a number of at least 0, not {settings[name]}")


def default_lr_img(image_update: str, resolution: int) -> float:
    """The ``lr_img`` of who names none.

    The normalised update then moves an image by the same length (root of the sum of squares) at every resolution. What it is
    worth beside the published update, at 32 and 64 px and with one and ten images: ``benchmarks/image_updates.py``.

    Args:
        image_update: A key of ``IMAGE_UPDATES``.
        resolution: Pixels along a side.

    Example:
        >>> default_lr_img("normalised", 32), default_lr_img("normalised", 64), default_lr_img("published", 64)
        (0.003, 0.0015, 1000.0)
    """
    rate = IMAGE_UPDATES[image_update]
    return rate if image_update == "published" else rate * 32 / resolution


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What shapes the images and is not what it was, in words."""
    return [
        f"{name} was {then.get(name)} and is {value} now"
        for name, value in now.items()
        if name not in FREE_TO_CHANGE and then.get(name) != value
    ]
