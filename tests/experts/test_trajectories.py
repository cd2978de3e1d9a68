"""What a store keeps, and what it refuses."""

from pathlib import Path

import pytest
import torch

from gz_lightning.errors import InputError
from gz_lightning.experts.expert_file import METRICS, Recipe, write_expert
from gz_lightning.experts.inspection import summary
from gz_lightning.experts.trajectories import TrajectoryStore

RECIPE = Recipe({"name": "ConvNet", "num_classes": 3, "resolution": 16, "width": 4}, "abc", {"lr": 0.1})
ONES = {name: [0.25, 0.75] for name in METRICS}


def test_store_round_trip(tmp_path: Path) -> None:
    rows = torch.randn(3, 50)
    for expert in (4, 0):
        write_expert(tmp_path, expert, rows + expert, ONES, RECIPE)
    store = TrajectoryStore(tmp_path)
    assert (store.experts, store.num_epochs, store.num_parameters, len(store)) == ([0, 4], 2, 50, 2)
    assert store.recipe == RECIPE
    for epoch in range(3):
        assert torch.equal(store.parameters(4, epoch), rows[epoch] + 4)
    assert store.metrics[["expert", "epoch"]].to_numpy().tolist() == [[0, 1], [0, 2], [4, 1], [4, 2]]
    assert store.metrics["val_accuracy"].tolist() == [0.25, 0.75] * 2
    assert "validation accuracy 75.0 ± 0.0 %" in summary(store)


def test_store_refuses_what_does_not_belong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are no experts in .*'gz-lightning fit' trains some"):
        TrajectoryStore(tmp_path)
    write_expert(tmp_path, 0, torch.zeros(3, 50), ONES, RECIPE)
    with pytest.raises(InputError, match="no expert 1 at epoch 0: it has 1 expert and the epochs 0 to 2"):
        TrajectoryStore(tmp_path).parameters(1, 0)
    with pytest.raises(InputError, match="no expert 0 at epoch 3"):
        TrajectoryStore(tmp_path).parameters(0, 3)
    write_expert(tmp_path, 1, torch.zeros(3, 50), ONES, Recipe(RECIPE.network, "abc", {"lr": 0.2}))
    with pytest.raises(InputError, match=r"expert_0001.h5 is not of one kind .*training has lr 0.2 instead of 0.1"):
        TrajectoryStore(tmp_path)
    (tmp_path / "expert_0001.h5").write_bytes(b"no HDF5 at all")
    with pytest.raises(InputError, match=r"expert_0001.h5 .* is damaged"):
        TrajectoryStore(tmp_path)


def test_store_finds_damage_in_the_epoch_that_is_damaged(tmp_path: Path) -> None:
    rows = torch.randn(3, 5000)
    write_expert(tmp_path, 0, rows, ONES, RECIPE)
    path = tmp_path / "expert_0000.h5"
    content = bytearray(path.read_bytes())
    place = content.find(rows[1].numpy().tobytes())
    content[place + 4444] ^= 1
    path.write_bytes(content)
    store = TrajectoryStore(tmp_path)
    assert torch.equal(store.parameters(0, 0), rows[0])
    with pytest.raises(InputError, match=r"expert_0000.h5 .* is damaged"):
        store.parameters(0, 1)
