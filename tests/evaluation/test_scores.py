"""Scores against their definitions."""

import math
from pathlib import Path

import pytest
import torch

from gz_lightning.data.tree import get_tree
from gz_lightning.evaluation.scores import (
    answers_right,
    confidence_interval,
    confusion,
    label_robust_score,
    recalls,
    scores,
    tree_of,
)
from gz_lightning.randomness import generator

ROOT = Path(__file__).parents[2]


def test_scores_of_two_networks_by_hand() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    sure = torch.tensor([[9.0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 9, 0]])  # 3 of 4; recalls 2/3 and 1
    logits = torch.stack([sure, sure.roll(1, 1)])  # the second is never right but for the third: 0 9 0 -> 0 0 9
    assert torch.equal(confusion(logits[:1], labels), torch.tensor([[2, 1, 0], [0, 1, 0], [0, 0, 0]]))
    found = scores(logits[:1], labels, None)
    assert found["accuracy"] == pytest.approx(0.75)
    assert found["balanced accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    confidence = math.exp(9) / (math.exp(9) + 2)
    assert found["calibration error"] == pytest.approx(confidence - 0.75, abs=1e-5)
    assert scores(logits, labels, None)["accuracy"] == pytest.approx(0.375)
    recall = recalls(logits[:1], labels)
    assert recall[:2] == pytest.approx([2 / 3, 1])
    assert math.isnan(recall[2])


def test_answers_on_the_tree() -> None:
    tree = get_tree("simplified")
    first, share = answers_right(tree)
    names = tree.class_names
    round_, between, bulge, star = (names.index(n) for n in (names[0], names[1], "disk, edge-on, bulge", "star or artifact"))
    bar, no_bar = names.index("disk, face-on, bar, spiral arms"), names.index("disk, face-on, no bar, spiral arms")
    assert first[round_, between]
    assert not first[round_, bulge]
    assert not first[star, round_]
    assert share[round_, between] == pytest.approx(1 / 2)  # smooth is right, the shape is not
    assert share[bar, no_bar] == pytest.approx(2 / 4)  # disk and face-on are right
    assert share[bulge, names.index("disk, edge-on, no bulge")] == pytest.approx(2 / 3)
    assert share[bulge, bulge] == 1
    labels = torch.tensor([round_, bulge])
    logits = torch.nn.functional.one_hot(torch.tensor([[between, star]]), len(tree)).float()
    found = scores(logits, labels, tree)
    assert found["first question"] == pytest.approx(0.5)
    assert found["answers"] == pytest.approx(0.25)
    assert tree_of("simplified", names) is tree
    assert tree_of("decals-dr5", get_tree("decals").class_names) is get_tree("decals-dr5")
    assert tree_of("", names) is tree_of("simplified", names[:3]) is None


def test_interval_covers_as_often_as_it_says() -> None:
    """Networks and galaxies of known spread: 95 % intervals hold the truth in about 95 of 100 cases."""
    draws, truth, inside, number = generator("interval"), 0.6, 0, 60
    for case in range(number):
        network = 0.05 * torch.randn(1, 10, 1, generator=draws)
        hits = torch.rand(1, 10, 200, generator=draws) < truth + network
        low, high = confidence_interval(hits, generator(case))
        assert low <= float(hits.float().mean()) <= high
        inside += low <= truth <= high
    assert inside >= 0.85 * number


def test_label_robust_score() -> None:
    assert label_robust_score(0.8, 0.8, 0.8, 0.8) == pytest.approx((1 - 1 / math.e) / (math.e - 1 / math.e))
    assert label_robust_score(0, 1, 1, 0) == pytest.approx(1)
    assert label_robust_score(1, 0, 0, 1) == pytest.approx(0)
    assert label_robust_score(0.8, 0.5, 0.5, 0.4) == pytest.approx((math.exp(-0.1) - math.exp(-1)) / (math.e - math.exp(-1)))


@pytest.mark.parametrize(
    ("full", "distilled", "random", "released", "paper"),
    [(80.5, 66.5, 40.6, 163.115, 0.295), (80.5, 70.3, 62.8, -0.046, 0.263)],
)
def test_the_label_robust_score_is_the_papers_and_not_that_of_the_released_code(
    full: float, distilled: float, random: float, released: float, paper: float
) -> None:
    """ddranking 0.2.0 puts per cent into the formula (findings/ddranking_label_robust_score_on_per_cent.sh runs it)."""
    assert label_robust_score(full, distilled, distilled, random) == pytest.approx(released, abs=1e-3)
    assert label_robust_score(full / 100, distilled / 100, distilled / 100, random / 100) == pytest.approx(paper, abs=1e-3)
    where = (ROOT / "docs" / "evaluation.md").read_text() + (label_robust_score.__doc__ or "")
    assert "163.1 and -0.046" in where
    assert "ddranking 0.2.0 puts accuracies in per cent" in where
