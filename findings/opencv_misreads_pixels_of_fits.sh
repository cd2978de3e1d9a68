#!/usr/bin/env bash
# OpenCV makes noise of the pixels that astropy reads from FITS.
#
# Packages: astropy 8.0.2, numpy 2.4.6 and opencv-python-headless 5.0.0.93, installed into a temporary folder. None of our
# code is imported. Not part of CI. Fails if the behaviour changes.
#
# Behaviour: FITS stores numbers with the first byte first, and astropy gives arrays of that order (>f4, >i2), which NumPy
# computes with as with any other. OpenCV takes their bytes in the order of the processor, which is nearly always the other
# one: resize, GaussianBlur and mean of a cut-out give numbers near 1e-41, or noise within the range of 16 bits. Nothing is
# said; torch refuses such arrays, and Pillow reads them. Images of 8 bits are safe, and so are those with BZERO, which
# astropy converts. pixels.astype(pixels.dtype.newbyteorder("=")) before.
#
# Output seen, of a cut-out with the mean 150:
#   float32: mean 5e-41
#   int16: mean 5632
#   float32 in native order: mean 150
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet astropy==8.0.2 numpy==2.4.6 opencv-python-headless==5.0.0.93
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings
from importlib.metadata import version

import cv2
import numpy as np
from astropy.io import fits

warnings.simplefilter("error")
assert version("opencv-python-headless") == "5.0.0.93" and sys.byteorder == "little"


def shrunk(pixels):
    return cv2.resize(pixels, (1, 1), interpolation=cv2.INTER_AREA).item()


for kind, expected in (("float32", 4.9e-41), ("int16", 5632)):
    fits.writeto("cutout.fits", np.array([[100, 200], [100, 200]], kind), overwrite=True)
    pixels = fits.getdata("cutout.fits", memmap=False)
    assert pixels.mean() == 150
    print(f"{kind}: mean {shrunk(pixels):.4g}" if kind == "int16" else f"{kind}: mean {shrunk(pixels):.0e}")
    assert abs(shrunk(pixels) - expected) <= 0.01 * expected
fits.writeto("cutout.fits", np.array([[100, 200], [100, 200]], "float32"), overwrite=True)
pixels = fits.getdata("cutout.fits", memmap=False)
native = shrunk(pixels.astype(pixels.dtype.newbyteorder("=")))
print(f"float32 in native order: mean {native:.0f}")
assert native == 150
PYTHON
