#!/usr/bin/env bash
# datasets.Dataset.to_parquet writes a data set of images without the images.
#
# Packages: datasets 5.2.0, pillow 12.0.0 and pyarrow 26.0.1, installed into a temporary folder. None of our code is
# imported. Not part of CI. Fails if the behaviour changes.
#
# Behaviour: a data set loaded from a folder of images (load_dataset("imagefolder")) and written by to_parquet has rows
# with bytes null and the absolute path of each image on the machine that wrote it. Reading works there, so the loss
# shows on another machine, or when the folder is gone. save_to_disk and push_to_hub do embed the bytes; to_parquet does
# so only after dataset.with_format("arrow").map(datasets.table.embed_table_storage, batched=True).
#
# Output seen:
#   to_parquet: no bytes, an absolute path
#   save_to_disk: bytes
#   to_parquet after embed_table_storage: bytes
#   read without the folder: FileNotFoundError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pillow==12.0.0 pyarrow==26.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import os
import shutil
from importlib.metadata import version

import datasets
import pyarrow.parquet
from PIL import Image

assert version("datasets") == "5.2.0"
datasets.disable_progress_bars()
for name in ("smooth", "disk"):
    os.makedirs(f"galaxies/{name}")
    Image.new("RGB", (8, 8), (20, 30, 40)).save(f"galaxies/{name}/1.png")
galaxies = datasets.load_dataset("imagefolder", data_dir="galaxies", split="train", cache_dir="cache")


def first_image(path):
    return pyarrow.parquet.read_table(path)["image"][0].as_py()


galaxies.to_parquet("written.parquet")
cell = first_image("written.parquet")
assert cell["bytes"] is None and os.path.isabs(cell["path"])
print("to_parquet: no bytes, an absolute path")
galaxies.save_to_disk("disk")
assert datasets.load_from_disk("disk").with_format("arrow")[0]["image"][0].as_py()["bytes"]
print("save_to_disk: bytes")
embedded = galaxies.with_format("arrow").map(datasets.table.embed_table_storage, batched=True)
embedded.to_parquet("embedded.parquet")
assert first_image("embedded.parquet")["bytes"]
print("to_parquet after embed_table_storage: bytes")
shutil.rmtree("galaxies")
try:
    datasets.load_dataset("parquet", data_files="written.parquet", split="train", cache_dir="cache")[0]["image"]
except FileNotFoundError:
    print("read without the folder: FileNotFoundError")
else:
    raise SystemExit("the image is there")
PYTHON
