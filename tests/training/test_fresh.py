"""Fresh networks against plain training, and many at once against one after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from gz_lightning.augmentation import DSA, augment
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.networks.ensemble import Ensemble
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.networks.registry import build_network
from gz_lightning.randomness import derived_seed, generator
from gz_lightning.training.fresh import Training, accuracies, predictions, train_network, train_networks
from gz_lightning.training.protocol import Protocol, symmetric_copies
from tests.evaluation.conftest import NETWORK, synthetic_set


def plain_training(
    images: torch.Tensor, labels: torch.Tensor, step_sizes: Sequence[float], protocol: Protocol, syn_steps: int = 0
) -> torch.Tensor:
    """SGD with momentum and weight decay, written out: the parameters after training."""
    if protocol.symmetries == 8:
        images, labels = symmetric_copies(images, labels)
    network = build_network(NETWORK, seed=derived_seed(protocol.seed, "initialisation")).to(images.dtype)
    parameters = list(network.parameters())
    velocity = [torch.zeros_like(p) for p in parameters]
    draws = generator(protocol.seed, "training")
    for alpha in protocol.step_size_schedule(step_sizes, syn_steps):
        for rows in torch.randperm(len(images), generator=draws).split(protocol.batch_size):
            loss = F.cross_entropy(network(augment(images[rows], protocol.augmentation, draws)), labels[rows])
            for i, gradient in enumerate(torch.autograd.grad(loss, parameters)):
                velocity[i] = protocol.momentum * velocity[i] + gradient + protocol.weight_decay * parameters[i].detach()
            with torch.no_grad():
                for p, v in zip(parameters, velocity, strict=True):
                    p.sub_(alpha * v)
    return FunctionalNetwork.parameters_of(network)


def test_training_against_the_plain_loop(toy: Galaxies) -> None:
    data, protocol = synthetic_set(toy), Protocol(epochs=4, augmentation="flip_scale", seed=5, batch_size=4)
    model = train_network(data.images, data.labels, NETWORK, [0.05], protocol)
    plain = plain_training(data.images, data.labels, [0.05], protocol)
    torch.testing.assert_close(FunctionalNetwork.parameters_of(model), plain, rtol=1e-3, atol=1e-5)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Two threads for a moment."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("symmetries", [1, 8])
def test_together_is_one_by_one(toy: Galaxies, soft: bool, symmetries: int) -> None:
    """In float64, with different sets, seeds and step sizes, and sets of two sizes."""
    protocol = Protocol(epochs=3, augmentation=DSA, batch_size=4, symmetries=symmetries)
    trainings = []
    for seed, (ipc, alphas) in enumerate([(2, [0.05]), (2, [0.01]), (2, [0.02, 0.01]), (1, [0.05])]):
        data = synthetic_set(toy, ipc=ipc)
        labels = F.one_hot(data.labels, 3).double() * 0.7 + 0.1 if soft else data.labels
        trainings.append(Training(data.images.double() * (1 + 0.1 * seed), labels, alphas, seed))
    ticks: list[float] = []
    models = train_networks(trainings, NETWORK, protocol, 2, ticks.append)
    assert len(ticks) > len(models) == 4  # after each epoch
    assert sum(ticks) == pytest.approx(4)
    assert torch.get_num_threads() == 2
    for model, one in zip(models, trainings, strict=True):
        plain = plain_training(one.images, one.labels, one.step_sizes, replace(protocol, seed=one.seed), 2)
        theta = FunctionalNetwork.parameters_of(model)
        assert theta.dtype == torch.float64
        torch.testing.assert_close(theta, plain, rtol=1e-9, atol=1e-11)
        assert not model.training


def test_the_number_of_threads_changes_nothing(toy: Galaxies) -> None:
    data, protocol = synthetic_set(toy), Protocol(epochs=3, augmentation="galaxy")
    trainings = [Training(data.images, data.labels, [0.05], seed) for seed in range(10)]  # two stacks
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            models = train_networks(trainings, NETWORK, protocol)
        finally:
            torch.set_num_threads(1)
        results.append(torch.stack([FunctionalNetwork.parameters_of(model) for model in models]))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_no_network_is_none() -> None:
    assert train_networks([], NETWORK, Protocol()) == []


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


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("name", ["AlexNet", "ResNet18"])
def test_other_architectures_train_together(toy: Galaxies, name: str) -> None:
    data, network = synthetic_set(toy, ipc=1), {"name": name, "num_classes": 3, "resolution": 16}
    protocol = Protocol(epochs=2, augmentation="none")
    trainings = [Training(data.images.double(), data.labels, [0.01], seed) for seed in range(2)]
    together = train_networks(trainings, network, protocol)
    for model, one in zip(together, trainings, strict=True):
        alone = train_network(one.images, one.labels, network, one.step_sizes, replace(protocol, seed=one.seed))
        vectors = [FunctionalNetwork.parameters_of(trained) for trained in (model, alone)]
        torch.testing.assert_close(*vectors, rtol=1e-6, atol=1e-9)


def test_a_failure_in_a_thread_is_not_lost(toy: Galaxies, monkeypatch: pytest.MonkeyPatch) -> None:
    data = synthetic_set(toy)
    trainings = [Training(data.images, data.labels, [0.05], seed) for seed in range(17)]
    monkeypatch.setattr(Ensemble, "losses_logits_gradients", lambda *_: 1 / 0)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            with pytest.raises(ZeroDivisionError):
                train_networks(trainings, NETWORK, Protocol(epochs=2))
        finally:
            torch.set_num_threads(1)
