"""The stage machine on loss series whose outcome was worked out by hand."""

import json
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gz_lightning.distillation.stages import STAGES, FirstCode, FixedRange, PublishedStages, StageDistillation, correlation
from gz_lightning.errors import InputError


def run(stages: FixedRange, losses: list[float]) -> list[tuple[int, str]]:
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


def test_a_threshold_is_passed_and_not_met() -> None:
    """Ten values whose correlation with their index is exactly 0 pass no threshold of 0 standard errors."""
    still = [1.0] * 10
    for rule in (StageDistillation, PublishedStages):
        assert run(rule(1, 5, sigma_threshold=0.0), still) == []
        assert run(rule(1, 5, sigma_threshold=0.0), [1.0, 0.999] * 5) == [(10, "learned")]


def test_three_standard_errors_of_a_rise_are_overfitting() -> None:
    """Correlations of 3.4 and 2.7 standard errors at n = 20, of 1 / sqrt(18) each: .80 and .64."""
    for share, wanted in ((0.80, [(20, "overfitted")]), (0.64, [])):
        series = with_correlation(share, 20)
        assert correlation(series) == pytest.approx(share)
        assert run(StageDistillation(1, 5, sigma_threshold=9), series) == wanted


def test_the_standard_error_has_two_degrees_of_freedom_less() -> None:
    """1 / sqrt(8) at n = 10: .69 is 1.95 standard errors, .72 is 2.04."""
    assert run(StageDistillation(1, 5, sigma_threshold=2), with_correlation(-0.69, 10)) == []
    assert run(StageDistillation(1, 5, sigma_threshold=2), with_correlation(-0.72, 10)) == [(10, "learned")]


def with_correlation(share: float, n: int) -> list[float]:
    """Values with a given correlation with their index: a line, and a parabola, which has none with it."""
    line = [i - (n - 1) / 2 for i in range(n)]
    parabola = [x * x - math.fsum(y * y for y in line) / n for x in line]
    sizes = [math.sqrt(math.fsum(x * x for x in part)) for part in (line, parabola)]
    rest = math.sqrt(1 - share**2)
    return [share * x / sizes[0] + rest * y / sizes[1] for x, y in zip(line, parabola, strict=True)]


@pytest.mark.parametrize("rule", list(STAGES.values()))
def test_the_defaults_are_those_that_the_docstrings_name(rule: type[FixedRange]) -> None:
    """The published 29 start epochs in turn from the first on."""
    stages = rule()
    assert stages.max_start_epoch == 29
    assert stages.cap == (29 if rule is FixedRange else 1)
    some = (rule(), rule(2), rule(29), rule(3, order="random"))
    assert [math.floor(stages.start_epoch(30, 0.9)) for stages in some] == (
        [1, 1, 1, 26] if rule is FixedRange else [0, 0, 1, 2]
    )
    assert rule(max_start_epoch=1).cap == 1
    with pytest.raises(InputError, match=r"init_epoch \(30\).*max_start_epoch \(29\)"):
        rule(30)


def test_a_stage_by_default() -> None:
    """Two standard errors are .71 at n = 10; the first test beyond 300 iterations is at 310."""
    assert run(StageDistillation(), with_correlation(-0.72, 10)) == [(10, "learned")]
    assert run(StageDistillation(), [1.0, 2.0] * 160) == [(310, "fine-tuning")]
    assert StageDistillation().max_duration == 300


@pytest.mark.parametrize("rule", [StageDistillation, PublishedStages])
def test_nothing_is_probed_while_fine_tuning(rule: type[StageDistillation] | type[PublishedStages]) -> None:
    stages = rule(2, 3, max_duration=10)
    assert stages.probe_epoch == 2
    run(stages, [1.0, 2.0] * 10)
    assert stages.probe_epoch is None


@pytest.mark.parametrize("rule", [StageDistillation, PublishedStages])
def test_a_stage_waits_until_its_next_test(rule: type[StageDistillation] | type[PublishedStages]) -> None:
    stages = rule(1, 3, max_duration=10)
    run(stages, [1.0, 2.0, 1.0])
    assert stages.patience == 7
    run(stages, [2.0, 1.0] * 9)
    assert stages.fine_tuning
    assert 0 < stages.patience <= 50 - stages.fine_tuning
    if isinstance(stages, PublishedStages):
        assert stages.patience == 29  # of 50 iterations


