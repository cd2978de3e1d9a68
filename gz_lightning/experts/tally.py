"""Loss and accuracy of several experts over an epoch.

Shapes: n experts, N images, K leaves.
"""

from __future__ import annotations

import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix


class Tally:
    """Sums over batches, for each of n experts at once; they stay on the device until they are asked for.

    Args:
        confusions: Also count the confusions.
    """

    def __init__(self, confusions: bool = False) -> None:
        self.counts_confusions = confusions
        self.reset()

    def reset(self) -> None:
        """Begin a new epoch."""
        self.images = 0
        self.loss_sum: torch.Tensor | float = 0.0
        self.hits: torch.Tensor | float = 0.0
        self.confusion_counts: torch.Tensor | None = None

    def update(self, losses: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Add a batch.

        Args:
            losses: Mean loss of the batch, shape (n,).
            logits: Shape (n, N, K).
            labels: Leaves, shape (n, N), or (N,) where all have the same batch.
        """
        number, leaves = logits.shape[1:]
        labels = labels.expand(len(logits), -1)
        found = logits.detach().argmax(-1)
        self.images += number
        self.loss_sum = self.loss_sum + losses.detach().double() * number
        self.hits = self.hits + (found == labels).sum(1)
        if self.counts_confusions:
            counts = torch.stack(
                [multiclass_confusion_matrix(f, t, leaves, validate_args=False) for f, t in zip(found, labels, strict=True)]
            )
            self.confusion_counts = counts if self.confusion_counts is None else self.confusion_counts + counts

    def compute(self) -> tuple[list[float], list[float]]:
        """Mean loss and accuracy in [0, 1] of each expert; without a batch, nothing."""
        if not self.images:
            return [], []
        loss, hits = torch.as_tensor(self.loss_sum), torch.as_tensor(self.hits)
        return (loss / self.images).tolist(), (hits.double() / self.images).tolist()
