"""Simplified trees of the Galaxy Zoos: answers, leaves and their confidences.

Volunteers of Galaxy Zoo 2 answered tasks t01..t11 with answers a01..a38 (Willett et al. 2013); other surveys have
questions of their own (:mod:`gz_lightning.data.schema`). A leaf is reached by one or more paths of answers; its confidence
is the sum over its paths of the product of the vote fractions along the path, and a galaxy's class is the leaf of highest
confidence.

Shapes: N galaxies, K leaves.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gz_lightning.data.schema import KNOWN, Schema, complete, known_schema, schema_from
from gz_lightning.errors import InputError
from gz_lightning.storage.text import naming_file, read_yaml, short

GZ2 = known_schema("gz2")
ANSWERS: dict[str, str] = {a: question.published[a] for a, question in sorted(GZ2.answers.items())}
"""All 37 answers -> stem of their column in the published tables (Hart et al. 2016), to which the kind of vote is appended.
The first three characters of a stem name the question."""


def leaf_folder(name: str) -> str:
    """The folder of a leaf: its name in lower case, with underscores in place of all but letters and digits."""
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")


MOST_NAME = 100
"""Most characters in a name: leaves become folders, rows of tables and labels of figures."""


@dataclass(frozen=True)
class Leaf:
    """One class of a tree.

    Args:
        name: What figures and tables call the leaf, such as ``smooth, completely round``.
        paths: Paths that lead to the leaf: answers separated by blanks, such as ``a01 a16``.
    """

    name: str
    paths: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The name as a folder, see :func:`leaf_folder`."""
        return leaf_folder(self.name)


