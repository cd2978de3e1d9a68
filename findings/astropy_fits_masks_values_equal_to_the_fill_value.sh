#!/usr/bin/env bash
# A table that astropy writes to FITS may come back with true values masked.
#
# Packages: astropy 8.0.2 and numpy 2.4.6, installed into a temporary folder. None of our code is imported. Not part of
# CI. Fails if the behaviour changes.
#
# Behaviour: for an integer column with any masked cell, Table.write(format="fits") stores the column's fill value in
# that cell and declares it in TNULL. The fill value that nobody chose is numpy's 999999, and in a column of 16 bits
# what is left of it, 16959. Cells that hold this number truly are masked when the file is read. Nothing is said.
# VOTable, ECSV and Parquet keep them. A column without masked cells is safe; so is one with a fill_value that cannot
# occur, such as -1.
#
# Output seen:
#   fits: [--, 5, --]
#   fits, 16 bits: [--, 5, --]
#   fits, fill value -1: [999999, 5, --]
#   votable: [999999, 5, --]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet astropy==8.0.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import numpy as np
from astropy.table import MaskedColumn, Table

assert version("astropy") == "8.0.2"


def there_and_back(kind, values, **column):
    table = Table({"votes": MaskedColumn(values, mask=[False, False, True], **column)})
    table.write("votes", format=kind, overwrite=True)
    cells = Table.read("votes", format=kind)["votes"]
    return [None if masked else int(value) for value, masked in zip(cells.data.data, np.ma.getmaskarray(cells))]


def shown(cells):
    return "[" + ", ".join("--" if cell is None else str(cell) for cell in cells) + "]"


for name, cells, expected in (
    ("fits", there_and_back("fits", [999999, 5, 7]), [None, 5, None]),
    ("fits, 16 bits", there_and_back("fits", np.array([16959, 5, 7], np.int16)), [None, 5, None]),
    ("fits, fill value -1", there_and_back("fits", [999999, 5, 7], fill_value=-1), [999999, 5, None]),
    ("votable", there_and_back("votable", [999999, 5, 7]), [999999, 5, None]),
):
    print(f"{name}: {shown(cells)}")
    assert cells == expected
PYTHON
