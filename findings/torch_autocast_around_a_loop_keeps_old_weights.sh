#!/usr/bin/env bash
# A training loop inside one autocast context computes every step with the weights of the first.
#
# Packages: torch 2.15.0 and numpy 2.4.6, installed into a temporary folder (6 GB, most of it torch's CUDA libraries).
# None of our code is imported. Not part of CI. Fails if the behaviour changes.
#
# Behaviour: autocast keeps the half-precision copies of parameters that it has made until its context ends. If
# optimizer.step is called inside, as when a function that trains a student is called under "with torch.autocast(...)", the
# next forward pass still uses the copies of the first: the loss does not change, the gradients are those of the start, and
# the parameters run off along them. No error, no warning. With a context for each step, or cache_enabled=False, the student
# learns.
#
# Output seen (the loss of four steps):
#   one context: [1.0, 1.0, 1.0, 1.0], the weight ends at -0.6
#   a context for each step: [1.0, 0.36, 0.13, 0.05]
#   one context, cache_enabled=False: [1.0, 0.36, 0.13, 0.05]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.15.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import contextlib
import warnings
from importlib.metadata import version

import torch

warnings.simplefilter("error")
assert version("torch").startswith("2.15.0")


def losses(around, inside):
    student = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(student.weight)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.2)
    seen = []
    with around():
        for _ in range(4):
            with inside():
                loss = student(torch.ones(1, 1)).float().square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen.append(round(loss.item(), 2))
    return seen, round(student.weight.item(), 1)


def half(**options):
    return lambda: torch.autocast("cpu", dtype=torch.bfloat16, **options)


stale, weight = losses(half(), contextlib.nullcontext)
print(f"one context: {stale}, the weight ends at {weight}")
assert (stale, weight) == ([1.0] * 4, -0.6)
fresh, _ = losses(contextlib.nullcontext, half())
print(f"a context for each step: {fresh}")
uncached, _ = losses(half(cache_enabled=False), contextlib.nullcontext)
print(f"one context, cache_enabled=False: {uncached}")
assert fresh == uncached and fresh[3] < 0.1
PYTHON
