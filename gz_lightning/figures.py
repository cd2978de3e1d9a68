"""Figures of galaxies and curves, drawn without pyplot, so that no state is shared with a notebook's figures.

Shapes: M images (``ipc`` of each of K leaves), H x W pixels.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from gz_lightning.storage.whole import atomic_write

MOST_IMAGES = 10
"""Images of a leaf shown at most."""
CLIP = 2.5
"""Standard deviations at which the published pictures are cut off."""
COLOURS = ("#1f4e8c", "#c4571a", "#2e7d4f", "#7a3f98", "#8a6d00", "#a3325c")
"""Colours of runs, with a contrast to white of at least 4.5 to 1."""


def drawable(text: str) -> str:
    """A name as a figure can draw it: not as a formula, and with ``?`` where the font lacks a character."""
    font = get_font(findfont(FontProperties()))
    return "".join(c if c.isspace() or font.get_char_index(ord(c)) else "?" for c in text).replace("$", r"\$")


def at_places(images: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The images at places, and a white one where a place is -1.

    Args:
        images: Pixels in [0, 1], shape (M, 3, H, W).
        places: int64, of any shape.

    Returns:
        Shape (*places.shape, 3, H, W).
    """
    chosen = images[places]
    chosen[places < 0] = 1
    return chosen


def stretched(images: torch.Tensor) -> torch.Tensor:
    """Images cut off at ``CLIP`` standard deviations from their mean and stretched to [0, 1]: what is faint shows.

    Args:
        images: Shape (M, 3, H, W).
    """
    mean, spread = images.mean((1, 2, 3), keepdim=True), CLIP * images.std((1, 2, 3), keepdim=True)
    clipped = images.clamp(mean - spread, mean + spread)
    low, high = clipped.amin((1, 2, 3), keepdim=True), clipped.amax((1, 2, 3), keepdim=True)
    return (clipped - low) / (high - low).clamp(min=1e-12)


