#!/usr/bin/env bash
# safetensors writes NumPy arrays in Fortran order with their numbers in other places.
#
# Packages: safetensors 0.8.0 and numpy 2.4.6, installed into a temporary folder. None of our code is imported. Not part of
# CI. Fails if the behaviour changes.
#
# Behaviour: safetensors.numpy.save_file writes the memory of an array as it lies, under its shape, as if it were in C order.
# A transposed array, or one that a solver returns in Fortran order (as scikit-learn's PCA does), comes back with the right
# shape and type and the right numbers in wrong places, without an error or a warning. safetensors.torch refuses such
# tensors, and 0.7.0 wrote the arrays right (issue 825 of safetensors). numpy.ascontiguousarray before.
#
# Output seen:
#   written: [[0, 1, 2], [3, 4, 5]]
#   read: [[0, 3, 1], [4, 2, 5]]
#   read, of ascontiguousarray: [[0, 1, 2], [3, 4, 5]]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet safetensors==0.8.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import warnings
from importlib.metadata import version

import numpy as np
from safetensors.numpy import load_file, save_file

warnings.simplefilter("error")
assert version("safetensors") == "0.8.0"


def there_and_back(pixels):
    save_file({"pixels": pixels}, "set.safetensors")
    return load_file("set.safetensors")["pixels"].tolist()


pixels = np.array([[0, 3], [1, 4], [2, 5]]).T
print(f"written: {pixels.tolist()}")
read = there_and_back(pixels)
print(f"read: {read}")
assert read == [[0, 3, 1], [4, 2, 5]]
read = there_and_back(np.ascontiguousarray(pixels))
print(f"read, of ascontiguousarray: {read}")
assert read == pixels.tolist()
PYTHON
