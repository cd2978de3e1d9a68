#!/usr/bin/env bash
# datasets loads Parquet shards with different class names as if all had those of the first.
#
# Packages: datasets 5.2.0 and pyarrow 26.0.1, installed into a temporary folder. None of our code is imported. Not part of
# CI. Fails if the behaviour changes.
#
# Behaviour: a ClassLabel is stored as a number, and its names in the metadata of each file. load_dataset("parquet") takes
# the names of the first shard and the numbers of all: a ring of the second shard is a smooth galaxy, and in another order
# of the files the smooth galaxies are rings. The same for splits: a test split with names of its own is read with those of
# the training split. Nothing is said; concatenate_datasets of the two refuses them.
#
# Output seen:
#   early, late: ['spiral', 'smooth', 'spiral', 'smooth']
#   late, early: ['spiral', 'ring', 'spiral', 'ring']
#   the test split: ['spiral', 'smooth'], and it was written as ['spiral', 'ring']
#   concatenate_datasets: ValueError
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


def galaxies(classes, names):
    features = datasets.Features({"label": datasets.ClassLabel(names=names)})
    return datasets.Dataset.from_dict({"label": classes}, features=features)


def classes_of(dataset):
    return [dataset.features["label"].int2str(label) for label in dataset["label"]]


early = galaxies(["spiral", "smooth"], ["smooth", "spiral"])
late = galaxies(["spiral", "ring"], ["ring", "spiral"])
early.to_parquet("early.parquet")
late.to_parquet("late.parquet")
for shards, expected in ((("early", "late"), ["spiral", "smooth"]), (("late", "early"), ["spiral", "ring"])):
    files = [f"{shard}.parquet" for shard in shards]
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir="cache")
    print(f"{', '.join(shards)}: {classes_of(loaded)}")
    assert classes_of(loaded) == expected * 2
splits = datasets.load_dataset("parquet", data_files={"train": "early.parquet", "test": "late.parquet"}, cache_dir="cache")
print(f"the test split: {classes_of(splits['test'])}, and it was written as {classes_of(late)}")
assert classes_of(splits["test"]) == ["spiral", "smooth"]
try:
    datasets.concatenate_datasets([early, late])
except ValueError:
    print("concatenate_datasets: ValueError")
else:
    raise SystemExit("concatenate_datasets takes them")
PYTHON
