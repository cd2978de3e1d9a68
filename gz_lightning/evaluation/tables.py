"""Tables and pictures of an evaluation, made from what the contenders scored.

Shapes: M images, K leaves, H x W pixels.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.evaluation.contenders import FULL_DATA, RANDOM_REAL, Outcome
from gz_lightning.evaluation.record import Evaluation
from gz_lightning.evaluation.scores import confusion, label_robust_score, recalls, scores, tree_of
from gz_lightning.figures import confusion_figure, leaf_figure, save_figure

TITLE_OF_LEAF = 16
"""Letters of a title above the column of a leaf."""


def tabulated(
    hard: Mapping[str, Outcome],
    soft: Mapping[str, Outcome],
    architectures: Mapping[str, Mapping[str, float]],
    galaxies: Galaxies,
    settings: dict[str, Any],
) -> Evaluation:
    """All tables of an evaluation.

    Args:
        hard: Outcomes with hard labels by the contenders' names, the first being the distilled set.
        soft: Those with soft labels, where there are any.
        architectures: Other network -> contender -> test accuracy in per cent.
        galaxies: The galaxies that were scored.
        settings: What to record beside the tables.
    """
    labels, tree = galaxies.test.labels, tree_of(galaxies.tree, galaxies.class_names)
    rows, scored, tried = [], [], []
    for name, outcome in hard.items():
        row = {"set": name, "file": outcome.chosen.name or galaxies.path.name, **outcome.row()}
        fractions = {"set": name, **scores(outcome.test_logits, labels, tree)}
        if soft:
            row |= {"soft": torch.nan, "soft spread": torch.nan, "soft file": row["file"]}
            fractions["calibration error, soft"] = torch.nan
        if name in soft:
            accuracies = 100 * soft[name].hits.double().mean(2)
            row |= {"soft": float(accuracies.mean()), "soft spread": float(accuracies.std(correction=0))}
            row["soft file"] = soft[name].chosen.name or galaxies.path.name
            calibration = scores(soft[name].test_logits, labels, tree)["calibration error"]
            fractions["calibration error, soft"] = calibration
        fractions |= _beside_real_galaxies(name, hard, soft)
        recall = recalls(outcome.test_logits, labels)
        fractions |= {f"recall: {leaf}": value for leaf, value in zip(galaxies.class_names, recall, strict=True)}
        rows.append(row)
        scored.append(fractions)
        tried += _tried(outcome, "hard")
        if name in soft:
            tried += _tried(soft[name], "soft")
    counts = confusion(next(iter(hard.values())).test_logits, labels).numpy()
    return Evaluation(
        table=pd.DataFrame(rows),
        scores=pd.DataFrame(scored),
        confusion=pd.DataFrame(counts, index=galaxies.class_names, columns=galaxies.class_names),
        tried=pd.DataFrame(tried),
        architectures=pd.DataFrame(architectures),
        settings=settings,
    )


def _beside_real_galaxies(name: str, hard: Mapping[str, Outcome], soft: Mapping[str, Outcome]) -> dict[str, float]:
    """Accuracy in units of the full data's, and the label-robust score, where their baselines were scored."""
    if FULL_DATA not in hard:
        return {}
    full, accuracy = hard[FULL_DATA].accuracy, hard[name].accuracy
    related = {"relative accuracy": accuracy / full}
    if RANDOM_REAL in hard and name not in (FULL_DATA, RANDOM_REAL):
        with_labels = soft if name in soft and RANDOM_REAL in soft else hard
        related["label-robust score"] = label_robust_score(
            full, accuracy, with_labels[name].accuracy, with_labels[RANDOM_REAL].accuracy
        )
    return related


def _tried(outcome: Outcome, labels: str) -> list[dict[str, Any]]:
    contender = {"set": outcome.contender.name, "labels": labels, "protocol": outcome.contender.protocol}
    return [
        {**contender, "candidate": candidate, "step size": step_size, "accuracy": 100 * accuracy}
        for candidate, step_size, accuracy in outcome.tried
    ]


def save_figures(
    result: Evaluation, sets: Mapping[str, torch.Tensor], class_names: Sequence[str], folder: Path
) -> tuple[Path, ...]:
    """Draw the images by leaf, and the confusion of the first row.

    Args:
        result: The evaluation.
        sets: Row of the table -> pixels in [0, 1] of its set, shape (M, 3, H, W), sorted by leaf. Rows that were scored with
            the same file as one before are drawn with it.
        class_names: Names of the K leaves.
        folder: Where to write ``leaves.png`` and ``confusion.png``.
    """
    table = result.table.set_index("set")
    rows = [name for name in table.index if name in sets or name == FULL_DATA or name in result.distilled]
    title = ", ".join(f"{name}{_file(result, name)} {table['test'][name]:.1f}\N{NO-BREAK SPACE}%" for name in rows)
    shown = {f"{name}{_file(result, name)}".replace(" (", "\n("): images for name, images in sets.items()}
    figure = leaf_figure(shown, class_names, textwrap.fill(title, TITLE_OF_LEAF * len(class_names)))
    leaves = save_figure(figure, folder / "leaves.png")
    counts = torch.tensor(result.confusion.to_numpy())
    first = str(table.index[0])
    title = f"{first}{_file(result, first)}, {table['networks'].iloc[0]} networks, test galaxies"
    return leaves, save_figure(confusion_figure(counts, class_names, title), folder / "confusion.png")


def _file(result: Evaluation, name: str) -> str:
    """In brackets, the file of a row, where it is a distilled one."""
    return f" ({result.distilled[name]})" if name in result.distilled else ""
