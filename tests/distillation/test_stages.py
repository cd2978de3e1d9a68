"""The stage machine on loss series whose outcome was worked out by hand."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gz_lightning.distillation.stages import STAGES, FixedRange, StageDistillation, correlation
from gz_lightning.errors import InputError


def run(stages: StageDistillation, losses: list[float]) -> list[tuple[int, str]]:
    """(iteration, event), counted from 1."""
    events = []
    for i, loss in enumerate(losses, 1):
        event = stages.record(loss if stages.probe_epoch is not None else None)
        if event:
            events.append((i, event))
    return events


def test_correlation_by_hand() -> None:
    # Indices 0 1 2 3, values 1 2 4 3: covariance sum 4, spreads 5 and 5.
    assert correlation([1, 2, 4, 3]) == pytest.approx(0.8)
    assert correlation([5, 4, 3]) == pytest.approx(-1)
    assert correlation([2, 2, 2]) == 0


def test_ten_falling_losses_are_learned() -> None:
    """R = -1 against a threshold of 5 / sqrt(8) = 1.77 at n = 10: not yet; 5 / sqrt(18) = 1.18 at 20: not yet.

    At n = 30 the threshold is 5 / sqrt(28) = .945.
    """
    stages = StageDistillation(1, 5, sigma_threshold=5)
    assert run(stages, [1 - 0.001 * i for i in range(30)]) == [(30, "learned")]
    assert (stages.cap, stages.probes) == (2, [])


def test_with_a_lower_threshold_the_first_test_decides() -> None:
    stages = StageDistillation(1, 5, sigma_threshold=2)  # 2 / sqrt(8) = .71
    assert run(stages, [1 - 0.001 * i for i in range(10)]) == [(10, "learned")]


def test_rising_losses_are_overfitted() -> None:
    """3 / sqrt(8) = 1.06 at n = 10; 3 / sqrt(18) = .71 at n = 20."""
    stages = StageDistillation(1, 5, sigma_threshold=5)
    assert run(stages, [1 + 0.001 * i for i in range(20)]) == [(20, "overfitted")]
    assert stages.cap == 2


def test_noise_ends_in_fine_tuning_after_max_duration() -> None:
    """Alternating losses have no trend; the first test past 50 is at 60. Then 14 times 50 iterations: .8**14 < .05."""
    stages = StageDistillation(1, 5, sigma_threshold=5, max_duration=50)
    events = run(stages, [1.0, 2.0] * 400)
    assert events[0] == (60, "fine-tuning")
    assert events[1] == (60 + 14 * 50 - 1, "ended")
    assert stages.cap == 1


def test_lr_factor_shrinks_every_fifty() -> None:
    stages = StageDistillation(1, 1, sigma_threshold=5, max_duration=10)
    factors = []
    for i in range(200):
        stages.record([1.0, 2.0][i % 2] if stages.probe_epoch is not None else None)
        factors.append(stages.lr_factor)
    assert factors[18] == factors[19] == factors[67] == 1  # fine-tuning begins with iteration 20
    assert factors[68] == pytest.approx(0.8)
    assert factors[118] == pytest.approx(0.64)
    assert factors == sorted(factors, reverse=True)


def test_the_last_stage_goes_on_while_it_learns_and_ends_when_it_overfits() -> None:
    falling = StageDistillation(1, 1, sigma_threshold=5, max_duration=100)
    assert run(falling, [1 / (i + 1) for i in range(110)]) == [(110, "fine-tuning")]
    rising = StageDistillation(1, 1, sigma_threshold=5, max_duration=100)
    assert run(rising, [float(i) for i in range(20)]) == [(20, "fine-tuning")]


def test_a_fixed_range_never_moves() -> None:
    stages = FixedRange(1, 4)
    assert stages.probe_epoch is None
    assert [stages.start_epoch(i, 0.0) for i in range(6)] == [0, 1, 2, 3, 0, 1]
    assert [stages.record() for _ in range(3000)] == [None] * 3000
    assert (stages.cap, stages.lr_factor, stages.ended) == (4, 1.0, False)


def test_random_start_epochs_cover_the_range() -> None:
    stages = FixedRange(1, 3, order="random")
    assert [stages.start_epoch(7, u) for u in (0.0, 0.34, 0.67, 0.9999)] == [0, 1, 2, 2]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 4), st.integers(0, 4), st.integers(10, 60), st.floats(0.5, 6), st.integers(0, 10**6))
def test_the_cap_never_falls_or_passes_its_bound_and_the_machine_ends(
    first: int, more: int, duration: int, threshold: float, seed: int
) -> None:
    rng = random.Random(seed)
    stages = StageDistillation(first, first + more, sigma_threshold=threshold, max_duration=duration)
    bound = (more + 1) * (duration + 10) + 14 * 50
    level, caps = 1.0, [stages.cap]
    for iteration in range(bound + 1):
        if stages.ended:
            break
        assert 0 <= stages.start_epoch(iteration, rng.random()) < stages.cap
        level *= math.exp(rng.gauss(rng.choice([-0.01, 0, 0.01]), 0.05))
        stages.record(level if stages.probe_epoch is not None else None)
        caps.append(stages.cap)
    assert stages.ended
    assert caps == sorted(caps)
    assert caps[-1] <= first + more


def test_a_state_resumes_where_it_stopped() -> None:
    rng = random.Random(0)
    losses = [1 - 0.0004 * i + rng.gauss(0, 0.05) for i in range(900)]
    whole = StageDistillation(1, 6, sigma_threshold=3, max_duration=200)
    events = run(whole, losses)
    assert len(events) > 2
    for cut in (1, 35, 333, 700):
        first = StageDistillation(1, 6, sigma_threshold=3, max_duration=200)
        run(first, losses[:cut])
        second = StageDistillation(1, 6, sigma_threshold=3, max_duration=200)
        second.load_state_dict(first.state_dict())
        run(second, losses[cut:])
        assert second.state_dict() == whole.state_dict()


@pytest.mark.parametrize("rule", list(STAGES.values()))
@pytest.mark.parametrize("first", [0, 4])
def test_an_init_epoch_beyond_the_last_start_epoch_is_refused(rule: type[FixedRange], first: int) -> None:
    with pytest.raises(InputError, match=rf"init_epoch \({first}\) must be between 1 and max_start_epoch \(3\)"):
        rule(first, 3)
