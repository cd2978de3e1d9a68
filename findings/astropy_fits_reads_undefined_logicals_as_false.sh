#!/usr/bin/env bash
# An undefined logical in a FITS table is False to astropy, and a masked one that it writes comes back as the value below.
#
# Packages: astropy 8.0.2 and numpy 2.4.6, installed into a temporary folder. None of our code is imported. Not part of
# CI. Fails if the behaviour changes.
#
# Behaviour: in a column of logicals (TFORM "L") a byte of 0 says that the value is undefined (FITS standard 4.0,
# 7.3.3.2). Table.read and fits.open give False for it, with no mask, so "nobody looked" becomes "no". The way out is
# closed too: Table.write of a masked True writes T. Columns of numbers have TNULL or NaN and keep their nulls; flags
# that may be missing need one of those.
#
# Output seen:
#   T, F and an undefined byte: [True, False, False], masked: False
#   a masked True, written and read: True, masked: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet astropy==8.0.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version
from pathlib import Path

import numpy as np
from astropy.table import MaskedColumn, Table

assert version("astropy") == "8.0.2"
BLOCK = 2880  # bytes; two of header, then the data
file = Path("flags.fits")
Table({"barred": [True, False, True]}).write(file)
content = bytearray(file.read_bytes())
assert content[2 * BLOCK : 2 * BLOCK + 3] == b"TFT"
content[2 * BLOCK + 2] = 0
file.write_bytes(content)
cells = Table.read(file)["barred"]
masked = bool(np.ma.getmaskarray(cells).any())
print(f"T, F and an undefined byte: {cells.tolist()}, masked: {masked}")
assert cells.tolist() == [True, False, False] and not masked
Table({"barred": MaskedColumn([True, True], mask=[False, True])}).write(file, overwrite=True)
cells = Table.read(file)["barred"]
masked = bool(np.ma.getmaskarray(cells)[1])
print(f"a masked True, written and read: {bool(cells[1])}, masked: {masked}")
assert bool(cells[1]) and not masked
PYTHON
