"""Experts as teachers: their hidden features and their probabilities.

Shapes: N images, K leaves, P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.experts.trajectories import matching_experts
from gz_lightning.networks.registry import check_network
from gz_lightning.storage.text import naming_file
from gz_lightning.training.protocol import SCORE_BATCH

MOST_EXPERTS = 10
"""Most experts that are used; the mean of ten is steady."""


@dataclass(frozen=True)
class Teacher:
    """Trained experts.

    Args:
        models: The experts at their last epoch, in evaluation mode.
    """

    models: tuple[nn.Module, ...]

    @classmethod
    def read(cls, folder: Path, galaxies: Galaxies) -> Teacher:
        """The first experts of a folder, at their last epoch.

        Raises:
            InputError: If there are none, or they were trained on other galaxies.
        """
        store = matching_experts(str(folder), galaxies, {})
        models: list[nn.Module] = []
        for expert in store.experts[:MOST_EXPERTS]:
            model = store.network()
            if not models:
                with naming_file(folder):
                    check_network(model, galaxies.num_classes, galaxies.image_shape)
            nn.utils.vector_to_parameters(store.parameters(expert, store.num_epochs), model.parameters())
            models.append(model.eval())
        return cls(tuple(models))

    @property
    def model(self) -> nn.Module:
        """The first expert."""
        return self.models[0]

    @torch.no_grad()
    def labels(self, images: torch.Tensor) -> torch.Tensor:
        """Soft labels of standardised images, shape (N, K): the mean of the experts' probabilities."""
        by_expert = [torch.cat([model(batch).softmax(1) for batch in images.split(SCORE_BATCH)]) for model in self.models]
        return torch.stack(by_expert).mean(0)
