#!/usr/bin/env bash
# The gradient of a norm at zero is 0 in torch, and the gradient of that gradient is NaN.
#
# Packages: torch 2.15.0 and numpy 2.4.6, installed into a temporary folder (6 GB, most of it torch's CUDA libraries).
# None of our code is imported. Not part of CI. Fails if the behaviour changes.
#
# Behaviour: torch.linalg.vector_norm (and Tensor.norm) of a zero vector has the subgradient 0, so a loss with a norm of
# a difference trains well even where the difference vanishes. Unrolled optimisation differentiates that gradient once
# more, and there the same zero is 0 / 0: every element is NaN, with no error, also for a minibatch in which one row
# alone is zero. The sum of squares, or a norm with an epsilon inside of the root, has a second derivative.
#
# Output seen:
#   first derivative: [0.0, 0.0]
#   second derivative: [nan, nan]
#   of rows (3, 4) and (0, 0): [[0.128, -0.096], [nan, nan]]
#   of the sum of squares: [2.0, 0.0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.15.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import torch

assert version("torch").startswith("2.15.0")


def derivatives(function, values):
    x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first[..., 0].sum(), x)
    return first.detach(), second


first, second = derivatives(lambda x: torch.linalg.vector_norm(x, dim=-1), [0.0, 0.0])
print(f"first derivative: {first.tolist()}")
print(f"second derivative: {second.tolist()}")
assert first.tolist() == [0.0, 0.0] and second.isnan().all()
_, second = derivatives(lambda x: torch.linalg.vector_norm(x, dim=-1), [[3.0, 4.0], [0.0, 0.0]])
print(f"of rows (3, 4) and (0, 0): {[[round(value, 3) for value in row] for row in second.tolist()]}")
assert torch.allclose(second[0], torch.tensor([0.128, -0.096], dtype=torch.float64)) and second[1].isnan().all()
_, second = derivatives(lambda x: x.square().sum(-1), [0.0, 0.0])
print(f"of the sum of squares: {second.tolist()}")
assert second.tolist() == [2.0, 0.0]
PYTHON
