#!/usr/bin/env bash
# Of Parquet shards with different columns pyarrow reads those of the first, and says nothing of the rest.
#
# Packages: pyarrow 26.0.1, installed into a temporary folder. None of our code is imported. Not part of CI. Fails if
# the behaviour changes.
#
# Behaviour: several shards read as one table (pyarrow.parquet.read_table of a list or a folder, pyarrow.dataset) have
# the columns of the shard whose name comes first. A column that only later shards have, such as the votes on a question
# that a later campaign added, is dropped without an error or a warning; one that later shards lack is filled with
# nulls. The same files in another order give another table. A schema of all, pyarrow.unify_schemas, has to be given by
# hand.
#
# Output seen:
#   first shard without bars: ['objid', 'smooth'], bars 0 of 2
#   first shard with bars: ['objid', 'smooth', 'bar'], bars 2 of 2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyarrow==26.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet

assert version("pyarrow") == "26.0.1"
pa.parquet.write_table(pa.table({"objid": [1, 2], "smooth": [5, 6]}), "early.parquet")
pa.parquet.write_table(pa.table({"objid": [3, 4], "smooth": [7, 8], "bar": [1, 2]}), "late.parquet")
for what, shards, kept in (("without", ["early.parquet", "late.parquet"], 0), ("with", ["late.parquet", "early.parquet"], 2)):
    table = pa.parquet.read_table(shards)
    assert table.equals(pa.dataset.dataset(shards).to_table()) and table.num_rows == 4
    bars = len(table["bar"].drop_null()) if "bar" in table.column_names else 0
    print(f"first shard {what} bars: {table.column_names}, bars {bars} of 2")
    assert bars == kept
PYTHON
