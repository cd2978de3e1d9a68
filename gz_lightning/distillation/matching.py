"""How far a student ends from where the expert went, and what an outer iteration matches.

Shapes: M images, K leaves, T steps (``syn_steps``), P parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from gz_lightning.augmentation import augment, galaxy_as_drawn, galaxy_draws
from gz_lightning.experts.paths import RawPath
from gz_lightning.memory import to_device
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


FIXED = ("galaxy", "none")
"""Augmentations that are the same operations whatever was drawn."""


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


class Drawn(NamedTuple):
    """What is drawn and read for a student on the host; the device does the rest, without asking back.

    Args:
        expert: Number of the expert.
        start_epoch: s, a real number.
        sizes: Images of each of the T minibatches.
        start: theta*_s, shape (P,).
        target: theta*_{s+m}, shape (P,).
        rows: Places of the images of all minibatches, one after the other, int64.
        numbers: What the galaxy augmentation draws for them, shape (3, images); else None.
        draws: Generator of an augmentation whose operations are drawn as well; else None.
        later_start: Where a probe starts, or None.
        later_target: Where the expert was ``expert_epochs`` later.
    """

    expert: int
    start_epoch: float
    sizes: tuple[int, ...]
    start: torch.Tensor
    target: torch.Tensor
    rows: torch.Tensor
    numbers: torch.Tensor | None = None
    draws: torch.Generator | None = None
    later_start: torch.Tensor | None = None
    later_target: torch.Tensor | None = None

    @property
    def place(self) -> str:
        """Where it is, in words."""
        return f"expert {self.expert}, start epoch {self.start_epoch:.4g}"


@dataclass(frozen=True)
class Segment:
    """A piece of an expert's trajectory, and the minibatches with which a student is to follow it.

    Args:
        start_epoch: s, a real number.
        start: theta*_s, shape (P,).
        target: theta*_{s+m}, shape (P,).
        batches: T augmented minibatches.
        labels: Their labels.
    """

    start_epoch: float
    start: torch.Tensor
    target: torch.Tensor
    batches: list[torch.Tensor]
    labels: list[torch.Tensor]


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

    def drawn(
        self, expert: int, start_epoch: float, num_images: int, draws: torch.Generator, probe_epoch: int | None = None
    ) -> Drawn:
        """All that a segment needs beside images and labels, on the host.

        Args:
            expert: Number of the expert.
            start_epoch: s, a real number; the segment begins where the path has a point.
            num_images: M.
            draws: Random generator.
            probe_epoch: Where a probe of the same expert and minibatches starts, or None.
        """
        rows = minibatches(num_images, self.batch_syn, self.syn_steps, draws)
        fixed, start_epoch = self.augmentation in FIXED, self.path.epoch(start_epoch)
        numbers = [galaxy_draws(len(part), draws) for part in rows] if self.augmentation == "galaxy" else None
        return Drawn(
            expert,
            start_epoch,
            tuple(map(len, rows)),
            *self._ends(expert, start_epoch),
            torch.cat(rows),
            None if numbers is None else torch.cat(numbers, 1),
            None if fixed else draws,
            *((None, None) if probe_epoch is None else self._ends(expert, probe_epoch)),
        )

    def made(self, drawn: Drawn, images: torch.Tensor, labels: torch.Tensor) -> Segment:
        """The segment with augmented minibatches, on the device of the images.

        Args:
            drawn: Of :meth:`drawn`; used up, where it holds a generator.
            images: Standardised pixels, shape (M, 3, H, W).
            labels: int64, shape (M,), or soft, shape (M, K), on the device of the images.
        """
        start, target, rows = (to_device(x, images.device) for x in (drawn.start, drawn.target, drawn.rows))
        places = rows.split(drawn.sizes)
        if drawn.numbers is not None:
            numbers = to_device(drawn.numbers, images.device).split(drawn.sizes, 1)
            batches = [galaxy_as_drawn(images[part], own) for part, own in zip(places, numbers, strict=True)]
        elif drawn.draws is not None:
            batches = [augment(images[part], self.augmentation, drawn.draws) for part in places]
        else:
            batches = [images[part] for part in places]
        return Segment(drawn.start_epoch, start, target, batches, [labels[part] for part in places])

    def later(self, drawn: Drawn, segment: Segment, probe_epoch: int) -> Segment:
        """The segment that a probe follows: the same expert and minibatches from another epoch.

        Args:
            drawn: Drawn with ``probe_epoch``.
            segment: Made of it.
            probe_epoch: Where the probe starts.
        """
        assert drawn.later_start is not None and drawn.later_target is not None  # noqa: PT018
        start, target = (to_device(x, segment.start.device) for x in (drawn.later_start, drawn.later_target))
        return replace(segment, start_epoch=probe_epoch, start=start, target=target)

    def at(
        self, expert: int, start_epoch: float, images: torch.Tensor, labels: torch.Tensor, draws: torch.Generator
    ) -> Segment:
        """A segment with augmented minibatches for T steps; arguments as of :meth:`drawn` and :meth:`made`."""
        return self.made(self.drawn(expert, start_epoch, len(images), draws), images, labels)

    def _ends(self, expert: int, start_epoch: float) -> tuple[torch.Tensor, torch.Tensor]:
        start, target = (self.path.point(expert, start_epoch + epochs) for epochs in (0, self.expert_epochs))
        return start, target
