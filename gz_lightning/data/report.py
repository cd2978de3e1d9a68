"""What a selection took and what it left, as a table and a figure."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gz_lightning.data.selection import Selection
from gz_lightning.storage.whole import atomic_write

COLUMNS = 5
BINS = 40
AVAILABLE, TAKEN = "#c7ccd6", "#2f6fb3"


def plot_selection(selection: Selection) -> Figure:
    """Histograms of the confidence of each leaf: all galaxies that could be taken, and over them those that were.

    The numbers of galaxies are on a logarithmic axis, since leaves differ by orders of magnitude.
    """
    number = len(selection.class_names)
    columns = min(COLUMNS, number)
    rows = math.ceil(number / columns)
    figure = Figure(figsize=(2.6 * columns, 2.0 * rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    bins = np.linspace(0, 1, BINS + 1).tolist()
    for label, (axis, name) in enumerate(zip(axes, selection.class_names, strict=False)):
        available, taken = selection.available[label], selection.confidences[selection.labels == label]
        axis.hist(np.clip(available, 0, 1), bins, color=AVAILABLE, label="available", log=True)
        axis.hist(np.clip(taken, 0, 1), bins, color=TAKEN, label="taken", log=True)
        axis.set_title(f"{name}\n{len(taken):,} of {len(available):,}", fontsize=8)
        axis.tick_params(labelsize=7)
    for axis in axes[number:]:
        axis.set_axis_off()
    axes[0].legend(fontsize=7, frameon=False)
    figure.supxlabel("confidence of the leaf", fontsize=9)
    figure.supylabel("galaxies", fontsize=9)
    return figure


def write_report(selection: Selection, folder: Path) -> None:
    """Write ``leaves.csv`` and ``confidences.png`` into ``folder``."""
    with atomic_write(folder / "leaves.csv") as path:
        selection.report.to_csv(path, index=False)
    with atomic_write(folder / "confidences.png") as path:
        plot_selection(selection).savefig(path, format="png", dpi=120)
