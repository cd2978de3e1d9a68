"""Settings that are not given."""

from typing import Any

import pytest

from gz_lightning.distillation.defaults import defaults_of, first_cap, images_of_a_step, steps_matched
from gz_lightning.distillation.module import TrajectoryMatching


@pytest.mark.parametrize(
    ("given", "iterations", "finish", "syn_steps"),
    [
        ({}, 5000, 0, 50),
        ({"ipc": 10}, 60, 200, 40),
        ({"iterations": 400}, 400, 0, 50),
        ({"iterations": 400, "ipc": 10}, 400, 0, 20),
        ({"iterations": 400, "finish": 30}, 400, 30, 50),
        ({"finish": 0}, 5000, 0, 50),
        ({"finish": 30, "syn_steps": 7}, 5000, 30, 7),
        ({"finish": 30, "ipc": 2}, 60, 30, 40),
        ({"ipc": 10, "finish": 0}, 5000, 0, 20),
        ({"ipc": 10, "stage": "fixed"}, 5000, 0, 20),
        ({"ipc": 10, "image_update": "published"}, 5000, 0, 20),
        ({"ipc": 10, "step_sizes": "independent"}, 5000, 0, 20),
        ({"ipc": 10, "stage": "fixed", "finish": 30}, 60, 30, 40),
        ({"objective": "real", "load_syn_image": "set.h5"}, 200, 0, 240),
    ],
    ids=str,
)
def test_a_default_run_has_a_finish_and_what_is_named_is_taken(
    given: dict[str, Any], iterations: int, finish: int, syn_steps: int
) -> None:
    settings = TrajectoryMatching("experts", **given).hparams
    assert (settings["iterations"], settings["finish"], settings["syn_steps"]) == (iterations, finish, syn_steps)
    assert defaults_of(settings) == {"iterations": iterations, "finish": finish, "syn_steps": syn_steps}


def test_a_finish_changes_defaults_of_the_matching_before_it() -> None:
    settings: dict[str, Any] = dict(TrajectoryMatching("experts", ipc=10).hparams)
    assert images_of_a_step(settings, 50) == images_of_a_step(settings, 49) == 25
    assert (steps_matched(settings), first_cap(settings, 19, 80)) == (10, 19)
    assert first_cap(settings, 19, 7) == 7
    assert images_of_a_step(settings | {"batch_syn": 7}, 50) == 7
    assert first_cap(settings | {"init_epoch": 3}, 19, 80) == 3
    one = settings | {"ipc": 1}
    assert images_of_a_step(one, 5) is None
    assert (steps_matched(one), first_cap(one, 12, 88)) == (5, 1)
    without = settings | {"finish": 0}
    assert images_of_a_step(without, 50) is None
    assert (steps_matched(without), first_cap(without, 9, 80)) == (5, 1)
