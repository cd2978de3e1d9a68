"""A small set of the toy galaxies, as a distillation would leave it, and an evaluation without any training."""

from typing import Any

import pytest
import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.evaluation.contenders import Candidate, Contender, Outcome
from gz_lightning.evaluation.record import Evaluation
from gz_lightning.evaluation.tables import tabulated
from gz_lightning.randomness import generator
from gz_lightning.sets.coresets import initial_images
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.training.protocol import Protocol
from tests.conftest import CLASS_NAMES

NETWORK = {"name": "ConvNet", "num_classes": 3, "resolution": 16, "width": 8, "depth": 2}


def synthetic_set(data: Galaxies, ipc: int = 2, **changes: Any) -> SyntheticSet:
    """``ipc`` toy galaxies of each class."""
    images, labels = initial_images("real", data, ipc, generator("set"))
    settings: dict[str, Any] = {
        "images": images, "labels": labels, "step_sizes": torch.tensor([0.02]), "class_names": CLASS_NAMES,
        "mean": data.mean, "std": data.std, "network": NETWORK, "augmentation": "galaxy",
        "data": data.fingerprint, "trajectories": "t", "iteration": 7, "configuration": {"syn_steps": 3},
        "results": {"val_accuracy": 0.5},
    }  # fmt: skip
    return SyntheticSet(**{**settings, **changes})


def vote(galaxies: Galaxies) -> None:
    """Votes of volunteers who did not quite agree, in memory alone; they do not add up to 1."""
    train = galaxies.train
    doubt = torch.rand(train.confidences.shape, generator=generator("votes"))
    train.confidences = 0.5 * torch.eye(galaxies.num_classes)[train.labels] + 0.3 * doubt


def outcome(name: str, right: int, galaxies: Galaxies, networks: int = 2) -> Outcome:
    """An outcome whose networks classify the first ``right`` test galaxies right and all others wrong."""
    labels = galaxies.test.labels
    answers = torch.where(torch.arange(len(labels)) < right, labels, (labels + 1) % galaxies.num_classes)
    logits = torch.nn.functional.one_hot(answers, galaxies.num_classes).float().expand(networks, -1, -1).contiguous()
    candidates = [Candidate([(torch.zeros(6, 3, 16, 16), torch.arange(6) // 2)], [alpha], "a.h5") for alpha in (0.1, 0.2)]
    contender = Contender(name, candidates, Protocol(), networks)
    tried = [("a.h5", "0.1", 0.25), ("a.h5", "0.2", 0.5)]
    hits = (logits.argmax(2) == labels)[None]
    return Outcome(contender, candidates[1], tried, torch.full((1, networks), 0.5), logits, hits)


@pytest.fixture
def evaluation(toy: Galaxies) -> Evaluation:
    """An evaluation with all its tables: 18 test galaxies, of which 9 are classified right after distillation."""
    right = {"distilled": 9, "random real": 6, "full data": 18}
    hard = {name: outcome(name, number, toy) for name, number in right.items()}
    soft = {name: outcome(name, number + 3, toy) for name, number in right.items() if name != "full data"}
    return tabulated(hard, soft, {"AlexNet": {"distilled": 40.0}}, toy, {"epochs": 2, "versions": {"torch": "2"}})
