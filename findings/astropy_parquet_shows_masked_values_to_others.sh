#!/usr/bin/env bash
# What is masked in a table that astropy writes to Parquet is an ordinary value to every other reader.
#
# Packages: astropy 8.0.2, pandas 3.1.1, pyarrow 26.0.1 and numpy 2.4.6, installed into a temporary folder. None of our
# code is imported. Not part of CI. Fails if the behaviour changes.
#
# Behaviour: Parquet has nulls, but Table.write(format="parquet") does not use them. It writes the number that lies
# under the mask, and a second column "<name>.mask" of booleans, which Table.read puts together again. pandas, pyarrow
# and whatever is built on them read galaxies without votes as galaxies with votes: here 99 of a cell that was never
# filled. Nothing is said.
#
# Output seen:
#   astropy: votes [5, --]
#   pandas: votes [5, 99], 0 missing; columns ['votes', 'votes.mask']
#   pyarrow: 0 nulls
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet astropy==8.0.2 pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import pandas as pd
import pyarrow.parquet
from astropy.table import MaskedColumn, Table

assert version("astropy") == "8.0.2"
Table({"votes": MaskedColumn([5, 99], mask=[False, True])}).write("votes.parquet")
again = Table.read("votes.parquet")["votes"]
print(f"astropy: votes {again.tolist()}".replace("None", "--"))
assert again.tolist() == [5, None]
frame = pd.read_parquet("votes.parquet")
print(f"pandas: votes {frame['votes'].tolist()}, {frame['votes'].isna().sum()} missing; columns {frame.columns.tolist()}")
assert frame["votes"].tolist() == [5, 99] and frame.columns.tolist() == ["votes", "votes.mask"]
nulls = pyarrow.parquet.read_table("votes.parquet")["votes"].null_count
print(f"pyarrow: {nulls} nulls")
assert nulls == 0
PYTHON
