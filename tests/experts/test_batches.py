"""The batches of each expert."""

from typing import Any

import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.experts.batches import Batches, Scored, rotated
from gz_lightning.randomness import generator

SETTINGS: dict[str, Any] = {"labels": "hard", "rotations": 2, "augmentation": "none", "seed": 0}


def test_rotated_by_quarter_turns() -> None:
    images = torch.randn(4, 3, 8, 8)
    turned = rotated(images, torch.tensor([0.0, 90.0, 180.0, 270.0]))
    for i in range(4):
        torch.testing.assert_close(turned[i], torch.rot90(images[i], i, (1, 2)), atol=1e-5, rtol=0)


def test_an_epoch_has_every_galaxy_at_every_angle_in_the_order_of_its_expert(toy: Galaxies) -> None:
    batches = Batches(toy, 50, SETTINGS, torch.device("cpu"))
    assert len(batches) == 3  # 63 galaxies at two angles
    batches.begin_epoch([4, 7], epoch=2)
    for place, expert in enumerate((4, 7)):
        order = torch.randperm(126, generator=generator(0, "order", expert, 2))
        for index, rows in enumerate(order.split(50)):
            images, targets, labels = batches.take(index, place, torch.float64)
            upright = toy.standardise(toy.train.images[rows % 63]).double()
            turned = rows >= 63
            torch.testing.assert_close(images[~turned], upright[~turned], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(images[turned], upright[turned].flip(2, 3), rtol=1e-3, atol=1e-3)
            assert torch.equal(labels, toy.train.labels[rows % 63])
            assert torch.equal(targets, labels)


def test_votes_are_targets_beside_the_leaves(toy: Galaxies) -> None:
    batches = Batches(toy, 16, SETTINGS | {"labels": "votes"}, torch.device("cpu"))
    batches.begin_epoch([0], epoch=0)
    _, targets, labels = batches.take(0, 0, torch.float64)
    assert targets.dtype == torch.float64
    assert torch.equal(targets.argmax(1), labels)


def test_all_galaxies_are_scored(toy: Galaxies) -> None:
    scored = Scored(toy.val, 4)
    batches = list(scored)
    assert len(batches) == len(scored) == 3
    assert torch.equal(torch.cat([labels for _, labels in batches]), toy.val.labels)
    assert torch.equal(torch.cat([images for images, _ in batches]), toy.val.images)
