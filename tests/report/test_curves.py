"""Curves of a run: what is drawn, and how."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.cbook import STEP_LOOKUP_MAP
from matplotlib.figure import Figure

from gz_lightning.report import curves as drawn
from gz_lightning.report.runs import Run
from gz_lightning.sets.synthetic import SyntheticSet

Draw = Callable[[Axes, Run], str]


def axis_of(draw: Draw, run: Run) -> Axes:
    axis = Figure().subplots()
    assert isinstance(axis, Axes)
    assert draw(axis, run)
    return axis


def with_metrics(run: Run, **columns: list[float | None]) -> Run:
    return replace(run, metrics=pd.DataFrame({"step": range(len(next(iter(columns.values())))), **columns}).astype(float))


def test_the_figures_of_a_run(run: Run) -> None:
    pictures = drawn.curves(run, "a_")
    assert list(pictures) == list(drawn.CAPTIONS)
    assert pictures["loss"].name == "a_loss_curve"
    assert "matching loss from 0.9 to 0.8; probe loss from 1.1 to 1" in pictures["loss"].alt
    assert drawn.curves(with_metrics(replace(run, experts=None), other=[1.0]), "") == {}


def test_stages_are_steps_and_a_single_one_is_not_drawn(run: Run) -> None:
    assert len(axis_of(drawn._stage, with_metrics(run, stage=[1, 1, 2, 3])).lines) == 1
    assert drawn._stage(Figure().subplots(), with_metrics(run, stage=[2, 2])) == ""


def test_a_stage_begins_where_the_one_before_was_learned(run: Run) -> None:
    logged = pd.DataFrame({"step": [9.0, 19, 29, 39, 49, 50, 59], "stage": [1, 2, 3, 4, 4, None, 5]})
    (line,) = axis_of(drawn._stage, replace(run, metrics=logged)).lines
    corners = list(zip(*STEP_LOOKUP_MAP[line.get_drawstyle()](line.get_xdata(), line.get_ydata()), strict=True))
    rises = [(x, high) for (x, low), (_, high) in itertools.pairwise(corners) if high > low]
    assert rises == [(9, 2), (19, 3), (29, 4), (49, 5)]  # iteration 9: learned; start epochs below 2 are matched
    assert corners[0] == (0, 1)


def test_a_running_mean_is_drawn_and_said_of_many_losses_alone(run: Run) -> None:
    few, many = (with_metrics(run, loss=[1.0] * number) for number in (15, 16))
    lines = [axis_of(drawn._loss, one).lines[:-1] for one in (few, many)]  # the last is dashed, at 1
    assert [[line.get_alpha() for line in drawn_lines] for drawn_lines in lines] == [[None], [0.35, None]]
    assert drawn.captions(few) == drawn.CAPTIONS
    assert "Pale" not in drawn.CAPTIONS["loss"]
    assert drawn.captions(many)["loss"].endswith("Pale: each logged iteration; full: running mean.")


def test_one_step_size_is_one_curve_whatever_the_start_epochs(run: Run) -> None:
    of_epochs: dict[str, list[float | None]] = {
        "step_size/start_epoch_0": [1, None, 3],
        "step_size/start_epoch_10": [None, 2, None],
    }
    (line,) = axis_of(drawn._step_sizes, with_metrics(run, **of_epochs)).lines
    assert list(line.get_ydata()) == [1, 2, 3]  # type: ignore[arg-type]
    axis = axis_of(drawn._step_sizes, with_metrics(run, **of_epochs, step_size=[4, 5, 6]))
    assert [list(line.get_ydata()) for line in axis.lines] == [[4, 5, 6]]  # type: ignore[arg-type]
    assert axis.get_ylim()[0] == 0
    apart = replace(run.synthetic, configuration={"step_sizes": "independent"})
    assert isinstance(apart, SyntheticSet)
    axis = axis_of(drawn._step_sizes, with_metrics(replace(run, synthetic=apart), **of_epochs))
    assert [line.get_label() for line in axis.lines] == ["start epoch 0", "start epoch 10"]


def test_step_sizes_of_many_sizes_have_a_logarithmic_axis(run: Run) -> None:
    assert axis_of(drawn._step_sizes, with_metrics(run, step_size=[0.001, 0.1])).get_yscale() == "log"


def test_accuracy_is_in_per_cent_beside_guessing(run: Run) -> None:
    axis = axis_of(drawn._accuracy, run)
    assert axis.get_ylim() == (0, 100)
    assert list(axis.lines[0].get_ydata()) == pytest.approx([40, 50])  # type: ignore[arg-type]
    assert any(text.get_text() == "guessing, 33 %" for text in axis.texts)
