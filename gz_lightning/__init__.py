"""Trajectory-matching distillation of Galaxy Zoo 2 galaxies as PyTorch Lightning modules.

The public names are imported when they are first used, so that ``gz-lightning --help`` does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gz_lightning.version import __version__

if TYPE_CHECKING:
    from gz_lightning.cli.export import export
    from gz_lightning.data.datamodule import GalaxyZoo2DataModule
    from gz_lightning.data.galaxies import Galaxies
    from gz_lightning.data.prepare import prepare
    from gz_lightning.distillation.module import TrajectoryMatching
    from gz_lightning.evaluation.evaluate import evaluate
    from gz_lightning.experts.module import ExpertModule
    from gz_lightning.experts.trajectories import TrajectoryStore
    from gz_lightning.sets.synthetic import SyntheticSet

_HOMES = {
    "ExpertModule": "experts.module",
    "Galaxies": "data.galaxies",
    "GalaxyZoo2DataModule": "data.datamodule",
    "SyntheticSet": "sets.synthetic",
    "TrajectoryMatching": "distillation.module",
    "TrajectoryStore": "experts.trajectories",
    "evaluate": "evaluation.evaluate",
    "export": "cli.export",
    "prepare": "data.prepare",
}

__all__ = [
    "ExpertModule",
    "Galaxies",
    "GalaxyZoo2DataModule",
    "SyntheticSet",
    "TrajectoryMatching",
    "TrajectoryStore",
    "__version__",
    "evaluate",
    "export",
    "prepare",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
