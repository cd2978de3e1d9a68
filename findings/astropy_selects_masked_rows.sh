#!/usr/bin/env bash
# A condition on a column of astropy selects rows in which the column is masked.
#
# Packages: astropy 8.0.2 and numpy 2.4.6, installed into a temporary folder. None of our code is imported. Not part of
# CI. Fails if the behaviour changes.
#
# Behaviour: votes < 5 of a column with a masked cell is a masked array, with nothing in that cell. As an index of the table
# (table[votes < 5], which is how rows are selected) it is taken without its mask, and what counts is the comparison with the
# number below: the -99 of TNULL is less than 5, so a galaxy without votes is among those with few. Nothing is said. The
# opposite condition leaves it out, so the answer depends on how the question is put. filled(False) selects what is known.
#
# Output seen:
#   votes: [40, --, 3]
#   votes < 5: [False, --, True], and as an index: [--, 3]
#   with filled(False): [3]
#   not (votes >= 5): [--, 3]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet astropy==8.0.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import warnings
from importlib.metadata import version

import numpy as np
from astropy.io import fits
from astropy.table import Table

warnings.simplefilter("error")
assert version("astropy") == "8.0.2"
column = fits.Column("votes", "J", null=-99, array=np.array([40, -99, 3], np.int32))
fits.BinTableHDU.from_columns([column]).writeto("votes.fits")
table = Table.read("votes.fits")


def shown(cells):
    return str(cells.tolist()).replace("None", "--")


print(f"votes: {shown(table['votes'])}")
few = table["votes"] < 5
selected = table[few]["votes"]
print(f"votes < 5: {shown(few)}, and as an index: {shown(selected)}")
assert few.tolist() == [False, None, True] and selected.tolist() == [None, 3]
known = table[few.filled(False)]["votes"]
print(f"with filled(False): {shown(known)}")
assert known.tolist() == [3]
others = table[~(table["votes"] >= 5)]["votes"]
print(f"not (votes >= 5): {shown(others)}")
assert others.tolist() == [None, 3]
PYTHON
