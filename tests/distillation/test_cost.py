"""What a distillation says it will take is what it then does."""

import torch

from gz_lightning.distillation.cost import cost_of, evaluations_of
from gz_lightning.distillation.finish import Finish
from gz_lightning.distillation.stages import FixedRange

SETTINGS = {
    "iterations": 60,
    "eval_it": 20,
    "syn_steps": 50,
    "segments_per_step": 2,
    "num_eval": 5,
    "stage": "stage",
    "objective": "match",
    "epoch_eval_train": 1000,
}


def expected(iterations: int, every: int, done: int) -> int:
    """As EvaluateSynthetic does it: before an iteration whose number is a multiple, and once at the end."""
    return sum(iteration % every == 0 for iteration in range(done, iterations)) + 1


def test_evaluations_are_those_of_the_callback() -> None:
    for done in range(0, 60, 7):
        for every in (1, 20, 59, 60, 61):
            assert evaluations_of(60, every, done) == expected(60, every, done)


def test_the_words_and_the_bytes() -> None:
    finish = Finish(60, 0, 0.003, FixedRange(1, 3))
    words, disk = cost_of(SETTINGS, 31, finish, 20, 123_456, torch.zeros(5, 3, 32, 32))
    assert words == (
        "29 iterations at most x 100 steps on 5 images, a network of 123,456 parameters; "
        "2 evaluations x 5 networks x 1,000 epochs"
    )
    assert 4 * 4 * 5 * 3 * 32**2 < disk < 10**6


def test_a_finish_counts_its_own_iterations_and_steps() -> None:
    finish = Finish(60, 30, 0.003, FixedRange(1, 3))
    words, _ = cost_of(SETTINGS, 31, finish, 20, 1000, torch.zeros(5, 3, 32, 32))
    assert words.startswith("29 iterations at most x 100 steps, then 30 iterations on real galaxies x 40 steps on 5 images")
    assert "; 4 evaluations" in words
    assert finish.begins(60)
    words, _ = cost_of(SETTINGS, 70, finish, 20, 1000, torch.zeros(5, 3, 32, 32))
    assert words.startswith("20 iterations on real galaxies x 40 steps on 5 images")


def test_one_is_not_many() -> None:
    one = {**SETTINGS, "syn_steps": 1, "segments_per_step": 1, "num_eval": 1, "epoch_eval_train": 1, "eval_it": 60}
    words, _ = cost_of(one, 59, Finish(60, 0, 0.003, FixedRange(1, 3)), 20, 9, torch.zeros(1, 3, 8, 8))
    assert words == "1 iteration at most x 1 step on 1 image, a network of 9 parameters; 1 evaluation x 1 network x 1 epoch"
