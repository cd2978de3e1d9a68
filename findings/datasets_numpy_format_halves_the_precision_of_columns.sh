#!/usr/bin/env bash
# In the numpy format of datasets a row has double precision and a column of the same numbers single.
#
# Packages: datasets 5.2.0, numpy 2.4.6 and pyarrow 26.0.1, installed into a temporary folder. None of our code is
# imported. Not part of CI. Fails if the behaviour changes.
#
# Behaviour: with_format("numpy") gives float64 for a single row, and float32 for slices and columns of the same
# Value("float64") feature. So a vote fraction differs from itself by how it was read, and a threshold splits galaxies
# differently. A column of int64 with one null becomes float32 too: of an object id of 18 digits seven are left. No
# warning. with_format("pandas") and ("arrow") keep float64 and, the latter, whole numbers.
#
# Output seen:
#   row: float64 0.7
#   slice: float32 0.699999988079071
#   galaxies at 0.7 or more, by rows: 1, by the column: 0
#   object id 587722981742084145 beside a null: 587722981187256320
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 numpy==2.4.6 pyarrow==26.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import datasets

assert version("datasets") == "5.2.0"
votes = datasets.Dataset.from_dict({"fraction": [0.7, 0.3], "objid": [587722981742084145, None]}).with_format("numpy")
row, column = votes[0]["fraction"], votes[:]["fraction"]
print(f"row: {row.dtype} {float(row)}")
print(f"slice: {column.dtype} {float(column[0])}")
assert (row.dtype, column.dtype) == ("float64", "float32")
by_rows = sum(bool(votes[i]["fraction"] >= 0.7) for i in range(2))
by_column = int((column.astype("float64") >= 0.7).sum())
print(f"galaxies at 0.7 or more, by rows: {by_rows}, by the column: {by_column}")
assert (by_rows, by_column) == (1, 0)
ids = votes[:]["objid"]
print(f"object id 587722981742084145 beside a null: {int(ids[0])}")
assert ids.dtype == "float32" and abs(int(ids[0]) - 587722981742084145) > 10**8
PYTHON
