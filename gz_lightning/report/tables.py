"""Tables of the page; whatever is an accuracy is in per cent.

Shapes: K leaves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gz_lightning.report.opening import guessing
from gz_lightning.report.runs import Run
from gz_lightning.sets.synthetic import USED

RECALL = "recall: "
"""How columns of the scores begin that are the recall of a leaf."""
WIDE = 5
"""Columns from which on a table is stacked in narrow windows."""


@dataclass(frozen=True)
class Table:
    """A table of the page: caption, column heads, and rows whose first cell is the row's head."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def wide(self) -> bool:
        """Whether it has many columns."""
        return len(self.columns) >= WIDE


def accuracy_table(run: Run, table: pd.DataFrame) -> Table:
    """The accuracy of all sets, and that of guessing."""
    columns = ["set", "file", "protocol", "images", "step size", "networks", "validation", "test", "spread", "95 % interval"]
    with_soft = "soft" in table
    rows = []
    for row in table.to_dict("records"):
        cells = [str(row[name]) for name in ("set", "file", "protocol", "images", "step size", "networks")]
        cells += [f"{row[name]:.1f}" for name in ("val", "test", "spread")]
        cells.append(f"{row['low']:.1f} to {row['high']:.1f}")
        if with_soft:
            of = "" if row["soft file"] == row["file"] else f" ({row['soft file']})"
            cells.append("not made" if pd.isna(row["soft"]) else f"{row['soft']:.1f} ± {row['soft spread']:.1f}{of}")
        rows.append(cells)
    chance = f"{guessing(run):.1f}"
    rows.append(["guessing", "", "", "", "", "", chance, chance, "", "", *([""] if with_soft else [])])
    heads = [*columns, "test, soft labels"] if with_soft else columns
    return Table(f"{run.name}: accuracy in per cent", heads, rows)


def scores_tables(run: str, scores: pd.DataFrame) -> dict[str, Table]:
    """The scores of all sets, and in another table the recall of each leaf."""
    names = [str(name) for name in scores.columns if name != "set"]
    of_leaves, others = ([name for name in names if name.startswith(RECALL) is wanted] for wanted in (True, False))
    sets = [str(name) for name in scores["set"]] if "set" in scores else []

    def cells(name: str) -> list[str]:
        return ["none" if pd.isna(value) else f"{100 * value:.1f}" for value in scores[name]]

    rows = [[name, *values] for name, *values in zip(sets, *map(cells, others), strict=True)]
    recalls = [[name.removeprefix(RECALL), *cells(name)] for name in of_leaves]
    return {
        "scores": Table(f"{run}: scores in per cent", ["set", *others], rows),
        "recalls": Table(f"{run}: recall of each leaf in per cent", ["leaf", *sets], recalls),
    }


def other_tables(run: Run) -> dict[str, Table]:
    """Accuracy by network and of every candidate, where there are such."""
    tables: dict[str, Table] = {}
    if run.evaluation is None:
        return tables
    matrix, tried = run.evaluation.architectures, run.evaluation.tried
    if len(matrix):
        rows = [[str(name), *(f"{matrix.loc[name, network]:.1f}" for network in matrix)] for name in matrix.index]
        caption = f"{run.name}: test accuracy in per cent by network"
        tables["architectures"] = Table(caption, ["set", *map(str, matrix.columns)], rows)
    if len(tried):
        shown = tried.assign(accuracy=[f"{value:.1f}" for value in tried["accuracy"]])
        rows = [[str(cell) for cell in row] for row in shown.to_numpy()]
        tables["tried"] = Table(f"{run.name}: accuracy in per cent of each candidate", list(shown.columns), rows)
    return tables


def facts(run: Run) -> Table:
    """What was distilled from what."""
    synthetic, accuracy = run.synthetic, run.synthetic.results.get("val_accuracy")
    values = {
        "set": run.file,
        "images": f"{len(synthetic)} of {len(synthetic.class_names)} leaves, {synthetic.images.shape[-1]} px",
        "labels": "hard" if synthetic.labels.ndim == 1 else "soft",
        "iterations": synthetic.iteration,
        "learned step sizes": ", ".join(f"{alpha:.3g}" for alpha in synthetic.step_sizes.tolist()),
        "validation accuracy while distilling": "unknown" if accuracy is None else f"{100 * accuracy:.1f} %",
        "tree": synthetic.tree or "none (class folders)",
        "network": ", ".join(f"{name} {value}" for name, value in synthetic.network.items() if name != "name"),
        "augmentation": synthetic.augmentation,
        "galaxies (fingerprint)": synthetic.data,
        "experts (fingerprint)": synthetic.trajectories,
    }
    if run.evaluation is not None:
        settings = run.evaluation.settings
        names = [name for name in ("epochs", "num_eval", "draws", "symmetries", "seed") if name in settings]
        values["evaluated with"] = ", ".join(f"{name} {settings[name]}" for name in names)
        values["versions"] = ", ".join(f"{name} {value}" for name, value in settings.get("versions", {}).items())
    return Table("What was distilled from what", ["fact", "value"], [[name, str(value)] for name, value in values.items()])


def settings_table(run: Run) -> Table:
    """The settings and, where one was left out, the value that the run has used; of a path only the name.

    Folders are private, and a page is passed on. Of those left out the ones that the run had no use for, such as those of a
    finish that it does not have, are not shown.
    """
    settings = {name: value for name, value in run.synthetic.configuration.items() if name != USED}
    used = run.synthetic.configuration.get(USED)
    of_set = {"augmentation": run.synthetic.augmentation, "network": run.synthetic.network.get("name")}
    found: Mapping[str, Any] = {name: value for name, value in of_set.items() if value}
    if isinstance(used, dict):
        found = {**found, **used}
    rows = []
    for name, value in settings.items():
        if value is not None:
            path = name in ("trajectories", "load_syn_image") and isinstance(value, str) and value
            rows.append([name, Path(value).name if path else str(value)])
        elif name in found:
            value = found[name]
            rows.append([name, f"{value:.6g}" if isinstance(value, float) else str(value), "by default"])
    return Table("Settings of the distillation", ["setting", "value", "note"], [[*row, ""][:3] for row in rows])
