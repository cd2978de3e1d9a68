"""How a set was made, as curves: the experts' learning, and loss, accuracy, stage and step size of the distillation."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gz_lightning.figures import COLOURS, experts_figure
from gz_lightning.report.opening import guessing
from gz_lightning.report.pictures import Picture, figure_picture
from gz_lightning.report.runs import Run

RUNNING = 20
"""Logged losses in a running mean at most; they jump with the start epoch."""
MOST_NAMED = 6
"""Curves that a legend names; of more it names the first and the last."""
MANY_TIMES = 10
"""Range of step sizes from which on their axis is logarithmic."""
CAPTIONS = {
    "experts": "The experts' learning curves: mean (line) and range (band) of all experts.",
    "loss": (
        "Matching loss, and in a finish the cross entropy on real galaxies. With a matching loss at the dashed line, 1, "
        "students end no nearer to the expert than they began."
    ),
    "accuracy": "Accuracy on validation galaxies while distilling: mean and spread of the networks of each measurement.",
    "stage": "The stage: start epochs below this limit are matched.",
    "step_size": "The learned step size of the student.",
}
"""Figures on how a set was made, and their captions."""
SMOOTHED = "Pale: each logged iteration; full: running mean."
"""What the caption of the losses says too, where there are enough of them for a running mean."""
LOSSES = {"loss": "matching loss", "probe_loss": "probe loss", "real_loss": "real loss"}
ALPHA = "step_size/start_epoch_"


def captions(run: Run) -> dict[str, str]:
    """``CAPTIONS``, of what is drawn of this run."""
    smoothed = any(_window(_column(run, name)) > 1 for name in LOSSES)
    return {**CAPTIONS, "loss": f"{CAPTIONS['loss']} {SMOOTHED}"} if smoothed else CAPTIONS


def curves(run: Run, prefix: str) -> dict[str, Picture]:
    """Figures by the names of ``CAPTIONS``; without those that the run has no numbers for.

    Args:
        run: The run.
        prefix: What the names of their files begin with.
    """
    drawn: dict[str, Callable[[Axes, Run], str]] = {
        "loss": _loss, "accuracy": _accuracy, "stage": _stage, "step_size": _step_sizes
    }  # fmt: skip
    pictures = {} if run.experts is None else {"experts": _experts(run, prefix)}
    for name, draw in drawn.items():
        figure = Figure(figsize=(6.4, 3.6), layout="constrained", dpi=120)
        axis = figure.subplots()
        axis.set(xlabel="iteration")
        axis.grid(alpha=0.3)
        if alt := draw(axis, run):
            pictures[name] = figure_picture(f"{prefix}{name}_curve", figure, alt)
    return pictures


def _column(run: Run, name: str) -> pd.Series[float]:
    """A logged number by iteration, where there is one."""
    if name not in run.metrics:
        return pd.Series(dtype=float)
    return run.metrics.set_index("step")[name].dropna()


def _window(losses: pd.Series[float]) -> int:
    """Losses in a running mean; 1 where there are too few for one."""
    return min(RUNNING, max(len(losses) // 8, 1))


def _loss(axis: Axes, run: Run) -> str:
    ends = []
    for (column, name), colour in zip(LOSSES.items(), COLOURS, strict=False):
        values = _column(run, column)
        if values.empty:
            continue
        running = values.rolling(_window(values), min_periods=1, center=True).mean()
        if _window(values) > 1:
            axis.plot(values.index, values, color=colour, linewidth=0.6, alpha=0.35)
        axis.plot(running.index, running, color=colour, linewidth=1.6, label=name)
        ends.append(f"{name} from {running.iloc[0]:.3g} to {running.iloc[-1]:.3g}")
    axis.axhline(1, color="0.4", linewidth=0.9, linestyle="--")
    axis.set(ylabel="loss")
    axis.set_ylim(bottom=0)
    if len(ends) > 1:
        axis.legend(fontsize=8)
    return f"Curves over the iterations: {'; '.join(ends)}." if ends else ""


def _accuracy(axis: Axes, run: Run) -> str:
    values = 100 * _column(run, "val/accuracy")
    if values.empty:
        return ""
    spread = 100 * _column(run, "val/accuracy_std").reindex(values.index).fillna(0)
    axis.errorbar(values.index, values, yerr=spread, color=COLOURS[0], marker="o", markersize=4, linewidth=1, capsize=2)
    chance = guessing(run)
    axis.axhline(chance, color="0.4", linewidth=0.9, linestyle="--")
    axis.annotate(f"guessing, {chance:.0f} %", (1, chance), (-3, 3), xycoords=axis.get_yaxis_transform(), fontsize=8,
                  textcoords="offset points", ha="right", va="bottom", color="0.3")  # fmt: skip
    axis.set(ylabel="validation accuracy in per cent", ylim=(0, 100))
    return (
        f"Validation accuracy over the iterations: from {values.iloc[0]:.1f} to {values.iloc[-1]:.1f} per cent, at most "
        f"{values.max():.1f}; guessing gives {chance:.1f}."
    )


def _stage(axis: Axes, run: Run) -> str:
    values = _column(run, "stage")
    if values.nunique() < 2:
        return ""
    # A row tells in which stage its iteration ran, so what is learned there begins a stage right after it.
    axis.step([0, *values.index], [values.iloc[0], *values], where="pre", color=COLOURS[0], linewidth=1.4)
    axis.set(ylabel="start epochs that are matched")
    axis.set_ylim(bottom=0)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    return (
        f"Steps over the iterations: {values.iloc[0]:.0f} start epochs are matched at first and {values.iloc[-1]:.0f} last."
    )


def _step_sizes(axis: Axes, run: Run) -> str:
    """One curve where all start epochs share one step size, else one for each of them."""
    columns = sorted((name for name in run.metrics if name.startswith(ALPHA)), key=lambda name: int(name[len(ALPHA) :]))
    sizes = {f"start epoch {name[len(ALPHA) :]}": _column(run, name) for name in columns}
    if run.synthetic.configuration.get("step_sizes", "global") == "global":
        logged = _column(run, "step_size")
        together = logged if len(logged) else pd.concat([*sizes.values(), logged]).sort_index()
        sizes = {"step size": together[~together.index.duplicated()]}
    sizes = {name: values for name, values in sizes.items() if len(values)}
    for place, (name, values) in enumerate(sizes.items()):
        named = len(sizes) <= MOST_NAMED or place in (0, len(sizes) - 1)
        axis.plot(values.index, values, linewidth=1.2, label=name if named else None)
    together = pd.concat([pd.Series(dtype=float), *sizes.values()])
    many = len(together) > 0 and together.max() > MANY_TIMES * together.min()
    axis.set(ylabel="step size", yscale="log" if many else "linear")
    if not many:
        axis.set_ylim(bottom=0)
    if len(sizes) > 1:
        axis.legend(fontsize=8)
    ends = "; ".join(f"{name} from {values.iloc[0]:.3g} to {values.iloc[-1]:.3g}" for name, values in sizes.items())
    return f"Curves over the iterations: {ends}." if sizes else ""


def _experts(run: Run, prefix: str) -> Picture:
    assert run.experts is not None
    metrics = run.experts.metrics
    last = metrics[metrics["epoch"] == run.experts.num_epochs]["val_accuracy"]
    alt = (
        f"Learning curves of {len(run.experts)} experts over {run.experts.num_epochs} epochs. At the end they recognise "
        f"{100 * last.mean():.1f} per cent of the validation galaxies ({100 * last.min():.1f} to {100 * last.max():.1f})."
    )
    return figure_picture(f"{prefix}experts_curve", experts_figure(metrics, chance=guessing(run)), alt)
