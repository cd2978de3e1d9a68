"""The simplified Galaxy Zoo 2 trees: questions, answers, leaves and their confidences.

Volunteers answered tasks t01..t11 with answers a01..a38 (Willett et al. 2013). A leaf is reached by one or more paths
of answers; its confidence is the sum over its paths of the product of the vote fractions along the path, and a galaxy's
class is the leaf of highest confidence.

Shapes: N galaxies, K leaves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gz_lightning.errors import InputError

ANSWERS: dict[str, str] = {
    "a01": "t01_smooth_or_features_a01_smooth",
    "a02": "t01_smooth_or_features_a02_features_or_disk",
    "a03": "t01_smooth_or_features_a03_star_or_artifact",
    "a04": "t02_edgeon_a04_yes",
    "a05": "t02_edgeon_a05_no",
    "a06": "t03_bar_a06_bar",
    "a07": "t03_bar_a07_no_bar",
    "a08": "t04_spiral_a08_spiral",
    "a09": "t04_spiral_a09_no_spiral",
    "a16": "t07_rounded_a16_completely_round",
    "a17": "t07_rounded_a17_in_between",
    "a18": "t07_rounded_a18_cigar_shaped",
    "a25": "t09_bulge_shape_a25_rounded",
    "a26": "t09_bulge_shape_a26_boxy",
    "a27": "t09_bulge_shape_a27_no_bulge",
}
"""Answer -> stem of its column in the published tables (Hart et al. 2016); the kind of vote is appended to the stem."""


@dataclass(frozen=True)
class Leaf:
    """One class of a tree.

    Args:
        name: What figures and tables call the leaf, such as ``smooth, completely round``.
        paths: Paths of answers that lead to the leaf, each a string of answers such as ``a01 a16``.
    """

    name: str
    paths: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The name as a folder: lower case, everything but letters and digits an underscore."""
        return re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_")


@dataclass(frozen=True)
class Tree:
    """A decision tree over the volunteers' answers.

    Args:
        name: The name of the tree, as settings use it.
        leaves: The classes in the order of their labels.

    Example:
        >>> tree = Tree("bars", (Leaf("bar", ("a02 a05 a06",)), Leaf("no bar", ("a02 a05 a07",))))
        >>> tree.confidences({"a02": [1.0], "a05": [0.5], "a06": [0.25], "a07": [0.75]})
        array([[0.125, 0.375]])
    """

    name: str
    leaves: tuple[Leaf, ...]

    def __len__(self) -> int:
        return len(self.leaves)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the leaves in the order of their labels."""
        return tuple(leaf.name for leaf in self.leaves)

    @property
    def answers(self) -> tuple[str, ...]:
        """The answers that the leaves need, in the order of their numbers."""
        return tuple(sorted({answer for leaf in self.leaves for path in leaf.paths for answer in path.split()}))

    def confidences(self, votes: Mapping[str, npt.ArrayLike]) -> npt.NDArray[np.float64]:
        """Leaf confidences of N galaxies.

        Args:
            votes: Answer -> vote fractions in [0, 1], shape (N,). NaN stands for a question that nobody reached and
                counts as zero.

        Returns:
            Confidences in [0, 1], shape (N, K). With debiased votes, whose answers to one question need not sum to
            one, a sum over paths may pass 1 slightly.

        Raises:
            InputError: If an answer that a leaf needs is missing from ``votes``.
        """
        missing = [answer for answer in self.answers if answer not in votes]
        if missing:
            raise InputError(f"the tree '{self.name}' needs votes for {', '.join(missing)}, which are not given")
        fraction = {answer: np.nan_to_num(np.asarray(votes[answer], dtype=np.float64)) for answer in self.answers}
        columns = [sum(np.prod([fraction[a] for a in path.split()], axis=0) for path in leaf.paths) for leaf in self.leaves]
        return np.stack(columns, axis=-1)


_SIMPLIFIED = (
    Leaf("smooth, completely round", ("a01 a16",)),
    Leaf("smooth, in between", ("a01 a17",)),
    Leaf("smooth, cigar shaped", ("a01 a18",)),
    Leaf("disk, edge-on, bulge", ("a02 a04 a25", "a02 a04 a26")),
    Leaf("disk, edge-on, no bulge", ("a02 a04 a27",)),
    Leaf("disk, face-on, bar, spiral arms", ("a02 a05 a06 a08",)),
    Leaf("disk, face-on, bar, no spiral arms", ("a02 a05 a06 a09",)),
    Leaf("disk, face-on, no bar, spiral arms", ("a02 a05 a07 a08",)),
    Leaf("disk, face-on, no bar, no spiral arms", ("a02 a05 a07 a09",)),
    Leaf("star or artifact", ("a03",)),
)

TREES: dict[str, Tree] = {
    tree.name: tree
    for tree in (
        Tree("simplified", _SIMPLIFIED),
        Tree("simplified9", _SIMPLIFIED[:9]),
        Tree(
            "coarse5",
            (
                Leaf("completely round", _SIMPLIFIED[0].paths),
                Leaf("in between", _SIMPLIFIED[1].paths),
                Leaf("cigar shaped", _SIMPLIFIED[2].paths),
                Leaf("edge-on", _SIMPLIFIED[3].paths + _SIMPLIFIED[4].paths),
                Leaf("spiral", _SIMPLIFIED[5].paths + _SIMPLIFIED[7].paths),
            ),
        ),
    )
}
"""The trees by name: ``simplified`` (ten leaves), ``simplified9`` (without stars and artifacts, the published one), and
``coarse5`` (round, in between, cigar, edge-on, spiral)."""


def get_tree(tree: str | Tree) -> Tree:
    """The tree of that name, or the tree itself.

    Raises:
        InputError: If no tree has that name.
    """
    if isinstance(tree, Tree):
        return tree
    if tree not in TREES:
        raise InputError(f"there is no tree '{tree}'; the trees are {', '.join(TREES)}")
    return TREES[tree]
