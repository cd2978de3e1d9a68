"""The decision tree with galaxies at its leaves.

Shapes: K leaves, H x W pixels.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gz_lightning.data.schema import Schema
from gz_lightning.data.tree import ANSWERS, GZ2, Tree

LEVEL = 0.75
"""Height of a level of the tree, in inches."""


def _words(stem: str) -> str:
    return stem.replace("_", " ").replace("edgeon", "edge-on")


def question(answer: str, schema: Schema = GZ2) -> str:
    """The question that an answer belongs to, such as ``smooth or features?`` of a01."""
    if schema is not GZ2:
        return schema.asks(answer).replace("-", " ") + "?"
    return _words(ANSWERS[answer].split(f"_{answer}_")[0].partition("_")[2]) + "?"


def spoken(answer: str, schema: Schema = GZ2) -> str:
    """An answer in words, such as ``smooth`` of a01."""
    if schema is not GZ2:
        return schema.answers[answer].answers[answer].replace("-", " ")
    return _words(ANSWERS[answer].split(f"_{answer}_")[1])


Branch = tuple[tuple[str, ...], str, str]
"""The answers above a leaf, the question that is asked there, and the answer (or answers) that leads to the leaf."""


def branches(tree: Tree) -> list[Branch]:
    """Where each leaf hangs: below the answers that all its paths begin with.

    A leaf with one path hangs below all its answers but the last. The label of a leaf with several paths is what they have
    in common after they part or, if that is nothing, the answers that may follow.
    """
    hangs: list[Branch] = []
    for leaf in tree.leaves:
        paths = [path.split() for path in leaf.paths]
        shared = 0
        while all(len(path) > shared and path[shared] == paths[0][shared] for path in paths):
            shared += 1
        if len(paths) == 1:
            shared -= 1
        rest = [path[shared:] for path in paths]
        common = [answer for answer in rest[0] if all(answer in path for path in rest)]
        said = [spoken(answer, tree.schema) for answer in common]
        label = ", ".join(said) or " or ".join(spoken(path[0], tree.schema) for path in rest)
        hangs.append((tuple(paths[0][:shared]), question((common or rest[0])[0], tree.schema), label))
    return hangs


def tree_figure(sets: Mapping[str, torch.Tensor], class_names: Sequence[str], tree: Tree | None, title: str = "") -> Figure:
    """The tree with its root at the top, and below each leaf one picture of each set.

    Args:
        sets: Name -> pixels in [0, 1], shape (K, 3, H, W), in the order of the leaves.
        class_names: Names of the K leaves.
        tree: The decision tree; None hangs all leaves from one root.
        title: Title of the figure.
    """
    number = len(class_names)
    hangs = branches(tree) if tree is not None else [((), "galaxy", "") for _ in class_names]
    depth = max(len(prefix) for prefix, _, _ in hangs) + 1
    width, picture = 1.35 * number + 1.0, 1.3
    top = 0.35 if title else 0.05
    height = depth * LEVEL + 0.6 + len(sets) * picture + top
    figure = Figure(figsize=(width, height), dpi=130)
    figure.patch.set_facecolor("white")
    left, right = 0.95 / width, 0.05 / width
    bottom = (len(sets) * picture + 0.55) / height
    axis = figure.add_axes((left, bottom, 1 - left - right, 1 - bottom - top / height))
    axis.set(xlim=(-0.5, number - 0.5), ylim=(-depth - 0.05, 0.2))
    axis.axis("off")
    _draw(axis, hangs, depth, tree.schema if tree is not None else GZ2)
    share = (1 - left - right) / number
    for row, (name, images) in enumerate(sets.items()):
        for label, image in enumerate(images.detach().cpu().float()):
            low = (len(sets) - 1 - row) * picture + 0.08
            cell = figure.add_axes((left + (label + 0.03) * share, low / height, 0.94 * share, 0.94 * picture / height))
            cell.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
            cell.axis("off")
        middle = ((len(sets) - 1 - row) + 0.5) * picture + 0.08
        figure.text(0.9 / width, middle / height, textwrap.fill(name, 12), ha="right", va="center", fontsize=8)
    for label, name in enumerate(class_names):
        where = left + (label + 0.5) * share
        text = textwrap.fill(name, 17)
        figure.text(where, bottom - 0.04 / height, text, ha="center", va="top", fontsize=7.5, weight="bold")
    if title:
        figure.suptitle(title, fontsize=10, y=1 - 0.06 / height, va="top")
    return figure


def _draw(axis: Axes, hangs: Sequence[Branch], depth: int, schema: Schema) -> None:
    """Nodes above the mean place of their leaves, and edges labelled with the answers."""
    nodes = {prefix[:k] for prefix, _, _ in hangs for k in range(len(prefix) + 1)}
    below = {node: [x for x, (prefix, _, _) in enumerate(hangs) if prefix[: len(node)] == node] for node in nodes}
    place = {node: (sum(below[node]) / len(below[node]), -float(len(node))) for node in nodes}
    for node in nodes:
        if node:
            _edge(axis, place[node[:-1]], place[node], spoken(node[-1], schema))
    for x, (prefix, _, label) in enumerate(hangs):
        _edge(axis, place[prefix], (float(x), -float(depth)), label, at=-len(prefix) - 0.55)
    for node in nodes:
        size = len(node)
        deeper = [question(prefix[size], schema) for prefix, _, _ in hangs if len(prefix) > size and prefix[:size] == node]
        text = [*deeper, *(asks for prefix, asks, _ in hangs if prefix == node)][0]
        axis.text(*place[node], text, ha="center", va="center", fontsize=7.5, bbox=NODE, zorder=3)


NODE = {"boxstyle": "round,pad=0.3", "facecolor": "#e8eef7", "edgecolor": "#34507a"}


def _edge(axis: Axes, start: tuple[float, float], end: tuple[float, float], label: str, at: float | None = None) -> None:
    """An edge with a bend: across below its start, then down."""
    bend = start[1] - 0.32
    axis.plot([start[0], start[0], end[0], end[0]], [start[1], bend, bend, end[1]], color="#34507a", linewidth=1, zorder=1)
    y = (bend + end[1]) / 2 if at is None else at
    box = {"boxstyle": "square,pad=0.12", "facecolor": "white", "edgecolor": "none"}
    axis.text(end[0], y, textwrap.fill(label, 16), ha="center", va="center", fontsize=7, bbox=box, zorder=2)
