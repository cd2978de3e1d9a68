"""How the gradient of the matching loss moves images, step sizes and labels.

Shapes: M images, S step sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer

from gz_lightning.errors import InputError
from gz_lightning.progress import say
from gz_lightning.sets.synthetic import SyntheticSet

LARGEST_GRADIENT = 1.0
"""Where the gradient of the log of a step size is cut off: with the default ``lr_lr`` and momentum, 2 % an iteration."""
LABEL_MOMENTUM = 0.9
"""As in DATM (Guo et al. 2024)."""
ADVICE = "Begin with a smaller --model.lr_teacher or --model.lr_img"
"""What to do where no update can be made."""
MOST_IN_A_ROW = 5
"""Iterations without an update after which a run ends."""
VERDICTS = (
    "",
    "the matching loss ({loss})",
    "the gradient of the matching loss (loss {loss:.3g})",
    "the updated images or step sizes",
)
"""What was not finite in an iteration; the first is of one that was."""


class Published:
    """Plain SGD (Cazenavette et al. 2022); and the contract of an entry of UPDATES.

    An update has a default for ``lr_img`` and changes gradients in place before SGD takes its step.
    """

    def lr_img(self, resolution: int) -> float:
        """The ``lr_img`` where none is given: the published 1000, which is right at 128 px only."""
        return 1000.0

    def __call__(
        self, loss: torch.Tensor, images: torch.Tensor, log_step_sizes: torch.Tensor, *labels: torch.Tensor
    ) -> None:
        """Change gradients in place.

        Args:
            loss: Matching loss, shape ().
            images: Its gradient with respect to the images, shape (M, 3, H, W).
            log_step_sizes: Its gradient with respect to the log of the step sizes, shape (S,).
            labels: Its gradient with respect to the logits of the labels, where these are learned.
        """


class Normalised(Published):
    """Gradients whose size does not depend on resolution, ``ipc`` or the loss.

    Each image's gradient is divided by its root mean square, so that SGD moves it by ``lr_img`` in units of standardised
    pixels. Where the matching loss is above 1 (the student ended farther from the expert than it began), all gradients are
    divided by it: a student gone astray would make the step size useless.

    Example:
        >>> images, sizes = torch.tensor([3.0, -4.0]).view(2, 1, 1, 1), torch.tensor([0.5, -9.0])
        >>> Normalised()(torch.tensor(2.0), images, sizes)
        >>> images.flatten().tolist(), sizes.tolist()
        ([0.5, -0.5], [0.25, -1.0])
        >>> Normalised().lr_img(32), Normalised().lr_img(64)
        (0.003, 0.0015)
    """

    def lr_img(self, resolution: int) -> float:
        """An image moves by the same length (root of the sum of squares) at every resolution.

        What it is worth beside the published update: ``benchmarks/image_updates.py``.
        """
        return 0.003 * 32 / resolution

    def __call__(
        self, loss: torch.Tensor, images: torch.Tensor, log_step_sizes: torch.Tensor, *labels: torch.Tensor
    ) -> None:
        """Change gradients in place, see :meth:`Published.__call__`."""
        scale = images.square().mean((1, 2, 3), keepdim=True).sqrt()
        images /= scale.clamp(min=torch.finfo(scale.dtype).tiny)
        for gradient in (images, log_step_sizes, *labels):
            gradient /= loss.clamp(min=1)
        log_step_sizes.clamp_(-LARGEST_GRADIENT, LARGEST_GRADIENT)


UPDATES: dict[str, Published] = {"normalised": Normalised(), "published": Published()}
"""Updates by name; the contract is :class:`Published`'s."""


def optimizer_of(learned: Sequence[torch.nn.Parameter], lr_img: float, settings: Mapping[str, Any]) -> torch.optim.SGD:
    """One SGD with a group for each thing learned.

    Args:
        learned: Images, log of the step sizes and, where they are learned, logits of the labels.
        lr_img: Step size on the images.
        settings: Of the distillation by name: ``lr_lr``, ``lr_label``, ``momentum``.
    """
    rates = {"images": lr_img, "step_sizes": settings["lr_lr"], "labels": settings["lr_label"]}
    pairs = zip(learned, rates.items(), strict=False)
    groups = [{"params": [parameter], "lr": lr, "name": name} for parameter, (name, lr) in pairs]
    for group in groups[2:]:
        group["momentum"] = LABEL_MOMENTUM
    return torch.optim.SGD(groups, momentum=settings["momentum"])


