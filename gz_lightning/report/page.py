"""``gz-lightning report``: one page on one run, or on several side by side.

The page is one HTML file that embeds its pictures and loads nothing; the figures are written beside it as PNGs too.

Shapes: K leaves, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
import torch

from gz_lightning.data.contact_sheet import samples
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.data.origin import UNKNOWN, origin_of
from gz_lightning.errors import InputError
from gz_lightning.evaluation.scores import tree_of
from gz_lightning.figures import accuracy_figure, at_places
from gz_lightning.progress import track
from gz_lightning.randomness import generator
from gz_lightning.report import words
from gz_lightning.report.curves import captions, curves
from gz_lightning.report.learned import MOST_SHOWN, Card, learned, moments, nearest_moment
from gz_lightning.report.opening import guessing, measured, opening, three_accuracies
from gz_lightning.report.pictures import Picture, figure_picture, pixel_picture, scale_css
from gz_lightning.report.runs import Run, nearest_galaxies, read_run
from gz_lightning.report.students import Students, students
from gz_lightning.report.tables import accuracy_table, facts, other_tables, scores_tables, settings_table
from gz_lightning.report.tree_figure import tree_figure
from gz_lightning.sets.card import METHOD
from gz_lightning.sets.coresets import coreset
from gz_lightning.settings import AnyPath, NonNegativeInt, checked
from gz_lightning.storage.whole import atomic_write
from gz_lightning.training.protocol import PROTOCOLS
from gz_lightning.version import __version__


@dataclass(frozen=True)
class Report:
    """What ``report`` wrote."""

    files: tuple[Path, ...]

    def __str__(self) -> str:
        return "\n".join(f"written: {path}" for path in self.files)


@checked
def report(
    runs: list[AnyPath],
    output: AnyPath | None = None,
    data: AnyPath | None = None,
    experts: AnyPath | None = None,
    networks: NonNegativeInt = 3,
) -> Report:
    """Write one page on what was distilled and what it is worth, to open in any browser.

    It opens with what the images teach, in a sentence, and shows the images on the decision tree beside class means and the
    nearest real galaxies, what was learned (before, after, their difference, over the iterations), what networks that train
    on the images look at in real galaxies and what they mistake, the accuracy beside all baselines, some galaxies of each
    leaf, the experts' learning curves, matching loss, stages and step sizes, settings, versions and fingerprints. Whatever
    a run lacks (such as an evaluation) is left out, and the page says how to make it.

    Args:
        runs: Run folders of gz-lightning distill; several are shown side by side.
        output: Folder for report.html and the figures. Default: report, in the run folder or, for several runs, in the
            working directory.
        data: The packed galaxies. Default: those that each run names.
        experts: The folder of experts. Default: the one that each run names.
        networks: Fresh networks that are trained on each set, as its evaluation trained them, for the occlusion maps and the
            galaxies that are mistaken: this takes most of the time of a report. 0 leaves both out.

    Raises:
        InputError: If a folder is no run folder, or a file in one is damaged.

    Example:
        >>> report(["runs/ipc1", "runs/ipc10"], data=Galaxies("gz2.h5"))  # doctest: +SKIP
    """
    if not runs:
        raise InputError("name at least one run folder: gz-lightning report RUN_DIR")
    read = _named_apart([read_run(Path(folder), data, experts) for folder in runs])
    default = read[0].folder / "report" if len(read) == 1 else Path("report")
    output = default if output is None else Path(output)
    seen = [_seen(run, networks) for run in read]
    pairs = zip(read, seen, strict=True)
    sections = [_section(run, looks, len(read) > 1) for run, looks in track(pairs, "drawing figures", len(read))]
    shared = _shared(read)
    figures = [*shared["pictures"], *(figure for section in sections for figure in section["pictures"].values())]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gz_lightning.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html.j2").render(
        title="Distilled galaxies: " + ", ".join(run.name for run in read),
        version=__version__,
        sections=sections,
        shared=shared,
        protocols=PROTOCOLS,
        words=words,
        scale=scale_css(),
        cite=_cited(read),
    )
    with atomic_write(output / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    for figure in figures:
        with atomic_write(output / f"{figure.name}.png") as temporary:
            temporary.write_bytes(figure.png)
    return Report((output / "report.html", *(output / f"{figure.name}.png" for figure in figures)))


def _named_apart(runs: list[Run]) -> list[Run]:
    """The runs, renamed by the folder above them where two have the same name."""
    names = [run.name for run in runs]
    if len(set(names)) == len(names):
        return runs
    return [replace(run, name=f"{run.folder.resolve().parent.name} {run.name} ({i + 1})") for i, run in enumerate(runs)]


def _seen(run: Run, networks: int) -> tuple[Students | None, list[str]]:
    """What networks trained on the set see, or why there is nothing."""
    remarks: list[str] = []
    return students(run, networks, remarks), remarks


def _shared(runs: Sequence[Run]) -> dict[str, Any]:
    """Accuracy of all runs, in a table each and one figure, and the words that these use."""
    evaluated = {run.name: run.evaluation.table for run in runs if run.evaluation is not None}
    if not evaluated:
        return {"tables": [], "pictures": [], "used": []}
    in_words = ", ".join(
        f"{run}: " + ", ".join(f"{name} {test:.1f}" for name, test in zip(table["set"], table["test"], strict=True))
        for run, table in evaluated.items()
    )
    chance = max(guessing(run) for run in runs)
    alt = f"Test accuracy in per cent as bars, with guessing at {chance:.1f}. {in_words}."
    tables = [accuracy_table(run, run.evaluation.table) for run in runs if run.evaluation is not None]
    used = {str(name) for table in evaluated.values() for name in table["set"]} | {
        *("guessing", "step size", "protocol", "spread", "95 % interval", "validation", "test")
    }
    return {
        "tables": tables,
        "pictures": [figure_picture("accuracy", accuracy_figure(evaluated, chance=chance), alt)],
        "used": used,
    }


def _cited(runs: Sequence[Run]) -> list[str]:
    """What to cite for the method and for the galaxies, as the card of an exported set does."""
    origins = [UNKNOWN if run.galaxies is None else origin_of(run.galaxies.configuration) for run in runs]
    return list(dict.fromkeys([*METHOD, *(work for origin in origins for work in origin.citation)]))


def _section(run: Run, seen: tuple[Students | None, list[str]], several: bool) -> dict[str, Any]:
    """Everything on the page that belongs to one run."""
    prefix = "".join(c if c.isalnum() else "_" for c in run.name) + "_" if several else ""
    looks, remarks = seen
    evaluated = {} if run.evaluation is None else scores_tables(run.name, run.evaluation.scores)
    counts = None if run.evaluation is None else torch.tensor(run.evaluation.confusion.to_numpy())
    pictured = moments(run)
    return {
        "name": run.name,
        "file": run.file,
        "row": "" if run.evaluation is None else next(iter(run.evaluation.distilled)),
        "anchor": prefix or "run",
        "opening": opening(run),
        "measured": measured(run),
        "reconciled": three_accuracies(run),
        "shown": _shown(run),
        "pictures": {"tree": _tree(run, prefix), **curves(run, prefix)},
        "captions": captions(run),
        "learned": learned(run),
        "moments": pictured,
        "opened": nearest_moment([iteration for iteration, _ in pictured], run.synthetic.iteration) if pictured else 0,
        "looks": looks,
        "confusion": _confusion(run, counts if looks is None else looks.counts),
        "samples": [] if run.galaxies is None else _samples(run.galaxies),
        "tables": evaluated | other_tables(run),
        "facts": facts(run),
        "settings": settings_table(run),
        "remarks": (*run.remarks, *remarks),
    }


def _tree(run: Run, prefix: str) -> Picture:
    """The synthetic images on the tree, beside the class means and the nearest galaxies."""
    synthetic, galaxies = run.synthetic, run.galaxies
    places = synthetic.places_by_leaf(MOST_SHOWN)
    per_leaf = places.shape[1]
    pixels = at_places(synthetic.denormalised(), places)
    sets = {"distilled" if per_leaf == 1 else f"distilled {i + 1}": pixels[:, i] for i in range(per_leaf)}
    alt = f"Distilled images of the leaves {'; '.join(synthetic.class_names)}"
    if galaxies is not None:
        means = coreset("class mean", galaxies, 1, generator("class means")).images
        nearest = nearest_galaxies(synthetic.images[places[:, 0]], galaxies)
        sets["class mean"] = galaxies.denormalise(means)
        sets["nearest real galaxy"] = galaxies.train.pixels(nearest).float() / 255
        sets["nearest real galaxy"][places[:, 0] < 0] = 1  # white, as the leaf has no distilled image
        alt += ", below them the class means and the training galaxies nearest to them"
    tree = tree_of(synthetic.tree, synthetic.class_names)
    alt += ", on the decision tree." if tree else "."
    return figure_picture(f"{prefix}tree", tree_figure(sets, synthetic.class_names, tree), alt)


def _shown(run: Run) -> str:
    """Which set the page shows, in words."""
    shown = f"Shown: {run.file} (iteration {run.synthetic.iteration:,})"
    if run.evaluation is None:
        return f"{shown}, the set of highest validation accuracy while distilling."
    rows = [f"'{row}'" for row, file in run.evaluation.distilled.items() if file == run.file]
    others = [f"'{row}' was scored with {file}" for row, file in run.evaluation.distilled.items() if file != run.file]
    return "; ".join([f"{shown}, scored in the row {' and the row '.join(rows)} of the table", *others]) + "."


def _confusion(run: Run, counts: torch.Tensor | None) -> list[tuple[str, list[int]]]:
    """Of each leaf its name and the per cent of its test galaxies that are taken for each leaf; empty where unknown."""
    if counts is None:
        return []
    shares = (100 * counts.double() / counts.sum(1, keepdim=True).clamp(min=1)).round().long()
    return list(zip(run.synthetic.class_names, shares.tolist(), strict=True))


def _samples(galaxies: Galaxies) -> list[Card]:
    """The contact sheet, with object ids that can be copied."""
    return [
        Card(
            sample.leaf,
            "",
            [
                [
                    (pixel_picture(image, f"Training galaxy {object_id} of the leaf {sample.leaf}"), caption)
                    for image, object_id, caption in zip(sample.pixels, sample.object_ids, sample.captions, strict=True)
                ]
            ],
        )
        for sample in samples(galaxies)
    ]
