"""Scores: what the logits of trained networks say about their accuracy.

Shapes: n networks, N galaxies, K leaves, D draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_recall,
)

from gz_lightning.data.tree import Tree, all_trees

RESAMPLES = 2000
"""Resamples of the bootstrap: their error is below a fiftieth of the interval's width."""
AT_ONCE = 50
"""Resamples computed at once."""
CALIBRATION_BINS = 15
"""Bins of the expected calibration error; 15 as in Guo et al. 2017."""


def tree_of(name: str, class_names: Sequence[str]) -> Tree | None:
    """The tree of that name if its leaves are these; None for other class folders."""
    tree = all_trees().get(name)
    return tree if tree is not None and tree.class_names == tuple(class_names) else None


def answers_right(tree: Tree) -> tuple[torch.Tensor, torch.Tensor]:
    """How far along the tree a predicted leaf is right, for each true leaf (rows) and predicted leaf (columns).

    Returns:
        Whether the first question is answered right, shape (K, K), bool; and the share of the questions on the way to the
        true leaf that are answered right before the ways part, shape (K, K), in [0, 1]. If a leaf has several ways, the
        pair of ways that share most answers counts.
    """
    number = len(tree)
    share = torch.eye(number)
    first = torch.eye(number, dtype=torch.bool)
    for i, true in enumerate(tree.leaves):
        for j, predicted in enumerate(tree.leaves):
            for path in true.paths:
                for other in predicted.paths:
                    steps = list(zip(path.split(), other.split(), strict=False))
                    together = next((k for k, (a, b) in enumerate(steps) if a != b), len(steps))
                    first[i, j] |= together > 0
                    if i != j:
                        share[i, j] = max(float(share[i, j]), together / len(path.split()))
    return first, share


def scores(logits: torch.Tensor, labels: torch.Tensor, tree: Tree | None) -> dict[str, float]:
    """Scores of n networks, each the mean over the networks, all in [0, 1].

    Args:
        logits: Shape (n, N, K).
        labels: True leaves, shape (N,).
        tree: The decision tree, where there is one.

    Returns:
        ``accuracy``; ``balanced accuracy`` (mean recall of the leaves that have galaxies); ``calibration error``
        (expected, 15 bins of confidence); and, with a tree, ``first question`` (share of galaxies whose first answer,
        such as smooth or disk, is right) and ``answers`` (mean share of right answers, see :func:`answers_right`).
    """
    number = logits.shape[-1]
    present = torch.bincount(labels, minlength=number) > 0
    by_network: list[dict[str, float]] = []
    for of_network in logits:
        predicted = of_network.argmax(1)
        recall = multiclass_recall(predicted, labels, number, average=None)
        values = {
            "accuracy": multiclass_accuracy(predicted, labels, number, average="micro"),
            "balanced accuracy": recall[present].mean(),
            "calibration error": multiclass_calibration_error(
                of_network.softmax(1), labels, number, n_bins=CALIBRATION_BINS
            ),
        }
        if tree is not None:
            first, share = answers_right(tree)
            values["first question"] = first[labels, predicted].float().mean()
            values["answers"] = share[labels, predicted].mean()
        by_network.append({name: float(value) for name, value in values.items()})
    return {name: sum(values[name] for values in by_network) / len(by_network) for name in by_network[0]}


def confusion(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Galaxies by true and predicted leaf, summed over n networks, int64, shape (K, K)."""
    number = logits.shape[-1]
    return multiclass_confusion_matrix(logits.argmax(-1).flatten(), labels.repeat(len(logits)), number)


def recalls(logits: torch.Tensor, labels: torch.Tensor) -> list[float]:
    """Recall of each leaf, mean over n networks, in [0, 1]; NaN for a leaf without galaxies."""
    counts = confusion(logits, labels).double()
    return (counts.diag() / counts.sum(1)).tolist()


def confidence_interval(hits: torch.Tensor, draws: torch.Generator, level: float = 0.95) -> tuple[float, float]:
    """Bootstrap interval of a mean accuracy, over draws, networks and test galaxies at once.

    Each resample takes, with replacement, as many draws, as many networks of each, and as many galaxies: the interval
    covers what other draws, other initialisations and another sample of the sky would have given. It is a percentile
    interval. With a single draw, or a single network, it is too narrow: that part of the spread is missing.

    Args:
        hits: Whether each galaxy was classified right, shape (D, n, N).
        draws: Random generator.
        level: Share of resamples inside.

    Returns:
        Its ends, in [0, 1].
    """
    number, networks, galaxies = hits.shape
    means = []
    for _ in range(0, RESAMPLES, AT_ONCE):
        picked = torch.randint(galaxies, (AT_ONCE, galaxies), generator=draws)
        weights = torch.zeros(AT_ONCE, galaxies).scatter_add_(1, picked, torch.ones(AT_ONCE, galaxies)) / galaxies
        accuracy = weights @ hits.flatten(0, 1).float().T  # (AT_ONCE, D * n)
        rows = torch.randint(number, (AT_ONCE, number, 1), generator=draws)
        columns = torch.randint(networks, (AT_ONCE, number, networks), generator=draws)
        means.append(accuracy.gather(1, (rows * networks + columns).flatten(1)).mean(1))
    low, high = torch.quantile(torch.cat(means), torch.tensor([(1 - level) / 2, (1 + level) / 2])).tolist()
    return low, high


def label_robust_score(full_hard: float, distilled_hard: float, distilled: float, random: float) -> float:
    """The label-robust score as the DD-Ranking paper defines it (Li et al. 2025), on accuracies as fractions, in [0, 1].

    DD-Ranking's released code is another measure: ddranking 0.2.0 puts accuracies in per cent into the same formula, so its
    scores lie outside [0, 1] and cannot be compared with these (``findings/ddranking_label_robust_score_on_per_cent.sh``).

    Args:
        full_hard: Accuracy of the full data with hard labels.
        distilled_hard: Accuracy of the distilled set with hard labels.
        distilled: Accuracy of the distilled set with the labels it comes with.
        random: Accuracy of as many random galaxies under the same protocol as ``distilled``.

    Returns:
        (e^a - e^-1) / (e - e^-1), where a = (IOR - HLR) / 2, HLR = full_hard - distilled_hard (what hard labels lose) and
        IOR = distilled - random (what is gained over random galaxies).

    Example:
        >>> round(label_robust_score(full_hard=0.75, distilled_hard=0.60, distilled=0.60, random=0.39), 3)
        0.282
    """
    loss, gain = full_hard - distilled_hard, distilled - random
    a = 0.5 * gain - 0.5 * loss
    return (math.exp(a) - math.exp(-1)) / (math.e - math.exp(-1))
