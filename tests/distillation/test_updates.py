"""The update of images and step sizes: as published, normalised, and never to or from anything that is not finite."""

import math
from pathlib import Path

import pytest
import torch

from gz_lightning.distillation.updates import (
    UPDATES,
    FiniteSteps,
    Normalised,
    Published,
    all_finite,
    mean_of,
    optimizer_of,
)
from gz_lightning.errors import InputError
from gz_lightning.randomness import generator
from gz_lightning.sets.synthetic import SyntheticSet
from tests.conftest import CLASS_NAMES


def synthetic(value: float = 0.0) -> SyntheticSet:
    images = torch.full((3, 3, 4, 4), value)
    return SyntheticSet(images, torch.arange(3), torch.tensor([0.1]), CLASS_NAMES, torch.zeros(3), torch.ones(3))


def test_the_published_update_is_plain_sgd() -> None:
    images, sizes = torch.randn(2, 3, 4, 4, generator=generator(0)), torch.tensor([-7.0])
    before = images.clone(), sizes.clone()
    Published()(torch.tensor(3.0), images, sizes)
    assert torch.equal(images, before[0])
    assert torch.equal(sizes, before[1])


def test_the_normalised_update_written_out() -> None:
    images, sizes, logits = torch.randn(2, 3, 4, 4, generator=generator(0)), torch.tensor([-7.0, 0.3]), torch.ones(2, 3)
    expected = images / images.square().mean((1, 2, 3), keepdim=True).sqrt() / 2
    Normalised()(torch.tensor(2.0), images, sizes, logits)
    torch.testing.assert_close(images, expected)
    torch.testing.assert_close(sizes, torch.tensor([-1.0, 0.15]))
    torch.testing.assert_close(logits, torch.full((2, 3), 0.5))
    below = torch.ones(1, 3, 4, 4)
    Normalised()(torch.tensor(0.25), below, torch.zeros(1))  # nothing is divided by a loss below 1
    torch.testing.assert_close(below, torch.ones(1, 3, 4, 4))


def test_each_thing_learned_has_its_rate_and_labels_their_momentum() -> None:
    """Plain SGD with momentum, written out for two steps; labels have DATM's momentum of .9."""
    settings = {"lr_lr": 0.01, "lr_label": 2.0, "momentum": 0.5}
    learned = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    optimizer = optimizer_of(learned, 0.25, settings)
    for _ in range(2):
        for parameter in learned:
            parameter.grad = torch.ones(2)
        optimizer.step()
    for parameter, rate, momentum in zip(learned, (0.25, 0.01, 2.0), (0.5, 0.5, 0.9), strict=True):
        torch.testing.assert_close(parameter.detach(), torch.full((2,), -rate * (1 + 1 + momentum)))
    assert [group["name"] for group in optimizer.param_groups] == ["images", "step_sizes", "labels"]
    hard = optimizer_of(learned[:2], 0.25, settings)
    assert [group["momentum"] for group in hard.param_groups] == [0.5, 0.5]


def test_an_image_without_a_gradient_stays() -> None:
    images = torch.zeros(1, 3, 4, 4)
    Normalised()(torch.tensor(0.5), images, torch.zeros(1))
    assert torch.equal(images, torch.zeros(1, 3, 4, 4))


@pytest.mark.parametrize("name", list(UPDATES))
def test_every_update_has_a_default_rate(name: str) -> None:
    assert 0 < UPDATES[name].lr_img(64) <= UPDATES[name].lr_img(32)


def test_the_default_rates() -> None:
    """An image moves by as much, in the root of the sum of its squares, at every resolution."""
    assert Published().lr_img(128) == Published().lr_img(32) == 1000
    assert Normalised().lr_img(32) == pytest.approx(0.003)
    assert Normalised().lr_img(128) == pytest.approx(0.00075)


def test_the_gradient_of_a_step_size_is_cut_off_on_both_sides() -> None:
    sizes = torch.tensor([-9.0, -0.9, 0.9, 9.0])
    Normalised()(torch.tensor(0.5), torch.ones(1, 3, 4, 4), sizes)
    torch.testing.assert_close(sizes, torch.tensor([-1.0, -0.9, 0.9, 1.0]))


def take(steps: FiniteSteps, loss: float, *gradients: float | None) -> str | None:
    """A step of SGD on two numbers, with these gradients."""
    learned = [torch.nn.Parameter(torch.ones(1)) for _ in gradients]
    for parameter, gradient in zip(learned, gradients, strict=True):
        parameter.grad = None if gradient is None else torch.tensor([gradient])
    before = [parameter.detach().clone() for parameter in learned]
    verdict = int(steps.step(torch.optim.SGD(learned, lr=0.1), torch.tensor(loss), learned))
    wrong = steps.wrong(verdict, loss)
    if wrong is not None:
        assert all(torch.equal(parameter, was) for parameter, was in zip(learned, before, strict=True))
    return wrong


def test_what_is_not_finite_is_named() -> None:
    steps = FiniteSteps()
    assert take(steps, math.nan, 1.0, 1.0) == "the matching loss (nan)"
    assert take(steps, 1 / 3, 1.0, math.inf) == "the gradient of the matching loss (loss 0.333)"
    assert take(steps, 1 / 3, math.nan, 1.0) == "the gradient of the matching loss (loss 0.333)"
    assert take(steps, 0.5, None, 1.0) is None  # what has no gradient stays
    assert take(steps, 0.5, 1.0, 3e38) == "the updated images or step sizes"


