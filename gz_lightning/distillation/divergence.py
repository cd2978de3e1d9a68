"""Updates that keep everything finite: an unroll is a second-order thing, and a step too far makes infinities.

And the opposite: step sizes too small to lead anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer

from gz_lightning.errors import InputError

MOST_IN_A_ROW = 5
"""Iterations without an update after which a run ends."""
COLLAPSED = 0.01
"""Of the first step size: students that take such steps stay where they are, whatever the images show."""


class FiniteUpdates:
    """Takes the steps of an optimiser, but none from or to anything that is not finite.

    Args:
        most: So many refusals in a row end the run.
    """

    def __init__(self, most: int = MOST_IN_A_ROW) -> None:
        self.most = most
        self.in_a_row = 0

    def step(
        self,
        optimizer: torch.optim.Optimizer | LightningOptimizer,
        loss: torch.Tensor,
        parameters: Sequence[torch.nn.Parameter],
        finite: Callable[[], bool],
    ) -> str | None:
        """Update, if loss and gradients are finite, and undo it, if what comes of it is not.

        Args:
            optimizer: Holds the gradients.
            loss: What they are of.
            parameters: What it updates.
            finite: Whether all that the parameters stand for is finite.

        Returns:
            What was not finite, or None where the update was made.
        """
        wrong = None
        if not torch.isfinite(loss):
            wrong = f"the matching loss ({float(loss)})"
        elif not all(torch.isfinite(p.grad).all() for p in parameters if p.grad is not None):
            wrong = f"the gradient of the matching loss (loss {float(loss):.3g})"
        else:
            before = [p.detach().clone() for p in parameters]
            optimizer.step()
            if not finite():
                wrong = "the updated images or step sizes"
                plain = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
                plain.state.clear()  # the momentum would take the next update to the same place
                with torch.no_grad():
                    for parameter, value in zip(parameters, before, strict=True):
                        parameter.copy_(value)
        self.in_a_row = 0 if wrong is None else self.in_a_row + 1
        return wrong

    def check(self, place: str, kept: str) -> None:
        """End the run, if it refuses for the last time.

        Args:
            place: Iteration, expert and start epoch.
            kept: Where the last good state is.

        Raises:
            InputError: If there were too many refusals in a row.
        """
        if self.in_a_row >= self.most:
            raise InputError(
                f"no update could be made {self.in_a_row} times in a row (last at {place}); the last good images are in "
                f"{kept}. Begin with a smaller --model.lr_teacher or --model.lr_img"
            )


def collapse(step_size: float, first: float) -> str | None:
    """What to say of a learned step size that has become useless, or None.

    Args:
        step_size: As it is.
        first: As it was when distillation began.
    """
    if step_size >= COLLAPSED * first:
        return None
    return f"the step size has fallen from {first:.2g} to {step_size:.2g}: these images do not lead as far as the experts go"
