#!/usr/bin/env bash
# Galaxies that are appended to a consolidated Zarr group are overwritten by the next ones.
#
# Packages: zarr 3.1.6 and numpy 2.4.6, installed into a temporary folder. None of our code is imported. Not part of CI.
# Fails if the behaviour changes.
#
# Behaviour: consolidate_metadata copies the shapes of all arrays into the group, for fast opening. From then on
# open_group(mode="a") takes them from there, and append writes the new shape to the array alone. The next opening still has
# the old one, appends at the same place, and what was appended before is gone. A reader of the group sees none of it. No
# step fails or warns (in format 3, consolidate_metadata warns of other readers). To keep all: use_consolidated=False.
#
# Output seen (three galaxies, then 2, 2 and 3, 3):
#   the array: [1, 1, 1, 3, 3]
#   the group: [1, 1, 1]
#   with use_consolidated=False: [1, 1, 1, 2, 2, 3, 3]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet zarr==3.1.6 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import warnings
from importlib.metadata import version

import numpy as np
import zarr

warnings.simplefilter("error")
assert version("zarr") == "3.1.6"


def appended(path, **options):
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("galaxies", data=np.array([1, 1, 1]))
    zarr.consolidate_metadata(path)
    for value in (2, 3):
        zarr.open_group(path, mode="a", **options)["galaxies"].append(np.array([value, value]))
    return zarr.open_array(f"{path}/galaxies", mode="r")[:].tolist()


array = appended("consolidated.zarr")
print(f"the array: {array}")
assert array == [1, 1, 1, 3, 3]
group = zarr.open_group("consolidated.zarr", mode="r")["galaxies"][:].tolist()
print(f"the group: {group}")
assert group == [1, 1, 1]
array = appended("plain.zarr", use_consolidated=False)
print(f"with use_consolidated=False: {array}")
assert array == [1, 1, 1, 2, 2, 3, 3]
PYTHON
