"""Ways to read a trajectory, beside the published one written out."""

import itertools
from pathlib import Path

import pytest
import torch

from gz_lightning.errors import InputError
from gz_lightning.experts.expert_file import write_expert
from gz_lightning.experts.paths import PATHS, RawPath, StraightPath
from gz_lightning.experts.trajectories import TrajectoryStore


def published(layers: list[list[torch.Tensor]], epoch: float) -> list[torch.Tensor]:
    """MCT with the two ends as waypoints, layer by layer and epoch by epoch; ``layers[s][l]`` is theta_{s,l}."""
    point = []
    for layer in range(len(layers[0])):
        way = [float((later[layer] - here[layer]).norm()) for here, later in itertools.pairwise(layers)]
        gone = sum(way[: int(epoch)])
        if epoch > int(epoch):
            gone += (epoch - int(epoch)) * way[int(epoch)]
        beta = gone / sum(way) if sum(way) else 0.0
        point.append(layers[0][layer] + beta * (layers[-1][layer] - layers[0][layer]))
    return point


@pytest.mark.parametrize("epoch", [0, 0.25, 1, 2.5, 3.75, 4])
def test_a_straight_path_is_the_published_one(toy_experts: Path, epoch: float) -> None:
    store = TrajectoryStore(toy_experts)
    shapes = [parameter.shape for parameter in store.network().parameters()]
    for expert in store.experts:
        rows = store.trajectory(expert).double()
        layers = [[part.view(shape) for part, shape in zip(row.split([s.numel() for s in shapes]), shapes, strict=True)]
                  for row in rows]  # fmt: skip
        expected = torch.cat([part.flatten() for part in published(layers, epoch)])
        torch.testing.assert_close(StraightPath(store).point(expert, epoch).double(), expected, rtol=1e-5, atol=1e-6)


def test_a_straight_path_begins_and_ends_with_the_expert(toy_experts: Path) -> None:
    store = TrajectoryStore(toy_experts)
    path = StraightPath(store)
    assert torch.equal(path.point(1, 0), store.parameters(1, 0))
    moved = path.shares(1)[-1].repeat_interleave(path.sizes) > 0
    torch.testing.assert_close(path.point(1, 4)[moved], store.parameters(1, 4)[moved], rtol=1e-6, atol=1e-7)


def test_a_layer_that_does_not_move_stays(toy_experts: Path, tmp_path: Path) -> None:
    """Its length is 0, and 0 / 0 is no share of a way."""
    store = TrajectoryStore(toy_experts)
    first = next(iter(store.network().parameters())).numel()
    rows = store.trajectory(0)
    rows[:, :first] = rows[0, :first]
    metrics = {name: store.metrics.query("expert == 0")[name].tolist() for name in store.metrics.columns[2:]}
    write_expert(tmp_path, 0, rows, metrics, store.recipe)
    still = StraightPath(TrajectoryStore(tmp_path))
    assert torch.equal(still.shares(0)[:, 0], torch.zeros(5))
    assert torch.equal(still.point(0, 2.5)[:first], rows[0, :first])


def test_a_raw_path_is_the_stored_epochs(toy_experts: Path) -> None:
    store = TrajectoryStore(toy_experts)
    for epoch, stored in ((0, 0), (2, 2), (2.9, 2), (4, 4)):
        assert torch.equal(RawPath(store).point(1, epoch), store.parameters(1, stored))
        assert (RawPath(store).epoch(epoch), StraightPath(store).epoch(epoch)) == (stored, epoch)


@pytest.mark.parametrize("name", list(PATHS))
def test_what_is_not_there_is_refused(name: str, toy_experts: Path) -> None:
    path = PATHS[name](TrajectoryStore(toy_experts))
    for expert, epoch in ((7, 0.0), (0, 5.0), (0, -0.5)):
        with pytest.raises(InputError, match=r"has no expert \d at epoch"):
            path.point(expert, epoch)
