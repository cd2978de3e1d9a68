"""The sentences that a report opens with: what the images teach, and which accuracy is which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gz_lightning.evaluation.contenders import FULL_DATA
from gz_lightning.report.runs import Run

NUMBERS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve")
TO_QUOTE = ("distilled, tuned", "distilled")
"""Rows of an evaluation by which of them says what the set is worth: choices on validation galaxies come first."""


def per_cent(value: float) -> str:
    """A percentage as a sentence has it."""
    return f"{value:.0f}\N{NO-BREAK SPACE}%"


def counted(networks: int, which: str = "") -> str:
    """A number of networks, in words."""
    return f"{networks} {which}network{'s' * (networks != 1)}"


def guessing(run: Run) -> float:
    """Accuracy of a guess among the leaves, in per cent."""
    return 100 / len(run.synthetic.class_names)


def row_to_quote(run: Run) -> Mapping[str, Any] | None:
    """The row of the evaluation that says what the set is worth; None without an evaluation."""
    if run.evaluation is None:
        return None
    rows = {str(row["set"]): row for row in run.evaluation.table.to_dict("records")}
    named = next((name for name in TO_QUOTE if name in rows), next(iter(run.evaluation.distilled)))
    return {str(name): value for name, value in rows[named].items()}


def opening(run: Run) -> str:
    """What the images teach, beside all galaxies and guessing, in one sentence."""
    chance = f"guessing gives {per_cent(guessing(run))}"
    row = row_to_quote(run)
    if run.evaluation is None or row is None:
        return f"{_images(len(run.synthetic))}; what they teach has not been measured yet, and {chance}."
    teach = "teaches" if row["images"] == 1 else "teach"
    parts = [f"{_images(row['images'])} {teach} a fresh network to recognise {per_cent(row['test'])} of the test galaxies"]
    for full in run.evaluation.table.to_dict("records"):
        if full["set"] == FULL_DATA:
            parts.append(f"all {full['images']:,} training galaxies teach it {per_cent(full['test'])}")
    return "; ".join([*parts, chance]) + "."


def _images(number: int) -> str:
    named = NUMBERS[number] if number < len(NUMBERS) else f"{number:,}"
    return f"{named} image{'s' * (number != 1)}"


def measured(run: Run) -> str:
    """How the first number of :func:`opening` was measured; empty without an evaluation."""
    row = row_to_quote(run)
    if run.evaluation is None or row is None:
        return ""
    number = run.evaluation.settings.get("test galaxies")
    of = f" on {number:,} test galaxies" if isinstance(number, int) else ""
    return (
        f"Mean of {counted(row['networks'])}{of}: {row['test']:.1f} ± {row['spread']:.1f}\N{NO-BREAK SPACE}% (spread), 95 % "
        f"interval {row['low']:.1f} to {row['high']:.1f}\N{NO-BREAK SPACE}%; row '{row['set']}' of the table below."
    )


def three_accuracies(run: Run) -> str:
    """Why the accuracies while distilling, of the evaluation and on test galaxies differ; empty without an evaluation."""
    row, best = row_to_quote(run), run.synthetic.results.get("val_accuracy")
    if run.evaluation is None or row is None or best is None:
        return ""
    settings, evaluated = run.synthetic.configuration, run.evaluation.settings
    evaluations = int(run.metrics["val/accuracy"].count()) if "val/accuracy" in run.metrics else 0
    number, epochs_then = settings.get("num_eval"), settings.get("epoch_eval_train")
    by = "networks" if number is None or epochs_then is None else f"{counted(number)} of {epochs_then} epochs"
    tuned = f" with step size {row['step size']}, the best of those tried," if row["set"] == TO_QUOTE[0] else ""
    of = f", the highest of {evaluations} such measurements" if evaluations > 1 and run.file == "best.h5" else ""
    epochs = f" of {evaluated['epochs']} epochs" if "epochs" in evaluated else ""
    return (
        f"Three accuracies, and why they differ: while distilling, {by} with the learned step size recognised "
        f"{100 * best:.1f} % of the validation galaxies{of}; in the evaluation, {counted(row['networks'], 'other ')}"
        f"{epochs}{tuned} recognise {row['val']:.1f} % of the validation galaxies and {row['test']:.1f} % of the "
        "test galaxies. Sets and step sizes were chosen by the first two, which therefore flatter; no choice has seen the "
        "test galaxies, so that the third is the one to quote."
    )
