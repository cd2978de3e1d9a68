"""Pictures: galaxies by leaf, and curves. Drawn without pyplot, so no state is shared with a notebook's own figures.

Shapes: M images (``ipc`` of each of K leaves), H x W pixels.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from gz_lightning.files import written_whole

MOST_IMAGES = 10
"""Images of a leaf that are shown at most."""


def leaf_figure(sets: Mapping[str, torch.Tensor], class_names: Sequence[str], title: str = "") -> Figure:
    """Galaxies by leaf: a column for each leaf, titled with its name, and one row (or more) for each set.

    Args:
        sets: Name -> pixels in [0, 1], shape (M, 3, H, W), sorted by leaf, as many of each.
        class_names: Names of the K leaves.
        title: Title of the whole.
    """
    rows: list[tuple[str, torch.Tensor]] = []
    for name, images in sets.items():
        by_leaf = images.detach().cpu().float().unflatten(0, (len(class_names), -1))[:, :MOST_IMAGES]
        rows += [(name if i == 0 else "", by_leaf[:, i]) for i in range(by_leaf.shape[1])]
    columns = len(class_names)
    figure = Figure(figsize=(1.5 * columns + 0.8, 1.55 * len(rows) + 0.9), layout="constrained", dpi=120)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for axis, name in zip(axes[0], class_names, strict=True):
        axis.set_title(textwrap.fill(name, 18), fontsize=8)
    for (name, images), line in zip(rows, axes, strict=True):
        for image, axis in zip(images, line, strict=True):
            axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=10)
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
    """Write a figure as PNG, whole or not at all."""
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png")
    return Path(path)


def confusion_figure(counts: torch.Tensor, class_names: Sequence[str], title: str = "") -> Figure:
    """Confusion of K leaves: the share of each leaf's galaxies (rows) that were taken for each leaf (columns).

    Args:
        counts: Galaxies by true and predicted leaf, shape (K, K).
        class_names: Names of the K leaves.
        title: Title of the whole.
    """
    share = counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
    number = len(class_names)
    figure = Figure(figsize=(0.62 * number + 3.2, 0.62 * number + 2.4), layout="constrained", dpi=120)
    axis = figure.subplots()
    axis.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=1)
    names = [textwrap.fill(name, 22) for name in class_names]
    axis.set_xticks(range(number), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=7)
    axis.set_yticks(range(number), names, fontsize=7)
    axis.set(xlabel="predicted", ylabel="true")
    for i in range(number):
        for j in range(number):
            colour = "white" if share[i, j] > 0.5 else "black"
            axis.text(j, i, f"{100 * float(share[i, j]):.0f}", ha="center", va="center", fontsize=7, color=colour)
    axis.set_title(title + "\n(per cent of each true leaf)", fontsize=9)
    return figure
