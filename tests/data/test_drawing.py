"""Trees in the terminal."""

from gz_lightning.data.drawing import draw, list_trees
from gz_lightning.data.tree import Leaf, Tree, all_trees


def test_a_tree_is_drawn_with_its_questions_and_leaves() -> None:
    tree = Tree("bars", (Leaf("bar", ("a02 a05 a06",)), Leaf("other", ("a02 a05 a07", "a01"))))
    assert draw(tree).splitlines()[1:] == [
        "├── a02 smooth or featured? featured-or-disk",
        "│   └── a05 disk edge on? no",
        "│       ├── a06 bar? yes → bar",
        "│       └── a07 bar? no → other",
        "└── a01 smooth or featured? smooth → other",
    ]


def test_a_leaf_above_another_keeps_its_name() -> None:
    tree = Tree("deep", (Leaf("barred", ("a05 a06",)), Leaf("face-on", ("a05",))))
    assert draw(tree).splitlines()[1:] == ["└── a05 disk edge on? no → face-on", "    └── a06 bar? yes → barred"]


def test_every_tree_is_in_the_list() -> None:
    text = list_trees()
    for name, tree in all_trees().items():
        assert name in text
        assert all(f"→ {leaf.name}" in text for leaf in tree.leaves)
    assert text.count("has spiral arms? yes → disk, face-on, strong bar, spiral arms") == 3  # decals, cosmic-dawn, jwst
    assert "the same of other columns: decals-dr5 (such as bar-dr5_no), decals-dr8 (such as bar-dr8_no)\n" in text
    assert "the same of other columns: euclid (such as bar-euclid_no)\n" in text
