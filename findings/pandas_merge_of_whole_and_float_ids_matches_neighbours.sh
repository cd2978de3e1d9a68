#!/usr/bin/env bash
# pandas.merge of object ids as whole numbers and as floats gives one galaxy's votes to several.
#
# Packages: pandas 3.1.1 and numpy 2.4.6, installed into a temporary folder. None of our code is imported. Not part of CI.
# Fails if the behaviour changes.
#
# Behaviour: ids of 18 digits become float64 easily (one empty cell in their column is enough), and then stand for all ids
# within 64. merge compares int64 and float64 keys as float64 and joins each of those galaxies with the same row of votes.
# It warns only if the floats are no whole numbers, which these are; keys of text and numbers it refuses. validate="1:1"
# passes as well if each table holds one of the neighbours. isin of the same two columns finds none of them.
#
# Output seen:
#   merge: ids ...144, ...145 and ...146 have the votes of ...144
#   isin: [False, False, False]
#   validate="1:1" of ...145 alone: 1 row
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pandas==3.1.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import warnings
from importlib.metadata import version

import pandas as pd

warnings.simplefilter("error")
assert version("pandas") == "3.1.1"
SDSS = 587722981742084144
images = pd.DataFrame({"objid": [SDSS, SDSS + 1, SDSS + 2]})
votes = pd.read_csv(io.StringIO(f"objid,votes\n{SDSS},40\n,7\n")).dropna()
assert (str(images["objid"].dtype), str(votes["objid"].dtype)) == ("int64", "float64")
merged = images.merge(votes, on="objid")
print(f"merge: ids {', '.join(f'...{i % 1000}' for i in merged['objid'][:2])} and ...{merged['objid'][2] % 1000} have the votes of ...144")
assert merged["objid"].tolist() == images["objid"].tolist() and merged["votes"].tolist() == [40, 40, 40]
found = images["objid"].isin(votes["objid"]).tolist()
print(f"isin: {found}")
assert found == [False, False, False]
alone = images[1:2].merge(votes, on="objid", validate="1:1")
print(f'validate="1:1" of ...145 alone: {len(alone)} row')
assert len(alone) == 1
PYTHON
