"""The distilled set of a moment.

Shapes: M images, K leaves, S step sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.distillation.real import BATCH, MATCHING_ALONE, window_of
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.sets.synthetic import USED, SyntheticSet


def configuration_of(settings: Mapping[str, Any], **found: Any) -> dict[str, Any]:
    """The settings of a run, and under ``USED`` the values that it has found for those that were left out.

    Args:
        settings: Settings of a :class:`gz_lightning.distillation.module.TrajectoryMatching` by name.
        **found: Values by the names of settings. Those of matching are left out of objective real, those of a
            finish where there is none.
    """
    real = settings["objective"] == "real"
    if real:
        found = {name: value for name, value in found.items() if name not in MATCHING_ALONE}
    if real or settings["finish"]:
        found |= {"window": window_of(settings), "batch_real": BATCH}
    return {**settings, USED: {name: value for name, value in found.items() if settings[name] is None}}


def set_of(
    images: torch.Tensor,
    labels: torch.Tensor,
    step_sizes: torch.Tensor,
    galaxies: Galaxies,
    store: TrajectoryStore,
    augmentation: str,
    **of_run: Any,
) -> SyntheticSet:
    """A copy of what is learned, on the CPU, with all that is needed to train on it.

    Args:
        images: Standardised pixels, shape (M, 3, H, W).
        labels: int64, shape (M,), or soft, shape (M, K).
        step_sizes: Shape (S,).
        galaxies: The galaxies that are distilled.
        store: The experts.
        augmentation: Of the minibatches.
        **of_run: ``iteration`` and ``configuration``.
    """
    return SyntheticSet(
        images=images.detach().cpu().clone(),
        labels=labels.detach().cpu().clone(),
        step_sizes=step_sizes.detach().cpu(),
        class_names=galaxies.class_names,
        mean=galaxies.mean,
        std=galaxies.std,
        tree=galaxies.tree,
        network=store.recipe.network,
        augmentation=augmentation,
        data=galaxies.fingerprint,
        trajectories=store.fingerprint,
        **of_run,
    )
