"""Trees drawn in the terminal, for ``gz-lightning prepare --list_trees``."""

from __future__ import annotations

import io

from rich.console import Console
from rich.tree import Tree as Branch

from gz_lightning.data.tree import GZ2, Leaf, Tree, all_trees, get_tree

WIDTH = 120


def draw(tree: Tree) -> str:
    """A tree with its questions, the answers that lead on, and the leaves behind them.

    Example:
        >>> print(draw(all_trees()["rings"]))
        rings: 2 leaves, Galaxy Zoo Rings
        ├── ring? yes → ring
        └── ring? no → no ring
    """
    root = Branch(f"{tree.name}: {len(tree)} leaves, {tree.schema.what}")
    branches: dict[tuple[str, ...], Branch] = {(): root}
    for leaf in tree.leaves:
        for path in leaf.paths:
            answers = tuple(path.split())
            for end in range(1, len(answers) + 1):
                if answers[:end] not in branches:
                    label = _said(tree, answers[end - 1])
                    branches[answers[:end]] = branches[answers[: end - 1]].add(label)
            branch = branches[answers]
            branch.label = f"{branch.label} → {leaf.name}"
    console = Console(file=io.StringIO(), width=WIDTH, markup=False, highlight=False, emoji=False, color_system=None)
    with console.capture() as drawn:
        console.print(root)
    return "\n".join(line.rstrip() for line in drawn.get().splitlines())


def _said(tree: Tree, answer: str) -> str:
    """Question and answer in words; of Galaxy Zoo 2 with the number of the answer, of which paths are made."""
    question = tree.schema.answers[answer]
    words = f"{question.name.replace('-', ' ')}? {question.answers[answer]}"
    return f"{answer} {words}" if tree.schema is GZ2 else words


def list_trees(name: str | None = None) -> str:
    """The tree of that name or file; None: all trees, one below the other.

    Those that differ in their columns alone, as of releases and of later surveys, are drawn once.
    """
    if name is not None:
        return draw(get_tree(name))
    drawn: dict[tuple[Leaf, ...], list[Tree]] = {}
    for tree in all_trees().values():
        drawn.setdefault(tree.leaves, []).append(tree)
    texts = []
    for first, *others in drawn.values():
        texts.append(draw(first))
        if others:
            columns = ", ".join(f"{tree.name} (such as bar{tree.schema.infixes[0]}_no)" for tree in others)
            texts[-1] += f"\nthe same of other columns: {columns}"
    return "\n\n".join([*texts, "a tree of your own: --tree own.yaml, whose lines docs/data.md explains"])
