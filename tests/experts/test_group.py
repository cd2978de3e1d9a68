"""The group of experts in training: plan, epochs, metrics."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from gz_lightning.errors import InputError
from gz_lightning.experts.expert_file import METRICS, Recipe, write_expert
from gz_lightning.experts.group import Group, Tally, groups_to_train, share, state_of, step_size
from gz_lightning.experts.trajectories import TrajectoryStore

RECIPE = Recipe({"name": "ConvNet", "num_classes": 3, "resolution": 16, "width": 4}, "abc", {"lr": 0.1})
ONES = {name: [0.25, 0.75] for name in METRICS}


def test_schedules() -> None:
    assert [step_size(1.0, "constant", epoch, 4) for epoch in range(4)] == [1.0] * 4
    assert [step_size(1.0, "step", epoch, 4) for epoch in range(4)] == [1.0, 1.0, 1.0, 0.1]
    assert [round(step_size(1.0, "cosine", epoch, 4), 3) for epoch in range(4)] == [1.0, 0.854, 0.5, 0.146]


def test_groups_go_by_number_whatever_is_missing() -> None:
    assert groups_to_train(range(3, 8), 2, {3, 4, 5, 6, 7}, []) == [[3, 4], [5, 6], [7]]
    assert groups_to_train(range(3, 8), 2, {6, 7}, []) == [[5, 6], [7]]
    assert groups_to_train(range(5), 1, {2, 3, 4}, [[0, 1], [2, 3]]) == [[0, 1], [2, 3], [2], [3], [4]]
    assert groups_to_train(range(3), 2, set(), []) == []


def test_processes_have_as_many_groups_and_each_group_is_written_once() -> None:
    groups = [[0], [1], [2]]
    assert share(groups, 1, 0) == (groups, False)
    assert share(groups, 2, 0) == ([[0], [2]], False)
    assert share(groups, 2, 1) == ([[1], [2]], True)
    assert share([], 2, 1) == ([], False)


def test_a_group_keeps_copies_and_names_what_is_not_finite() -> None:
    theta = torch.zeros(2, 5)
    group = Group([3, 4], [theta.clone()])
    metrics = {name: [0.25, 0.5] for name in METRICS} | {"val_loss": []}
    group.add_epoch(theta, metrics, "advice")
    theta[1, 2] = math.nan
    assert torch.equal(group.rows[1], torch.zeros(2, 5))
    assert group.history["train_loss"] == [[0.25, 0.5]]
    assert all(math.isnan(value) for value in group.history["val_loss"][0])
    losses = [torch.zeros(2), torch.tensor([0.0, math.nan])]
    where = r"expert 4 are not finite after epoch 2 \(nor its loss from batch 2 of 2 on\); advice"
    with pytest.raises(InputError, match=where):
        group.add_epoch(theta, metrics, "advice", losses)


def test_a_group_is_written_but_for_experts_that_are_there(tmp_path: Path) -> None:
    rows = [torch.randn(2, 5) for _ in range(3)]
    group = Group([3, 4], rows, {name: [[0.1, 0.2], [0.3, 0.4]] for name in METRICS})
    write_expert(tmp_path, 3, torch.zeros(3, 5), {name: [0.0, 0.0] for name in METRICS}, RECIPE)
    group.write(tmp_path, RECIPE, torch.eye(3, dtype=torch.int64).expand(2, 3, 3))
    store = TrajectoryStore(tmp_path)
    assert torch.equal(store.trajectory(3), torch.zeros(3, 5))
    assert torch.equal(store.trajectory(4), torch.stack([row[1] for row in rows]))
    assert store.metrics["val_accuracy"].tolist() == [0.0, 0.0, 0.2, 0.4]


def test_tally_is_the_mean_over_images() -> None:
    torch.manual_seed(0)
    tally, batches = Tally(confusions=True), [(torch.randn(2, m, 3), torch.randint(3, (2, m))) for m in (5, 2)]
    assert tally.compute() == ([], [])
    for logits, labels in batches:
        losses = torch.stack([F.cross_entropy(*pair) for pair in zip(logits, labels, strict=True)])
        tally.update(losses, logits, labels)
    logits, labels = (torch.cat(parts, 1) for parts in zip(*batches, strict=True))
    loss, accuracy = tally.compute()
    for i in range(2):
        assert loss[i] == pytest.approx(float(F.cross_entropy(logits[i], labels[i])), rel=1e-6)
        assert accuracy[i] == pytest.approx(float((logits[i].argmax(1) == labels[i]).double().mean()))
        assert tally.confusion_counts is not None
        assert tally.confusion_counts[i].trace() == round(7 * accuracy[i])
        assert torch.equal(tally.confusion_counts[i].sum(1), torch.bincount(labels[i], minlength=3))


def test_state_of_a_checkpoint() -> None:
    state = {"recipe": [RECIPE.network, RECIPE.data, RECIPE.training], "groups": []}
    assert state_of({"experts": state}, RECIPE, "last.ckpt") is state
    with pytest.raises(InputError, match="last.ckpt is no checkpoint of 'gz-lightning fit'"):
        state_of({}, RECIPE, "last.ckpt")
    other = Recipe(RECIPE.network, RECIPE.data, {"lr": 0.2})
    with pytest.raises(InputError, match="last.ckpt is of experts of another kind: its training has lr 0.1 instead of 0.2"):
        state_of({"experts": state}, other, "last.ckpt")
