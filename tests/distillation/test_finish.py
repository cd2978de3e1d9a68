"""When the finish begins and ends."""

import math

import pytest

from gz_lightning.distillation.finish import Finish
from gz_lightning.distillation.stages import FixedRange, StageDistillation
from gz_lightning.errors import InputError


def test_it_begins_where_the_stages_end() -> None:
    stages = StageDistillation(max_start_epoch=1, max_duration=10)
    finish, events = Finish(1000, 5, 1.0, stages), []
    for iteration in range(2000):
        if finish.begins(iteration):
            events.append(iteration)
        if finish.ended(iteration):
            break
        assert finish.begun(iteration) == bool(events)
        if not events:
            stages.record(0.5)
    assert finish.first is not None
    assert events == [finish.first]
    assert iteration == finish.first + 5
    assert stages.ended
    assert 0 < finish.first < 1000


def test_without_a_finish_a_run_ends_with_its_stages_or_iterations() -> None:
    stages = FixedRange(1, 3)
    finish = Finish(4, 0, 1.0, stages)
    assert [finish.begins(i) for i in range(6)] == [False] * 6
    assert [finish.ended(i) for i in range(6)] == [False] * 4 + [True] * 2
    assert [finish.most(i) for i in range(6)] == [4, 3, 2, 1, 0, 0]


def test_the_rate_falls_along_a_cosine() -> None:
    finish = Finish(10, 8, 0.003, FixedRange(1, 3))
    assert finish.begins(10)
    assert [finish.lr_img(10 + i) for i in range(8)] == [0.0015 * (1 + math.cos(math.pi * i / 8)) for i in range(8)]
    assert [finish.most(i) for i in (10, 17, 18)] == [8, 1, 0]


def test_a_state_is_taken_up_unless_the_finish_was_to_be_another() -> None:
    begun = Finish(10, 8, 0.003, FixedRange(1, 3))
    begun.begins(10)
    same = Finish(10, 8, 0.003, FixedRange(1, 3))
    same.load_state_dict(begun.state_dict())
    assert same.first == 10
    with pytest.raises(InputError, match="began at iteration 10, for 8 iterations"):
        Finish(10, 9, 0.003, FixedRange(1, 3)).load_state_dict(begun.state_dict())
    longer = Finish(20, 9, 0.003, FixedRange(1, 3))
    longer.load_state_dict(Finish(10, 8, 0.003, FixedRange(1, 3)).state_dict())  # it had not begun
    assert longer.first is None
