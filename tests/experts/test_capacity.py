"""How many experts at once, and whether they fit."""

from pathlib import Path

import pytest
import torch

from gz_lightning import memory
from gz_lightning.errors import InputError
from gz_lightning.experts.capacity import fitting_number, require_room
from gz_lightning.networks.ensemble import Ensemble

NETWORK = {"name": "ConvNet", "num_classes": 3, "resolution": 8, "width": 4, "depth": 2}


def test_one_at_a_time_where_there_is_no_gpu() -> None:
    assert fitting_number(Ensemble(NETWORK), (256, 3, 8, 8), 4) == 1


def test_a_gpu_takes_a_stack_and_half_of_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble, batch = Ensemble(NETWORK), (256, 3, 128, 128)
    ensemble.device, ensemble._stacks_by_vmap = torch.device("cuda"), True
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**40, 2**40))
    assert fitting_number(ensemble, batch, 128) == ensemble.stack_size(batch) == 4
    a_step = 4 * 8 * 128 * 256 * 128**2  # bytes
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5 * a_step, 2**40))
    assert fitting_number(ensemble, batch, 128) == 2
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (a_step, 2**40))
    assert fitting_number(ensemble, batch, 128) == 1


def settings(folder: Path, **changes: object) -> dict[str, object]:
    plain = {"train_epochs": 50, "compression": "none", "precision": "float32", "trajectories": str(folder), "width": 4}
    return plain | changes


@pytest.fixture(autouse=True)
def _a_gibibyte(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is free."""
    monkeypatch.setattr(memory, "free_memory", lambda device="cpu": 2**30)


def test_trajectories_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    ensemble, batch = Ensemble(NETWORK), (16, 3, 8, 8)
    require_room(ensemble, 2, batch, settings(tmp_path), 2)
    with pytest.raises(InputError, match="50 epochs of 1000000 experts at once take .* fewer --model.experts_at_once"):
        require_room(ensemble, 10**6, batch, settings(tmp_path), 10**6)
    with pytest.raises(InputError, match="1000000000000 experts take .* fewer --model.num_experts or --model.precision"):
        require_room(ensemble, 1, batch, settings(tmp_path), 10**12)
    require_room(ensemble, 1, batch, settings(tmp_path, compression="gzip"), 10**12)  # nobody knows how small


def test_batches_that_do_not_fit_are_refused_but_of_a_convnet(tmp_path: Path) -> None:
    """A ConvNet works on its batches in portions."""
    batch = (10**9, 3, 16, 16)
    require_room(Ensemble(NETWORK), 1, batch, settings(tmp_path), 1)
    alexnet = Ensemble({"name": "AlexNet", "num_classes": 3, "resolution": 16})
    with pytest.raises(InputError, match="batches of 1000000000 galaxies take .* a smaller --data.batch_size"):
        require_room(alexnet, 1, batch, settings(tmp_path, train_epochs=1), 1)
