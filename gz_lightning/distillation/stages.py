"""Which start epochs are matched, and when to move on: small state machines without torch, by name in STAGES.

Start epochs are drawn from [0, cap). A fixed range (MTT, Cazenavette et al. 2022) keeps cap = ``max_start_epoch``. Stage
distillation (Guan et al. 2023) asks the losses: it begins at cap = ``init_epoch``; after each iteration it is told the
probe loss, the matching loss from epoch cap, which is not matched yet. Once the probe losses of the stage fall clearly
(Pearson correlation with their index below -``sigma_threshold`` standard errors) the images have learned the stage; once
they rise clearly (above 3) they overfit it: either way cap rises by one. A stage that does neither within ``max_duration``
iterations begins the fine-tuning, in which ``lr_img`` shrinks until the run ends by itself.

Where the paper says nothing the authors' two codes differ: ``published`` is the paper's, ``first_code`` the one before.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Sequence
from typing import Any

from gz_lightning.errors import InputError

TEST_EVERY = 10
OVERFIT_THRESHOLD = 3.0
SHRINK, SHRINK_EVERY, SHRINK_END = 0.8, 50, 0.05
"""Fine-tuning: lr_img x .8 every 50 iterations; the end comes below a twentieth (published: from 1000 to below 50)."""
PUBLISHED_END = 50.0
"""The published end of the fine-tuning, in units of ``lr_img``: a twentieth of 1,000, a two-hundredth of 10,000."""
FIRST_TESTED, FIRST_SHRINK, FIRST_SHRINK_EVERY = 100, 0.9, 200
"""First code: probe losses before the first test; ``lr_img`` x .9 at each 200 of them without a trend."""


def correlation(values: Sequence[float]) -> float:
    """Pearson correlation of values with their index, in [-1, 1]; 0 where the values do not vary.

    Example:
        >>> correlation([3.0, 2.0, 1.0])
        -1.0
    """
    try:
        return statistics.correlation(range(len(values)), values)
    except statistics.StatisticsError:
        return 0.0


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
        lr_img: What ``lr_img`` begins with; of rules that end where it falls below a number.

    Attributes:
        cap: Start epochs are below it now.
        restarts: Whether the momentum of the images is to begin anew after the iteration that was recorded last.

    Raises:
        InputError: If ``init_epoch`` is beyond ``max_start_epoch``.
    """

    restarts = False

    def __init__(
        self,
        init_epoch: int = 1,
        max_start_epoch: int = 29,
        order: str = "cycle",
        sigma_threshold: float = 2.0,
        max_duration: int = 300,
        lr_img: float = 1000.0,
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
    def lr_lr_factor(self) -> float:
        """What ``lr_lr`` of independent step sizes is multiplied by: of ``cap`` iterations each sees one."""
        return float(self.cap)

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return False

    @property
    def patience(self) -> int:
        """Iterations that may pass before :meth:`record` is told of them, one by one: on a GPU they need not be waited for.

        1 where ``restarts`` is set, and for a rule with a ``record`` of its own but no :meth:`waits`.
        """
        owner = next(kind for kind in type(self).__mro__ if "record" in vars(kind))
        return self.waits() if "waits" in vars(owner) and not self.restarts else 1

    def waits(self) -> int:
        """Iterations until :meth:`record` may change anything but its own numbers; a rule has it beside its ``record``."""
        return sys.maxsize

    def start_epoch(self, iteration: int, u: float) -> float:
        """The epoch to start from, a real number in [0, cap).

        Args:
            iteration: Number of the iteration; decides the whole part of a cycle.
            u: Uniform in [0, 1); decides the rest.
        """
        return iteration % self.cap + u if self.order == "cycle" else u * self.cap

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

    It differs from :class:`PublishedStages` in its thresholds, looks for rising losses at every test, lets falling losses at
    the last cap continue the stage until ``max_duration``, for there is no later one, and ends at a twentieth of ``lr_img``.

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
        lr_img: float = 1000.0,
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

    def waits(self) -> int:
        """Until the next test of the probe losses, or the next change of ``lr_factor``."""
        if self.fine_tuning:
            return SHRINK_EVERY - self.fine_tuning % SHRINK_EVERY
        return TEST_EVERY - len(self.probes) % TEST_EVERY

    def state_dict(self) -> dict[str, Any]:
        """All that changes, as plain numbers."""
        return {"cap": self.cap, "probes": list(self.probes), "fine_tuning": self.fine_tuning}


class PublishedStages(FixedRange):
    """The rule of the code of the paper (Guan et al. 2023), to the letter.

    A stage is tested at each ten of its probe losses. Rising losses (above 3 standard errors) are looked for only where
    their number is no multiple of 20. At the last cap what would raise it begins the stage anew, until one lasts longer than
    ``max_duration``. In the fine-tuning ``lr_img`` shrinks where the number of all iterations is a multiple of 50, and the
    run ends where it is below 50, whatever it began with.

    Arguments are those of :class:`FixedRange`. (The authors count from 0: their first stage is tested one iteration later.)

    Raises:
        InputError: If ``lr_img`` is below 50 to begin with.
    """

    def __init__(
        self,
        init_epoch: int = 1,
        max_start_epoch: int = 29,
        order: str = "cycle",
        sigma_threshold: float = 5.0,
        max_duration: int = 1000,
        lr_img: float = 1000.0,
    ) -> None:
        super().__init__(init_epoch, max_start_epoch, order)
        if lr_img < PUBLISHED_END:
            raise InputError(
                f"stage published ends a run where lr_img falls below {PUBLISHED_END:g}, and it is {lr_img:g}: with "
                "--model.image_update normalised take --model.stage stage"
            )
        self.cap = init_epoch
        self.sigma_threshold, self.max_duration, self.first_lr_img = sigma_threshold, max_duration, lr_img
        self.probes: list[float] = []
        self.recorded, self.shrinks, self.fine_tuning = 0, 0, False

    @property
    def probe_epoch(self) -> int | None:
        """The epoch that is not matched yet; None while fine-tuning."""
        return None if self.fine_tuning else self.cap

    @property
    def lr_factor(self) -> float:
        """1 before fine-tuning, then x .8 at each 50 of all iterations."""
        return float(SHRINK**self.shrinks)

    @property
    def ended(self) -> bool:
        """Whether ``lr_img`` is below 50."""
        return self.first_lr_img * self.lr_factor < PUBLISHED_END

    def record(self, probe_loss: float | None = None) -> str | None:
        """Take note of an iteration, see :meth:`FixedRange.record`."""
        self.recorded += 1
        if self.fine_tuning:
            self.shrinks += self.recorded % SHRINK_EVERY == 0
            return "ended" if self.ended else None
        if probe_loss is None:
            return None
        self.probes.append(probe_loss)
        n = len(self.probes)
        if n % TEST_EVERY:
            return None
        r, sigma = correlation(self.probes), math.sqrt(1 / (n - 2))
        learned = r < -self.sigma_threshold * sigma
        if learned or (r > OVERFIT_THRESHOLD * sigma and n % (2 * TEST_EVERY)):
            self.probes = []
            if self.cap == self.max_start_epoch:
                return None
            self.cap += 1
            return "learned" if learned else "overfitted"
        self.fine_tuning = n > self.max_duration
        return "fine-tuning" if self.fine_tuning else None

    def waits(self) -> int:
        """Until the next test of the probe losses, or the next change of ``lr_factor``."""
        if self.fine_tuning:
            return SHRINK_EVERY - self.recorded % SHRINK_EVERY
        return TEST_EVERY - len(self.probes) % TEST_EVERY

    def state_dict(self) -> dict[str, Any]:
        """All that changes, as plain numbers."""
        changing = {name: self.__dict__[name] for name in ("cap", "recorded", "shrinks", "fine_tuning")}
        return changing | {"probes": list(self.probes)}


class FirstCode(FixedRange):
    """The rule of the authors' first code (March 2023), to the letter.

    A stage is tested at each ten of its probe losses, from the hundredth on. It is trending from the test at which they fall
    clearly (correlation below -3 standard errors); half of their number at that test is its interval. The cap rises when a
    trending stage has stopped improving (the mean of its last interval is no lower than that of the one before) or when
    losses rise clearly. At each 200 probe losses without a trend ``lr_img`` shrinks to .9 of itself and the momentum of the
    images begins anew. There is no end, and ``lr_lr`` is the same at every cap.

    Arguments are those of :class:`FixedRange`; those after ``order`` are not looked at.
    """

    def __init__(self, init_epoch: int = 1, max_start_epoch: int = 29, order: str = "cycle", *settings: float) -> None:
        super().__init__(init_epoch, max_start_epoch, order)
        self.cap = init_epoch
        self.probes: list[float] = []
        self.interval, self.shrinks = 0, 0  # no interval while there is no trend

    @property
    def probe_epoch(self) -> int | None:
        """The epoch that is not matched yet."""
        return self.cap

    @property
    def lr_factor(self) -> float:
        """.9 to the power of how often 200 probe losses had no trend."""
        return float(FIRST_SHRINK**self.shrinks)

    @property
    def lr_lr_factor(self) -> float:
        """1, whatever the cap."""
        return 1.0

    def record(self, probe_loss: float | None = None) -> str | None:
        """Take note of an iteration, see :meth:`FixedRange.record`."""
        self.restarts = False
        if probe_loss is None:
            return None
        self.probes.append(probe_loss)
        n = len(self.probes)
        if n % TEST_EVERY or n < FIRST_TESTED:
            return None
        r, limit = correlation(self.probes), OVERFIT_THRESHOLD * math.sqrt(1 / (n - 2))
        if not self.interval:
            self.interval = n // 2 if r < -limit else 0
            self.restarts = not self.interval and n % FIRST_SHRINK_EVERY == 0
            self.shrinks += self.restarts
        last, before = self.probes[-self.interval :], self.probes[-2 * self.interval : -self.interval]
        learned = bool(self.interval) and math.fsum(before) <= math.fsum(last)
        if learned or r > limit:
            self.probes, self.interval = [], 0
            if self.cap < self.max_start_epoch:
                self.cap += 1
                return "learned" if learned else "overfitted"
        return None

    def waits(self) -> int:
        """Until the next test of the probe losses."""
        return TEST_EVERY - len(self.probes) % TEST_EVERY

    def state_dict(self) -> dict[str, Any]:
        """All that changes, as plain numbers."""
        changing = {name: getattr(self, name) for name in ("cap", "interval", "shrinks", "restarts")}
        return changing | {"probes": list(self.probes)}


STAGES: dict[str, type[FixedRange]] = {
    "stage": StageDistillation,
    "fixed": FixedRange,
    "published": PublishedStages,
    "first_code": FirstCode,
}
"""Rules of the start epochs by name; the contract is :class:`FixedRange`'s."""
