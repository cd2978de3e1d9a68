"""What was learned: each image before and after, their difference, and the pictures of a run over its iterations.

Shapes: M images, K leaves, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gz_lightning.data.galaxies import denormalise
from gz_lightning.data.tree import Tree
from gz_lightning.evaluation.scores import tree_of
from gz_lightning.figures import stretched
from gz_lightning.report.pictures import Picture, file_picture, pixel_picture, rounded_bound, signed_colours
from gz_lightning.report.runs import Run
from gz_lightning.report.tree_figure import question, spoken

MOST_SHOWN = 3
"""Most synthetic images of a leaf that the page shows."""
MOST_MOMENTS = 24
"""Most pictures of a run that the page holds, evenly from its first to its last, beside the one of the set."""


@dataclass(frozen=True)
class Card:
    """Pictures that belong together.

    Args:
        title: What they are of.
        note: More about it; empty where there is nothing to say.
        rows: Rows of pictures with their captions, of equal length.
    """

    title: str
    note: str
    rows: Sequence[Sequence[tuple[Picture, str]]]


@dataclass(frozen=True)
class Learned:
    """Cards of all leaves, and the bound of the signed differences; 0 where there are none."""

    cards: Sequence[Card]
    bound: float


def learned(run: Run) -> Learned:
    """Each image before and after the distillation, by leaf; without the first images the set alone."""
    synthetic, first = run.synthetic, run.first
    places = synthetic.places_by_leaf(MOST_SHOWN)
    pixels, strong = synthetic.denormalised(), stretched(synthetic.images)
    before, difference, bound = torch.empty(0), torch.empty(0), 0.0
    if first is not None:
        before = denormalise(first.images, synthetic.mean, synthetic.std)
        difference = (synthetic.images - first.images).mean(1)
        bound = rounded_bound(difference)
    tree, cards = tree_of(synthetic.tree, synthetic.class_names), []
    for leaf, name in enumerate(synthetic.class_names):
        rows = []
        for place in (place for place in places[leaf].tolist() if place >= 0):
            row = [(pixel_picture(pixels[place], f"Distilled image of the leaf {name}"), "distilled")]
            if first is not None:
                row.insert(0, (pixel_picture(before[place], f"First image of the leaf {name}"), "first"))
                colours = signed_colours(difference[place], bound)
                row.append((pixel_picture(colours, f"Distilled minus first image of the leaf {name}"), "difference"))
            row.append((pixel_picture(strong[place], f"Stretched distilled image of the leaf {name}"), "stretched"))
            rows.append(row)
        cards.append(Card(name, way_to(tree, leaf) if rows else "No image has this label any more.", rows))
    return Learned(cards, bound)


def way_to(tree: Tree | None, leaf: int) -> str:
    """The questions and answers that lead to a leaf; of a leaf with several ways the first. Empty without a tree."""
    if tree is None:
        return ""
    schema, paths = tree.schema, tree.leaves[leaf].paths
    others = len(paths) - 1
    said = [f"{question(answer, schema)} {spoken(answer, schema)}" for answer in paths[0].split()]
    return " · ".join(said) + (f" (or {others} other way{'s' * (others != 1)})" if others else "")


def moments(run: Run) -> list[tuple[int, Picture]]:
    """Pictures of the run by iteration, evenly from the first to the last, with the one nearest to the set's iteration.

    None of a run that kept fewer than two.

    Raises:
        InputError: If one cannot be read.
    """
    number = len(run.moments)
    if number < 2:
        return []
    places = torch.linspace(0, number - 1, min(number, MOST_MOMENTS)).round().long().tolist()
    of_set = nearest_moment([iteration for iteration, _ in run.moments], run.synthetic.iteration)
    kept = [run.moments[place] for place in sorted({*places, of_set})]
    return [
        (iteration, file_picture(path, f"Distilled images of all leaves at iteration {iteration}"))
        for iteration, path in kept
    ]


def nearest_moment(iterations: Sequence[int], iteration: int) -> int:
    """Place of the iteration, of some, that is nearest to another.

    Example:
        >>> nearest_moment([0, 50, 100, 150], 100)
        2
    """
    return min(range(len(iterations)), key=lambda place: abs(iterations[place] - iteration))
