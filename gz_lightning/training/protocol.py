"""How a fresh network is trained on a small set (the protocol of Cazenavette et al. 2022).

Shapes: M images to train on, S step sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gz_lightning.augmentation import DSA, check_strategy
from gz_lightning.errors import InputError

PROTOCOLS = {
    "mtt": "as published (Cazenavette et al. 2022): the learned step size; of several sets the one that scores best on the "
    "test galaxies themselves",
    "validated": "step size and set are chosen on validation galaxies; test galaxies are scored once",
}
"""How an evaluation makes the choices that are open, by name."""
SCORE_BATCH = 512
"""Images that are scored at a time."""


@dataclass(frozen=True)
class Protocol:
    """How a network is trained on a set.

    Args:
        epochs: Passes over the set; the step size falls to a tenth after half of them. Published: 1000.
        batch_size: Images in a batch. Published: 256.
        augmentation: Augmentation of every batch, see :func:`gz_lightning.augmentation.augment`.
        momentum: Momentum of SGD. Published: 0.9.
        weight_decay: Weight decay of SGD. Published: 5e-4.
        schedule: ``step`` (the published one) or ``cosine`` (from the step size to zero; for full data).
        symmetries: 8 trains on the eight rotations and reflections of each image, see :func:`symmetric_copies`; 1, the
            published protocol, on the images alone.
        seed: Seed of initialisation, order and augmentation.

    Raises:
        InputError: If a setting is out of its range.
    """

    epochs: int = 1000
    batch_size: int = 256
    augmentation: str = DSA
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "step"
    seed: int = 0
    symmetries: int = 1

    def __post_init__(self) -> None:
        check_strategy(self.augmentation)
        if self.symmetries not in (1, 8):
            raise InputError(f"symmetries is 1 or 8 (the rotations and reflections of a square), not {self.symmetries}")
        if self.epochs < 1 or self.batch_size < 1:
            raise InputError(f"epochs ({self.epochs}) and batch_size ({self.batch_size}) must be at least 1")

    def step_size_schedule(self, step_sizes: Sequence[float], syn_steps: int = 0) -> list[float]:
        """The step size of every epoch.

        With one step size: that for half of the epochs, then a tenth of it. With several, as a distilled set with one for
        each start epoch has: each in turn for ``max(syn_steps, half / S)`` epochs, then half of the epochs at a tenth of
        the last.

        Example:
            >>> Protocol(epochs=4).step_size_schedule([0.01])
            [0.01, 0.01, 0.001, 0.001]
        """
        if self.schedule == "cosine":
            angle = torch.arange(self.epochs) / self.epochs * torch.pi
            return [step_sizes[0] * c for c in ((1 + angle.cos()) / 2).tolist()]
        half = self.epochs // 2
        times = self.epochs - half if len(step_sizes) == 1 else max(syn_steps, half // len(step_sizes))
        return [alpha for alpha in step_sizes for _ in range(times)] + [step_sizes[-1] / 10] * half


def symmetric_copies(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The eight rotations by right angles and reflections of each image: galaxies have no up and no handedness.

    (The rotate-and-transpose of Guan et al. 2023, which took their ten-class set from 51 to 54 %.)

    Args:
        images: Pixels, shape (M, 3, H, H).
        labels: Their labels, shape (M, ...).

    Returns:
        Images, shape (8 M, 3, H, H), the M originals first, and their labels.

    Example:
        >>> symmetric_copies(torch.zeros(5, 3, 32, 32), torch.arange(5))[0].shape
        torch.Size([40, 3, 32, 32])
    """
    turned = [images.rot90(quarter, (2, 3)) for quarter in range(4)]
    return torch.cat([*turned, *(copy.transpose(2, 3) for copy in turned)]), torch.cat([labels] * 8)
