#!/usr/bin/env bash
# One file with "test" or "eval" in its name, and datasets loads that file alone.
#
# Packages: datasets 5.2.0, pillow 12.0.0 and pyarrow 26.0.1, installed into a temporary folder. None of our code is
# imported. Not part of CI. Fails if the behaviour changes.
#
# Behaviour: load_dataset of a folder takes its splits from words in the names of files and folders: train, test, valid, dev,
# eval and their like. If none occurs, all files are "train". If one occurs anywhere, files without such a word belong to no
# split and are left out, without an error or a warning: of five galaxies in class folders one is loaded, and, as no other
# class is left, without its label. Shards in Parquet and other formats fare the same. data_files="**" takes all.
#
# Output seen:
#   five images, one called eval-5.png: {'test': 1}, columns ['image']
#   the same called 5.png: {'train': 5}, columns ['image', 'label']
#   shards of 2010, 2011 and test-2012: {'test': 1}
#   with data_files="**": {'train': 5}
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pillow==12.0.0 pyarrow==26.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import os
from importlib.metadata import version

import datasets
import pyarrow as pa
import pyarrow.parquet
from PIL import Image

assert version("datasets") == "5.2.0"
datasets.disable_progress_bars()
os.makedirs("galaxies/smooth")
os.makedirs("galaxies/disk")
for name in ("smooth/1", "smooth/2", "disk/3", "disk/4", "disk/eval-5"):
    Image.new("RGB", (8, 8), (20, 30, 40)).save(f"galaxies/{name}.png")


def loaded(kind, folder, **options):
    splits = datasets.load_dataset(kind, data_dir=folder, cache_dir="cache", **options)
    return {split: part.num_rows for split, part in splits.items()}, next(iter(splits.values())).column_names


sizes, columns = loaded("imagefolder", "galaxies")
print(f"five images, one called eval-5.png: {sizes}, columns {columns}")
assert (sizes, columns) == ({"test": 1}, ["image"])
every, _ = loaded("imagefolder", "galaxies", data_files="**")
os.rename("galaxies/disk/eval-5.png", "galaxies/disk/5.png")
sizes, columns = loaded("imagefolder", "galaxies")
print(f"the same called 5.png: {sizes}, columns {columns}")
assert (sizes, columns) == ({"train": 5}, ["image", "label"])
os.makedirs("shards")
for shard in ("votes-2010", "votes-2011", "votes-test-2012"):
    pa.parquet.write_table(pa.table({"smooth": [0.5]}), f"shards/{shard}.parquet")
sizes, _ = loaded("parquet", "shards")
print(f"shards of 2010, 2011 and test-2012: {sizes}")
assert sizes == {"test": 1}
print(f'with data_files="**": {every}')
assert every == {"train": 5}
PYTHON
