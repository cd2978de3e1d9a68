"""The record of an evaluation: its tables, written as CSV and JSON and read again by the report.

Shapes: K leaves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from gz_lightning.errors import Damaged, InputError
from gz_lightning.storage.text import checked_json, read_text, short
from gz_lightning.storage.whole import atomic_write
from gz_lightning.version import __version__

RECORD = "evaluation.json"
FORMAT = "gz_lightning.evaluation"
FORMAT_VERSION = 1
PER_CENT = ("val", "test", "spread", "low", "high", "soft", "soft spread")
"""Columns of the table that are per cent."""
TEXT: dict[str, tuple[str, ...]] = {
    "table": ("set", "file", "protocol", "step size", "soft file"),
    "scores": ("set",),
    "confusion": (),
    "tried": ("set", "labels", "protocol", "candidate", "step size"),
    "architectures": (),
}
"""Columns of each table that are text; all others are numbers."""
NEEDED: dict[str, tuple[str, ...]] = {
    "table": ("set", "file", "protocol", "step size", "images", "networks", *PER_CENT[:5]),
    "scores": (),
    "tried": (),
}
"""Columns that are never empty."""
DISTILLED = "distilled"
"""How the names of the rows of a distilled set begin."""
MOST_COUNTED = 10**15
"""Largest whole number in a table, of galaxies or images."""
MOST_TEXT = 64 * 2**20
"""Bytes of a record at most."""
LARGEST = 1e300
"""Bound of a number; NaN is outside too."""
T = TypeVar("T")


@dataclass(frozen=True)
class Evaluation:
    """The result of :func:`gz_lightning.evaluation.evaluate.evaluate`.

    Args:
        table: One row per contender: ``set``, ``file`` (that of the set that was chosen; for baselines the packed galaxies),
            ``protocol`` (``mtt`` or ``validated``), ``images``, ``step size``,
            ``networks``, and in per cent the accuracies ``val`` and ``test``, ``spread`` (population standard deviation over
            draws and networks), ``low`` and ``high`` (95 % confidence interval); with soft labels ``soft``, the test
            accuracy with those, ``soft spread``, and ``soft file`` (the set that was chosen with those).
        scores: One row per contender, in [0, 1]: see :func:`gz_lightning.evaluation.scores.scores`, with ``relative
            accuracy`` (in units of the full data's), ``label-robust score``, and the recall of each leaf.
        confusion: Test galaxies by true (rows) and predicted leaf (columns), summed over the networks of the distilled set.
        tried: All candidates: ``set``, ``labels`` (``hard`` or ``soft``), ``protocol``, ``candidate``, ``step size``,
            ``accuracy`` in per cent.
        architectures: Test accuracy in per cent, sets by networks; empty without other networks.
        settings: Settings, fingerprints and versions; ``sets``: the digest of each set by its file; ``remarks``: what to
            know about the sets and galaxies, in words.
        files: The files that were written.
    """

    table: pd.DataFrame
    scores: pd.DataFrame
    confusion: pd.DataFrame
    tried: pd.DataFrame
    architectures: pd.DataFrame
    settings: dict[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    @property
    def distilled(self) -> dict[str, str]:
        """The file that was scored in each row of the distilled set."""
        rows = zip(self.table["set"], self.table["file"], strict=True)
        return {str(name): str(file) for name, file in rows if str(name).startswith(DISTILLED)}

    @property
    def remarks(self) -> list[str]:
        """What to know about the sets and galaxies, in words."""
        remarks: list[str] = list(self.settings.get("remarks", ()))
        if len(set(self.distilled.values())) > 1:
            remarks.append("; ".join(f"the row '{name}' is of {file}" for name, file in self.distilled.items()))
        return remarks

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
        parts += ["", *self.remarks] if self.remarks else []
        return "\n".join([*parts, *(f"written: {path}" for path in self.files)])

    def write(self, folder: Path) -> tuple[Path, ...]:
        """Write the tables as CSV, and everything as JSON for the report.

        Args:
            folder: Folder to write into.

        Returns:
            The files.
        """
        tables = {"accuracy": self.table, "scores": self.scores, "choices": self.tried}
        written = []
        for name, table in {**tables, "confusion": self.confusion, "architectures": self.architectures}.items():
            if not len(table):
                continue
            with atomic_write(folder / f"{name}.csv") as temporary:
                table.to_csv(temporary, index=name not in tables)
            written.append(folder / f"{name}.csv")
        record = {"format": FORMAT, "format_version": FORMAT_VERSION, "gz_lightning": __version__, "settings": self.settings}
        for name in ("table", "scores", "confusion", "tried", "architectures"):
            record[name] = json.loads(getattr(self, name).to_json(orient="split", double_precision=12))
        with atomic_write(folder / RECORD) as temporary:
            temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")
        return (*written, folder / RECORD)


def _intervals(table: pd.DataFrame) -> list[str]:
    return [f"{low:.1f}-{high:.1f}" for low, high in zip(table["low"], table["high"], strict=True)]


def read_evaluation(path: Path) -> Evaluation:
    """Read the record of an evaluation.

    Raises:
        InputError: If the file is not such a record, is damaged, or is of a newer version.
    """
    text = read_text(path, MOST_TEXT)
    try:
        record = checked_json(text, "it", dict)
        name, version = _part(record, "format", str), _part(record, "format_version", int)
        if name != FORMAT or not 1 <= version <= FORMAT_VERSION:
            raise InputError(
                f"{path} is {name:.60} version {short(version)}; this release "
                f"({__version__}) reads {FORMAT} up to version {FORMAT_VERSION}: evaluate again, or install a newer one"
            )
        tables = {name: _frame(_part(record, name, dict), name) for name in TEXT}
        settings: dict[str, Any] = _part(record, "settings", dict)
        if "versions" in settings:
            _part(settings, "versions", dict)
        if "sets" in settings:
            _part(settings, "sets", dict)
        if "remarks" in settings and not all(isinstance(remark, str) for remark in _part(settings, "remarks", list)):
            raise Damaged(f"its remarks are {short(settings['remarks'])}")
    except Damaged as error:
        raise InputError(
            f"{path} is no record of an evaluation or is damaged ({error!s:.200}); 'gz-lightning evaluate' makes a new one"
        ) from error
    return Evaluation(**tables, settings=settings, files=(path,))


def _part(record: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """A value of a record; Damaged if it is missing or of another type."""
    if name not in record:
        raise Damaged(f"it lacks {name}")
    value = record[name]
    if not isinstance(value, kind):
        raise Damaged(f"its {name} is {short(value)}")
    return value


def _frame(record: Mapping[str, Any], name: str) -> pd.DataFrame:
    """A table of the record.

    Raises:
        Damaged: If its columns, index or cells are not those of such a table.
    """
    columns, index, rows = (_part(record, part, list) for part in ("columns", "index", "data"))
    if not all(isinstance(row, list) for row in rows):
        raise Damaged(f"{name} is not a table")
    if not all(isinstance(column, str) for column in columns) or len(set(columns)) < len(columns):
        raise Damaged(f"the columns of {name} are {short(columns)}")
    if len(index) != len(rows) or any(len(row) != len(columns) for row in rows):
        raise Damaged(f"the rows of {name} have different lengths")
    heads_are_text = name in ("confusion", "architectures")
    if not all(isinstance(head, str if heads_are_text else int) for head in index):
        raise Damaged(f"the rows of {name} are called {short(index)}")
    if name == "confusion" and index != columns:
        raise Damaged("confusion has other rows than columns")
    needed = ("accuracy",) if name == "scores" and rows else NEEDED.get(name, ())
    if missing := [column for column in needed if column not in columns]:
        raise Damaged(f"{name} lacks {', '.join(missing)}")
    for place, column in enumerate(columns):
        for row in rows:
            if not _is_cell(row[place], name, column):
                raise Damaged(f"{column} in {name} is {short(row[place])}")
    frame = pd.DataFrame(rows, index=index, columns=columns)
    numbers = [column for column in columns if column not in TEXT[name] and name != "confusion"]
    return frame.astype({column: float for column in numbers if frame[column].dtype == object})


def _is_cell(value: Any, table: str, column: str) -> bool:
    """Whether a value can stand in a column."""
    if column in TEXT[table]:
        return isinstance(value, str)
    if value is None:
        return column not in NEEDED.get(table, ()) and table != "confusion"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if table == "confusion" or column in ("images", "networks"):
        return isinstance(value, int) and 0 <= value < MOST_COUNTED
    if not -LARGEST < value < LARGEST:
        return False
    if table in ("tried", "architectures") or column in PER_CENT:
        return 0 <= value <= 100.001  # float32 rounds
    return True
