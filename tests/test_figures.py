"""Pictures: what is drawn where."""

from pathlib import Path

import torch

from gz_lightning.figures import leaf_figure, save_figure
from tests.conftest import CLASS_NAMES


def test_leaf_figure_has_a_column_for_each_leaf(tmp_path: Path) -> None:
    figure = leaf_figure({"one": torch.rand(6, 3, 8, 8), "two": torch.rand(3, 3, 8, 8)}, CLASS_NAMES)
    axes = figure.axes
    assert len(axes) == 3 * 3
    assert [axis.get_title() for axis in axes[:3]] == list(CLASS_NAMES)
    assert [axes[i].get_ylabel() for i in (0, 3, 6)] == ["one", "", "two"]
    assert save_figure(figure, tmp_path / "a.png").stat().st_size > 1000