def test_the_published_numbers_are_the_defaults_of_the_published_rule() -> None:
    stages = PublishedStages()
    assert (stages.sigma_threshold, stages.max_duration, stages.first_lr_img) == (5, 1000, 1000)


def test_the_published_end_is_below_50() -> None:
    """62.5 x .8 is 50, which is not below it; what begins with 50 shrinks once."""
    for lr_img, wanted in ((62.5, 2), (50.0, 1)):
        stages = PublishedStages(1, 1, max_duration=10, lr_img=lr_img)
        run(stages, [1.0, 2.0] * 10)
        events = [stages.record() for _ in range(50 * wanted + 30)]
        assert (events.index("ended") + 20 + 1) // 50 == wanted


def test_a_state_is_plain_and_has_these_names() -> None:
    """It stands in checkpoints."""
    assert FixedRange(1, 4).state_dict() == {"cap": 4}
    stages = StageDistillation(1, 4)
    stages.record(0.5)
    assert stages.state_dict() == {"cap": 1, "probes": [0.5], "fine_tuning": 0}
    assert stages.state_dict()["probes"] is not stages.probes
    published, first = PublishedStages(1, 4), FirstCode(1, 4)
    published.record(0.5)
    first.record(0.5)
    wanted = {"cap": 1, "recorded": 1, "shrinks": 0, "fine_tuning": False, "probes": [0.5]}
    assert published.state_dict() == wanted
    assert first.state_dict() == {"cap": 1, "probes": [0.5], "interval": 0, "shrinks": 0, "restarts": False}


def test_a_fixed_range_never_moves() -> None:
    stages = FixedRange(1, 4)
    assert stages.probe_epoch is None
    assert [stages.start_epoch(i, 0.0) for i in range(6)] == [0, 1, 2, 3, 0, 1]
    assert stages.start_epoch(6, 0.25) == 2.25  # within the epoch whose turn it is
    assert [stages.record() for _ in range(3000)] == [None] * 3000
    assert (stages.cap, stages.lr_factor, stages.ended) == (4, 1.0, False)


def test_random_start_epochs_cover_the_range() -> None:
    stages = FixedRange(1, 3, order="random")
    assert [stages.start_epoch(7, u) for u in (0.0, 0.25, 0.5, 0.75)] == [0, 0.75, 1.5, 2.25]


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


def series(kind: str, seed: int, number: int) -> list[float]:
    """Made-up probe losses: a random walk with noise, a trend, a plateau after a trend, noise alone, a rise."""
    rng = random.Random(seed)
    level, losses = 1.0, []
    for i in range(number):
        level += {"walk": 0.01 * rng.gauss(0, 1), "trend": -1e-4, "rise": 1e-4, "noise": 0.0}.get(
            kind, -1e-3 if i < 150 else 0
        )
        losses.append(level + (0.3 if kind == "walk" else 0.01) * rng.gauss(0, 1))
    return losses


def correlation_by_numpy(losses: list[float]) -> float:
    return float(np.corrcoef(losses, np.arange(len(losses)))[0, 1]) if len(set(losses)) > 1 else 0.0


def published_rule(losses: list[float], cap: int, last: int, lr_img: float) -> list[tuple[int, str, int]]:
    """The rule of the paper's code written out as one loop: (iteration from 1, event, cap)."""
    stage: list[float] = []
    events: list[tuple[int, str, int]] = []
    fine_tuning = False
    for iteration, loss in enumerate(losses, 1):
        if fine_tuning:
            if iteration % 50 == 0:
                lr_img = lr_img * 0.8
            if lr_img < 50:
                return [*events, (iteration, "ended", cap)]
            continue
        stage.append(loss)
        n = len(stage)
        if n % 10 != 0:
            continue
        sigma = (1 / (n - 2)) ** 0.5
        r = correlation_by_numpy(stage)
        falls = r < -5 * sigma
        pending = n % 20 == 0 and not falls
        rises = r > 3 * sigma and not pending
        if falls or rises:
            stage = []
            if cap < last:
                cap += 1
                events.append((iteration, "learned" if falls else "overfitted", cap))
        elif n > 1000:
            fine_tuning = True
            events.append((iteration, "fine-tuning", cap))
    return events


