#!/usr/bin/env bash
# DatasetDict.class_encode_column gives the same class another number in each split.
#
# Packages: datasets 5.2.0 and pyarrow 26.0.1, installed into a temporary folder. None of our code is imported. Not part of
# CI. Fails if the behaviour changes.
#
# Behaviour: class_encode_column makes numbers of class names. Of a DatasetDict it does so split by split: each has the names
# that occur in it, in the order of the alphabet. If the test split lacks a rare class, all that follow it move down by one,
# and a network that makes no mistake is scored as if it made nothing else. Nothing is said, and all numbers are valid.
# cast_column with one ClassLabel of all names numbers them alike.
#
# Output seen:
#   train: disk 0, ring 1, smooth 2
#   test: ring 0, smooth 1
#   a perfect classifier, with the numbers of the training split: 0.0
#   with cast_column: 1.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pyarrow==26.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import datasets

assert version("datasets") == "5.2.0"
datasets.disable_progress_bars()
classes = {"train": ["disk", "ring", "smooth"], "test": ["ring", "smooth", "smooth"]}
galaxies = datasets.DatasetDict({split: datasets.Dataset.from_dict({"label": names}) for split, names in classes.items()})


def accuracy(numbered):
    known = numbered["train"].features["label"].str2int
    predictions, truth = [known(name) for name in classes["test"]], numbered["test"]["label"][:]
    return sum(one == other for one, other in zip(predictions, truth)) / len(truth)


encoded = galaxies.class_encode_column("label")
for split, expected in (("train", ["disk", "ring", "smooth"]), ("test", ["ring", "smooth"])):
    names = encoded[split].features["label"].names
    print(f"{split}: {', '.join(f'{name} {number}' for number, name in enumerate(names))}")
    assert names == expected
print(f"a perfect classifier, with the numbers of the training split: {accuracy(encoded)}")
assert accuracy(encoded) == 0
cast = galaxies.cast_column("label", datasets.ClassLabel(names=["disk", "ring", "smooth"]))
print(f"with cast_column: {accuracy(cast)}")
assert accuracy(cast) == 1
PYTHON
