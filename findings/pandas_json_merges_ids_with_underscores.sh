#!/usr/bin/env bash
# pandas.read_json makes one number of two object ids that are text.
#
# Packages: pandas 3.1.1 and numpy 2.4.6, installed into a temporary folder. None of our code is imported. Not part of CI.
# Fails if the behaviour changes.
#
# Behaviour: an id of Galaxy Zoo DECaLS (dr8_id) is a brick and a number with an underscore between them. read_json makes
# whole numbers of a column of text if all of it can be converted, and to the conversion, as to Python's int, an underscore
# between digits is nothing: "33142_32954" and "331423_2954" are both 3314232954. The quotes of JSON do not help, and nothing
# is said; merge and drop_duplicates then take galaxies of different bricks for one. read_csv leaves the same ids as they
# are. dtype={"dr8_id": "str"} keeps them.
#
# Output seen:
#   read_json: int64 [3314232954, 3314232954]
#   read_csv: ['33142_32954', '331423_2954']
#   read_json with a type: ['33142_32954', '331423_2954']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pandas==3.1.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import json
import warnings
from importlib.metadata import version

import pandas as pd

warnings.simplefilter("error")
assert version("pandas") == "3.1.1"
IDS = ["33142_32954", "331423_2954"]
text = json.dumps([{"dr8_id": name} for name in IDS])
ids = pd.read_json(io.StringIO(text))["dr8_id"]
print(f"read_json: {ids.dtype} {ids.tolist()}")
assert ids.dtype == "int64" and ids.tolist() == [3314232954, 3314232954]
ids = pd.read_csv(io.StringIO("\n".join(["dr8_id", *IDS])))["dr8_id"].tolist()
print(f"read_csv: {ids}")
assert ids == IDS
ids = pd.read_json(io.StringIO(text), dtype={"dr8_id": "str"})["dr8_id"].tolist()
print(f"read_json with a type: {ids}")
assert ids == IDS
PYTHON
