#!/usr/bin/env bash
# The same filter of pyarrow finds a galaxy or not by how the rows of its Parquet file are grouped.
#
# Packages: pyarrow 26.0.1, installed into a temporary folder. None of our code is imported. Not part of CI. Fails if the
# behaviour changes.
#
# Behaviour: a vote fraction of 0 of 0 is NaN. Parquet keeps the least and the largest value of each row group, without NaN
# (its specification says that they tell nothing of NaN). pyarrow takes them for bounds of all rows and skips groups by them,
# in read_table(filters=...) and in pyarrow.dataset. So a NaN that not (fraction < 0.8) finds is lost if all else in its
# group is below 0.8, and one that is_nan finds if all else there is the same number. A file that is written again with other
# groups gives other galaxies, and so does a table that is filtered in memory. No warning. Nulls are safe.
#
# Output seen, of fractions [0.1, nan, 0.9, 0.95]:
#   not (fraction < 0.8): one group [nan, 0.9, 0.95], groups of two [0.9, 0.95]
#   is_nan: one group [nan], groups of two []
#   in memory: [nan, 0.9, 0.95] and [nan]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyarrow==26.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import pyarrow as pa
import pyarrow.parquet
from pyarrow import compute

assert version("pyarrow") == "26.0.1"
table = pa.table({"fraction": [0.1, float("nan"), 0.9, 0.95]})
fraction = compute.field("fraction")
found = {}
for rows in (4, 2):
    pa.parquet.write_table(table, f"{rows}.parquet", row_group_size=rows)
for what, condition in (("not (fraction < 0.8)", ~(fraction < 0.8)), ("is_nan", fraction.is_nan())):
    for rows in (4, 2):
        found[what, rows] = str(pa.parquet.read_table(f"{rows}.parquet", filters=condition)["fraction"].to_pylist())
    found[what, "memory"] = str(table.filter(condition)["fraction"].to_pylist())
    print(f"{what}: one group {found[what, 4]}, groups of two {found[what, 2]}")
print(f"in memory: {found['not (fraction < 0.8)', 'memory']} and {found['is_nan', 'memory']}")
assert list(found.values()) == ["[nan, 0.9, 0.95]", "[0.9, 0.95]", "[nan, 0.9, 0.95]", "[nan]", "[]", "[nan]"]
PYTHON
