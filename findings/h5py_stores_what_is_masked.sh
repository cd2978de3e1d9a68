#!/usr/bin/env bash
# h5py writes a masked array as if nothing were masked.
#
# Packages: h5py 3.16.0, astropy 8.0.2 and numpy 2.4.6, installed into a temporary folder. None of our code is imported. Not
# part of CI. Fails if the behaviour changes.
#
# Behaviour: astropy reads a FITS column with nulls as a masked array, and its numbers may be assigned to an h5py file as
# any others. What is stored for a null is the number that stood in its cell, here the -99 of TNULL; the mask is lost
# without an error or a warning, and a mean over the file counts it. pandas' nullable columns go another way: they become
# floats with NaN. filled() or a second dataset for the mask has to be asked for.
#
# Output seen:
#   astropy: [40, --], mean 40.0
#   h5py: [40, -99], mean -29.5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet h5py==3.16.0 astropy==8.0.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import warnings
from importlib.metadata import version

import h5py
import numpy as np
from astropy.io import fits
from astropy.table import Table

warnings.simplefilter("error")
assert version("h5py") == "3.16.0"
column = fits.Column("votes", "J", null=-99, array=np.array([40, -99], np.int32))
fits.BinTableHDU.from_columns([column]).writeto("votes.fits")
votes = Table.read("votes.fits")["votes"]
print(f"astropy: {votes.tolist()}, mean {votes.mean()}".replace("None", "--"))
assert votes.tolist() == [40, None] and votes.mean() == 40
with h5py.File("votes.h5", "w") as file:
    file["votes"] = votes
    stored = file["votes"][...]
print(f"h5py: {stored.tolist()}, mean {stored.mean()}")
assert type(stored) is np.ndarray and stored.tolist() == [40, -99]
PYTHON
