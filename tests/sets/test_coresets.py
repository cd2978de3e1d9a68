"""Coresets: the published algorithms written out plainly, and what each coreset is made of."""

from pathlib import Path

import pytest
import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.networks.registry import build_network
from gz_lightning.randomness import generator
from gz_lightning.sets.coresets import (
    ALIASES,
    CORESETS,
    Chosen,
    by_features,
    coreset,
    galaxies_at,
    herding,
    hidden_features,
    initial_images,
    k_centre,
    k_means_nearest,
    standardised_pixels,
)
from tests.evaluation.conftest import NETWORK, vote


def points(number: int = 12) -> torch.Tensor:
    return torch.randn(number, 3, generator=generator("points"), dtype=torch.float64)


def test_herding_is_that_of_welling() -> None:
    """x_t = argmax <w, x>, w <- w + mean - x_t (Welling 2009, eq. 6), no galaxy twice, features of one length."""
    features = torch.nn.functional.normalize(points(), dim=1)
    mean = features.mean(0)
    w, chosen = mean.clone(), []
    for _ in range(5):
        score = [float("-inf") if i in chosen else float(w @ x) for i, x in enumerate(features)]
        chosen.append(max(range(len(features)), key=score.__getitem__))
        w = w + mean - features[chosen[-1]]
    assert herding(features, 5).tolist() == chosen


def test_herding_is_greedy_towards_the_mean() -> None:
    features = points()
    chosen: list[int] = []
    for _ in range(4):
        free = [i for i in range(len(features)) if i not in chosen]
        mean = features.mean(0)
        chosen.append(min(free, key=lambda i: float((features[[*chosen, i]].mean(0) - mean).norm())))
    assert herding(features, 4).tolist() == chosen


def test_k_centre_is_the_greedy_one_of_sener_and_savarese() -> None:
    """Algorithm 1: u = argmax_i min_{j in s} |x_i - x_j|, s <- s + u; from the galaxy nearest to the mean."""
    features = points()
    chosen = [min(range(len(features)), key=lambda i: float((features[i] - features.mean(0)).norm()))]
    for _ in range(3):
        nearest = [min(float((x - features[j]).norm()) for j in chosen) for x in features]
        chosen.append(max(range(len(features)), key=nearest.__getitem__))
    assert k_centre(features, 4).tolist() == chosen
    assert sorted(k_centre(torch.zeros(5, 2), 5).tolist()) == [0, 1, 2, 3, 4]