@dataclass(frozen=True)
class Tree:
    """A decision tree over the volunteers' answers.

    Args:
        name: The name of the tree in settings.
        leaves: The classes in the order of their labels.
        schema: The questions that its paths answer. Default: those of Galaxy Zoo 2.

    Raises:
        InputError: If there are no leaves, two share a name, a name does not fit on a line, or a path is empty, has an
            unknown answer, two answers to one question, or one that the others rule out.

    Example:
        >>> tree = Tree("bars", (Leaf("bar", ("a02 a05 a06",)), Leaf("no bar", ("a02 a05 a07",))))
        >>> tree.confidences({"a02": [1.0], "a05": [0.5], "a06": [0.25], "a07": [0.75]})
        array([[0.125, 0.375]])
    """

    name: str
    leaves: tuple[Leaf, ...]
    schema: Schema = GZ2

    def __post_init__(self) -> None:
        folders = [leaf.folder for leaf in self.leaves]
        for name in (self.name, *self.class_names):
            if len(name) > MOST_NAME or not name.isprintable():
                raise InputError(f"a name of a tree or of a leaf is {short(name)}; it should fit on a line")
        if not folders or "" in folders or len(set(folders)) < len(folders):
            names = ", ".join(self.class_names) or "none"
            raise InputError(f"the tree '{self.name}' needs leaves, each with a name of its own; it has {names}")
        for leaf in self.leaves:
            if not leaf.paths:
                raise InputError(f"the leaf '{leaf.name}' of the tree '{self.name}' has no path of answers")
            for path in leaf.paths:
                self._check(leaf, path)

    def _check(self, leaf: Leaf, path: str) -> None:
        answers, where = path.split(), f"the path '{path}' to the leaf '{leaf.name}' of the tree '{self.name}'"
        known = list(self.schema.answers)
        if unknown := [answer for answer in answers if answer not in known] or ([] if answers else ["nothing"]):
            of = f"{min(known)} to {max(known)}, such as 'a02 a05 a06'" if self.schema is GZ2 else ", ".join(known)
            raise InputError(f"{where} has {', '.join(unknown)}; a path is made of the answers {of}")
        questions = [self.schema.asks(answer) for answer in answers]
        if len(set(questions)) < len(questions):
            raise InputError(f"{where} has two answers to one question ({', '.join(questions)})")
        if (never := self.schema.rules_out(answers)) is not None:
            after = " or ".join(self.schema.answers[never].after)
            raise InputError(f"{where} has {never}, which is asked after {after} alone; the other answers rule that out")

    def __len__(self) -> int:
        return len(self.leaves)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the leaves in the order of their labels."""
        return tuple(leaf.name for leaf in self.leaves)

    @property
    def left_out(self) -> tuple[Leaf, ...]:
        """What a galaxy can be that the tree has no leaf for.

        These are the leaves of the survey's whole tree (``simplified`` of Galaxy Zoo 2) whose paths contradict every path
        of this tree, that is answer some question differently; a leaf that is part of one of ours, or divided by ours, is
        not left out. A question that the whole tree does not ask adds its answers that no path takes at that place.
        """
        ours = [path for leaf in self.leaves for path in leaf.paths]
        whole = _SIMPLIFIED if self.schema is GZ2 else _leaves(next(iter(self.schema.trees.values()), {}))
        candidates = {leaf.name: list(leaf.paths) for leaf in whole}
        asks = self.schema.asks
        asked = {asks(answer) for paths in candidates.values() for path in paths for answer in path.split()}
        for answers in map(str.split, ours):
            for place, answer in enumerate(answers):
                if asks(answer) not in asked:
                    for other in self.schema.siblings(answer):
                        candidates.setdefault(ANSWERS.get(other, other), []).append(" ".join([*answers[:place], other]))
        outside = {
            name: tuple(path for path in dict.fromkeys(paths) if all(self._contradict(path, other) for other in ours))
            for name, paths in candidates.items()
        }
        return tuple(Leaf(f"left out: {name}", paths) for name, paths in outside.items() if paths)

    @property
    def with_left_out(self) -> Tree:
        """The tree with :attr:`left_out` behind its leaves."""
        name = f"{self.name[:40]}, with what it leaves out unless --keep_unlikely true"
        return Tree(name, self.leaves + self.left_out, self.schema)

    def unlikely(self, votes: Mapping[str, npt.ArrayLike]) -> npt.NDArray[np.bool_]:
        """Which galaxies are likelier to be something that the tree leaves out than any of its leaves, shape (N,).

        With ``simplified9``, a galaxy whose votes say star by .56 and completely round by .22 is one. A leaf's whole
        confidence counts: a spiral galaxy of ``coarse5`` may be barred or not.

        Args:
            votes: As for :meth:`confidences`, for the answers of :attr:`with_left_out`.
        """
        confidences = self.with_left_out.confidences(votes)
        most = confidences[:, len(self) :].max(axis=1, initial=0)
        unlikely: npt.NDArray[np.bool_] = confidences[:, : len(self)].max(axis=1) < most
        return unlikely

    @property
    def answers(self) -> tuple[str, ...]:
        """The answers that the leaves need, in the order of their numbers."""
        return tuple(sorted({answer for leaf in self.leaves for path in leaf.paths for answer in path.split()}))

    def confidences(self, votes: Mapping[str, npt.ArrayLike]) -> npt.NDArray[np.float64]:
        """Leaf confidences of N galaxies.

        Args:
            votes: Answer -> vote fractions in [0, 1], shape (N,). NaN, a question that nobody reached, counts as zero.

        Returns:
            Confidences in [0, 1], shape (N, K). Debiased votes on one question need not sum to one, so with them a sum
            over paths can pass 1.

        Raises:
            InputError: If an answer that a leaf needs is missing from ``votes``.
        """
        missing = [answer for answer in self.answers if answer not in votes]
        if missing:
            raise InputError(f"the tree '{self.name}' needs votes for {', '.join(missing)}, which are not given")
        fraction = {answer: np.nan_to_num(np.asarray(votes[answer], dtype=np.float64)) for answer in self.answers}
        columns = [sum(np.prod([fraction[a] for a in path.split()], axis=0) for path in leaf.paths) for leaf in self.leaves]
        return np.stack(columns, axis=-1)

    def _contradict(self, path: str, other: str) -> bool:
        """Whether two paths answer a question differently."""
        asks = self.schema.asks
        answers = {asks(answer): answer for answer in path.split()}
        return any(answers.get(asks(answer), answer) != answer for answer in other.split())


def _leaves(leaves: Mapping[str, Sequence[str]]) -> tuple[Leaf, ...]:
    return tuple(Leaf(name, tuple(paths)) for name, paths in leaves.items())


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
"""The trees by name: ``simplified`` (ten leaves), ``simplified9`` (the published nine, without stars and artifacts) and
``coarse5`` (round, in between, cigar, edge-on, spiral).

