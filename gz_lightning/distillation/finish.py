"""When the finish on real galaxies begins, how far its images move, and when a run ends: numbers without torch."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

from gz_lightning.distillation.stages import FixedRange
from gz_lightning.errors import InputError

LR_IMG, AT = 0.003, 32
"""Step size on the images at the beginning of a finish, at 32 px; an image moves by the same length at each resolution."""


class Finish:
    """The course of a run: it matches until its stages end or ``matching`` iterations are over, then comes the finish.

    Args:
        matching: Number of the iteration that matches no more, at the latest.
        iterations: Iterations of the finish.
        lr_img: Step size on the images at its beginning; it falls to 0 along a cosine.
        stages: Rule of the start epochs, which may end the matching before.

    Attributes:
        first: Number of the first iteration of the finish, once it is known.

    Example:
        >>> finish = Finish(matching=2, iterations=4, lr_img=1.0, stages=FixedRange())
        >>> [finish.begins(iteration) for iteration in range(4)], finish.first
        ([False, False, True, False], 2)
        >>> [round(finish.lr_img(iteration), 2) for iteration in range(2, 6)], finish.ended(5), finish.ended(6)
        ([1.0, 0.85, 0.5, 0.15], False, True)
    """

    def __init__(self, matching: int, iterations: int, lr_img: float, stages: FixedRange) -> None:
        self.matching, self.iterations, self.first_lr_img, self.stages = matching, iterations, lr_img, stages
        self.first: int | None = None

    def begins(self, iteration: int) -> bool:
        """Whether the finish begins with this iteration; to be asked of each, once those before it are recorded."""
        if not self.iterations or self.first is not None or not (self.stages.ended or iteration >= self.matching):
            return False
        self.first = iteration
        return True

    def begun(self, iteration: int) -> bool:
        """Whether an iteration is one of the finish."""
        return self.first is not None and iteration >= self.first

    def ended(self, iteration: int) -> bool:
        """Whether the run is over before an iteration."""
        if self.iterations:
            return self.first is not None and iteration >= self.first + self.iterations
        return self.stages.ended or iteration >= self.matching

    def most(self, iteration: int) -> int:
        """Iterations that are left, from this one on, at most."""
        end = (self.matching if self.first is None else self.first) + self.iterations
        return max(end - iteration, 0)

    def lr_img(self, iteration: int) -> float:
        """Step size on the images in an iteration of the finish."""
        share = (iteration - (self.first or 0)) / self.iterations
        return self.first_lr_img * (1 + math.cos(math.pi * share)) / 2

    def patience(self, iteration: int) -> int:
        """Iterations whose numbers may stay unread, see :attr:`gz_lightning.distillation.stages.FixedRange.patience`."""
        return sys.maxsize if self.begun(iteration) else self.stages.patience

    def state_dict(self) -> dict[str, Any]:
        """Where it began, and what for."""
        return {"first": self.first, "matching": self.matching, "iterations": self.iterations}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state.

        Raises:
            InputError: If the finish has begun, and was to have another length, or to come elsewhere.
        """
        then = state["matching"], state["iterations"]
        if state["first"] is not None and then != (self.matching, self.iterations):
            raise InputError(
                f"the finish of this run began at iteration {state['first']}, for {then[1]} iterations: its length and "
                "--model.iterations cannot change any more; name another --run_dir"
            )
        self.first = state["first"]