def test_k_means_finds_the_clusters() -> None:
    centres = torch.tensor([[0.0, 0], [10, 0], [0, 10]])
    features = (centres[:, None] + 0.5 * torch.randn(3, 8, 2, generator=generator("clusters"))).flatten(0, 1)
    chosen = k_means_nearest(features, 3, generator(0))
    assert sorted((chosen // 8).tolist()) == [0, 1, 2]
    for place in chosen.tolist():
        cluster = features[place // 8 * 8 :][:8]
        assert place % 8 == int((cluster - cluster.mean(0)).norm(dim=1).argmin())
    assert sorted(k_means_nearest(features, 24, generator(0)).tolist()) == list(range(24))


def plain_k_means(features: torch.Tensor, number: int, order: list[int]) -> list[int]:
    """Lloyd's rounds written out, from the galaxies of k-centre; the centres then choose in this order."""
    centres = [features[i] for i in k_centre(features, number).tolist()]
    while True:
        clusters: list[list[int]] = [[] for _ in centres]
        for place, x in enumerate(features):
            clusters[min(range(number), key=lambda i: float((x - centres[i]).norm()))].append(place)
        moved = [features[rows].mean(0) if rows else centre for rows, centre in zip(clusters, centres, strict=True)]
        if all(torch.equal(a, b) for a, b in zip(moved, centres, strict=True)):
            break
        centres = moved
    chosen = [-1] * number
    for i in order:
        free = [place for place in range(len(features)) if place not in chosen]
        chosen[i] = min(free, key=lambda place: float((features[place] - centres[i]).norm()))
    return chosen


@pytest.mark.parametrize("number", [1, 3, 7, 12])
def test_k_means_is_lloyds(number: int) -> None:
    features = points()
    order = torch.randperm(number, generator=generator("order")).tolist()
    assert k_means_nearest(features, number, generator("order")).tolist() == plain_k_means(features, number, order)


def test_k_means_takes_turns_that_are_drawn() -> None:
    """Two centres with one nearest galaxy: which of them gets it depends on the draws."""
    features = torch.tensor([[0.0], [1.0], [1.0], [1.0], [10.0]])
    assert {tuple(k_means_nearest(features, 4, generator(seed)).tolist()) for seed in range(30)} != {(1, 2, 3, 4)}
    state = torch.random.get_rng_state()
    k_means_nearest(features, 4, generator(0))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_where_features_lie_does_not_matter() -> None:
    features, far = points(), torch.tensor([50.0, -20.0, 7.0], dtype=torch.float64)
    assert herding(features, 4).tolist() == herding(features + far, 4).tolist()
    assert k_centre(features, 4).tolist() == k_centre(features + far, 4).tolist()
    assert herding(far[None], 1).tolist() == k_centre(far[None], 1).tolist() == [0]


@pytest.mark.parametrize("seed", range(4))
def test_a_centre_that_no_galaxy_is_nearest_to_stays(seed: int) -> None:
    """Of two centres at 0 the first has all galaxies that are there."""
    chosen = k_means_nearest(torch.tensor([[10.0], [0.0], [0.0], [0.0]]), 3, generator(seed)).tolist()
    assert chosen[1] == 0
    assert len({*chosen}) == 3


def test_galaxies_that_are_all_alike_are_chosen_once_each() -> None:
    same = torch.ones(6, 2)
    for chosen in (herding(same, 4), k_centre(same, 4), k_means_nearest(same, 4, generator(0))):
        assert len(set(chosen.tolist())) == 4
        assert chosen.dtype == torch.int64
    assert herding(torch.zeros(3, 1), 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", CORESETS)
def test_every_coreset(toy: Galaxies, name: str) -> None:
    vote(toy)
    state = torch.random.get_rng_state()
    images, labels, soft_labels = chosen = coreset(name, toy, 3, generator("draw"))
    assert torch.equal(torch.random.get_rng_state(), state)  # all that is random comes from the generator
    assert images.shape == (9, 3, 16, 16)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    torch.testing.assert_close(soft_labels.sum(1), torch.ones(9))
    if name != "class mean":
        distance = torch.cdist(images.flatten(1), toy.standardise(toy.train.images).flatten(1))
        assert distance.amin(1).max() < 0.1  # galaxies are of the order of 10 apart
        rows = distance.argmin(1)
        assert len(set(rows.tolist())) == 9
        assert torch.equal(toy.train.labels[rows], labels)
        assert torch.equal(toy.train.soft_labels[rows], soft_labels)
    for same in (coreset(name, toy, 3, generator("draw")), initial_images(name, toy, 3, generator("draw"))):
        assert all(torch.equal(a, b) for a, b in zip(same, chosen, strict=False))
    by_rows = coreset(name, Galaxies(toy.path, in_memory=False), 3, generator("draw"))
    assert torch.equal(by_rows.images, images) or name == "most confident"  # whose votes are in memory


@pytest.mark.parametrize("ipc", [1, 2])
def test_real_and_mean_written_out(toy: Galaxies, ipc: int) -> None:
    """One generator for all leaves, one permutation for each; soft labels are of the galaxies that an image is made of."""
    vote(toy)
    standardised = toy.standardise(toy.train.images)
    draws = generator("draw")
    groups: list[torch.Tensor] = []
    for leaf in range(3):
        rows = torch.nonzero(toy.train.labels == leaf).flatten()
        groups += rows[torch.randperm(len(rows), generator=draws)].tensor_split(ipc)
    mean = coreset("mean", toy, ipc, generator("draw"))
    for image, soft, group in zip(mean.images, mean.soft_labels, groups, strict=True):
        torch.testing.assert_close(image, standardised[group].mean(0))
        torch.testing.assert_close(soft, toy.train.soft_labels[group].mean(0))
    real = coreset("real", toy, ipc, generator("draw"))
    first = [group for leaf in range(3) for group in torch.cat(groups).view(3, -1)[leaf, :ipc]]
    assert torch.equal(real.images, standardised[torch.stack(first)])
    assert torch.equal(real.soft_labels, toy.train.soft_labels[torch.stack(first)])


def test_the_most_confident_galaxies(toy: Galaxies) -> None:
    rows = toy.train.of_class(1)
    toy.train.confidences[rows, 1] = torch.linspace(0.2, 0.9, len(rows)).roll(5)
    surest = rows[[4, 3]]
    assert torch.equal(
        coreset("most confident", toy, 2, generator(0)).images[2:4], toy.standardise(toy.train.images[surest])
    )


def test_equally_confident_galaxies_are_taken_in_their_order(toy: Galaxies) -> None:
    rows = toy.train.of_class(1)
    toy.train.confidences[rows, 1] = torch.tensor([0.5, 0.9, 0.7] * 7)
    surest = torch.cat([rows[1::3], rows[2::3]])[:10]
    chosen = coreset("most confident", toy, 10, generator(0))
    assert torch.equal(chosen.images[10:20], toy.standardise(toy.train.images[surest]))


def test_noise(toy: Galaxies) -> None:
    vote(toy)
    images, labels = initial_images("noise", toy, 2, generator("draw"))
    assert torch.equal(images, torch.randn(6, 3, 16, 16, generator=generator("draw")))
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    soft = initial_images("noise", toy, 2, generator("draw"), soft=True)[1]
    for leaf in range(3):
        torch.testing.assert_close(soft[2 * leaf + 1], toy.train.soft_labels[toy.train.labels == leaf].mean(0))
    toy.train.labels[:] = 0  # a leaf without galaxies
    assert initial_images("noise", toy, 1, generator("draw"), soft=True)[1][2].tolist() == [0, 0, 1]


def test_features_are_asked_for_leaf_by_leaf_and_only_if_they_matter(toy: Galaxies) -> None:
    asked: list[list[int]] = []

    def features(rows: torch.Tensor) -> torch.Tensor:
        asked.append(rows.tolist())
        return rows[:, None].float()

    for name in ("random real", "class mean", "most confident"):
        coreset(name, toy, 1, generator(0), features)
    assert not asked
    chosen = coreset("herding", toy, 1, generator(0), features)
    assert asked == [toy.train.of_class(leaf).tolist() for leaf in range(3)]
    middle = torch.tensor([int(toy.train.of_class(leaf)[10]) for leaf in range(3)])  # of 21 in a row
    assert torch.equal(chosen.images, galaxies_at(toy, middle).images)


def test_hidden_features_are_what_the_last_layer_is_given(toy: Galaxies) -> None:
    network = build_network(NETWORK, seed=0)
    rows = torch.tensor([3, 0, 62])
    last = list(network.children())[-1]
    images = toy.standardise(toy.train.images[rows])
    torch.testing.assert_close(last(hidden_features(network, toy)(rows)), network(images))
    with pytest.raises(InputError, match="Conv2d has no linear layer"):
        hidden_features(torch.nn.Conv2d(3, 1, 1), toy)


def test_hidden_features_are_computed_once_and_when_asked_for(toy: Galaxies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gz_lightning.sets.coresets.SCORE_BATCH", 25)
    first, last = torch.nn.Linear(768, 6), torch.nn.Linear(6, 3)
    network = torch.nn.Sequential(
        torch.nn.Flatten(), first, torch.nn.Unflatten(1, (6, 1, 1)), torch.nn.Flatten(2), last_of(last)
    )
    seen: list[int] = []
    network.register_forward_hook(lambda module, args, out: seen.append(len(args[0])))
    features = hidden_features(network, toy)
    assert not seen
    rows = torch.tensor([62, 1, 40])
    wanted = first(toy.standardise(toy.train.pixels(rows)).flatten(1))
    torch.testing.assert_close(features(rows), wanted.detach())
    assert not features(rows).requires_grad
    assert seen == [25, 25, 13]  # 63 training galaxies
    network(torch.zeros(1, 3, 16, 16))
    assert features(torch.arange(63)).shape == (63, 6)  # nothing is added by later uses of the network


def last_of(linear: torch.nn.Linear) -> torch.nn.Module:
    """A layer whose input is not flat."""

    class Last(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = linear

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.linear(x.transpose(1, 2))
            return out

    return Last()


def test_the_hook_of_hidden_features_goes_when_the_network_fails(toy: Galaxies) -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 3))
    rows = torch.tensor([0])
    toy.train.images = toy.train.images[:, :, :8]  # too small for it
    with pytest.raises(RuntimeError):
        hidden_features(network, toy)(rows)
    assert not network[1]._forward_pre_hooks


def test_standardised_pixels_are_flat(toy: Galaxies) -> None:
    rows = torch.tensor([5, 0])
    wanted = toy.standardise(toy.train.images[rows]).reshape(2, -1)
    assert torch.equal(standardised_pixels(toy)(rows), wanted)


def test_a_function_in_the_table_is_a_coreset(toy: Galaxies, monkeypatch: pytest.MonkeyPatch) -> None:
    first = by_features(lambda features, number, draws: torch.arange(number))
    monkeypatch.setitem(CORESETS, "first", first)
    rows = torch.cat([toy.train.of_class(leaf)[:2] for leaf in range(3)])
    assert torch.equal(coreset("first", toy, 2, generator(0)).images, galaxies_at(toy, rows).images)
    assert torch.equal(initial_images("first", toy, 2, generator(0))[0], galaxies_at(toy, rows).images)


def test_refusals(toy: Galaxies, toy_path: Path) -> None:
    names = ", ".join([*ALIASES, *CORESETS])
    assert names.startswith("real, mean, random real, class mean, herding")
    with pytest.raises(InputError, match=f"the coreset must be one of {names}, not 'magic'"):
        coreset("magic", toy, 1, generator(0))
    with pytest.raises(InputError, match=f"pix_init must be one of noise, {names}, not 'zeros'"):
        initial_images("zeros", toy, 1, generator(0))
    for name in CORESETS:
        assert len(coreset(name, toy, 21, generator(0)).images) == 63  # all there are
        with pytest.raises(InputError, match=f"ipc 22 is larger than leaf 'round', which has 21 training .* in {toy_path}"):
            coreset(name, toy, 22, generator(0))
    assert len(Chosen(*initial_images("noise", toy, 22, generator(0)), torch.empty(0)).images) == 66
