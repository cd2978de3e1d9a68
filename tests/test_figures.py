"""Pictures: what is drawn where."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle

from gz_lightning.figures import (
    accuracy_figure,
    confusion_figure,
    drawable,
    experts_figure,
    leaf_figure,
    save_figure,
    stretched,
)
from tests.conftest import CLASS_NAMES


def test_leaf_figure_has_a_column_for_each_leaf(tmp_path: Path) -> None:
    figure = leaf_figure({"one": torch.rand(6, 3, 8, 8), "two": torch.rand(3, 3, 8, 8)}, CLASS_NAMES)
    axes = figure.axes
    assert len(axes) == 3 * 3
    assert [axis.get_title() for axis in axes[:3]] == list(CLASS_NAMES)
    assert [axes[i].get_ylabel() for i in (0, 3, 6)] == ["one", "", "two"]
    assert save_figure(figure, tmp_path / "a.png").stat().st_size > 1000


def test_names_that_a_font_or_a_formula_cannot_hold_are_drawn(tmp_path: Path) -> None:
    """A file of a set may have any name; the figures of hours of work must not fail on it."""
    images, name = torch.zeros(2, 3, 4, 4), "größe 星 $\\frac$.h5"
    assert drawable(name) == "größe ? \\$\\frac\\$.h5"
    for figure in (
        leaf_figure({name: images}, ["a$b$", "星"], name),
        confusion_figure(torch.eye(2), ["a$b$", "星"], name),
    ):
        assert save_figure(figure, tmp_path / "a.png").is_file()  # a warning would be an error


def test_stretched_pictures_reach_from_black_to_white() -> None:
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images[0, 0, 0, 0] = 50.0  # one hot pixel would leave all others dark
    shown = stretched(images)
    assert shown.amin((1, 2, 3)).tolist() == [0, 0]
    assert shown.amax((1, 2, 3)).tolist() == [1, 1]
    mean, spread = images[0].mean(), 2.5 * images[0].std()
    torch.testing.assert_close(shown[0, 0, 0, 1], (images[0, 0, 0, 1] - images[0].min()) / (mean + spread - images[0].min()))


def test_bars_begin_at_zero_beside_guessing() -> None:
    row = {"test": 60.0, "spread": 2.0, "low": 55.0, "high": 64.0}
    table = pd.DataFrame([{"set": "distilled", **row}, {"set": "full data", **row, "test": 97.0, "low": 95.0, "high": 99.0}])
    figure = accuracy_figure({"run": table}, chance=20.0)
    (axis,) = figure.axes
    assert axis.get_xlim() == (0, 100)
    bars = [(bar.get_x(), bar.get_width()) for bar in axis.patches if isinstance(bar, Rectangle)]
    assert bars == [(0, 60), (0, 97), (58, 4), (95, 4)]
    assert {"60.0 ± 2.0", "97.0 ± 2.0", "guessing"} <= {text.get_text() for text in axis.texts}
    assert any(np.array_equal(line.get_xdata(), [20, 20]) for line in axis.lines)
    FigureCanvasAgg(figure).draw()
    assert max(text.get_window_extent().x1 for text in axis.texts) <= figure.bbox.x1


def test_learning_curves_beside_guessing() -> None:
    metrics = pd.DataFrame({"epoch": [0, 1], "train_accuracy": [0.2, 0.9], "val_accuracy": [0.2, 0.7]})
    (axis,) = experts_figure(metrics, chance=20.0).axes
    assert np.array_equal(axis.lines[-1].get_ydata(), [20, 20])
    assert axis.lines[-1].get_label() == "guessing, 20 %"
    assert axis.get_ylim()[0] == 0
    assert len(experts_figure(metrics).axes[0].lines) == 2
