"""Accuracy of several distillations of one kind: mean and spread over their seeds, from what ``evaluate`` wrote.

    python benchmarks/seeds.py runs/ipc1/stage*

Each argument is a run folder with an ``evaluation/accuracy.csv``. Rows that not every run has, such as baselines that were
evaluated once, are shown as they are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    runs = parser.parse_args(arguments).runs
    tables = [pd.read_csv(run / "evaluation" / "accuracy.csv") for run in runs]
    groups = pd.concat(tables).groupby(["set", "protocol"], sort=False)
    shown = groups["test"].agg(["mean", "min", "max"]).round(1)
    spread = groups["test"].std(ddof=0).round(1)  # of a single run: none
    print(shown.assign(spread_over_runs=spread.where(groups.size() > 1), runs=groups.size()).to_string())


if __name__ == "__main__":
    main()
