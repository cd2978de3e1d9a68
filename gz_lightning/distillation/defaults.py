"""What a distillation does where settings are not given.

More than one image per class, and neither ``iterations`` nor ``finish`` given: some iterations match the experts in stages,
and a finish on real galaxies follows, as it measured best (docs/results.md). One image per class gains nothing from it and
is matched until the stages end. Whoever names ``iterations`` gets these, and the published defaults for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REAL_STEPS = 240
"""Steps of a student of the finish, at most."""
MATCHING, FINISH = 60, 200
"""Iterations of matching, and of the finish after it, of more than one image per class."""
LONG = 5000
"""Iterations of a run without a finish (published)."""
STEPS_MATCHED, STEPS_MATCHED_MORE = 5, 10
"""Steps of the expert for one of the student: in trials at 20 steps on real and simulated galaxies (32 px, 27 steps an
epoch, 300 iterations) 1 / 3 / 5 / 8 epochs gave 46 / 52 / 55 / 53 % and - / 47 / 60 / 51 %. The second is of more images
than one per class, before a finish: 70.7 % after 50 iterations that begin below epoch 20, where 5 gave 67.8 after 100."""


def defaults_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Values for ``iterations``, ``finish`` and ``syn_steps``, as they are given or as they should be.

    A finish by default has our own recipe alone; those of others (a fixed range, the authors' stages or update, a step
    size for each start epoch) are left as they are.

    Args:
        settings: Settings of a :class:`gz_lightning.distillation.module.TrajectoryMatching` by name.

    Example:
        >>> ours = {"stage": "stage", "image_update": "normalised", "step_sizes": "global", "objective": "match"}
        >>> nothing = dict.fromkeys(("iterations", "finish", "syn_steps"))
        >>> defaults_of({**nothing, **ours, "ipc": 1})
        {'iterations': 5000, 'finish': 0, 'syn_steps': 50}
        >>> defaults_of({**nothing, **ours, "ipc": 10})
        {'iterations': 60, 'finish': 200, 'syn_steps': 40}
        >>> defaults_of({**nothing, **ours, "ipc": 10, "iterations": 400})
        {'iterations': 400, 'finish': 0, 'syn_steps': 20}
    """
    ours = {"stage": "stage", "image_update": "normalised", "step_sizes": "global", "objective": "match"}
    iterations, finish, syn_steps = settings["iterations"], settings["finish"], settings["syn_steps"]
    one, real = settings["ipc"] == 1, settings["objective"] == "real"
    if finish is None:
        by_default = iterations is None and not one and all(settings[name] == value for name, value in ours.items())
        finish = FINISH if by_default else 0
    if iterations is None:
        iterations = FINISH if real else MATCHING if finish and not one else LONG
    if syn_steps is None:
        syn_steps = REAL_STEPS if real else 50 if one else 40 if finish else 20
    return {"iterations": iterations, "finish": finish, "syn_steps": syn_steps}


def images_of_a_step(settings: Mapping[str, Any], images: int) -> int | None:
    """Images of a step of the student; None for all, the default.

    Where a finish follows the matching of more than one per class, half of them: twice as many steps then cost the same.

    Args:
        settings: Settings of the distillation by name.
        images: M.
    """
    if settings["batch_syn"] is None and settings["finish"] and settings["ipc"] > 1:
        return -(-images // 2)
    given: int | None = settings["batch_syn"]
    return given


def steps_matched(settings: Mapping[str, Any]) -> int:
    """Steps of the expert that are matched by one of the student, where ``expert_epochs`` is not given."""
    return STEPS_MATCHED_MORE if settings["finish"] and settings["ipc"] > 1 else STEPS_MATCHED


def first_cap(settings: Mapping[str, Any], expert_epochs: int, max_start_epoch: int) -> int:
    """``init_epoch``, or its default: more images than one per class can take up later epochs at once.

    Args:
        settings: Settings of the distillation by name.
        expert_epochs: Epochs to match from a start epoch, m.
        max_start_epoch: The last cap.
    """
    if settings["init_epoch"] is not None:
        return int(settings["init_epoch"])
    return min(expert_epochs, max_start_epoch) if settings["finish"] and settings["ipc"] > 1 else 1
