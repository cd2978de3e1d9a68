"""Which start epochs are matched, and when to move on: stage distillation, the fixed range, and the opening window.

A small state machine without torch. Start epochs are drawn from [``min_start_epoch``, cap). The fixed range (MTT,
Cazenavette et al. 2022) keeps cap = ``max_start_epoch``. In the opening window (DATM, Guo et al. 2024) cap rises evenly from
``init_epoch`` to ``max_start_epoch`` over ``open_until`` iterations. Stage distillation (Guan et al. 2023) asks the losses:
it begins at cap = ``init_epoch``; after each iteration it is told the probe loss, the matching loss from
epoch cap, which is not matched yet. Once the probe losses of the stage fall clearly (Pearson correlation with their
index below -``sigma_threshold`` standard errors) the images have learned the stage, once they rise clearly (above 3) they
overfit it: either way cap is raised by one. A stage that does neither within ``max_duration`` iterations begins the
fine-tuning, in which ``lr_img`` shrinks until the run ends by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gz_lightning.errors import InputError

KINDS = ("stage", "fixed", "window")
TEST_EVERY = 10
OVERFIT_THRESHOLD = 3.0
SHRINK, SHRINK_EVERY, SHRINK_END = 0.8, 50, 0.05
"""Fine-tuning: lr_img x .8 every 50 iterations; the end comes below a twentieth (published: from 1000 to below 50)."""


def correlation(values: Sequence[float]) -> float:
    """Pearson correlation of values with their index, in [-1, 1]; 0 where the values do not vary.

    Example:
        >>> correlation([3.0, 2.0, 1.0])
        -1.0
    """
    n = len(values)
    mean_index, mean = (n - 1) / 2, math.fsum(values) / n
    covariance = math.fsum((i - mean_index) * (v - mean) for i, v in enumerate(values))
    spread = math.fsum((v - mean) ** 2 for v in values)
    spread_index = n * (n * n - 1) / 12
    return covariance / math.sqrt(spread * spread_index) if spread > 0 else 0.0


class Stages:
    """The state machine.

    Args:
        kind: ``stage``, ``fixed`` or ``window``.
        init_epoch: First cap of stage distillation and of the window, at least 1.
        max_start_epoch: Last cap: start epochs stay below it.
        order: ``cycle`` (each in turn) or ``random``.
        sigma_threshold: Standard errors of a clear fall; 5 in the first code.
        max_duration: Iterations after which a stage that neither learned nor overfitted begins the fine-tuning.
        min_start_epoch: Start epochs are not below it, in [0, init_epoch) (of a fixed range [0, max_start_epoch)).
        open_until: Iterations after which the window is open as far as it goes.

    Raises:
        InputError: If an argument is out of its range.

    Example:
        >>> stages = Stages("stage", init_epoch=1, max_start_epoch=3, sigma_threshold=2)
        >>> [stages.record(1 - 0.01 * i) for i in range(10)][-1], stages.cap
        ('learned', 2)
    """

    def __init__(
        self,
        kind: str = "stage",
        init_epoch: int = 1,
        max_start_epoch: int = 29,
        order: str = "cycle",
        sigma_threshold: float = 5.0,
        max_duration: int = 1000,
        min_start_epoch: int = 0,
        open_until: int = 1000,
    ) -> None:
        if kind not in KINDS:
            raise InputError(f"stage is one of {', '.join(KINDS)}, not '{kind}'")
        if order not in ("cycle", "random"):
            raise InputError(f"start_epochs is 'cycle' or 'random', not '{order}'")
        if not 1 <= init_epoch <= max_start_epoch:
            raise InputError(f"init_epoch ({init_epoch}) must be between 1 and max_start_epoch ({max_start_epoch})")
        if max_duration < TEST_EVERY or not sigma_threshold > 0:
            raise InputError(
                f"max_duration ({max_duration}) must be at least {TEST_EVERY}, sigma_threshold ({sigma_threshold}) positive"
            )
        self.cap = max_start_epoch if kind == "fixed" else init_epoch
        if not 0 <= min_start_epoch < self.cap:
            raise InputError(
                f"min_start_epoch ({min_start_epoch}) must be at least 0 and below the first start epochs' end ({self.cap}: "
                f"{'max_start_epoch' if kind == 'fixed' else 'init_epoch'})"
            )
        if open_until < 1:
            raise InputError(f"open_until ({open_until}) must be at least 1")
        self.kind, self.order, self.max_start_epoch = kind, order, max_start_epoch
        self.init_epoch, self.min_start_epoch, self.open_until = init_epoch, min_start_epoch, open_until
        self.sigma_threshold, self.max_duration = sigma_threshold, max_duration
        self.recorded = 0
        """Iterations recorded; of the window alone."""
        self.probes: list[float] = []
        self.fine_tuning = 0
        """Iterations of fine-tuning done; 0 before it."""

    def start_epoch(self, iteration: int, u: float) -> int:
        """The epoch to start from, in [min_start_epoch, cap); ``u`` is uniform in [0, 1), used where the order is random."""
        number = self.cap - self.min_start_epoch
        return self.min_start_epoch + (iteration % number if self.order == "cycle" else int(u * number))

    @property
    def probe_epoch(self) -> int | None:
        """The epoch to probe from, or None where no probe is needed."""
        return self.cap if self.kind == "stage" and not self.fine_tuning else None

    @property
    def lr_factor(self) -> float:
        """What ``lr_img`` is multiplied by now: 1 before fine-tuning."""
        return float(SHRINK ** (self.fine_tuning // SHRINK_EVERY))

    @property
    def ended(self) -> bool:
        """Whether fine-tuning is over, and with it the run."""
        return self.lr_factor < SHRINK_END

    def record(self, probe_loss: float | None = None) -> str | None:
        """Take note of an iteration.

        Args:
            probe_loss: Its probe loss; None where ``probe_epoch`` was None.

        Returns:
            What happened: ``learned`` or ``overfitted`` (cap has risen by one), ``opened`` (the window), ``fine-tuning``,
            ``ended``, or None.
        """
        if self.fine_tuning:
            self.fine_tuning += 1
            return "ended" if self.ended else None
        if self.kind == "window":
            self.recorded += 1
            share = min(1.0, self.recorded / self.open_until)
            before, self.cap = self.cap, self.init_epoch + int(share * (self.max_start_epoch - self.init_epoch))
            return "opened" if self.cap > before else None
        if self.kind == "fixed" or probe_loss is None:
            return None
        self.probes.append(probe_loss)
        n = len(self.probes)
        if n % TEST_EVERY:
            return None
        r, sigma = correlation(self.probes), math.sqrt(1 / (n - 2))
        learned, overfitted = r < -self.sigma_threshold * sigma, r > OVERFIT_THRESHOLD * sigma
        if (learned or overfitted) and self.cap < self.max_start_epoch:
            self.cap += 1
            self.probes = []
            return "learned" if learned else "overfitted"
        # At the last cap there is no later stage: falling losses go on as long as any stage may, rising ones end it.
        if overfitted or n > self.max_duration:
            self.fine_tuning = 1
            return "fine-tuning"
        return None

    def state_dict(self) -> dict[str, Any]:
        """All that changes, as plain numbers."""
        return {
            "cap": self.cap,
            "probes": list(self.probes),
            "fine_tuning": self.fine_tuning,
            "recorded": self.recorded,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.cap, self.probes = state["cap"], list(state["probes"])
        self.fine_tuning, self.recorded = state["fine_tuning"], state["recorded"]
