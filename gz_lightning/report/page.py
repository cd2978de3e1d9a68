"""``gz-lightning report``: one page on one run, or on several side by side.

The page is one HTML file that embeds its pictures and loads nothing; the pictures are written beside it as PNGs too.

Shapes: M images, K leaves, H x W pixels.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import torch
from matplotlib.figure import Figure

from gz_lightning.errors import InputError
from gz_lightning.evaluation.scores import tree_of
from gz_lightning.figures import accuracy_figure, at_places, confusion_figure, curves_figure, experts_figure
from gz_lightning.progress import track
from gz_lightning.randomness import generator
from gz_lightning.report.runs import Run, nearest_galaxies, read_run
from gz_lightning.report.tree_figure import tree_figure
from gz_lightning.sets.coresets import coreset
from gz_lightning.settings import AnyPath, checked
from gz_lightning.storage.whole import atomic_write
from gz_lightning.training.protocol import PROTOCOLS
from gz_lightning.version import __version__

MOST_SHOWN = 3
"""Most synthetic images of a leaf that the page shows."""
RUNNING = 20
"""Logged losses in a running mean; they jump with the start epoch."""
RECALL = "recall: "
"""How columns of the scores begin that are the recall of a leaf."""
CURVES = (
    ("experts", "The experts' learning curves: mean and range of all experts."),
    ("loss", "Matching loss: the distance that the student keeps from the expert, in units of the expert's own way."),
    ("accuracy", "Accuracy on validation galaxies while distilling."),
    ("stage", "The stage: how many of the experts' first epochs are matched."),
    ("step_size", "The learned step sizes of the student."),
)
"""Figures on how a set was made, and their captions."""
CITE = (
    "Cazenavette et al. 2022, Dataset Distillation by Matching Training Trajectories, arXiv:2203.11932 (the method)",
    "Guan et al. 2023, Discovering Galaxy Features via Dataset Distillation, arXiv:2311.17967 (in stages)",
    "Willett et al. 2013, MNRAS 435, 2835, and Hart et al. 2016, MNRAS 461, 3663 (Galaxy Zoo 2)",
)


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Args:
        name: Its file, without ending.
        alt: What it shows, in words.
        png: The PNG itself.
        width: In pixels as shown.
        height: Likewise.
    """

    name: str
    alt: str
    png: bytes
    width: int
    height: int

    @property
    def data(self) -> str:
        """The PNG as a data URL."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Table:
    """A table of the page: caption, column heads, and rows whose first cell is the row's head."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Report:
    """What ``report`` wrote."""

    files: tuple[Path, ...]

    def __str__(self) -> str:
        return "\n".join(f"written: {path}" for path in self.files)


