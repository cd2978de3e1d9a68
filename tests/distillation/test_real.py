"""The finish on real galaxies, beside the published loop written out with plain autograd."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from gz_lightning.augmentation import augment
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.distillation.module import TrajectoryMatching
from gz_lightning.distillation.real import MATCHING_ALONE, RealGalaxies
from gz_lightning.distillation.unroll import UNROLLS
from gz_lightning.errors import InputError
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.networks.registry import build_network
from gz_lightning.randomness import generator
from gz_lightning.sets.synthetic import SyntheticSet
from tests.distillation.conftest import Distil


def real_galaxies(toy: Galaxies, experts: Path, way: str, **sizes: Any) -> RealGalaxies:
    settings = {"syn_steps": 6, "window": 3, "batch_real": 16, "batch_syn": None} | sizes
    recipe = TrajectoryStore(experts).recipe
    network = FunctionalNetwork(build_network(recipe.network))
    return RealGalaxies.of(settings, toy, recipe, network, "galaxy", UNROLLS[way]())


def written_out(real: RealGalaxies, images: torch.Tensor, labels: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """RaT-BPTT: train, forget the graph, train the window, and score on a batch of real galaxies."""
    draws = generator("real")
    seed = int(torch.randint(2**31, (), generator=draws))
    last_begin = real.syn_steps - real.window
    first_begin = min(real.syn_steps // 8, last_begin)
    begin = first_begin + int(torch.randint(last_begin - first_begin + 1, (), generator=draws))
    orders = [torch.arange(len(images)) for _ in range(begin + real.window)]
    if real.batch_syn is not None:
        orders = []
        while len(orders) < begin + real.window:
            orders += torch.randperm(len(images), generator=draws).split(real.batch_syn)
    rows = torch.randint(len(real.galaxies.train), (real.batch_real,), generator=draws)
    theta = FunctionalNetwork.parameters_of(build_network(real.description, seed=seed)).to(images).requires_grad_()
    for step in range(begin + real.window):
        if step == begin:
            theta = theta.detach().requires_grad_()
        batch = augment(images[orders[step]], "galaxy", draws)
        loss = F.cross_entropy(real.network(theta, batch), labels[orders[step]])
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - alpha * gradient
    galaxies = real.galaxies.standardise(real.galaxies.train.images[rows]).to(images)
    return F.cross_entropy(real.network(theta, augment(galaxies, "galaxy", draws)), real.galaxies.train.labels[rows])


@pytest.mark.parametrize("way", [name for name, way in UNROLLS.items() if way.exact])
@pytest.mark.parametrize("sizes", [{}, {"batch_syn": 2}, {"window": 6}, {"syn_steps": 20, "window": 2}], ids=str)
def test_loss_and_gradients_are_those_of_plain_autograd(
    way: str, sizes: dict[str, int], toy: Galaxies, toy_experts: Path
) -> None:
    real = real_galaxies(toy, toy_experts, way, **sizes)
    images = torch.randn(6, 3, 16, 16, dtype=torch.float64, generator=generator(3)).requires_grad_()
    labels, alpha = torch.arange(6) % 3, torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    expected = written_out(real, images, labels, alpha)
    drawn = real.drawn(len(images), generator("real"))
    loss = real.loss(drawn, real.student(drawn, images, labels, alpha))
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    theirs = torch.autograd.grad(expected, [images, alpha])
    for ours, one in zip(torch.autograd.grad(loss, [images, alpha]), theirs, strict=True):
        assert float(one.norm()) > 1e-9
        assert float((ours - one).norm() / one.norm()) < 1e-9


def test_windows_begin_everywhere_but_in_the_first_steps(toy: Galaxies, toy_experts: Path) -> None:
    real = real_galaxies(toy, toy_experts, "adjoint", syn_steps=16, window=10)
    draws = generator(1)
    drawn = [real.drawn(6, draws) for _ in range(200)]
    assert {one.before for one in drawn} == {2, 3, 4, 5, 6}
    assert all(len(one.rows) == one.before + 10 for one in drawn)
    assert len({one.initialisation for one in drawn}) == 200
    assert {int(place) for one in drawn for place in one.galaxies} == set(range(len(toy.train)))
    default = RealGalaxies.of(
        {"syn_steps": 80, "window": None, "batch_real": None, "batch_syn": None}, toy, TrajectoryStore(toy_experts).recipe,
        real.network, "none", real.way,
    )  # fmt: skip
    assert (default.window, default.batch_real) == (40, 256)


def test_a_finish_begins_with_the_set_and_its_step_size_and_the_real_loss_falls(
    distil: Distil, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matched = distil(tmp_path / "matched", iterations=1).synthetic_set()
    matched.step_sizes = torch.tensor([0.02])
    matched.save(tmp_path / "matched.h5")
    real: dict[str, Any] = {
        "objective": "real", "load_syn_image": str(tmp_path / "matched.h5"), "lr_teacher": None, "syn_steps": 20,
        "lr_img": 0.05,
    }  # fmt: skip
    capsys.readouterr()
    finished = distil(tmp_path / "run", **real, iterations=40)
    said = " ".join(capsys.readouterr().err.split())
    assert "trains a fresh network for up to 20 steps, differentiates the last 10, and scores it on 256 of the" in said
    assert finished.first_step_size == pytest.approx(0.02)
    assert not torch.equal(finished.images, matched.images)
    losses = []
    for images in (matched.images, finished.images.detach()):
        drawn = [finished.real.drawn(len(images), generator("score", i)) for i in range(8)]
        students = [finished.real.student(one, images, matched.labels, torch.tensor(0.02)) for one in drawn]
        scores = [finished.real.loss(*pair).detach() for pair in zip(drawn, students, strict=True)]
        losses.append(float(torch.stack(scores).mean()))
    assert losses[1] < losses[0] - 0.01


def test_a_finish_goes_on_with_the_same_bits(distil: Distil, tmp_path: Path) -> None:
    distil(tmp_path / "matched", iterations=1).synthetic_set().save(tmp_path / "matched.h5")
    real: dict[str, Any] = {"objective": "real", "load_syn_image": str(tmp_path / "matched.h5"), "lr_teacher": None}
    whole = distil(tmp_path / "whole", **real, iterations=4)
    distil(tmp_path / "cut", **real, iterations=2)
    resumed = distil(tmp_path / "cut", tmp_path / "cut" / "checkpoints" / "last.ckpt", **real, iterations=4)
    assert resumed.iteration == 4
    assert torch.equal(resumed.images, whole.images)
    assert torch.equal(resumed.log_step_sizes, whole.log_step_sizes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 5}, "--model.window is of --model.objective real"),
        ({"batch_real": 5}, "--model.batch_real is of --model.objective real"),
        ({"objective": "real", "load_syn_image": "a.h5", "path": "straight"}, "--model.path is of --model.objective match"),
        ({"objective": "real", "load_syn_image": "a.h5", "stage": "fixed"}, "--model.stage is of --model.objective match"),
        ({"objective": "real", "load_syn_image": "a.h5", "graph": "on"}, "--model.graph on is of --model.objective match"),
        (
            {"objective": "real", "load_syn_image": "a.h5", "window": 81},
            r"window \(81\) must be at most --model.syn_steps",
        ),
        ({"objective": "real"}, "name them by --model.load_syn_image"),
    ],
)
def test_what_has_no_effect_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrajectoryMatching("experts", **settings)


def test_the_defaults_that_are_let_through_are_those_of_the_module() -> None:
    signature = inspect.signature(TrajectoryMatching.__init__).parameters
    assert {name: signature[name].default for name in MATCHING_ALONE} == MATCHING_ALONE


def test_a_set_without_a_step_size_needs_one(distil: Distil, tmp_path: Path) -> None:
    bare = distil(tmp_path / "matched", iterations=1).synthetic_set()
    bare.step_sizes = torch.empty(0)
    bare.save(tmp_path / "bare.h5")
    with pytest.raises(InputError, match=r"bare.h5 has no step size; give --model.lr_teacher"):
        distil(tmp_path / "run", objective="real", load_syn_image=str(tmp_path / "bare.h5"), lr_teacher=None)
    assert len(SyntheticSet.load(tmp_path / "bare.h5").step_sizes) == 0
