#!/usr/bin/env bash
# DD-Ranking's released code computes its label-robust score on per cent; the paper defines it on fractions.
#
# Packages: ddranking 0.2.0 and the pinned versions below, installed into a temporary folder (6 GB, most of it torch's CUDA
# libraries). None of our code is imported. Not part of CI. Fails if the behaviour changes.
#
# Definition (Li et al. 2025, arXiv:2505.13300): LRS = (e^a - e^-1) / (e - e^-1), a = (IOR - HLR) / 2, where HLR = full -
# distilled (hard labels) and IOR = distilled - random. Of fractions, a is in [-1, 1] and the score in [0, 1].
# Behaviour: validate() returns per cent, and LabelRobustScoreSoft.compute_metrics puts these into the formula as they are.
# (LabelRobustScoreHard has the same lines, but appends each score twice and then fails to write its table.)
#
# Output seen on ddranking 0.2.0, for accuracies of our README with hard labels throughout:
#   a perfect classifier: validate() returns 100.0
#   full 80.5, distilled 66.5, random 40.6: 163.115; the formula on fractions: 0.295
#   full 80.5, distilled 70.3, random 62.8: -0.046; the formula on fractions: 0.263
#   LabelRobustScoreHard: All arrays must be of the same length
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ddranking==0.2.0 torch==2.15.0 torchvision==0.29.2 numpy==1.26.4 scipy==1.15.3 \
    pandas==3.0.6 timm==1.0.31 kornia==0.9.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import contextlib
import io
import math
from importlib.metadata import version

import torch
from ddranking.metrics import LabelRobustScoreHard, LabelRobustScoreSoft
from ddranking.utils import validate


class Readme(LabelRobustScoreSoft):
    """The metric without the trainings: accuracies in per cent, as validate() returns them, are given."""

    def __init__(self, full, distilled, random):
        self.accuracies = {"real": full, "syn": distilled, "random": random}
        self.ipc, self.num_classes, self.num_eval, self.rank = 1, 5, 1, 0
        self.use_dist, self.eval_full_data, self.soft_label_mode, self.save_path = False, True, "M", "scores.csv"

    def _compute_hard_label_metrics_helper(self, *args, mode, **others):
        return self.accuracies[mode], 0.01

    def _compute_soft_label_metrics_helper(self, *args, image_tensor, **others):
        return self.accuracies["random" if image_tensor is None else "syn"], 0.01

    def _get_random_data_helper(self, eval_iter):
        return None, None, None


class ReadmeHard(Readme, LabelRobustScoreHard):
    compute_metrics = LabelRobustScoreHard.compute_metrics


def score(full, distilled, random):
    a = ((distilled - random) - (full - distilled)) / 2
    return (math.exp(a) - math.exp(-1)) / (math.e - math.exp(-1))


assert version("ddranking") == "0.2.0"
perfect = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.eye(8), torch.arange(8)), batch_size=4)
with contextlib.redirect_stdout(io.StringIO()):
    accuracy = validate(torch.nn.Identity(), perfect, device="cpu")
print(f"a perfect classifier: validate() returns {accuracy}")
assert accuracy == 100.0
for accuracies, expected in (((80.5, 66.5, 40.6), 163.115), ((80.5, 70.3, 62.8), -0.046)):
    with contextlib.redirect_stdout(io.StringIO()):
        result = Readme(*accuracies).compute_metrics(image_tensor=torch.zeros(5, 3, 8, 8))["label_robust_score_mean"]
    fractions = score(*(value / 100 for value in accuracies))
    names = "full {}, distilled {}, random {}".format(*accuracies)
    print(f"{names}: {result:.3f}; the formula on fractions: {fractions:.3f}")
    assert abs(result - expected) < 5e-4 and abs(result - score(*accuracies)) < 1e-9 and 0 < fractions < 1
try:
    with contextlib.redirect_stdout(io.StringIO()):
        ReadmeHard(80.5, 66.5, 40.6).compute_metrics(image_tensor=torch.zeros(5, 3, 8, 8))
except ValueError as error:
    print(f"LabelRobustScoreHard: {error}")
else:
    raise SystemExit("LabelRobustScoreHard writes its table now")
PYTHON
