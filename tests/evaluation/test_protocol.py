"""The protocol against its plain form, and many networks at once against one after the other."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from gz_lightning.augmentation import DSA, augment
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.networks.registry import build_network
from gz_lightning.randomness import derived_seed, generator
from gz_lightning.training.fresh import Training, accuracies, train_networks
from gz_lightning.training.protocol import Protocol, predictions, symmetric_copies, train_network
from tests.evaluation.conftest import NETWORK, synthetic_set


def test_published_schedules() -> None:
    assert Protocol(epochs=4).step_size_schedule([0.1]) == [0.1, 0.1, 0.01, 0.01]
    assert Protocol(epochs=5).step_size_schedule([0.1]) == [0.1, 0.1, 0.1, 0.01, 0.01]
    # 1000 epochs and four step sizes: each for 500 / 4, then 500 at a tenth of the last.
    assert Protocol().step_size_schedule([4, 3, 2, 1]) == [4] * 125 + [3] * 125 + [2] * 125 + [1] * 125 + [0.1] * 500
    assert Protocol(epochs=4).step_size_schedule([2, 1], syn_steps=3) == [2] * 3 + [1] * 3 + [0.1] * 2
    cosine = Protocol(epochs=4, schedule="cosine").step_size_schedule([1.0])
    assert cosine == pytest.approx([1, 0.8536, 0.5, 0.1464], abs=1e-4)


def test_training_against_the_plain_loop(toy: Galaxies) -> None:
    """SGD with momentum .9 and weight decay 5e-4, written out."""
    data, protocol = synthetic_set(toy), Protocol(epochs=4, augmentation="flip_scale", seed=5, batch_size=4)
    found = train_network(data.images, data.labels, NETWORK, [0.05], protocol)
    network = build_network(NETWORK, seed=derived_seed(5, "initialisation"))
    parameters = list(network.parameters())
    velocity = [torch.zeros_like(p) for p in parameters]
    draws = generator(5, "training")
    for alpha in (0.05, 0.05, 0.005, 0.005):
        for rows in torch.randperm(6, generator=draws).split(4):
            loss = F.cross_entropy(network(augment(data.images[rows], "flip_scale", draws)), data.labels[rows])
            for i, gradient in enumerate(torch.autograd.grad(loss, parameters)):
                velocity[i] = 0.9 * velocity[i] + gradient + 5e-4 * parameters[i].detach()
            with torch.no_grad():
                for p, v in zip(parameters, velocity, strict=True):
                    p.sub_(alpha * v)
    for ours, theirs in zip(found.parameters(), parameters, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("way", ["vmap", "threads"])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("symmetries", [1, 8])
def test_together_is_one_by_one(
    toy: Galaxies, way: str, soft: bool, symmetries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64, with sets, seeds, and step sizes of their own, and sets of two sizes."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    protocol = Protocol(epochs=3, augmentation=DSA, batch_size=4, symmetries=symmetries)
    trainings = []
    for seed, (ipc, alphas) in enumerate([(2, [0.05]), (2, [0.01]), (2, [0.02, 0.01]), (1, [0.05])]):
        data = synthetic_set(toy, ipc=ipc)
        labels = F.one_hot(data.labels, 3).double() * 0.7 + 0.1 if soft else data.labels
        trainings.append(Training(data.images.double() * (1 + 0.1 * seed), labels, alphas, seed))
    ticks: list[int] = []
    found = train_networks(trainings, NETWORK, protocol, 2, way, lambda: ticks.append(1))
    assert len(ticks) == len(found) == 4
    torch.set_num_threads(1)
    for model, one in zip(found, trainings, strict=True):
        own = replace(protocol, seed=one.seed)
        alone = train_network(one.images, one.labels, NETWORK, one.step_sizes, own, 2)
        theirs, ours = FunctionalNetwork.parameters_of(alone), FunctionalNetwork.parameters_of(model)
        assert ours.dtype == torch.float64
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
        assert not model.training


def test_the_number_of_threads_changes_nothing(toy: Galaxies, monkeypatch: pytest.MonkeyPatch) -> None:
    data, protocol = synthetic_set(toy), Protocol(epochs=3, augmentation="galaxy")
    trainings = [Training(data.images, data.labels, [0.05], seed) for seed in range(6)]
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        models = train_networks(trainings, NETWORK, protocol, way="threads")
        found.append(torch.stack([FunctionalNetwork.parameters_of(model) for model in models]))
    torch.set_num_threads(1)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_ways_are_checked() -> None:
    with pytest.raises(InputError, match="trained by auto, loop, threads, vmap, not 'magic'"):
        train_networks([], NETWORK, Protocol(), way="magic")
    with pytest.raises(InputError, match="symmetries is 1 or 8"):
        Protocol(symmetries=4)


def test_symmetric_copies_are_the_eight_of_a_square() -> None:
    image = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    copies, labels = symmetric_copies(image, torch.tensor([0, 1]))
    assert torch.equal(copies[:2], image)
    assert labels.tolist() == [0, 1] * 8
    of_one = {tuple(copy.flatten().tolist()) for copy in copies[::2]}
    assert len(of_one) == 8
    for move in (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.transpose(-1, -2), lambda x: x.rot90(1, (-2, -1))):
        assert {tuple(move(copy).flatten().tolist()) for copy in copies[::2]} == of_one


def test_accuracies_are_of_the_split_that_is_named(toy: Galaxies) -> None:
    data, protocol = synthetic_set(toy), Protocol(epochs=3, augmentation="none")
    scores = accuracies(data.images, data.labels, NETWORK, [0.05], protocol, toy, ["val", "test"], 2)
    model = train_network(
        data.images, data.labels, NETWORK, [0.05], Protocol(3, augmentation="none", seed=derived_seed(0, "network", 1))
    )
    for split in ("val", "test"):
        galaxies = getattr(toy, split)
        right = model(toy.standardise(galaxies.images)).argmax(1) == galaxies.labels
        assert scores[split][1] == pytest.approx(float(right.float().mean()))
        assert torch.equal(predictions(model, galaxies, toy, torch.device("cpu")) == galaxies.labels, right)
    assert len(scores["test"]) == 2


def test_training_works_where_gradients_are_off(toy: Galaxies) -> None:
    data, protocol = synthetic_set(toy), Protocol(epochs=2)
    arguments = (data.images, data.labels, NETWORK, [0.05], protocol, toy, ["val"], 1)
    wanted = accuracies(*arguments)
    with torch.no_grad():
        assert accuracies(*arguments) == wanted
    state = torch.random.get_rng_state()
    with torch.inference_mode():
        assert accuracies(*arguments) == wanted
    assert torch.equal(torch.random.get_rng_state(), state)


def test_soft_labels_teach_as_well(toy: Galaxies) -> None:
    data, protocol = synthetic_set(toy), Protocol(epochs=3)
    soft = F.one_hot(data.labels, 3).float()
    hard_scores = accuracies(data.images, data.labels, NETWORK, [0.05], protocol, toy, ["test"], 1)
    assert accuracies(data.images, soft, NETWORK, [0.05], protocol, toy, ["test"], 1) == hard_scores


@pytest.mark.parametrize("name", ["AlexNet", "ResNet18"])
def test_other_architectures_train_together(toy: Galaxies, name: str) -> None:
    data, network = synthetic_set(toy, ipc=1), {"name": name, "num_classes": 3, "resolution": 16}
    protocol = Protocol(epochs=2, augmentation="none")
    jobs = [Training(data.images.double(), data.labels, [0.01], seed) for seed in range(2)]
    ours, theirs = (train_networks(jobs, network, protocol, way=way) for way in ("vmap", "loop"))
    for one, other in zip(ours, theirs, strict=True):
        vectors = [FunctionalNetwork.parameters_of(model) for model in (one, other)]
        torch.testing.assert_close(*vectors, rtol=1e-6, atol=1e-9)
