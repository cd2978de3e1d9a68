"""The decision tree: where leaves hang, and what is drawn."""

import pytest
import torch

from gz_lightning.data.tree import get_tree
from gz_lightning.report.tree_figure import branches, question, tree_figure


def test_leaves_hang_where_their_paths_part() -> None:
    assert question("a04") == "edge-on?"
    hangs = branches(get_tree("coarse5"))
    assert hangs[0] == (("a01",), "rounded?", "completely round")
    assert hangs[3] == (("a02", "a04"), "bulge shape?", "rounded or boxy or no bulge")
    assert hangs[4] == (("a02", "a05"), "spiral?", "spiral")


def test_the_questions_of_another_survey() -> None:
    hangs = branches(get_tree("decals"))
    smooth, disk = "smooth-or-featured_smooth", "smooth-or-featured_featured-or-disk"
    assert hangs[0] == ((smooth,), "how rounded?", "round")
    assert hangs[5] == ((disk, "disk-edge-on_no", "bar_strong"), "has spiral arms?", "yes")


@pytest.mark.parametrize("name", ["simplified", "coarse5", "decals", "candels", "rings", None])
def test_tree_figure_shows_every_leaf(name: str | None) -> None:
    tree = get_tree(name) if name else None
    names = tree.class_names if tree else ("one", "two")
    figure = tree_figure(
        {"first": torch.rand(len(names), 3, 4, 4), "second": torch.rand(len(names), 3, 4, 4)}, names, tree, "x"
    )
    assert len(figure.axes) == 1 + 2 * len(names)
    words = {text.get_text().replace("\n", " ") for text in figure.texts}
    assert {*names, "first", "second", "x"} <= words
