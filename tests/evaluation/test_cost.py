"""What an evaluation says it will take."""

from pathlib import Path

import pytest
import torch

from gz_lightning.evaluation.contenders import Candidate, Contender
from gz_lightning.evaluation.cost import announce_networks
from gz_lightning.training.protocol import Protocol

NETWORK = {
    "name": "ConvNet",
    "num_classes": 3,
    "resolution": 16,
    "width": 4,
    "depth": 2,
    "norm": "instance",
    "pooling": "avg",
}


def test_networks_and_steps_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    one = torch.zeros(3, 3, 16, 16), torch.arange(3)
    training = Protocol(epochs=10, batch_size=2, symmetries=8)
    chosen = Contender("herding", [Candidate([one, one], [alpha]) for alpha in (0.01, 0.1)], training, networks=5)
    alone = Contender("distilled", [Candidate([one], [0.01, 0.02])], training, networks=5, syn_steps=20)
    announce_networks([chosen, alone], NETWORK, torch.device("cpu"), Path("evaluation"))
    networks = 2 * 2 * 2 + 2 * 5, 5  # two judges for each draw of each candidate, then five for each draw of the chosen one
    steps = networks[0] * 10 * 12 + networks[1] * (20 + 20 + 5) * 12
    said = capsys.readouterr().err
    assert f"{sum(networks)} fresh networks of " in said
    assert f"parameters to train, {steps:,} steps in all; 2 MB in evaluation, about " in said
