#!/usr/bin/env bash
# One missing object id in a Parquet file changes all the others when pandas reads it.
#
# Packages: pandas 3.1.1, pyarrow 26.0.1 and numpy 2.4.6, installed into a temporary folder. None of our code is
# imported. Not part of CI. Fails if the behaviour changes.
#
# Behaviour: object ids of SDSS have 18 digits. A Parquet column of int64 holds them exactly, nulls included.
# pandas.read_parquet makes float64 of such a column as soon as one cell is null, without a warning, and ids are off by
# up to 64; joined to another table they find no galaxy, or a wrong one. (Where pandas itself wrote the file from its
# Int64 type, its metadata prevent it.) dtype_backend="numpy_nullable" keeps them.
#
# Output seen:
#   no null: int64 587722981742084145
#   one null: float64 587722981742084096
#   one null, nullable: Int64 587722981742084145
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

assert (version("pandas"), version("pyarrow")) == ("3.1.1", "26.0.1")
SDSS = 587722981742084145


def first(cells, kind, exact, **options):
    pa.parquet.write_table(pa.table({"objid": pa.array(cells, pa.int64())}), "ids.parquet")
    ids = pd.read_parquet("ids.parquet", **options)["objid"]
    assert str(ids.dtype) == kind and (int(ids[0]) == SDSS) is exact
    return f"{ids.dtype} {int(ids[0])}"


print("no null:", first([SDSS, SDSS + 1], "int64", True))
print("one null:", first([SDSS, None], "float64", False))
print("one null, nullable:", first([SDSS, None], "Int64", True, dtype_backend="numpy_nullable"))
PYTHON
