"""How far a student ends from where the expert went, and what an outer iteration matches.

Shapes: M images, K leaves, T steps (``syn_steps``), P parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from gz_lightning.augmentation import augment
from gz_lightning.experts.paths import RawPath
from gz_lightning.shapes import Float, Tensor

Match = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A function (student, start, target) -> loss, see MATCHES."""


def matching_loss(
    student: Float[Tensor, " P"], start: Float[Tensor, " P"], target: Float[Tensor, " P"]
) -> Float[Tensor, ""]:
    """Normalised distance |theta_N - theta*_{s+m}|^2 / |theta*_s - theta*_{s+m}|^2 (Cazenavette et al. 2022).

    Args:
        student: theta_N, where the student ended.
        start: theta*_s, where student and expert set out.
        target: theta*_{s+m}, where the expert was ``expert_epochs`` later.

    Returns:
        0 where the student met the expert, 1 where it came no nearer than it was. Not finite if the expert did not move.

    Example:
        >>> start, target = torch.zeros(3), torch.ones(3)
        >>> matching_loss(torch.full((3,), 0.5), start, target)  # half of the way: a quarter of the square
        tensor(0.2500)
    """
    return (student - target).square().sum() / (start - target).square().sum()


MATCHES: dict[str, Match] = {"distance": matching_loss}
"""Matching losses by name: functions (student, start, target), each of shape (P,), -> loss of shape (), differentiable with
respect to the student. The scale matters: 0 where the student met the target, 1 where it stayed at the start, for updates
are damped where the loss is above 1, and a probe loss that is not finite counts as 10."""


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
class Segment:
    """A piece of an expert's trajectory, and the minibatches with which a student is to follow it.

    Args:
        expert: Number of the expert.
        start_epoch: s, a real number.
        start: theta*_s, shape (P,).
        target: theta*_{s+m}, shape (P,).
        batches: T augmented minibatches.
        labels: Their labels.
    """

    expert: int
    start_epoch: float
    start: torch.Tensor
    target: torch.Tensor
    batches: list[torch.Tensor]
    labels: list[torch.Tensor]

    @property
    def place(self) -> str:
        """Where it is, in words."""
        return f"expert {self.expert}, start epoch {self.start_epoch:.4g}"


@dataclass(frozen=True)
class Segments:
    """Draws segments of the experts' trajectories, and what a student sees on its way.

    Args:
        path: How the experts' trajectories are read.
        expert_epochs: Epochs of a segment, m.
        syn_steps: T.
        batch_syn: Images of a minibatch; None: all.
        augmentation: See :func:`gz_lightning.augmentation.augment`.
    """

    path: RawPath
    expert_epochs: int
    syn_steps: int
    batch_syn: int | None
    augmentation: str

    def expert(self, draws: torch.Generator) -> int:
        """Number of an expert, all alike likely."""
        store = self.path.store
        return store.experts[int(torch.randint(len(store), (), generator=draws))]

    def at(
        self, expert: int, start_epoch: float, images: torch.Tensor, labels: torch.Tensor, draws: torch.Generator
    ) -> Segment:
        """A segment with augmented minibatches for T steps.

        Args:
            expert: Number of the expert.
            start_epoch: s, a real number; the segment begins where the path has a point.
            images: Standardised pixels, shape (M, 3, H, W).
            labels: int64, shape (M,), or soft, shape (M, K), on the device of the images.
            draws: Random generator.
        """
        places = [rows.to(images.device) for rows in minibatches(len(images), self.batch_syn, self.syn_steps, draws)]
        batches = [augment(images[rows], self.augmentation, draws) for rows in places]
        start_epoch = self.path.epoch(start_epoch)
        ends = self._ends(expert, start_epoch, images.device)
        return Segment(expert, start_epoch, *ends, batches, [labels[rows] for rows in places])

    def moved(self, segment: Segment, start_epoch: float) -> Segment:
        """The same expert and minibatches from another epoch."""
        start, target = self._ends(segment.expert, start_epoch, segment.start.device)
        return replace(segment, start_epoch=start_epoch, start=start, target=target)

    def _ends(self, expert: int, start_epoch: float, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        start = self.path.point(expert, start_epoch).to(device)
        return start, self.path.point(expert, start_epoch + self.expert_epochs).to(device)
