"""The record of an evaluation: tables in memory, and as files that anybody, or the report, can read again.

Shapes: K leaves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from gz_lightning import __version__
from gz_lightning.errors import InputError
from gz_lightning.files import written_whole

RECORD = "evaluation.json"
FORMAT = "gz_lightning.evaluation"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Evaluation:
    """The result of :func:`gz_lightning.evaluation.evaluate.evaluate`.

    Args:
        table: One row per contender: ``set``, ``protocol`` (``mtt`` or ``validated``), ``images``, ``step size``,
            ``networks``, and in per cent the accuracies ``val`` and ``test``, ``spread`` (population standard deviation over
            draws and networks), ``low`` and ``high`` (95 % confidence interval); with soft labels ``soft``, the test
            accuracy with those, and ``soft spread``.
        scores: One row per contender, in [0, 1]: see :func:`gz_lightning.evaluation.scores.scores`, with ``relative
            accuracy`` (in units of the full data's), ``label-robust score``, and the recall of each leaf.
        confusion: Test galaxies by true (rows) and predicted leaf (columns), summed over the networks of the distilled set.
        tried: What was chosen from: ``set``, ``protocol``, ``candidate``, ``step size``, ``accuracy`` in per cent.
        architectures: Test accuracy in per cent, sets by networks; empty where no other networks were asked for.
        settings: What it was made with: settings, fingerprints, versions.
        files: What was written.
    """

    table: pd.DataFrame
    scores: pd.DataFrame
    confusion: pd.DataFrame
    tried: pd.DataFrame
    architectures: pd.DataFrame
    settings: dict[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    def __str__(self) -> str:
        shown = self.table.drop(columns=["low", "high"])
        shown.insert(shown.columns.get_loc("spread") + 1, "95 %", _intervals(self.table))
        parts = ["accuracy in per cent", shown.to_string(index=False, float_format=lambda x: f"{x:.1f}", na_rep="")]
        if len(self.scores):
            recalled = [name for name in self.scores if str(name).startswith("recall: ")]
            summary = self.scores.drop(columns=["accuracy", *recalled])
            parts += ["", "as fractions", summary.to_string(index=False, float_format=lambda x: f"{x:.3f}", na_rep="")]
        if len(self.architectures):
            matrix = self.architectures.to_string(float_format=lambda x: f"{x:.1f}")
            parts += ["", "test accuracy in per cent by network", matrix]
        return "\n".join([*parts, *(f"written: {path}" for path in self.files)])

    def write(self, folder: Path) -> tuple[Path, ...]:
        """Write the tables as CSV, and all of it as JSON for the report.

        Args:
            folder: Where to.

        Returns:
            The files.
        """
        tables = {"accuracy": self.table, "scores": self.scores, "choices": self.tried}
        written = []
        for name, table in {**tables, "confusion": self.confusion, "architectures": self.architectures}.items():
            if not len(table):
                continue
            with written_whole(folder / f"{name}.csv") as temporary:
                table.to_csv(temporary, index=name not in tables)
            written.append(folder / f"{name}.csv")
        record = {"format": FORMAT, "format_version": FORMAT_VERSION, "gz_lightning": __version__, "settings": self.settings}
        for name in ("table", "scores", "confusion", "tried", "architectures"):
            record[name] = json.loads(getattr(self, name).to_json(orient="split", double_precision=12))
        with written_whole(folder / RECORD) as temporary:
            temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")
        return (*written, folder / RECORD)


def _intervals(table: pd.DataFrame) -> list[str]:
    return [f"{low:.1f}-{high:.1f}" for low, high in zip(table["low"], table["high"], strict=True)]


def read_evaluation(path: Path) -> Evaluation:
    """Read the record of an evaluation.

    Raises:
        InputError: If the file is none, or of a newer version.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT or record["format_version"] > FORMAT_VERSION:
            raise InputError(
                f"{path} is {record['format']} version {record['format_version']}; this release ({__version__}) reads "
                f"{FORMAT} up to version {FORMAT_VERSION}: evaluate again, or install a newer one"
            )
        tables = {n: _frame(record[n]) for n in ("table", "scores", "confusion", "tried", "architectures")}
        return Evaluation(**tables, settings=record["settings"], files=(path,))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is no record of an evaluation or is damaged ({error!r}); 'gz-lightning evaluate' makes a new one"
        ) from error


def _frame(record: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    return pd.DataFrame(record["data"], index=record["index"], columns=record["columns"])
