"""Which galaxies of a catalogue are taken, and which split each belongs to.

Shapes: N galaxies of the catalogue, n galaxies taken, K leaves.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gz_lightning.errors import InputError

SPLITS = ("train", "val", "test")
TIE = 1e-6
"""Leaves whose confidences are as near to the largest are a tie, which goes to the first of them: the last digits of a
product depend on the order of its factors, and on the format of the table."""
AT_ONCE = 100_000
"""Galaxies whose leaves are found at a time."""
NO_LEAF, UNSURE, FEW_VOTES = "their votes reach no leaf", "below --min_confidence", "below --min_votes"
"""Why galaxies are not taken."""
COLUMNS, BINS = 5, 40
AVAILABLE, TAKEN = "#c7ccd6", "#2f6fb3"


def split_of(object_id: str, val_fraction: float, test_fraction: float) -> str:
    """The split of a galaxy: ``train``, ``val`` or ``test``.

    It depends on a hash of the object id alone, never on the order of files or on which other galaxies there are.

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
        rows: Their rows in the catalogue, int64, shape (n,).
        labels: Their leaves, int64, shape (n,).
        splits: Their splits as places in ``SPLITS``, int64, shape (n,).
        confidences: Confidence of each in its leaf, in [0, 1], float64, shape (n,).
        available: The same for all galaxies that could have been taken, one array for each of the K leaves.
        unlikely: How many galaxies of each leaf were left out as unlikely, K numbers.
        class_names: Names of the K leaves.
        per_class: How many of each leaf were asked for; None: all.
        tied: How many available galaxies of each leaf have another leaf of the same confidence (``TIE``), K numbers.
        left_out: Why else galaxies were left out -> how many.
    """

    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    splits: npt.NDArray[np.int64]
    confidences: npt.NDArray[np.float64]
    available: tuple[npt.NDArray[np.float64], ...]
    unlikely: tuple[int, ...]
    class_names: tuple[str, ...]
    per_class: int | None
    tied: tuple[int, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def training(self) -> npt.NDArray[np.bool_]:
        """Which galaxies are in the training split, shape (n,)."""
        return np.equal(self.splits, SPLITS.index("train"))

    @property
    def report(self) -> pd.DataFrame:
        """One row per leaf: galaxies unlikely, available, taken and lacking; confidences of those taken; their splits."""
        taken = [self.confidences[self.labels == label] for label in range(len(self.class_names))]
        report = pd.DataFrame(
            {
                "leaf": list(self.class_names),
                "unlikely": list(self.unlikely),
                "available": [len(leaf) for leaf in self.available],
                "taken": [len(leaf) for leaf in taken],
                "lacking": [0 if self.per_class is None else max(self.per_class - len(leaf), 0) for leaf in taken],
                "lowest confidence": [leaf.min() if len(leaf) else np.nan for leaf in taken],
                "highest confidence": [leaf.max() if len(leaf) else np.nan for leaf in taken],
                "tied": list(self.tied or (0,) * len(taken)),
            }
        )
        for place, split in enumerate(SPLITS):
            report[split] = np.bincount(self.labels[self.splits == place], minlength=len(self.class_names))
        return report

    def keep(self, used: npt.NDArray[np.bool_]) -> Selection:
        """The selection without the galaxies whose images turned out to be unusable.

        Args:
            used: Whether each galaxy stays, shape (n,).
        """
        arrays = {name: getattr(self, name)[used] for name in ("rows", "labels", "splits", "confidences")}
        return replace(self, **arrays)

    def plot(self) -> Figure:
        """Histograms of the confidence of each leaf: all available galaxies, and over them those taken.

        The numbers of galaxies are on a logarithmic axis, since leaves differ by orders of magnitude.
        """
        number = len(self.class_names)
        columns = min(COLUMNS, number)
        rows = math.ceil(number / columns)
        figure = Figure(figsize=(2.6 * columns, 2.0 * rows + 0.5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
        bins = np.linspace(0, 1, BINS + 1).tolist()
        for label, (axis, name) in enumerate(zip(axes, self.class_names, strict=False)):
            available, taken = self.available[label], self.confidences[self.labels == label]
            for values, colour, kind in ((available, AVAILABLE, "available"), (taken, TAKEN, "taken")):
                axis.hist(np.minimum(values, 1), bins, color=colour, label=kind, log=True)
            axis.set_title(f"{name}\n{len(taken):,} of {len(available):,}", fontsize=8)
            axis.tick_params(labelsize=7)
        for axis in axes[number:]:
            axis.set_axis_off()
        axes[0].legend(fontsize=7, frameon=False)
        figure.supxlabel("confidence of the leaf", fontsize=9)
        figure.supylabel("galaxies", fontsize=9)
        return figure


def select(
    object_ids: Sequence[str],
    confidences: npt.NDArray[np.floating[Any]],
    class_names: Sequence[str],
    per_class: int | None = None,
    min_confidence: float = 0.0,
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    *,
    classifications: npt.NDArray[np.float64] | None = None,
    min_votes: int = 0,
    unlikely: npt.NDArray[np.bool_] | None = None,
    given_splits: Sequence[str] | None = None,
) -> Selection:
    """Take the most confident galaxies of each leaf; equal confidences are ordered by object id.

    The split follows from the object id, so every leaf has the same shares of each split on average, and no galaxy changes
    its split when others are added.

    Args:
        object_ids: N object ids.
        confidences: Leaf confidences, shape (N, K). A galaxy's class is the leaf of highest confidence; a galaxy without
            any confidence is left out.
        class_names: Names of the K leaves.
        per_class: Most galaxies of each leaf (and of each split in ``given_splits``), at least 1; None: all.
        min_confidence: Least confidence of a galaxy in its class, 0 to 1.
        val_fraction: Share of validation galaxies, in [0, 1).
        test_fraction: Share of test galaxies, in [0, 1).
        classifications: How many volunteers looked at each galaxy, shape (N,).
        min_votes: Least number of volunteers.
        unlikely: Galaxies to leave out and count, shape (N,), see :meth:`gz_lightning.data.tree.Tree.unlikely`.
        given_splits: N splits that the data set comes with. Without ``val`` among them the share ``val_fraction`` of
            ``train`` becomes it; ``test_fraction`` plays no part.

    Raises:
        InputError: If the fractions leave nothing to train on, ``min_votes`` is set for galaxies without numbers of
            volunteers, or no galaxy is left.
    """
    if val_fraction + test_fraction >= 1:
        raise InputError(
            f"--val_fraction {val_fraction} and --test_fraction {test_fraction} leave no galaxies to train on; "
            "together they must be below 1"
        )
    labels, best, tied = leaves_of(confidences)
    reached = best > 0
    usable = reached & (best >= min_confidence - TIE)
    reasons = {NO_LEAF: int((~reached).sum()), UNSURE: int((reached & ~usable).sum())}
    if min_votes > 0:
        if classifications is None:
            raise InputError(
                f"--min_votes {min_votes}: nobody says how many volunteers looked at these galaxies; leave it out, or "
                "take a table with total_classifications"
            )
        many = classifications >= min_votes
        reasons[FEW_VOTES] = int((usable & ~many).sum())
        usable &= many
    left_out = np.zeros_like(usable) if unlikely is None else unlikely & usable
    usable &= ~left_out
    groups = labels
    if given_splits is not None:
        groups = labels + len(class_names) * np.array([SPLITS.index(split) for split in given_splits])
    if not usable.any():
        why = _why_none(reasons, int(left_out.sum()), confidences, min_confidence, min_votes)
        raise InputError(f"none of the {len(object_ids)} galaxies can be taken: {why}")
    rows = np.concatenate(
        [_best_of(group, groups, usable, best, object_ids, per_class) for group in np.unique(groups[usable])]
    )
    from_train = 0.0 if given_splits is None or "val" in given_splits else val_fraction

    def split(row: int) -> str:
        if given_splits is None:
            return split_of(str(object_ids[row]), val_fraction, test_fraction)
        given = given_splits[row]
        return split_of(str(object_ids[row]), from_train, 0.0) if given == "train" else given

    places = np.array([SPLITS.index(split(row)) for row in rows.tolist()])
    by_split = np.lexsort((-best[rows], labels[rows], places))  # stable: equal confidences stay ordered by object id
    rows = rows[by_split]
    return Selection(
        rows=rows,
        labels=labels[rows].astype(np.int64),
        splits=places[by_split],
        confidences=best[rows],
        available=tuple(np.sort(best[usable & (labels == label)])[::-1] for label in range(len(class_names))),
        unlikely=tuple(np.bincount(labels[left_out], minlength=len(class_names)).tolist()),
        class_names=tuple(class_names),
        per_class=per_class,
        tied=tuple(np.bincount(labels[usable & tied], minlength=len(class_names)).tolist()),
        left_out={why: number for why, number in reasons.items() if number},
    )


def _why_none(
    reasons: Mapping[str, int],
    left_out: int,
    confidences: npt.NDArray[np.floating[Any]],
    min_confidence: float,
    min_votes: int,
) -> str:
    """Why no galaxy is left, counted, and what to do about it."""
    of = {
        NO_LEAF: "reach no leaf, since every path has an answer without votes (are these the right table and --tree?)",
        UNSURE: f"are below --min_confidence {min_confidence} (the highest confidence is {confidences.max(initial=0):.3g})",
        FEW_VOTES: f"are below --min_votes {min_votes}",
    }
    found = [f"{number} {of[why]}" for why, number in reasons.items() if number]
    if left_out:
        found.append(f"{left_out} are likelier what the tree leaves out (--keep_unlikely true keeps them)")
    if len(confidences) > 1 and confidences.any() and (np.ptp(confidences, axis=0) <= TIE).all():
        found.append("all have the same votes, as those of no survey: look at the columns of the table")
    return "; ".join(found)


def leaves_of(
    confidences: npt.NDArray[np.floating[Any]],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """The leaf of each galaxy: the first whose confidence is within ``TIE`` of the largest.

    Args:
        confidences: Leaf confidences, shape (N, K).

    Returns:
        Leaves, their largest confidences, and which galaxies have another leaf that is as near; each of shape (N,).
    """
    number = len(confidences)
    labels, best, tied = np.empty(number, np.int32), np.empty(number), np.empty(number, np.bool_)
    for start in range(0, number, AT_ONCE):  # of millions of galaxies, the numbers in between would fill the memory
        some = slice(start, start + AT_ONCE)
        best[some] = confidences[some].max(axis=1)
        near = confidences[some] >= (best[some] - TIE).astype(confidences.dtype)[:, None]
        labels[some], tied[some] = near.argmax(axis=1), near.sum(axis=1) > 1
    return labels, best, tied


def _best_of(
    group: int,
    groups: npt.NDArray[np.int32],
    usable: npt.NDArray[np.bool_],
    best: npt.NDArray[np.float64],
    object_ids: Sequence[str],
    most: int | None,
) -> npt.NDArray[np.int64]:
    """Rows of the most confident galaxies of a group, the most confident first, equal ones by object id."""
    rows = np.flatnonzero(usable & (groups == group))
    if most is not None and len(rows) > most:  # the object ids of all others need not be looked at
        least = np.partition(best[rows], len(rows) - most)[len(rows) - most]
        rows = rows[best[rows] >= least]
    ordered = sorted(rows.tolist(), key=lambda row: (-best[row], object_ids[row]))
    return np.array(ordered[:most])
