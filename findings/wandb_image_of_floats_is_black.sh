#!/usr/bin/env bash
# wandb.Image of pixels in [0, 1] is black.
#
# Packages: wandb 0.31.0, pillow 12.0.0 and numpy 2.4.6, installed into a temporary folder. None of our code is
# imported. Not part of CI. Fails if the behaviour changes.
#
# Behaviour: wandb.Image takes floats as bytes and cuts them to whole numbers. An image in [0, 1], as torch, torchvision
# and matplotlib have it (and as earlier releases of wandb stretched it), is logged as black, with 0 and 1 of 255.
# Nothing is said, for arrays and tensors alike. Its help gives the range, 0 to 255; multiply and round before.
#
# Output seen:
#   [0, 1] as it is: 0 to 1
#   times 255: 0 to 255
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet wandb==0.31.0 pillow==12.0.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import numpy as np
import wandb

assert version("wandb") == "0.31.0"


def logged(pixels):
    return np.asarray(wandb.Image(pixels).image)


grey = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8, 1).repeat(3, 2)
print(f"[0, 1] as it is: {logged(grey).min()} to {logged(grey).max()}")
assert (logged(grey).min(), logged(grey).max()) == (0, 1)
stretched = logged((grey * 255).round())
print(f"times 255: {stretched.min()} to {stretched.max()}")
assert (stretched.min(), stretched.max()) == (0, 255)
PYTHON
