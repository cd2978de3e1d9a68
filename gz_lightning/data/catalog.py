"""Catalogue: one row per galaxy, of whatever origin: object id, image, leaf confidences.

Shapes: N galaxies, K leaves, n galaxies taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gz_lightning.data.embedded import Inside
from gz_lightning.data.packing import Contents
from gz_lightning.data.selection import Selection
from gz_lightning.data.tree import Tree, all_trees, get_tree
from gz_lightning.errors import InputError


@dataclass(frozen=True)
class Catalog:
    """Galaxies that have both an image and a place on a tree.

    Args:
        tree: Name of the tree; empty for class folders that belong to none.
        class_names: Names of the K leaves.
        object_ids: N object ids.
        confidences: Leaf confidences in [0, 1], float, shape (N, K); those of vote tables are computed in double precision
            and kept in single precision, as the packed file has them.
        files: Where the N images are: files, or places inside of larger ones; none for simulated galaxies.
        classifications: How many volunteers looked at each galaxy, float64, shape (N,); None: unknown.
        unlikely: Which galaxies are likelier to be something that the tree leaves out, shape (N,); None: unknown. See
            :meth:`gz_lightning.data.tree.Tree.unlikely`.
        splits: Split of each galaxy (``train``, ``val`` or ``test``) if the folders or files are split; else None.
        missing: Object ids in the table that have no image -> what the list of rejects says of them.
        notes: What else was left out of the tables, counted, a line each.
    """

    tree: str
    class_names: tuple[str, ...]
    object_ids: Sequence[str]
    confidences: npt.NDArray[np.floating[Any]]
    files: Sequence[Path | Inside] = ()
    classifications: npt.NDArray[np.float64] | None = None
    unlikely: npt.NDArray[np.bool_] | None = None
    splits: Sequence[str] | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.object_ids)

    def take(self, selection: Selection) -> Contents:
        """What a packed file of the selected galaxies holds beside their pixels."""
        return Contents(
            labels=selection.labels,
            confidences=self.confidences[selection.rows],
            object_ids=[str(self.object_ids[row]) for row in selection.rows],
            splits=selection.splits,
            class_names=self.class_names,
            tree=self.tree,
        )


def ordered_classes(
    where: object, classes: Sequence[str], tree: str | Tree | None, given: Sequence[str] | None = None
) -> tuple[str, tuple[str, ...], list[str]]:
    """Name of the tree, names of the classes, and the classes as they are given, in the order of the labels.

    Args:
        where: What messages name.
        classes: Classes as they are given, called by the folder of their leaf.
        tree: The tree whose leaves they are. Default: the tree whose leaves are called like them, if there is one.
        given: What the classes are called if they belong to no tree. Default: the same.

    Raises:
        InputError: If they are not the leaves of ``tree``.
    """
    if tree is None:
        tree = next((one for one in all_trees().values() if {leaf.folder for leaf in one.leaves} == set(classes)), None)
    if tree is None:
        return "", tuple(given or classes), list(classes)
    tree = get_tree(tree)
    order = [leaf.folder for leaf in tree.leaves]
    if set(order) != set(classes):
        raise InputError(
            f"the classes of {where} ({', '.join(classes)}) are not the leaves of '{tree.name}' ({', '.join(order)})"
        )
    return tree.name, tree.class_names, order