def first_rule(losses: list[float], cap: int, last: int) -> list[tuple[int, str, int]]:
    """The rule of the first code written out as one loop: also (iteration, "shrunk", cap)."""
    stage: list[float] = []
    events, trending, interval = [], False, 0
    for iteration, loss in enumerate(losses, 1):
        stage.append(loss)
        n = len(stage)
        if n % 10 != 0 or n < 100:
            continue
        limit = 3 * (1 / (n - 2)) ** 0.5
        r = correlation_by_numpy(stage)
        if not trending:
            interval = n // 2
            trending = r < -limit
            if not trending and n % 200 == 0:
                events.append((iteration, "shrunk", cap))
        stopped = trending and np.mean(stage[-2 * interval : -interval]) <= np.mean(stage[-interval:])
        if stopped or r > limit:
            stage, trending = [], False
            if cap < last:
                cap += 1
                events.append((iteration, "learned" if stopped else "overfitted", cap))
    return events


def moves(stages: FixedRange, losses: list[float]) -> list[tuple[int, str, int]]:
    """What a rule makes of probe losses, resumed from its state after every hundredth."""
    events = []
    for iteration, loss in enumerate(losses, 1):
        cap = stages.cap
        event = stages.record(loss if stages.probe_epoch is not None else None)
        if stages.restarts:
            events.append((iteration, "shrunk", cap))
        if event:
            events.append((iteration, event, stages.cap))
        if stages.ended:
            break
        if iteration % 100 == 0:
            before, state = stages.restarts, json.loads(json.dumps(stages.state_dict()))
            stages.restarts = False
            stages.load_state_dict(state)
            assert stages.restarts == before  # else a resumed run would go on with the old momentum
    return events


@pytest.mark.parametrize("lr_img", [1000.0, 10_000.0])
@pytest.mark.parametrize("last", [3, 29])
@pytest.mark.parametrize("kind", ["walk", "trend", "plateau", "noise", "rise"])
def test_the_published_rule_is_that_of_the_paper_s_code(kind: str, last: int, lr_img: float) -> None:
    ends = []
    for seed in range(2):
        losses = series(kind, seed, 6000)
        stages = PublishedStages(1, last, sigma_threshold=5, max_duration=1000, lr_img=lr_img)
        expected = published_rule(losses, 1, last, lr_img)
        assert moves(stages, losses) == expected
        ends += [event for _, event, _ in expected]
    assert kind != "noise" or ends.count("ended") == 2


@pytest.mark.parametrize("last", [3, 29])
@pytest.mark.parametrize("kind", ["walk", "trend", "plateau", "noise", "rise"])
def test_the_first_rule_is_that_of_the_first_code(kind: str, last: int) -> None:
    for seed in range(2):
        losses = series(kind, seed, 3000)
        stages = FirstCode(1, last)
        expected = first_rule(losses, 1, last)
        assert moves(stages, losses) == expected
        shrinks = [event for _, event, _ in expected].count("shrunk")
        assert stages.lr_factor == pytest.approx(0.9**shrinks)
        assert expected or kind == "trend"


def test_the_published_rule_ends_at_an_lr_img_of_50() -> None:
    """1,000 takes 14 shrinks, 10,000 takes 24; what begins below 50 has no fine-tuning at all."""
    shrinks = []
    for lr_img in (1000.0, 10_000.0):
        stages = PublishedStages(1, 1, sigma_threshold=5, max_duration=10, lr_img=lr_img)
        moves(stages, [1.0, 2.0] * 1000)
        shrinks.append(stages.shrinks)
    assert shrinks == [14, 24]
    with pytest.raises(InputError, match=r"falls below 50, and it is 0\.003: .* take --model\.stage stage"):
        PublishedStages(lr_img=0.003)


def test_the_first_rule_moves_on_where_losses_stay_the_same() -> None:
    """They fall for 100 iterations, so the interval is 50; the first two intervals that are alike end at 200."""
    assert run(FirstCode(1, 5), [200.0 - i for i in range(100)] + [101.0] * 110) == [(200, "learned")]


def test_what_independent_step_sizes_learn_with() -> None:
    assert [STAGES[name](2, 5).lr_lr_factor for name in ("stage", "published", "fixed", "first_code")] == [2, 2, 5, 1]
