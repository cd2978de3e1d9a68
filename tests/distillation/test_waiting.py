"""Nothing in an iteration makes the host wait for a GPU: shown without one.

On the CPU, a mode refuses the operators that would wait. On the meta device, whose tensors have no values, a read raises,
and so does a tensor left behind on the CPU. What is drawn on the host is drawn before.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gz_lightning.augmentation import FAMILIES
from gz_lightning.distillation.matching import Drawn
from gz_lightning.distillation.module import TrajectoryMatching
from gz_lightning.distillation.readings import Readings
from gz_lightning.distillation.unroll import unroll
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.randomness import generator
from tests.distillation.conftest import Distil
from tests.no_waiting import NoWaiting


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: float(x.sum()),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.equal(x, x),
        lambda x: x.masked_select(x > 0),
        lambda x: x.unique(),
        lambda x: nn.functional.one_hot(x.long(), 3),
    ],
)
def test_the_mode_sees_what_waits(wait: Callable[[torch.Tensor], object]) -> None:
    with NoWaiting(), pytest.raises(AssertionError, match="makes the host wait"):
        wait(torch.arange(3.0))


SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "full, published, in minibatches": {"unroll": "full", "image_update": "published", "batch_syn": 4, "lr_img": 1.0},
    "first order, no augmentation": {"unroll": "first_order", "augmentation": "none"},
    "learned labels, independent step sizes": {"labels": "experts", "lr_label": 1.0, "step_sizes": "independent"},
    "no memory": {"memory_budget": 0.0, "stage": "fixed", "segments_per_step": 2},
    "no momentum": {"momentum": 0.0},
    "straight path, momentum of the student": {"path": "straight", "student_momentum": 0.5},
}


class Watched:
    """Runs the iterations of a distillation under a mode; what they draw was drawn before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.modes: list[NoWaiting] = []
        self.settled = 0
        step, settle = TrajectoryMatching.training_step, Readings.settle

        def training_step(module: TrajectoryMatching, batch: int, batch_idx: int) -> None:
            draw: Callable[[int], Drawn] = TrajectoryMatching.drawn.__get__(module)
            places = {place: draw(place) for place in range(module.hparams["segments_per_step"])}
            monkeypatch.setattr(TrajectoryMatching, "drawn", lambda _, place: places[place])
            with NoWaiting() as mode:
                step(module, batch, batch_idx)
            monkeypatch.setattr(TrajectoryMatching, "drawn", lambda module, place: drawn(module, place))
            self.modes.append(mode)

        def outside(readings: Readings) -> None:
            self.settled += bool(readings.unread)
            with torch.utils._python_dispatch._disable_current_modes():
                settle(readings)

        drawn = TrajectoryMatching.drawn
        monkeypatch.setattr(TrajectoryMatching, "training_step", training_step)
        monkeypatch.setattr(Readings, "settle", outside)
        monkeypatch.setattr("gz_lightning.distillation.module.may_wait", lambda *_: True)


@pytest.mark.parametrize("name", list(SETTINGS))
def test_no_operator_of_an_iteration_waits(
    name: str, distil: Distil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = distil(tmp_path / "plain", iterations=4, **SETTINGS[name])
    watched = Watched(monkeypatch)
    found = distil(tmp_path / "watched", iterations=4, **SETTINGS[name])
    assert torch.equal(plain.images, found.images)
    assert len(watched.modes) == 4
    assert min(mode.seen for mode in watched.modes) > 300  # whole iterations
    assert watched.settled == 1  # nothing was read before the end


@pytest.mark.parametrize("name", list(SETTINGS))
def test_nothing_of_an_iteration_is_left_on_the_cpu(name: str, distil: Distil, tmp_path: Path) -> None:
    """On the meta device with draws of the host; six copies go there for a segment, or fewer where there is less."""
    settings = {**SETTINGS[name], "iterations": 2, "syn_steps": 20}
    module = distil(tmp_path, **settings)
    module.to("meta")
    module.labels = module.labels.to("meta")
    module.trainer.strategy.optimizers = [module.configure_optimizers()]
    module.matched, module.readings.wait = module.work, True
    module.finish.matching, module.trainer.log_every_n_steps = 1000, 1000  # type: ignore[attr-defined]
    with NoWaiting("meta") as mode:
        for _ in range(2):
            module.training_step(0, 0)
    assert module.images.is_meta
    assert len(module.readings.unread) == 2
    assert all(numbers.is_meta for *_, numbers in module.readings.unread)
    segments = 2 * settings.get("segments_per_step", 1)
    galaxy, probe = settings.get("augmentation") != "none", settings.get("stage") != "fixed"
    assert mode.copies == segments * (3 + galaxy + 2 * probe)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_augmentations_leave_nothing_on_the_cpu(family: str) -> None:
    images = torch.empty(4, 3, 12, 12, device="meta", requires_grad=True)
    with NoWaiting("meta") as mode:
        result = FAMILIES[family](images, generator(0))
        assert torch.autograd.grad(result.sum(), images)[0].shape == images.shape
    assert result.is_meta
    assert 0 < mode.copies <= 3


@pytest.mark.parametrize("way", ["adjoint", "full"])
def test_a_network_without_written_derivatives_does_not_wait(way: str) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(100, 3))
    network = FunctionalNetwork(module)
    theta, images = torch.empty(network.num_parameters, device="meta"), torch.empty(6, 3, 12, 12, device="meta")
    images.requires_grad_()
    labels, alpha = torch.empty(6, dtype=torch.int64, device="meta"), torch.empty((), device="meta", requires_grad=True)
    with NoWaiting("meta"):
        student = unroll(network, theta, [images] * 3, [labels] * 3, alpha, way)
        to_images, to_alpha = torch.autograd.grad(student.square().sum(), [images, alpha])
    assert to_images.is_meta
    assert to_alpha.is_meta
