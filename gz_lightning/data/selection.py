"""Which galaxies of a catalogue are taken, and which split each belongs to.

Shapes: N galaxies, K leaves.
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
    """
    u = int.from_bytes(hashlib.sha256(object_id.encode()).digest()[:8], "big") / 2**64  # uniform in [0, 1)
    if u < test_fraction:
        return "test"
    return "val" if u < test_fraction + val_fraction else "train"


@dataclass(frozen=True)
class Selection:
    """The galaxies that were taken, sorted by split, then label, then falling confidence.

    Args:
        rows: Their places in the catalogue, shape (N,), int64.
        labels: Their leaves, shape (N,), int64.
        splits: Their splits as places in ``SPLITS``, shape (N,), int64.
        report: One row per leaf: galaxies available, taken and lacking, the confidence range of those taken, and how
            many of them are in each split.
    """

    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    splits: npt.NDArray[np.int64]
    report: pd.DataFrame


def select(
    object_ids: Sequence[str],
    confidences: npt.NDArray[np.float64],
    class_names: Sequence[str],
    per_class: int | None = None,
    min_confidence: float = 0.0,
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
) -> Selection:
    """Take the most confident galaxies of each leaf; equal confidences are ordered by object id.

    Args:
        object_ids: N object ids.
        confidences: Leaf confidences, shape (N, K). A galaxy's class is the leaf of highest confidence; one without any
            confidence has none and is left out.
        class_names: Names of the K leaves.
        per_class: At most so many galaxies of each leaf; None: all.
        min_confidence: Only galaxies whose class has at least this confidence, 0 to 1.
        val_fraction: Share of validation galaxies, in [0, 1).
        test_fraction: Share of test galaxies, in [0, 1).

    Raises:
        InputError: If a number is out of its range or no galaxy is left.
    """
    if per_class is not None and per_class < 1:
        raise InputError(f"per_class must be at least 1, not {per_class}")
    if not (min(val_fraction, test_fraction) >= 0 and val_fraction + test_fraction < 1):
        raise InputError(
            f"val_fraction {val_fraction} and test_fraction {test_fraction} must not be negative and must leave "
            "galaxies to train on (together below 1)"
        )
    labels, best = confidences.argmax(axis=1), confidences.max(axis=1)
    usable = (best > 0) & (best >= min_confidence)
    order = np.array(sorted(np.flatnonzero(usable).tolist(), key=lambda i: (-best[i], object_ids[i])), dtype=np.int64)
    available = [order[labels[order] == label] for label in range(len(class_names))]
    taken = [members[:per_class] for members in available]
    rows = np.concatenate(taken)
    if not len(rows):
        raise InputError(f"none of the {len(object_ids)} galaxies reaches a confidence of {min_confidence}")
    splits = np.array([SPLITS.index(split_of(object_ids[i], val_fraction, test_fraction)) for i in rows], dtype=np.int64)
    report = pd.DataFrame(
        {
            "leaf": list(class_names),
            "available": [len(members) for members in available],
            "taken": [len(members) for members in taken],
            "lacking": [0 if per_class is None else per_class - len(members) for members in taken],
            "lowest confidence": [best[members].min() if len(members) else np.nan for members in taken],
            "highest confidence": [best[members].max() if len(members) else np.nan for members in taken],
        }
    )
    for place, split in enumerate(SPLITS):
        report[split] = np.bincount(labels[rows[splits == place]], minlength=len(class_names))
    by_split = np.lexsort((labels[rows], splits))  # stable: confidence still falls within split and label
    return Selection(rows[by_split], labels[rows[by_split]], splits[by_split], report)
