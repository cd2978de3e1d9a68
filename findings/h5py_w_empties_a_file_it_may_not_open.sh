#!/usr/bin/env bash
# h5py.File(path, "w") empties a file that it then refuses to open.
#
# Packages: h5py 3.16.0 and numpy 2.4.6, installed into a temporary folder. None of our code is imported. Not part of
# CI. Fails if the behaviour changes.
#
# Behaviour: HDF5 locks files. While another process reads one, opening it with "w" raises BlockingIOError (errno 11) in
# h5py 3.16.0 with the HDF5 2 of its wheel, on a local Linux file system. But HDF5 truncates the file when it opens it
# and takes the lock afterwards, so the refused file has no bytes left: the reader loses it too. "a" and "r+" are
# refused without harm. A guess that the exception means "nothing happened" costs the data; write to a temporary file
# and rename it.
#
# Output seen:
#   refused by "a": 10048 bytes
#   refused by "r+": 10048 bytes
#   refused by "w": 0 bytes
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet h5py==3.16.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import os
import subprocess
import sys
from importlib.metadata import version

import h5py

assert version("h5py") == "3.16.0"
with h5py.File("votes.h5", "w") as file:
    file["votes"] = list(range(1000))
whole = os.path.getsize("votes.h5")
reader = subprocess.Popen(
    [sys.executable, "-c", "import h5py, sys; file = h5py.File('votes.h5', 'r'); print('open', flush=True); sys.stdin.read()"],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
)
assert reader.stdout.readline() == "open\n"
for mode, left in (("a", whole), ("r+", whole), ("w", 0)):
    try:
        h5py.File("votes.h5", mode)
    except BlockingIOError:
        print(f'refused by "{mode}": {os.path.getsize("votes.h5")} bytes')
        assert os.path.getsize("votes.h5") == left
    else:
        raise SystemExit(f'"{mode}" is not refused')
reader.communicate()
PYTHON
