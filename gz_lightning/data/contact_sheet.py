"""The contact sheet: a few galaxies of each leaf with their object ids, to see what has been packed.

Shapes: n galaxies of a leaf, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.figures import drawable, save_figure

PER_LEAF = 6
"""Galaxies of a leaf."""
LETTERS = 22
"""Letters of an object id below its picture; of a longer one its end is shown."""


def shortened(object_id: str) -> str:
    """An object id, or the end of a long one, such as a path."""
    return object_id if len(object_id) <= LETTERS else f"\N{HORIZONTAL ELLIPSIS}{object_id[1 - LETTERS :]}"


@dataclass(frozen=True)
class Sample:
    """Some training galaxies of a leaf.

    Args:
        leaf: Its name.
        pixels: uint8, shape (n, 3, H, W).
        object_ids: n object ids.
        confidences: Confidence of the leaf, n numbers; None where labels are classes, not votes.
    """

    leaf: str
    pixels: torch.Tensor
    object_ids: tuple[str, ...]
    confidences: tuple[float, ...] | None

    @property
    def captions(self) -> list[str]:
        """Object id and confidence of each."""
        ids = [shortened(name) for name in self.object_ids]
        if self.confidences is None:
            return ids
        return [f"{name}, {100 * share:.0f} %" for name, share in zip(ids, self.confidences, strict=True)]


def samples(galaxies: Galaxies, per_leaf: int = PER_LEAF) -> list[Sample]:
    """Training galaxies of each leaf, evenly from the most to the least confident: a file is as good as its worst.

    Args:
        galaxies: The packed galaxies.
        per_leaf: n, or fewer where a leaf has no more.
    """
    train, voted, chosen = galaxies.train, galaxies.has_votes, []
    for label, leaf in enumerate(galaxies.class_names):
        places = train.of_class(label)  # the most confident first
        places = places[torch.linspace(0, len(places) - 1, min(per_leaf, len(places))).round().long()]
        shares = tuple(train.confidences[places, label].tolist()) if voted else None
        ids = tuple(train.object_ids[place] for place in places.tolist())
        chosen.append(Sample(leaf, train.pixels(places), ids, shares))
    return chosen


def contact_sheet(galaxies: Galaxies, per_leaf: int = PER_LEAF) -> Figure:
    """A row of galaxies for each leaf, see :func:`samples`, with object ids and, of votes, the confidence below them."""
    rows = samples(galaxies, per_leaf)
    width, height = 1.5, 1.85
    figure = Figure(figsize=(width * per_leaf + 0.1, height * len(rows) + 0.1), dpi=120)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(-0.05, per_leaf + 0.05), ylim=(height * len(rows), -0.1))
    axis.axis("off")
    for row, sample in enumerate(rows):
        top = height * row + 0.2
        axis.text(0.03, top - 0.06, drawable(sample.leaf), fontsize=9, weight="bold")
        for column, (image, caption) in enumerate(zip(sample.pixels, sample.captions, strict=True)):
            where = (column + 0.03, column + 0.97, top + 1.4, top)
            axis.imshow(image.permute(1, 2, 0).numpy(), extent=where, interpolation="nearest", aspect="auto")
            axis.text(column + 0.5, top + 1.43, drawable(caption), ha="center", va="top", fontsize=6)
    return figure


def sheet_path(packed: Path) -> Path:
    """Where the contact sheet of a packed file lies: beside it."""
    return packed.with_name(f"{packed.stem}.contact_sheet.png")


def write_contact_sheet(packed: Path) -> Path:
    """Draw the contact sheet of a packed file, of which only the galaxies on it are read.

    Returns:
        The picture.

    Raises:
        InputError: If the galaxies cannot be used, see :class:`gz_lightning.data.galaxies.Galaxies`.
    """
    return save_figure(contact_sheet(Galaxies(packed, in_memory=False)), sheet_path(packed))
