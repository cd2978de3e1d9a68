"""Pictures: what is drawn where."""

from pathlib import Path

import torch

from gz_lightning.figures import confusion_figure, drawable, leaf_figure, save_figure
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
