#!/usr/bin/env bash
# astropy.table.join of signed and unsigned object ids matches galaxies that are not the same.
#
# Packages: astropy 8.0.2 and numpy 2.4.6, installed into a temporary folder. None of our code is imported. Not part of
# CI. Fails if the behaviour changes.
#
# Behaviour: a FITS column of unsigned 64-bit numbers (TZERO 2^63) is read as uint64, and one of plain 64-bit numbers as
# int64. join and vstack compare the two as float64, the type that numpy has for both, in which ids of 18 digits are
# equal if they are rounded to the same multiple of 128. Every galaxy gets the votes of its neighbours in the survey,
# several rows each, without a warning. Converting one column (astype("int64")) makes the join exact.
#
# Output seen:
#   ids of uint64 and int64: 6 rows for the one galaxy in both tables, 1 id left
#   both int64: 1 row
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
from astropy.table import Table, join

warnings.simplefilter("error")
assert version("astropy") == "8.0.2"
SDSS = 587722981742084144
Table({"objid": np.array([SDSS, SDSS + 5], np.uint64), "votes": [1, 2]}).write("votes.fits")
Table({"objid": np.array([SDSS, SDSS + 1, SDSS + 2])}).write("images.fits")
votes, images = Table.read("votes.fits"), Table.read("images.fits")
assert (votes["objid"].dtype, images["objid"].dtype.newbyteorder("=")) == ("uint64", "int64")
joined = join(images, votes, keys="objid")
left = len(set(joined["objid"].tolist()))
print(f"ids of uint64 and int64: {len(joined)} rows for the one galaxy in both tables, {left} id left")
assert (len(joined), left) == (6, 1)
votes["objid"] = votes["objid"].astype("int64")
exact = join(images, votes, keys="objid")
print(f"both int64: {len(exact)} row")
assert exact["objid"].tolist() == [SDSS]
PYTHON
