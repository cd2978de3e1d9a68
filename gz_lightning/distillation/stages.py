"""Which start epochs are matched, and when to move on: small state machines without torch, by name in STAGES.

Start epochs are drawn from [0, cap). A fixed range (MTT, Cazenavette et al. 2022) keeps cap = ``max_start_epoch``. Stage
distillation (Guan et al. 2023) asks the losses: it begins at cap = ``init_epoch``; after each iteration it is told the
probe loss, the matching loss from epoch cap, which is not matched yet. Once the probe losses of the stage fall clearly
(Pearson correlation with their index below -``sigma_threshold`` standard errors) the images have learned the stage; once
they rise clearly (above 3) they overfit it: either way cap rises by one. A stage that does neither within ``max_duration``
iterations begins the fine-tuning, in which ``lr_img`` shrinks until the run ends by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gz_lightning.errors import InputError

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


class FixedRange:
    """All start epochs below ``max_start_epoch`` from the beginning (MTT); and the contract of an entry of STAGES.

    An entry is a class with this constructor and these members. Your rule derives from this class, sets ``cap`` in
    its constructor and raises it in :meth:`record`. All that changes must be in :meth:`state_dict`, else a run that is
    resumed takes another course.

    Args:
        init_epoch: First cap of rules that move on, at least 1.
        max_start_epoch: Last cap: start epochs stay below it.
        order: ``cycle`` (in turn) or ``random``.
        sigma_threshold: Standard errors of a clear fall; of stage distillation.
        max_duration: Iterations of one stage at most; of stage distillation.

    Attributes:
        cap: Start epochs are below it now.

    Raises:
        InputError: If ``init_epoch`` is beyond ``max_start_epoch``.
    """

    def __init__(
        self,
        init_epoch: int = 1,
        max_start_epoch: int = 29,
        order: str = "cycle",
        sigma_threshold: float = 2.0,
        max_duration: int = 300,
    ) -> None:
        if not 1 <= init_epoch <= max_start_epoch:
            raise InputError(f"init_epoch ({init_epoch}) must be between 1 and max_start_epoch ({max_start_epoch})")
        self.order, self.max_start_epoch, self.cap = order, max_start_epoch, max_start_epoch

    @property
    def probe_epoch(self) -> int | None:
        """The epoch to probe from, or None where no probe is needed."""
        return None

    @property
    def lr_factor(self) -> float:
        """What ``lr_img`` is multiplied by now."""
        return 1.0

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return False

    def start_epoch(self, iteration: int, u: float) -> int:
        """The epoch to start from, in [0, cap); ``u``, uniform in [0, 1), decides where the order is random."""
        return iteration % self.cap if self.order == "cycle" else int(u * self.cap)

    def record(self, probe_loss: float | None = None) -> str | None:
        """Take note of an iteration.

        Args:
            probe_loss: Its probe loss; None where ``probe_epoch`` was None.

        Returns:
            What happened in a word, such as ``learned``, or None.
        """
        return None

    def state_dict(self) -> dict[str, Any]:
        """All that changes, as plain numbers."""
        return {"cap": self.cap}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a state."""
        self.__dict__.update(state)


class StageDistillation(FixedRange):
    """Moves on by itself from early to later start epochs (Guan et al. 2023).

    ``record`` returns ``learned`` or ``overfitted`` (cap has risen by one), ``fine-tuning``, ``ended``, or None.

    Two decisions differ from the published rule: the thresholds (published: ``sigma_threshold`` 5, ``max_duration`` 1000),
    and at the last cap falling losses let the stage continue until ``max_duration``, for there is no later stage.

    Example:
        >>> stages = StageDistillation(init_epoch=1, max_start_epoch=3)
        >>> [stages.record(1 - 0.01 * i) for i in range(10)][-1], stages.cap
        ('learned', 2)
    """

    def __init__(
        self,
        init_epoch: int = 1,
        max_start_epoch: int = 29,
        order: str = "cycle",
        sigma_threshold: float = 2.0,
        max_duration: int = 300,
    ) -> None:
        super().__init__(init_epoch, max_start_epoch, order)
        self.cap = init_epoch
        self.sigma_threshold, self.max_duration = sigma_threshold, max_duration
        self.probes: list[float] = []
        self.fine_tuning = 0
        """Iterations of fine-tuning done; 0 before it."""

    @property
    def probe_epoch(self) -> int | None:
        """The epoch that is not matched yet; None while fine-tuning."""
        return None if self.fine_tuning else self.cap

    @property
    def lr_factor(self) -> float:
        """1 before fine-tuning, then x .8 every 50 iterations."""
        return float(SHRINK ** (self.fine_tuning // SHRINK_EVERY))

    @property
    def ended(self) -> bool:
        """Whether fine-tuning is over."""
        return self.lr_factor < SHRINK_END

    def record(self, probe_loss: float | None = None) -> str | None:
        """Take note of an iteration, see :meth:`FixedRange.record`."""
        if self.fine_tuning:
            self.fine_tuning += 1
            return "ended" if self.ended else None
        if probe_loss is None:
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
        if overfitted or n > self.max_duration:
            self.fine_tuning = 1
            return "fine-tuning"
        return None

    def state_dict(self) -> dict[str, Any]:
        """All that changes, as plain numbers."""
        return {"cap": self.cap, "probes": list(self.probes), "fine_tuning": self.fine_tuning}


STAGES: dict[str, type[FixedRange]] = {"stage": StageDistillation, "fixed": FixedRange}
"""Rules of the start epochs by name; the contract is :class:`FixedRange`'s."""
