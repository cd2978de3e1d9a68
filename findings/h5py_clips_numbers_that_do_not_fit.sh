#!/usr/bin/env bash
# h5py stores 300 votes as 255 where a dataset holds bytes.
#
# Packages: h5py 3.16.0 and numpy 2.4.6, installed into a temporary folder. None of our code is imported. Not part of CI.
# Fails if the behaviour changes.
#
# Behaviour: what is assigned to a dataset of a smaller whole type is moved to the nearest number that fits: 300 becomes
# 255 and -5 becomes 0 in uint8, 40,000 becomes 32,767 in int16. numpy refuses such a number, or wraps it around, so neither
# guess is right, and a plausible number is in the file. Nothing is said, not even where numpy would warn of a cast.
#
# Output seen:
#   uint8: [300, -5, 255] -> [255, 0, 255]
#   int16: [40000, -40000, 7] -> [32767, -32768, 7]
#   numpy: OverflowError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet h5py==3.16.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import warnings
from importlib.metadata import version

import h5py
import numpy as np

warnings.simplefilter("error")
assert version("h5py") == "3.16.0"
with h5py.File("votes.h5", "w") as file:
    for kind, votes, stored in (
        ("uint8", [300, -5, 255], [255, 0, 255]),
        ("int16", [40_000, -40_000, 7], [32_767, -32_768, 7]),
    ):
        cells = file.create_dataset(kind, (3,), kind)
        cells[...] = np.array(votes)
        print(f"{kind}: {votes} -> {cells[...].tolist()}")
        assert cells[...].tolist() == stored
try:
    np.zeros(3, np.uint8)[0] = 300
except OverflowError:
    print("numpy: OverflowError")
else:
    raise SystemExit("numpy takes it")
PYTHON