def test_five_iterations_without_an_update_end_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps, last = FiniteSteps(), tmp_path / "last.h5"
    for _ in range(4):
        wrong = take(steps, math.nan, 1.0, 1.0)
        assert wrong is not None
        steps.refused(wrong, "here", synthetic(), last, write=False)
    assert not last.exists()
    with pytest.raises(InputError, match="no update could be made 5 times in a row"):
        steps.refused(str(take(steps, math.nan, 1.0, 1.0)), "here", synthetic(), last, write=False)
    assert capsys.readouterr().err.count("here: the matching loss (nan) not finite: no update") == 5


def test_no_update_is_made_after_the_last_refusal() -> None:
    """The device decides before anybody has read that the run is over."""
    for gradients, moves in (((math.nan, 1.0, math.nan, 1.0), 2), ((math.nan, math.nan, 1.0, 1.0), 0), ((1.0,) * 4, 4)):
        images, sizes = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1))
        optimizer, steps = torch.optim.SGD([images, sizes], lr=1.0), FiniteSteps(most=2)
        for gradient in gradients:
            images.grad, sizes.grad = torch.full((2,), gradient), torch.zeros(1)
            steps.step(optimizer, torch.tensor(0.5), [images, sizes])
        assert torch.equal(images.detach(), torch.full((2,), -float(moves)))


def test_a_run_in_which_no_update_was_made_does_not_end_well() -> None:
    steps = FiniteSteps()
    steps.require_one()  # nothing was to be done
    for number in (1, 2):
        take(steps, math.nan, 1.0, 1.0)
        with pytest.raises(
            InputError, match=rf"no update could be made in any of {number} iterations: the images are those"
        ):
            steps.require_one()
    take(steps, 0.5, 1.0, 1.0)
    steps.require_one()
    take(steps, math.nan, 1.0, 1.0)
    steps.require_one()
    assert steps.made == 1


def test_updates_are_made_again_once_all_is_finite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, sizes = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([images, sizes], lr=0.1, momentum=0.5)
    steps, last = FiniteSteps(most=3), tmp_path / "last.h5"
    made = []
    for gradient in (1.0, math.nan, math.inf, 1.0, math.nan):
        images.grad, sizes.grad = torch.full((2,), gradient), torch.zeros(1)
        wrong = steps.wrong(int(steps.step(optimizer, torch.tensor(0.5), [images, sizes])), 0.5)
        made.append(wrong is None)
        if wrong is not None:
            steps.refused(wrong, "here", synthetic(), last, write=True)  # never three in a row
    assert made == [True, False, False, True, False]
    torch.testing.assert_close(images.detach(), torch.full((2,), 1 - 0.1 - 0.15))
    assert "here: the gradient of the matching loss (loss 0.5) not finite: no update" in capsys.readouterr().err
    assert len(SyntheticSet.load(last)) == 3
    steps.in_a_row = 3
    with pytest.raises(InputError, match=r"3 times in a row \(last at here\); the last good images are in .*last.h5"):
        steps.refused("the loss", "here", synthetic(), last, write=False)


def test_a_step_to_infinity_is_undone_with_its_momentum() -> None:
    images, sizes = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([images, sizes], lr=1e30, momentum=0.5)
    images.grad, sizes.grad = torch.full((2,), 1e30), torch.zeros(1)
    steps = FiniteSteps()
    verdict = int(steps.step(optimizer, torch.tensor(0.5), [images, sizes]))
    assert steps.wrong(verdict, 0.5) == "the updated images or step sizes"
    assert torch.equal(images.detach(), torch.ones(2))
    assert not any(state["momentum_buffer"].any() for state in optimizer.state.values())
    images.grad = torch.full((2,), 1e-30)
    steps.step(optimizer, torch.tensor(0.5), [images, sizes])  # a good one, which leaves a momentum
    before = images.detach().clone()
    images.grad = torch.full((2,), 1e30)
    steps.step(optimizer, torch.tensor(0.5), [images, sizes])
    assert torch.equal(images.detach(), before)
    assert not any(state["momentum_buffer"].any() for state in optimizer.state.values())


def test_a_set_that_no_update_broke_is_said_and_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there: the image 0 is not finite, though no update made it so"):
        FiniteSteps().refused("the loss", "there", synthetic(math.nan), tmp_path / "last.h5", write=True)
    assert not (tmp_path / "last.h5").exists()


def test_what_counts_as_finite() -> None:
    images = torch.zeros(2, 3, 4, 4)
    assert all_finite(images, torch.zeros(1))
    assert all_finite(images, torch.zeros(1), torch.zeros(2, 3))
    assert not all_finite(images, torch.tensor([200.0]))  # e**200 is beyond float32
    assert not all_finite(images, torch.tensor([-200.0]))  # and e**-200 is 0: students would stand still
    assert not all_finite(images + math.inf, torch.zeros(1))
    assert not all_finite(images, torch.zeros(1), torch.full((2, 3), math.nan))


def test_the_mean_over_segments_and_processes() -> None:
    results = [[torch.tensor(float(i)), torch.full((2, 2), 10.0 * i)] for i in (1, 3)]

    def over_processes(flat: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "mean"
        return flat + 1

    loss, gradient = mean_of(results, over_processes)
    assert float(loss) == 3
    assert torch.equal(gradient, torch.full((2, 2), 21.0))
    loss, gradient = mean_of(results[:1], over_processes)
    assert float(loss) == 2
    assert torch.equal(gradient, torch.full((2, 2), 11.0))
