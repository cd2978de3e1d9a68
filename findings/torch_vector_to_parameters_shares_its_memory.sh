#!/usr/bin/env bash
# Training a network changes the vector that torch filled it from.
#
# Packages: torch 2.15.0 and numpy 2.4.6, installed into a temporary folder (6 GB, most of it torch's CUDA libraries).
# None of our code is imported. Not part of CI. Fails if the behaviour changes.
#
# Behaviour: vector_to_parameters "copies slices of a vector into parameters", its help says. It copies nothing: the
# parameters become views of the vector. A student that starts at a point of an expert's trajectory and is trained by an
# optimizer moves that point with it: the trajectory is spoilt for all later iterations, and the student has gone no distance
# from its start. No error, no warning. load_state_dict does copy. Give it vector.clone().
#
# Output seen:
#   the start after a step: [0.5, 0.5, 0.5], it was [1.0, 1.0, 1.0]
#   distance of the student from its start: 0.0
#   with clone: [1.0, 1.0, 1.0] and 0.866
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.15.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import warnings
from importlib.metadata import version

import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

warnings.simplefilter("error")
assert version("torch").startswith("2.15.0")


def trained(vector):
    student = torch.nn.Linear(3, 1, bias=False)
    vector_to_parameters(vector, student.parameters())
    student(torch.ones(1, 3)).sum().backward()
    torch.optim.SGD(student.parameters(), lr=0.5).step()
    return parameters_to_vector(student.parameters()).detach()


start = torch.ones(3)
end = trained(start)
print(f"the start after a step: {start.tolist()}, it was [1.0, 1.0, 1.0]")
print(f"distance of the student from its start: {float((end - start).norm())}")
assert start.tolist() == [0.5] * 3 and torch.equal(start, end)
start = torch.ones(3)
end = trained(start.clone())
print(f"with clone: {start.tolist()} and {float((end - start).norm()):.3f}")
assert start.tolist() == [1.0] * 3 and end.tolist() == [0.5] * 3
PYTHON