@checked
def report(
    runs: list[AnyPath], output: AnyPath | None = None, data: AnyPath | None = None, experts: AnyPath | None = None
) -> Report:
    """Write one page on what was distilled and what it is worth, to open in any browser.

    It shows the images on the decision tree beside class means and the nearest real galaxies, the accuracy beside all
    baselines, confusion, the experts' learning curves, matching loss, stages and step sizes, settings, versions and
    fingerprints. Whatever a run lacks (such as an evaluation) is left out, and the page says how to make it.

    Args:
        runs: Run folders of gz-lightning distill; several are shown side by side.
        output: Folder for report.html and the pictures. Default: report, in the run folder or, for several runs, in the
            working directory.
        data: The packed galaxies. Default: those that each run names.
        experts: The folder of experts. Default: the one that each run names.

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
    sections = [_section(run, len(read) > 1) for run in track(read, "drawing figures", len(read))]
    shared = _shared(read)
    pictures = [*shared["pictures"], *(picture for section in sections for picture in section["pictures"].values())]
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
        curves=CURVES,
        cite=CITE,
    )
    with atomic_write(output / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    for picture in pictures:
        with atomic_write(output / f"{picture.name}.png") as temporary:
            temporary.write_bytes(picture.png)
    return Report((output / "report.html", *(output / f"{picture.name}.png" for picture in pictures)))


def _named_apart(runs: list[Run]) -> list[Run]:
    """The runs, renamed by the folder above them where two have the same name."""
    names = [run.name for run in runs]
    if len(set(names)) == len(names):
        return runs
    return [replace(run, name=f"{run.folder.resolve().parent.name} {run.name} ({i + 1})") for i, run in enumerate(runs)]


def _picture(name: str, figure: Figure, alt: str) -> Picture:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    width, height = figure.get_size_inches() * 96
    return Picture(name, alt, buffer.getvalue(), round(width), round(height))


def _shared(runs: Sequence[Run]) -> dict[str, Any]:
    """Accuracy of all runs in one table and one figure."""
    evaluated = {run.name: run.evaluation.table for run in runs if run.evaluation is not None}
    if not evaluated:
        return {"tables": [], "pictures": []}
    in_words = ", ".join(
        f"{run}: " + ", ".join(f"{name} {test:.1f}" for name, test in zip(table["set"], table["test"], strict=True))
        for run, table in evaluated.items()
    )
    figure = _picture("accuracy", accuracy_figure(evaluated), f"Test accuracy in per cent as bars. {in_words}.")
    return {"tables": [_accuracy_table(run, table) for run, table in evaluated.items()], "pictures": [figure]}


def _accuracy_table(run: str, table: pd.DataFrame) -> Table:
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
    return Table(f"{run}: accuracy in per cent", [*columns, "test, soft labels"] if with_soft else columns, rows)


def _section(run: Run, several: bool) -> dict[str, Any]:
    """Everything on the page that belongs to one run."""
    prefix = "".join(c if c.isalnum() else "_" for c in run.name) + "_" if several else ""
    pictures = {"tree": _tree(run, prefix)}
    tables: dict[str, Table] = {}
    if run.evaluation is not None:
        counts = torch.tensor(run.evaluation.confusion.to_numpy())
        share = counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
        right = ", ".join(f"{leaf} {100 * float(share[i, i]):.0f}" for i, leaf in enumerate(run.synthetic.class_names))
        pictures["confusion"] = _picture(
            f"{prefix}confusion",
            confusion_figure(counts, run.synthetic.class_names, f"{run.file}, test galaxies"),
            f"Confusion of the leaves. Per cent of each leaf's test galaxies that are recognised: {right}.",
        )
        tables |= _scores_tables(run.name, run.evaluation.scores)
        matrix = run.evaluation.architectures
        if len(matrix):
            rows = [[str(name), *(f"{matrix.loc[name, network]:.1f}" for network in matrix)] for name in matrix.index]
            caption = f"{run.name}: test accuracy in per cent by network"
            tables["architectures"] = Table(caption, ["set", *map(str, matrix.columns)], rows)
        tried = run.evaluation.tried
        if len(tried):
            shown = tried.assign(accuracy=[f"{value:.1f}" for value in tried["accuracy"]])
            rows = [[str(cell) for cell in row] for row in shown.to_numpy()]
            tables["tried"] = Table(f"{run.name}: accuracy in per cent of each candidate", list(shown.columns), rows)
    pictures |= _curves(run, prefix)
    return {
        "name": run.name,
        "anchor": prefix or "run",
        "shown": _shown(run),
        "pictures": pictures,
        "tables": tables,
        "facts": _facts(run),
        "settings": Table("Settings of the distillation", ["setting", "value"], _pairs(_without_folders(run))),
        "remarks": run.remarks,
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
    return _picture(f"{prefix}tree", tree_figure(sets, synthetic.class_names, tree), alt)


def _shown(run: Run) -> str:
    """Which set the page shows, in words."""
    if run.evaluation is None:
        return f"Shown: {run.file}, the set of highest validation accuracy while distilling."
    rows = [f"'{row}'" for row, file in run.evaluation.distilled.items() if file == run.file]
    others = [f"'{row}' was scored with {file}" for row, file in run.evaluation.distilled.items() if file != run.file]
    return "; ".join([f"Shown: {run.file}, scored in the row {' and the row '.join(rows)} of the table", *others]) + "."


def _scores_tables(run: str, scores: pd.DataFrame) -> dict[str, Table]:
    """The scores of all sets, and in another table the recall of each leaf."""

    def table(caption: str, columns: Sequence[str]) -> Table:
        heads = ["set", *(column.removeprefix(RECALL) for column in columns)]
        rows = [
            [str(row["set"]), *("none" if pd.isna(row[column]) else f"{row[column]:.3f}" for column in columns)]
            for row in scores.to_dict("records")
        ]
        return Table(f"{run}: {caption}", heads, rows)

    names = [str(name) for name in scores.columns if name != "set"]
    return {
        "scores": table("scores, as fractions", [name for name in names if not name.startswith(RECALL)]),
        "recalls": table("recall of each leaf", [name for name in names if name.startswith(RECALL)]),
    }


def _curves(run: Run, prefix: str) -> dict[str, Picture]:
    """Matching loss, accuracy, stages and step sizes over the iterations, and the experts' learning curves."""
    pictures = {}
    figures = {
        "loss": (["loss", "probe_loss"], "matching loss", False),
        "accuracy": (["val/accuracy"], "validation accuracy", False),
        "stage": (["stage"], "start epochs that are matched", False),
        "step_size": ([c for c in run.metrics.columns if c.startswith("step_size/")] or ["step_size"], "step size", True),
    }
    for name, (columns, y, log) in figures.items():
        curves = {}
        for column in [c for c in columns if c in run.metrics]:
            table = run.metrics[["step", column]].dropna()
            if len(table):
                curves[_in_words(column)] = (table["step"].tolist(), table[column].tolist())
            if column == "loss" and len(table) > RUNNING:
                running = table[column].rolling(RUNNING, min_periods=1).mean()
                curves[f"mean of {RUNNING} logged"] = (table["step"].tolist(), running.tolist())
        constant = name == "stage" and all(len(set(up)) == 1 for _, up in curves.values())
        if curves and not constant:
            ends = "; ".join(f"{key}: from {up[0]:.3g} to {up[-1]:.3g}" for key, (_, up) in curves.items())
            figure = curves_figure(curves, "iteration", y, log)
            pictures[name] = _picture(f"{prefix}{name}_curve", figure, f"{y.capitalize()} over the iterations. {ends}.")
    if run.experts is not None:
        metrics = run.experts.metrics
        last = metrics[metrics["epoch"] == run.experts.num_epochs]["val_accuracy"]
        alt = (
            f"Learning curves of {len(run.experts)} experts over {run.experts.num_epochs} epochs. At the end they "
            f"recognise {100 * last.mean():.1f} per cent of the validation galaxies "
            f"({100 * last.min():.1f} to {100 * last.max():.1f})."
        )
        pictures["experts"] = _picture(f"{prefix}experts_curve", experts_figure(metrics), alt)
    return pictures


def _in_words(column: str) -> str:
    return column.replace("/start_epoch_", ", start epoch ").replace("val/", "validation ").replace("_", " ")


def _facts(run: Run) -> Table:
    synthetic, accuracy = run.synthetic, run.synthetic.results.get("val_accuracy")
    facts = {
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
        facts["evaluated with"] = ", ".join(f"{name} {settings[name]}" for name in names)
        facts["versions"] = ", ".join(f"{name} {value}" for name, value in settings.get("versions", {}).items())
    return Table("What was distilled from what", ["fact", "value"], _pairs(facts))


def _without_folders(run: Run) -> dict[str, Any]:
    """The settings; of a path only the name, as folders are private and a page is passed on."""
    settings = run.synthetic.configuration
    paths = {name: Path(settings[name]).name for name in ("trajectories", "load_syn_image") if settings.get(name)}
    return {**settings, **paths}


def _pairs(values: dict[str, Any]) -> list[list[str]]:
    return [[name, "default" if value is None else str(value)] for name, value in values.items()]
