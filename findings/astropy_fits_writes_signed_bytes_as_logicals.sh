#!/usr/bin/env bash
# Class numbers of 8 bits that astropy writes to FITS are True and False.
#
# Packages: astropy 8.0.2 and numpy 2.4.6, installed into a temporary folder. None of our code is imported. Not part of
# CI. Fails if the behaviour changes.
#
# Behaviour: int8 is a natural type for class numbers with -1 for "none". FITS tables hold signed bytes as unsigned ones with
# a TZERO of -128. astropy has a column of logicals ("L") instead: 0 is False and everything else True, so all classes but
# the first become one, together with -1. Neither Table.write nor table_to_hdu nor BinTableHDU says anything (issue 11963 of
# astropy). uint8 and int16 are kept. VOTable refuses int8; HDF5 and Parquet keep it.
#
# Output seen:
#   int8: [True, False, True, True]
#   uint8: [3, 0, 1, 2]
#   int16: [-1, 0, 1, 2]
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
from astropy.table import Table

warnings.simplefilter("error")
assert version("astropy") == "8.0.2"


def there_and_back(kind, classes):
    Table({"label": np.array(classes, kind)}).write("classes.fits", overwrite=True)
    return Table.read("classes.fits")["label"].tolist()


for kind, classes, expected in (
    ("int8", [-1, 0, 1, 2], [True, False, True, True]),
    ("uint8", [3, 0, 1, 2], [3, 0, 1, 2]),
    ("int16", [-1, 0, 1, 2], [-1, 0, 1, 2]),
):
    cells = there_and_back(kind, classes)
    print(f"{kind}: {cells}")
    assert repr(cells) == repr(expected)
PYTHON
