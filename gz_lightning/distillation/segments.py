"""What an outer iteration matches: segments of the experts' trajectories, and the minibatches that a student sees.

Shapes: M images, K leaves, T steps (``syn_steps``), P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gz_lightning.augmentation import augment
from gz_lightning.experts.trajectories import TrajectoryStore


def minibatches(num_images: int, batch_syn: int | None, steps: int, draws: torch.Generator) -> list[torch.Tensor]:
    """Places of the images of each step: all of them, or shuffled passes of ``batch_syn`` at a time.

    Returns:
        T tensors of int64. A pass ends with what is left over, as in the published code.

    Example:
        >>> [len(rows) for rows in minibatches(5, 2, steps=4, draws=torch.Generator())]
        [2, 2, 1, 2]
    """
    if batch_syn is None or batch_syn >= num_images:
        return [torch.arange(num_images)] * steps
    parts: list[torch.Tensor] = []
    while len(parts) < steps:
        parts += torch.randperm(num_images, generator=draws).split(batch_syn)
    return parts[:steps]


@dataclass(frozen=True)
class Segments:
    """Draws segments and minibatches.

    Args:
        store: The experts.
        expert_epochs: Epochs of a segment, m.
        syn_steps: T.
        batch_syn: Images of a minibatch; None: all.
        augmentation: See :func:`gz_lightning.augmentation.augment`.
    """

    store: TrajectoryStore
    expert_epochs: int
    syn_steps: int
    batch_syn: int | None
    augmentation: str

    def expert(self, draws: torch.Generator) -> int:
        """Number of an expert."""
        return self.store.experts[int(torch.randint(len(self.store), (), generator=draws))]

    def ends(self, expert: int, start_epoch: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """theta*_s and theta*_{s+m}, each of shape (P,)."""
        start = self.store.parameters(expert, start_epoch).to(device)
        return start, self.store.parameters(expert, start_epoch + self.expert_epochs).to(device)

    def batches(
        self, images: torch.Tensor, labels: torch.Tensor, draws: torch.Generator
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Augmented minibatches and their labels for T steps.

        Args:
            images: Shape (M, 3, H, W).
            labels: int64, shape (M,), or soft, shape (M, K), on the device of the images.
            draws: Random generator.
        """
        steps = [rows.to(images.device) for rows in minibatches(len(images), self.batch_syn, self.syn_steps, draws)]
        return [augment(images[rows], self.augmentation, draws) for rows in steps], [labels[rows] for rows in steps]
