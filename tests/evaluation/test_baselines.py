"""Baselines against brute force, and what each is made of."""

import itertools

import pytest
import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.networks.registry import build_network
from gz_lightning.randomness import generator
from gz_lightning.sets.coresets import (
    BASELINES,
    baseline,
    has_votes,
    herding,
    hidden_features,
    k_centre,
    k_means_nearest,
    most_confident,
    votes_of,
)
from tests.evaluation.conftest import NETWORK


def points(number: int = 12) -> torch.Tensor:
    return torch.randn(number, 3, generator=generator("points"))


def test_herding_is_greedy_towards_the_mean() -> None:
    features = points()
    chosen: list[int] = []
    for _ in range(4):
        free = [i for i in range(len(features)) if i not in chosen]
        mean = features.mean(0)
        chosen.append(min(free, key=lambda i: float((features[[*chosen, i]].mean(0) - mean).norm())))
    assert herding(features, 4).tolist() == chosen


def test_k_centre_takes_the_farthest() -> None:
    features = points()
    chosen = k_centre(features, 4).tolist()
    for size in range(1, 4):
        distance = torch.cdist(features, features[chosen[:size]]).amin(1)
        assert chosen[size] == int(distance.argmax())
    radius = float(torch.cdist(features, features[chosen]).amin(1).max())
    sets = itertools.combinations(range(len(features)), 4)
    best = min(float(torch.cdist(features, features[list(each)]).amin(1).max()) for each in sets)
    assert radius <= 2 * best  # what the greedy choice promises


def test_k_means_finds_the_clusters() -> None:
    centres = torch.tensor([[0.0, 0], [10, 0], [0, 10]])
    features = (centres[:, None] + 0.5 * torch.randn(3, 8, 2, generator=generator("clusters"))).flatten(0, 1)
    chosen = k_means_nearest(features, 3, generator(0))
    assert sorted((chosen // 8).tolist()) == [0, 1, 2]
    for place in chosen.tolist():
        own = features[place // 8 * 8 :][:8]
        assert place % 8 == int((own - own.mean(0)).norm(dim=1).argmin())
    assert sorted(k_means_nearest(features, 24, generator(0)).tolist()) == list(range(24))


def test_hidden_features_are_what_the_last_layer_is_given(toy: Galaxies) -> None:
    network, images = build_network(NETWORK, seed=0), toy.standardise(toy.train.images)
    features = hidden_features(network, images)
    last = list(network.children())[-1]
    torch.testing.assert_close(last(features), network(images))
    with pytest.raises(InputError, match="Conv2d has no linear layer"):
        hidden_features(torch.nn.Conv2d(3, 1, 1), images)


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline(toy: Galaxies, name: str) -> None:
    features = toy.train.images.flatten(1).float()
    images, labels, votes = baseline(name, toy, 3, features, seed=0)
    number = 63 if name == "full data" else 9
    assert images.shape == (number, 3, 16, 16)
    assert labels.tolist() == sorted(labels.tolist())
    assert torch.bincount(labels).tolist() == [number // 3] * 3
    torch.testing.assert_close(votes.sum(1), torch.ones(number))
    if name != "class mean":
        known = toy.standardise(toy.train.images).flatten(1)
        assert torch.cdist(images.flatten(1), known).amin(1).max() < 0.1  # of the order of 10 apart
    again = baseline(name, toy, 3, features, seed=0)[0]
    assert torch.equal(again, images)
    other = baseline(name, toy, 3, features, seed=0, draw=1)[0]
    assert (name in ("random real", "class mean", "k-means-nearest")) or torch.equal(other, images)


def test_most_confident_galaxies(toy: Galaxies) -> None:
    rows = toy.train.of_class(1)
    toy.train.confidences[rows, 1] = torch.linspace(0.2, 0.9, len(rows)).roll(5)
    surest = float(toy.train.confidences[rows, 1].max())
    assert float(toy.train.confidences[rows[most_confident(toy, 1, 2)], 1].max()) == surest
    assert has_votes(toy)
    torch.testing.assert_close(votes_of(toy, rows).sum(1), torch.ones(len(rows)))


def test_refusals(toy: Galaxies) -> None:
    assert not has_votes(toy)
    with pytest.raises(InputError, match="no baseline 'magic'; the baselines are random real, class mean"):
        baseline("magic", toy, 1, torch.zeros(63, 1), 0)
    with pytest.raises(InputError, match="has 21 training galaxies of leaf 'round', fewer than the 22 images"):
        baseline("herding", toy, 22, torch.zeros(63, 1), 0)
