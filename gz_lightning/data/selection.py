"""Which galaxies of a catalogue are taken, and which split each belongs to.

Shapes: N galaxies of the catalogue, n galaxies taken, K leaves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from gz_lightning.errors import InputError

SPLITS = ("train", "val", "test")


def split_of(object_id: str, val_fraction: float, test_fraction: float) -> str:
    """The split of a galaxy: ``train``, ``val`` or ``test``.

    It depends on the object id alone, through a hash, never on the order of files or on what other galaxies there are.

    Example:
        >>> [split_of(object_id, 0.1, 0.2) for object_id in ("587722981736120347", "587722981736579107")]
        ['val', 'train']
    """
    u = int.from_bytes(hashlib.sha256(object_id.encode()).digest()[:8], "big") / 2**64  # uniform in [0, 1)
    if u < test_fraction:
        return "test"
    return "val" if u < test_fraction + val_fraction else "train"


@dataclass(frozen=True)
class Selection:
    """The galaxies that were taken, sorted by split, then label, then falling confidence.

    Args:
        rows: Their places in the catalogue, shape (n,), int64.
        labels: Their leaves, shape (n,), int64.
        splits: Their splits as places in ``SPLITS``, shape (n,), int64.
        confidences: How confident each is of its leaf, in [0, 1], shape (n,), float64.
        available: The same of all galaxies of each leaf that could have been taken, K arrays.
        class_names: Names of the K leaves.
        per_class: How many of each leaf were asked for; None: all.
    """

    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    splits: npt.NDArray[np.int64]
    confidences: npt.NDArray[np.float64]
    available: tuple[npt.NDArray[np.float64], ...]
    class_names: tuple[str, ...]
    per_class: int | None

    @property
    def report(self) -> pd.DataFrame:
        """One row per leaf: galaxies available, taken and lacking, confidence range of those taken, and their splits."""
        taken = [self.confidences[self.labels == label] for label in range(len(self.class_names))]
        report = pd.DataFrame(
            {
                "leaf": list(self.class_names),
                "available": [len(members) for members in self.available],
                "taken": [len(members) for members in taken],
                "lacking": [0 if self.per_class is None else max(self.per_class - len(members), 0) for members in taken],
                "lowest confidence": [members.min() if len(members) else np.nan for members in taken],
                "highest confidence": [members.max() if len(members) else np.nan for members in taken],
            }
        )
        for place, split in enumerate(SPLITS):
            report[split] = np.bincount(self.labels[self.splits == place], minlength=len(self.class_names))
        return report

    def keep(self, used: npt.NDArray[np.bool_]) -> Selection:
        """The selection without the galaxies that turned out to be of no use.

        Args:
            used: Whether each of the n galaxies stays, shape (n,).
        """
        rows, labels, splits = self.rows[used], self.labels[used], self.splits[used]
        return Selection(rows, labels, splits, self.confidences[used], self.available, self.class_names, self.per_class)


def select(
    object_ids: Sequence[str],
    confidences: npt.NDArray[np.float64],
    class_names: Sequence[str],
    per_class: int | None = None,
    min_confidence: float = 0.0,
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    *,
    classifications: npt.NDArray[np.float64] | None = None,
    min_votes: int = 0,
    given_splits: Sequence[str] | None = None,
) -> Selection:
    """Take the most confident galaxies of each leaf; equal confidences are ordered by object id.

    The split follows from the object id, so every leaf has the same shares of each split on average, and no galaxy changes
    its split when others are added.

    Args:
        object_ids: N object ids.
        confidences: Leaf confidences, shape (N, K). A galaxy's class is the leaf of highest confidence; one without any
            confidence has none and is left out.
        class_names: Names of the K leaves.
        per_class: At most so many galaxies of each leaf (of each given split); None: all.
        min_confidence: Only galaxies whose class has at least this confidence, 0 to 1.
        val_fraction: Share of validation galaxies, in [0, 1).
        test_fraction: Share of test galaxies, in [0, 1).
        classifications: How many volunteers looked at each galaxy, shape (N,).
        min_votes: Only galaxies that at least so many volunteers looked at.
        given_splits: N splits that the galaxies come with. Where there is no ``val`` among them, the share
            ``val_fraction`` of ``train`` becomes it; ``test_fraction`` plays no part.

    Raises:
        InputError: If a number is out of its range, ``min_votes`` is asked of galaxies whose volunteers nobody counted,
            or no galaxy is left.
    """
    _check(per_class, val_fraction, test_fraction)
    labels, best = confidences.argmax(axis=1), confidences.max(axis=1)
    usable = (best > 0) & (best >= min_confidence)
    limits = f"a confidence of {min_confidence}"
    if min_votes > 0:
        if classifications is None:
            raise InputError(
                f"--min_votes {min_votes}: nobody says how many volunteers looked at these galaxies; leave it out, or "
                "take a table with total_classifications"
            )
        usable &= classifications >= min_votes
        limits += f" and {min_votes} volunteers"
    if given_splits is None:
        splits = [split_of(object_id, val_fraction, test_fraction) for object_id in object_ids]
        groups = labels
    else:
        own_val = "val" in given_splits
        splits = [
            split_of(object_id, 0.0 if own_val else val_fraction, 0.0) if split == "train" else split
            for object_id, split in zip(object_ids, given_splits, strict=True)
        ]
        groups = labels + len(class_names) * np.array([SPLITS.index(split) for split in given_splits])
    order = np.array(sorted(np.flatnonzero(usable).tolist(), key=lambda i: (-best[i], object_ids[i])), dtype=np.int64)
    if not len(order):
        raise InputError(f"none of the {len(object_ids)} galaxies reaches {limits}")
    available = tuple(best[order[labels[order] == label]] for label in range(len(class_names)))
    rows = np.concatenate([order[groups[order] == group][:per_class] for group in np.unique(groups[order])])
    places = np.array([SPLITS.index(splits[row]) for row in rows], dtype=np.int64)
    by_split = np.lexsort((-best[rows], labels[rows], places))  # stable: equal confidences stay ordered by object id
    rows = rows[by_split]
    return Selection(
        rows=rows,
        labels=labels[rows],
        splits=places[by_split],
        confidences=best[rows],
        available=available,
        class_names=tuple(class_names),
        per_class=per_class,
    )


def _check(per_class: int | None, val_fraction: float, test_fraction: float) -> None:
    if per_class is not None and per_class < 1:
        raise InputError(f"per_class must be at least 1, not {per_class}")
    if not (min(val_fraction, test_fraction) >= 0 and val_fraction + test_fraction < 1):
        raise InputError(
            f"val_fraction {val_fraction} and test_fraction {test_fraction} must not be negative and must leave "
            "galaxies to train on (together below 1)"
        )
