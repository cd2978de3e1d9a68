#!/usr/bin/env bash
# Two metrics of one MetricCollection that agree on the first batch are one metric from then on.
#
# Packages: torchmetrics 1.9.0, torch 2.15.0 and numpy 2.4.6, installed into a temporary folder (6 GB, most of it torch's
# CUDA libraries). None of our code is imported. Not part of CI. Fails if the behaviour changes.
#
# Behaviour: to save time a MetricCollection compares the states of its metrics after the first batch, and from then on
# updates only one of those with equal states. Their settings are not compared. Accuracies with and without ignore_index are
# equal if the first batch has no galaxy of that class, and those of two thresholds if no probability in it lies between
# them. From there on both report one number, and which it is depends on the order of the batches. No warning.
# compute_groups=False counts each.
#
# Output seen:
#   first batch without the ignored class: all 0.5, without stars 0.5
#   the batches in the other order: all 0.5, without stars 0.667
#   compute_groups=False: all 0.5, without stars 0.667
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torchmetrics==1.9.0 torch==2.15.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import warnings
from importlib.metadata import version

import torch
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

warnings.simplefilter("error")
assert version("torchmetrics") == "1.9.0"
STAR = 0


def scores(batches, **options):
    metrics = {"all": MulticlassAccuracy(3, average="micro")}
    metrics["without stars"] = MulticlassAccuracy(3, average="micro", ignore_index=STAR)
    collection = MetricCollection(metrics, **options)
    for predicted, truth in batches:
        collection.update(torch.tensor(predicted), torch.tensor(truth))
    return {name: round(float(value), 3) for name, value in collection.compute().items()}


def shown(found):
    return ", ".join(f"{name} {value}" for name, value in found.items())


batches = [([1, 2], [1, 2]), ([1, 1], [STAR, 2])]
for what, found, without_stars in (
    ("first batch without the ignored class", scores(batches), 0.5),
    ("the batches in the other order", scores(batches[::-1]), 0.667),
    ("compute_groups=False", scores(batches, compute_groups=False), 0.667),
):
    print(f"{what}: {shown(found)}")
    assert found == {"all": 0.5, "without stars": without_stars}
PYTHON