class FiniteSteps:
    """Takes the steps of an optimizer, but none from or to anything that is not finite.

    An unroll is differentiated twice, and a step too far makes infinities. The device decides by itself, for asking it
    would make the host wait; :meth:`wrong` tells afterwards.

    Args:
        most: This many steps refused in a row end the run: none is made after them.

    Attributes:
        advice: What to do where none is made, in words.
    """

    def __init__(self, most: int = MOST_IN_A_ROW) -> None:
        self.most, self.advice = most, ADVICE
        self.made = self.in_a_row = 0
        self._in_a_row: torch.Tensor | None = None  # on the device

    @torch.no_grad()
    def step(
        self,
        optimizer: torch.optim.Optimizer | LightningOptimizer,
        loss: torch.Tensor,
        learned: Sequence[torch.nn.Parameter],
    ) -> torch.Tensor:
        """Update, and undo it unless loss, gradients and result are finite.

        Args:
            optimizer: SGD; holds the gradients.
            loss: What they are of.
            learned: What it updates: images, log of the step sizes and, where they are learned, logits of the labels.

        Returns:
            The verdict, on the device, shape (): a place in ``VERDICTS``, 0 where the update was made.
        """
        before, momenta = [p.clone() for p in learned], [_momentum(optimizer, p) for p in learned]
        kept = [None if momentum is None else momentum.clone() for momentum in momenta]
        sound = torch.isfinite(loss)
        steep = ~torch.stack([torch.isfinite(p.grad).all() for p in learned if p.grad is not None]).all()
        optimizer.step()
        finite = all_finite(*learned)
        verdict = 1 * ~sound + 2 * (sound & steep) + 3 * (sound & ~steep & ~finite)
        if self._in_a_row is None or self._in_a_row.device != loss.device:
            self._in_a_row = torch.zeros_like(verdict)
        made = (verdict == 0) & (self._in_a_row < self.most)
        self._in_a_row = (self._in_a_row + 1) * ~made
        for parameter, old, old_momentum in zip(learned, before, kept, strict=True):
            parameter.copy_(torch.where(made, parameter, old))
            if (momentum := _momentum(optimizer, parameter)) is not None:
                zero = torch.zeros_like(momentum)
                old_momentum = zero if old_momentum is None else old_momentum
                # The momentum of a step to infinity would take the next one to the same place.
                momentum.copy_(torch.where(made, momentum, torch.where(verdict == 3, zero, old_momentum)))
        return verdict

    def wrong(self, verdict: int, loss: float) -> str | None:
        """What was not finite in an iteration, in words, or None where the update was made; counts those in a row.

        Args:
            verdict: Of :meth:`step`; to be asked of each iteration, in order.
            loss: Its loss.
        """
        self.made += not verdict
        self.in_a_row = self.in_a_row + 1 if verdict else 0
        return VERDICTS[verdict].format(loss=loss) if verdict else None

    def refused(self, wrong: str, place: str, synthetic: SyntheticSet, last: Path, write: bool) -> None:
        """Say that no update was made, save the last good images, and end a run that makes none any more.

        Args:
            wrong: What was not finite.
            place: Iteration, expert and start epoch.
            synthetic: The set as it is.
            last: Where it is saved.
            write: Whether this process writes.

        Raises:
            InputError: If the set is not finite itself, or after ``most`` refusals in a row.
        """
        if already := synthetic.not_finite():
            raise InputError(
                f"{place}: {already}, though no update made it so (is the memory of this machine sound?); nothing was "
                "written: resume with --ckpt_path last"
            )
        say(f"{place}: {wrong} not finite: no update")
        if write:
            synthetic.save(last)
        if self.in_a_row >= self.most:
            raise InputError(
                f"no update could be made {self.in_a_row} times in a row (last at {place}); the last good images are in "
                f"{last}. {self.advice}"
            )

    def require_one(self) -> None:
        """Refuse to end as if all were well where not a single update could be made.

        Raises:
            InputError: If steps were refused, and none taken.
        """
        if self.in_a_row and not self.made:
            raise InputError(
                f"no update could be made in any of {self.in_a_row} iterations: the images are those it began with. "
                f"{self.advice}"
            )


def all_finite(images: torch.Tensor, log_step_sizes: torch.Tensor, *labels: torch.Tensor) -> torch.Tensor:
    """Whether images and labels are finite, and step sizes finite and above 0: a bool on the device, shape ()."""
    alphas = log_step_sizes.detach().exp()
    tensors = (images, log_step_sizes, alphas, alphas.reciprocal(), *labels)
    return torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all()


def _momentum(optimizer: torch.optim.Optimizer | LightningOptimizer, parameter: torch.nn.Parameter) -> torch.Tensor | None:
    state: dict[str, torch.Tensor | None] = optimizer.state.get(parameter, {})
    return state.get("momentum_buffer")


def mean_of(results: Sequence[Sequence[torch.Tensor]], reduce: Callable[..., Any]) -> list[torch.Tensor]:
    """The mean of lists of tensors over the segments of an iteration and over processes.

    Args:
        results: For each segment tensors of the same shapes.
        reduce: ``reduce`` of a Trainer's strategy. (Not ``manual_backward``: under DDP it would average the gradient of each
            segment by itself.)
    """
    flat = torch.stack([torch.cat([part.flatten() for part in result]) for result in results]).mean(0)
    pieces = reduce(flat, reduce_op="mean").split([part.numel() for part in results[0]])
    return [piece.view_as(part) for piece, part in zip(pieces, results[0], strict=True)]