def image_grid(rows: Mapping[str, torch.Tensor], columns: int) -> Figure:
    """One row of images per name.

    Args:
        rows: Name -> pixels, uint8 or in [0, 1], shape (n, 3, H, W), n at most ``columns``.
        columns: Images of a row.
    """
    figure = Figure(figsize=(columns + 0.2, 1.2 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)  # a notebook then shows it
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        line[0].set_title(name, loc="left", fontsize=8)
        for axis in line:
            axis.set_axis_off()
        for axis, image in zip(line, images, strict=False):
            axis.imshow(image.permute(1, 2, 0).numpy())
    return figure


def leaf_figure(sets: Mapping[str, torch.Tensor], class_names: Sequence[str], title: str = "") -> Figure:
    """Galaxies by leaf: one column per leaf, titled with its name, and one or more rows per set.

    Args:
        sets: Name -> pixels in [0, 1], shape (M, 3, H, W), sorted by leaf, with the same number in every leaf.
        class_names: Names of the K leaves.
        title: Title of the figure.
    """
    rows: list[tuple[str, torch.Tensor]] = []
    for name, images in sets.items():
        by_leaf = images.detach().cpu().float().unflatten(0, (len(class_names), -1))[:, :MOST_IMAGES]
        rows += [(name if i == 0 else "", by_leaf[:, i]) for i in range(by_leaf.shape[1])]
    columns = len(class_names)
    figure = Figure(figsize=(1.5 * columns + 0.8, 1.55 * len(rows) + 0.9), layout="constrained", dpi=120)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for axis, name in zip(axes[0], class_names, strict=True):
        axis.set_title(drawable(textwrap.fill(name, 18)), fontsize=8)
    for (name, images), line in zip(rows, axes, strict=True):
        for image, axis in zip(images, line, strict=True):
            axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(drawable(name), fontsize=9)
    if title:
        figure.suptitle(drawable(title), fontsize=10)
    return figure


def curves_figure(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], x: str, y: str, log: bool = False
) -> Figure:
    """Curves over one axis: name -> (x values, y values)."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained", dpi=120)
    axis = figure.subplots()
    for name, (across, up) in curves.items():
        axis.plot(across, up, label=name, linewidth=1)
    axis.set(xlabel=x, ylabel=y, yscale="log" if log else "linear")
    axis.grid(alpha=0.3)
    if len(curves) > 1:
        axis.legend(fontsize=8)
    return figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, atomically."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")
    return Path(path)


def confusion_figure(counts: torch.Tensor, class_names: Sequence[str], title: str = "") -> Figure:
    """Confusion matrix of K leaves: the share of a true leaf's galaxies (row) that were predicted as a leaf (column).

    Args:
        counts: Galaxies by true and predicted leaf, shape (K, K).
        class_names: Names of the K leaves.
        title: Title of the figure.
    """
    share = counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
    number = len(class_names)
    figure = Figure(figsize=(0.62 * number + 3.2, 0.62 * number + 2.4), layout="constrained", dpi=120)
    axis = figure.subplots()
    axis.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=1)
    names = [drawable(textwrap.fill(name, 22)) for name in class_names]
    axis.set_xticks(range(number), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=7)
    axis.set_yticks(range(number), names, fontsize=7)
    axis.set(xlabel="predicted", ylabel="true")
    for i in range(number):
        for j in range(number):
            colour = "white" if share[i, j] > 0.5 else "black"
            axis.text(j, i, f"{100 * float(share[i, j]):.0f}", ha="center", va="center", fontsize=7, color=colour)
    axis.set_title(drawable(title) + "\n(per cent of each true leaf)", fontsize=9)
    return figure


def accuracy_figure(tables: Mapping[str, pd.DataFrame], title: str = "", chance: float | None = None) -> Figure:
    """Test accuracy of every set as a bar from 0, with its spread (grey) and 95 % interval (whisker); one colour per run.

    Args:
        tables: Name of the run -> table of an :class:`gz_lightning.evaluation.record.Evaluation`.
        title: Title of the figure.
        chance: Accuracy of guessing in per cent, drawn as a line.
    """
    names = list(dict.fromkeys(name for table in tables.values() for name in table["set"]))
    figure = Figure(figsize=(6.8, 0.34 * len(names) * len(tables) + 1.5), layout="constrained", dpi=120)
    axis = figure.subplots()
    thick = 0.8 / len(tables)
    for i, (run, table) in enumerate(tables.items()):
        rows = table.set_index("set")
        place = [names.index(name) + (i - (len(tables) - 1) / 2) * thick for name in rows.index]
        sides = [(rows["test"] - rows["low"]).clip(lower=0), (rows["high"] - rows["test"]).clip(lower=0)]
        colour = COLOURS[i % len(COLOURS)]
        axis.barh(place, rows["test"], thick, label=drawable(run), color=colour)
        axis.barh(place, 2 * rows["spread"], 0.4 * thick, left=rows["test"] - rows["spread"], color="#b9bec6", alpha=0.9)
        axis.errorbar(rows["test"], place, xerr=sides, fmt="none", ecolor="#222222", elinewidth=1, capsize=2.5)
        for y, value, spread, high in zip(place, rows["test"], rows["spread"], rows["high"], strict=True):
            axis.text(max(value, high) + 1.5, y, f"{value:.1f} ± {spread:.1f}", va="center", fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=9)
    axis.invert_yaxis()
    axis.set(xlabel="test accuracy in per cent", xlim=(0, 100), title=title)
    if chance is not None:
        axis.axvline(chance, color="0.2", linewidth=1, linestyle="--")
        axis.annotate("guessing", (chance, 1), (0, 2), xycoords=axis.get_xaxis_transform(), textcoords="offset points",
                      ha="center", va="bottom", fontsize=8)  # fmt: skip
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    if len(tables) > 1:
        axis.legend(fontsize=8)
    return figure


def experts_figure(metrics: pd.DataFrame, title: str = "", chance: float | None = None) -> Figure:
    """Learning curves of experts: their mean and their range.

    Args:
        metrics: Metrics of a :class:`gz_lightning.experts.trajectories.TrajectoryStore`.
        title: Title of the figure.
        chance: Accuracy of guessing in per cent, drawn as a line.
    """
    figure = Figure(figsize=(6.4, 3.6), layout="constrained", dpi=120)
    axis = figure.subplots()
    for i, (column, name) in enumerate((("train_accuracy", "training"), ("val_accuracy", "validation"))):
        by_epoch = 100 * metrics.groupby("epoch")[column].agg(["mean", "min", "max"])
        axis.plot(by_epoch.index, by_epoch["mean"], color=COLOURS[i], label=f"{name} galaxies", linestyle=("-", "--")[i])
        axis.fill_between(by_epoch.index, by_epoch["min"], by_epoch["max"], color=COLOURS[i], alpha=0.15)
    if chance is not None:
        axis.axhline(chance, color="0.4", linewidth=0.9, linestyle=":", label=f"guessing, {chance:.0f} %")
    axis.set(xlabel="epoch", ylabel="accuracy in per cent", title=title)
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure
