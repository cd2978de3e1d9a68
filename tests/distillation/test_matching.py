"""The matching loss, minibatches and segments, beside the published algorithm written out."""

from pathlib import Path

import pytest
import torch

from gz_lightning.augmentation import DSA, augment
from gz_lightning.distillation.matching import MATCHES, Segments, matching_loss, minibatches
from gz_lightning.experts.paths import RawPath, StraightPath
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.randomness import generator


@pytest.mark.parametrize("name", list(MATCHES))
def test_a_matching_loss_is_0_at_the_target_and_1_at_the_start(name: str) -> None:
    start, target = torch.randn(2, 50, dtype=torch.float64, generator=generator(0))
    assert float(MATCHES[name](target, start, target)) == 0
    assert float(MATCHES[name](start, start, target)) == pytest.approx(1)


def test_the_published_loss_and_its_gradient() -> None:
    """Sum of squares over parameters, divided by that of the expert's way (MTT, distill.py)."""
    student, start, target = torch.randn(3, 50, dtype=torch.float64, generator=generator(1))
    student.requires_grad_()
    published = torch.nn.functional.mse_loss(student, target, reduction="sum")
    published = published / torch.nn.functional.mse_loss(start, target, reduction="sum")
    loss = matching_loss(student, start, target)
    assert float(loss.detach()) == pytest.approx(float(published.detach()), rel=1e-14)
    (found,), (expected,) = torch.autograd.grad(loss, student), torch.autograd.grad(published, student)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_minibatches_are_shuffled_passes() -> None:
    """A pass of five by twos is 2, 2, 1, in another order each time (MTT: a new permutation when the old one is used up)."""
    draws = generator(2)
    parts = minibatches(5, 2, steps=7, draws=draws)
    assert [len(rows) for rows in parts] == [2, 2, 1, 2, 2, 1, 2]
    first, second = (torch.cat(parts[i : i + 3]) for i in (0, 3))
    assert sorted(first.tolist()) == sorted(second.tolist()) == [0, 1, 2, 3, 4]
    assert first.tolist() != second.tolist()
    state = draws.get_state()
    for batch_syn in (None, 3, 4):  # all of them
        assert [rows.tolist() for rows in minibatches(3, batch_syn, 2, draws)] == [[0, 1, 2]] * 2
    assert torch.equal(draws.get_state(), state)  # nothing was drawn


def test_minibatches_draw_no_pass_that_is_not_used() -> None:
    draws, once = generator(3), generator(3)
    minibatches(4, 2, steps=2, draws=draws)
    torch.randperm(4, generator=once)
    assert torch.equal(draws.get_state(), once.get_state())


def test_a_segment_is_a_piece_of_an_expert_with_augmented_minibatches(toy_experts: Path) -> None:
    store = TrajectoryStore(toy_experts)
    segments = Segments(RawPath(store), expert_epochs=2, syn_steps=3, batch_syn=4, augmentation="galaxy")
    images, labels = torch.randn(6, 3, 16, 16, generator=generator(3)), torch.arange(6) % 3
    segment = segments.at(1, 1, images, labels, generator(4))
    assert torch.equal(segment.start, store.parameters(1, 1))
    assert torch.equal(segment.target, store.parameters(1, 3))
    draws = generator(4)
    for batch, batch_labels, rows in zip(segment.batches, segment.labels, minibatches(6, 4, 3, draws), strict=True):
        assert torch.equal(batch, augment(images[rows], "galaxy", draws))
        assert torch.equal(batch_labels, labels[rows])
    drawn = segments.drawn(1, 1, len(images), generator(4), probe_epoch=2)
    assert drawn.place == "expert 1, start epoch 1"
    again = segments.made(drawn, images, labels)
    assert all(torch.equal(one, two) for one, two in zip(again.batches, segment.batches, strict=True))
    later = segments.later(drawn, again, 2)
    assert later.start_epoch == 2
    assert later.batches is again.batches
    assert torch.equal(later.start, store.parameters(1, 2))
    assert segments.drawn(1, 1.7, 6, generator(4)).place == "expert 1, start epoch 1"
    path = StraightPath(store)
    straight = Segments(path, 2, 3, 4, "galaxy").at(1, 1.5, images, labels, generator(4))
    assert torch.equal(straight.start, path.point(1, 1.5))
    assert torch.equal(straight.target, path.point(1, 3.5))
    assert Segments(path, 2, 3, 4, "galaxy").drawn(1, 1.5, 6, generator(4)).place == "expert 1, start epoch 1.5"
    assert torch.equal(later.target, store.parameters(1, 4))


@pytest.mark.parametrize("augmentation", ["none", "galaxy", "flip", DSA])
@pytest.mark.parametrize("batch_syn", [None, 4])
def test_minibatches_are_augmented_one_after_the_other(augmentation: str, batch_syn: int | None, toy_experts: Path) -> None:
    segments = Segments(RawPath(TrajectoryStore(toy_experts)), 1, 3, batch_syn, augmentation)
    images, labels = torch.randn(6, 3, 16, 16, generator=generator(3)), torch.eye(6)
    ours, draws = generator(4), generator(4)
    segment = segments.at(0, 0, images, labels, ours)
    places = minibatches(6, batch_syn, 3, draws)
    for batch, batch_labels, rows in zip(segment.batches, segment.labels, places, strict=True):
        assert torch.equal(batch, augment(images[rows], augmentation, draws))
        assert torch.equal(batch_labels, labels[rows])
    assert torch.equal(ours.get_state(), draws.get_state())
    held = segments.drawn(0, 0, 6, generator(4))
    assert (held.draws is None) == (augmentation in ("none", "galaxy"))  # a graph of a GPU cannot draw
    assert (held.later_start, held.later_target) == (None, None)


def test_all_experts_are_drawn(toy_experts: Path) -> None:
    segments = Segments(RawPath(TrajectoryStore(toy_experts)), 1, 1, None, "none")
    draws = generator(5)
    drawn = [segments.expert(draws) for _ in range(40)]
    assert set(drawn) == {0, 1}
    again = generator(5)
    assert [segments.expert(again) for _ in range(40)] == drawn


def test_a_segment_is_where_the_images_are(toy_experts: Path) -> None:
    segments = Segments(RawPath(TrajectoryStore(toy_experts)), 1, 2, 2, "none")
    elsewhere = torch.device("meta")
    images, labels = torch.zeros(4, 3, 16, 16, device=elsewhere), torch.zeros(4, dtype=torch.int64, device=elsewhere)
    segment = segments.at(0, 0, images, labels, generator(6))
    later = segments.later(segments.drawn(0, 0, 4, generator(6), probe_epoch=1), segment, 1)
    parts = (segment.start, segment.target, *segment.batches, *segment.labels, later.start, later.target)
    assert {part.device for part in parts} == {elsewhere}
