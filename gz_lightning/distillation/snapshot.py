"""The distilled set of a moment.

Shapes: M images, K leaves, S step sizes.
"""

from __future__ import annotations

from typing import Any

import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.sets.synthetic import SyntheticSet


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
