"""A small set of the toy galaxies, as a distillation would leave it."""

from typing import Any

import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.randomness import generator
from gz_lightning.sets.coresets import initial_images
from gz_lightning.sets.synthetic import SyntheticSet
from tests.conftest import CLASS_NAMES

NETWORK = {"name": "ConvNet", "num_classes": 3, "resolution": 16, "width": 8, "depth": 2}


def synthetic_set(data: Galaxies, ipc: int = 2, **changes: Any) -> SyntheticSet:
    """``ipc`` toy galaxies of each class."""
    images, labels = initial_images("real", data, ipc, generator("set"))
    settings: dict[str, Any] = {
        "images": images, "labels": labels, "step_sizes": torch.tensor([0.02]), "class_names": CLASS_NAMES,
        "mean": data.mean, "std": data.std, "network": NETWORK, "augmentation": "galaxy",
        "data": data.fingerprint, "trajectories": "t", "iteration": 7, "configuration": {"syn_steps": 3},
        "results": {"val_accuracy": 0.5},
    }  # fmt: skip
    return SyntheticSet(**{**settings, **changes})
