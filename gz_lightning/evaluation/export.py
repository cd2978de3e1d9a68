"""A distilled set with all that is known of it, in a format that others read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.data.origin import UNKNOWN, Origin, origin_of
from gz_lightning.errors import InputError
from gz_lightning.evaluation.record import RECORD, Evaluation, read_evaluation
from gz_lightning.sets.card import METHOD, accuracy_lines, cut_off_line
from gz_lightning.sets.formats import write_set
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.settings import AnyPath

COLUMNS = ("set", "protocol", "step size", "networks", "val", "test", "spread", "low", "high", "soft", "soft spread")
"""What a description takes of the table of an evaluation."""


@dataclass(frozen=True)
class Exported:
    """What :func:`export_run` wrote.

    Args:
        path: The file or folder.
        source: The set that it was made of.
        description: See :func:`gz_lightning.sets.description.describe`.
        remarks: What is missing, and how to add it.
    """

    path: Path
    source: Path
    description: dict[str, Any]
    remarks: tuple[str, ...]

    def __str__(self) -> str:
        what = f"{self.source}: {self.description['images']} images of {self.description['resolution']} px"
        licence = f"licence: {self.description['licence']}".replace("licence: Unknown", "licence unknown")
        lines = [what, *accuracy_lines(self.description), cut_off_line(self.description), licence]
        return "\n".join([*lines, *self.remarks, f"written: {self.path}"])


def export_run(run: Path, to: str, output: Path | None, data: AnyPath | None, licence: str | None) -> Exported:
    """Write a distilled set, see :func:`gz_lightning.cli.export.export`.

    Raises:
        InputError: If there is no such set, a file is damaged, the galaxies are not those of the distillation, or the output
            is in use.
    """
    remarks: list[str] = []
    record = (run if run.is_dir() else run.parent) / "evaluation" / RECORD
    evaluation = read_evaluation(record) if record.is_file() else None
    source = _chosen(run, evaluation)
    synthetic = SyntheticSet.load(source)
    accuracy = _accuracy(evaluation, source, synthetic, remarks)
    origin = _origin(data, evaluation, synthetic, remarks) if licence is None else UNKNOWN
    told = {
        "made_from": source.name,
        "accuracy": accuracy,
        "licence": origin.licence if licence is None else licence,
        "licence_id": origin.licence_id if licence is None else _identifier(licence),
        "citation": [*METHOD, *origin.citation],
    }
    ending = ".npz" if to == "npz" else f"_{to}"
    target = output or source.with_name(f"{source.stem}{ending}")
    if to == "npz" and target.suffix != ".npz":
        raise InputError(f"--output is a file that ends in .npz, not {target}")
    return Exported(target, source, write_set(synthetic, to, target, told), tuple(remarks))


def _chosen(run: Path, evaluation: Evaluation | None) -> Path:
    """The set: the file itself; of a run folder the one that the evaluation chose on validation galaxies, or best.h5."""
    if not run.is_dir():
        return run
    if not (run / "best.h5").is_file():
        raise InputError(f"{run} is no run folder of 'gz-lightning distill': there is no best.h5 in it")
    files = list(evaluation.distilled.values()) if evaluation is not None else []
    last = Path(files[-1]).name if files else "best.h5"
    return run / (last if (run / last).is_file() else "best.h5")


def _accuracy(
    evaluation: Evaluation | None, source: Path, synthetic: SyntheticSet, remarks: list[str]
) -> dict[str, Any] | None:
    """The accuracy of the set by each protocol; None where it was not evaluated."""
    advice = f"gz-lightning evaluate --synthetic {source} --data PACKED_FILE, then export again"
    if evaluation is None:
        remarks.append(f"without an accuracy on test galaxies: {advice}")
        return None
    if evaluation.settings.get("sets", {}).get(source.name) != synthetic.digest:
        remarks.append(f"without an accuracy, as the evaluation beside it is of another set: {advice}")
        return None
    rows = evaluation.table[[evaluation.distilled.get(str(name)) == source.name for name in evaluation.table["set"]]]
    if not len(rows):
        remarks.append(f"without an accuracy, as the evaluation chose another set of the run: {advice}")
        return None
    known = [column for column in COLUMNS if column in rows]
    return {
        "unit": "per cent",
        "test_galaxies": evaluation.settings.get("test galaxies"),
        "epochs": evaluation.settings.get("epochs"),
        "galaxies": evaluation.settings.get("galaxies"),
        "rows": [row.dropna().to_dict() for _, row in rows[known].iterrows()],
    }


def _origin(data: AnyPath | None, evaluation: Evaluation | None, synthetic: SyntheticSet, remarks: list[str]) -> Origin:
    """Licence and citation of the galaxies: those that are named, or that the evaluation was on, if they are the run's."""
    given = data if data is not None else (evaluation.settings.get("data") if evaluation is not None else None)
    if given is None or (data is None and not Path(str(given)).is_file()):
        remarks.append("name the packed galaxies with --data, or their licence with --licence")
        return UNKNOWN
    galaxies = given if isinstance(given, Galaxies) else Galaxies(given)
    if galaxies.fingerprint != synthetic.data:
        if data is not None:
            raise InputError(f"--data {galaxies.path} are not the galaxies that the set was distilled from")
        remarks.append("name the galaxies that it was distilled from with --data, or their licence with --licence")
        return UNKNOWN
    origin = origin_of(galaxies.configuration)
    if origin is UNKNOWN:
        remarks.append(f"{galaxies.path.name} does not say where its galaxies come from: give their licence with --licence")
    return origin


def _identifier(licence: str) -> str:
    """A licence as the Hub names it, if it is named so: one word."""
    return licence.lower() if len(licence.split()) == 1 else "other"