A :class:`Tree` added here under its name is known to every command of the process: ``TREES["bars"] = Tree("bars", ...)``.
Its leaves may be any paths over :data:`ANSWERS`; the order of the leaves is that of the labels. Class folders named like
its leaves are recognised as its. Simulated galaxies serve trees whose leaves are made of those of ``simplified``. On the
command line a tree comes from a file, see :func:`read_tree`.
"""


@functools.cache
def survey_trees() -> dict[str, Tree]:
    """The trees of the other surveys by name; where a survey's columns come with infixes, one tree for each besides."""
    trees = {}
    for schema in (known_schema(name) for name in KNOWN if name != GZ2.name):
        for name, leaves in schema.trees.items():
            trees[name] = Tree(name, _leaves(leaves), schema)
            for infix in schema.infixes if len(schema.infixes) > 2 else ():
                if infix:
                    trees[name + infix] = Tree(name + infix, _leaves(leaves), schema.of_infix(infix))
    return trees


def all_trees() -> dict[str, Tree]:
    """All trees by name: :data:`TREES` and those of the other surveys."""
    return TREES | {name: tree for name, tree in survey_trees().items() if name not in TREES}


def get_tree(tree: str | Tree) -> Tree:
    """A tree by its name (see :func:`all_trees`) or its ``.yaml`` file (see :func:`read_tree`); a tree is returned as it is.

    Raises:
        InputError: If no tree has that name, or the file holds none.
    """
    if isinstance(tree, Tree):
        return tree
    if tree.endswith((".yaml", ".yml")):
        return read_tree(tree)
    if tree in TREES:
        return TREES[tree]
    if tree not in survey_trees():
        raise InputError(f"there is no tree '{tree}'; the trees are {', '.join(all_trees())}, or the path of a .yaml file")
    return survey_trees()[tree]


def read_tree(path: str | Path) -> Tree:
    """A tree from a YAML file with its ``name`` and its ``leaves``: name -> path, or list of paths.

    The confidences of a leaf's paths add up: ``edge-on: [a02 a04 a25, a02 a04 a26]``. Paths are those of Galaxy Zoo 2 or,
    with ``schema: decals``, of another survey that comes with the package or, with ``questions``, of one of your own (see
    :mod:`gz_lightning.data.schema`). With ``extends: decals`` it has the questions, columns and leaves of decals, but for
    what it states itself (see :mod:`gz_lightning.data.extends`).

    Raises:
        InputError: If there is no such file, or what it holds is no tree.
    """
    stated = read_yaml(path)
    wrong = f"{path} is no tree: give its name and its leaves, such as 'leaves: {{barred: a02 a05 a06}}'"
    keys = {"name", "leaves", "schema", "extends", "questions", "infixes"}
    if not isinstance(stated, dict) or not {"name"} <= set(stated) <= keys:
        raise InputError(f"{wrong}; it holds {short(stated)}")
    if {"schema", "extends"} <= set(stated):
        raise InputError(f"{path}: it names a schema and extends one; leave out schema")
    content = complete(stated, Path(path))
    if not isinstance(content.get("leaves"), dict):
        raise InputError(f"{wrong}; it holds {short(stated)}")
    leaves = []
    for name, paths in content["leaves"].items():
        paths = [paths] if isinstance(paths, str) else paths
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise InputError(f"{wrong}; the leaf {name!r} has {short(paths)}")
        leaves.append(Leaf(str(name), tuple(" ".join(path.split()) for path in paths)))
    if isinstance(content["name"], (dict, list)):
        raise InputError(f"{wrong}; its name is {short(content['name'])}")
    with naming_file(path):
        schema = _schema_of(path, content)
    with naming_file(
        path if "leaves" in stated else f"{path}, which states no leaves and so has those of {stated['extends']}"
    ):
        return Tree(str(content["name"]), tuple(leaves), schema)


def _schema_of(path: str | Path, content: Mapping[str, object]) -> Schema:
    """The schema that a tree's file names or holds."""
    if "questions" in content:
        own = {key: value for key, value in content.items() if key not in ("name", "leaves")}
        if "schema" in content:
            raise InputError("it names a schema and has questions of its own; leave out one of them")
        return schema_from(own, "its questions", Path(path).stem)
    name = content.get("schema", GZ2.name)
    if name not in KNOWN or "infixes" in content:
        raise InputError(f"its schema is {short(name)}; the schemas are {', '.join(KNOWN)}, or give questions of your own")
    return known_schema(str(name))
