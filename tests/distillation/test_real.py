"""The finish on real galaxies, beside the published loop written out with plain autograd."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer

from gz_lightning.augmentation import augment
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.distillation.module import TrajectoryMatching
from gz_lightning.distillation.real import MATCHING_ALONE, RealGalaxies, window_of
from gz_lightning.distillation.unroll import UNROLLS
from gz_lightning.errors import InputError
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.networks.registry import build_network
from gz_lightning.randomness import generator
from gz_lightning.sets.synthetic import SyntheticSet
from tests.distillation.conftest import Distil


def real_galaxies(toy: Galaxies, experts: Path, way: str, **sizes: Any) -> RealGalaxies:
    settings = {"objective": "real", "ipc": 1, "syn_steps": 9, "window": 3, "batch_real": 16, "batch_syn": None} | sizes
    recipe = TrajectoryStore(experts).recipe
    network = FunctionalNetwork(build_network(recipe.network))
    return RealGalaxies.of(settings, toy, recipe, network, sizes.get("batch_syn"), "galaxy", UNROLLS[way]())


class WrittenOut:
    """RaT-BPTT with a pool and annealed students: train, forget the graph, train the window, and score on real galaxies."""

    def __init__(self, real: RealGalaxies) -> None:
        self.real = real
        self.students: dict[int, tuple[int, torch.Tensor]] = {}

    def loss(self, images: torch.Tensor, labels: torch.Tensor, alpha: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
        real, number = self.real, len(self.real.pool)
        student = int(torch.randint(number, (), generator=draws))
        seed = int(torch.randint(2**31, (), generator=draws))
        offset = int(torch.randint(real.window, (), generator=draws))
        fresh = FunctionalNetwork.parameters_of(build_network(real.description, seed=seed)).to(images)
        before = 0
        if student not in self.students:
            before = student * (real.syn_steps - real.window) // number
            age, theta = before, fresh
        else:
            age, theta = self.students[student]
            if age + real.window > real.syn_steps:
                before = min(offset, real.syn_steps - real.window)
                age, theta = before, fresh
        orders = [torch.arange(len(images)) for _ in range(before + 2 * real.window)]
        if real.batch_syn is not None:
            orders = []
            while len(orders) < before + 2 * real.window:
                orders += torch.randperm(len(images), generator=draws).split(real.batch_syn)
        rows = torch.randint(len(real.galaxies.train), (real.batch_real,), generator=draws)
        velocity = torch.zeros_like(theta)
        theta = theta.requires_grad_()
        for step in range(before + 2 * real.window):
            if step in (before, before + real.window):
                theta, velocity = theta.detach().requires_grad_(), torch.zeros_like(theta)
            if step == before + real.window:
                self.students[student] = age + real.window, theta.detach()
                alpha = alpha / 10
            batch = augment(images[orders[step]], "galaxy", draws)
            loss = F.cross_entropy(real.network(theta, batch), labels[orders[step]])
            (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
            velocity = 0.9 * velocity + gradient
            theta = theta - alpha * velocity
        galaxies = real.galaxies.standardise(real.galaxies.train.images[rows]).to(images)
        logits = real.network(theta, augment(galaxies, "galaxy", draws))
        labels = real.galaxies.train.labels[rows]
        grid = [10 ** (-1.5 + 0.1 * i) for i in range(36)]
        losses: list[torch.Tensor] = [F.cross_entropy(logits / temperature, labels) for temperature in grid]
        return min(losses, key=lambda loss: float(loss.detach()))


@pytest.mark.parametrize("way", [name for name, way in UNROLLS.items() if way.exact])
@pytest.mark.parametrize("sizes", [{}, {"batch_syn": 2}, {"window": 9}, {"syn_steps": 20, "window": 2}], ids=str)
def test_loss_and_gradients_are_those_of_plain_autograd(
    way: str, sizes: dict[str, int], toy: Galaxies, toy_experts: Path
) -> None:
    real = real_galaxies(toy, toy_experts, way, **sizes)
    real.pool = real.pool[:2]
    written_out = WrittenOut(real)
    images = torch.randn(6, 3, 16, 16, dtype=torch.float64, generator=generator(3)).requires_grad_()
    labels, alpha = torch.arange(6) % 3, torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    for iteration in range(9):  # each student is retired at least once
        expected = written_out.loss(images, labels, alpha, generator("real", iteration))
        drawn = real.drawn(len(images), generator("real", iteration))
        loss, none, *gradients = real.work(drawn, images, labels, alpha, [images, alpha])
        assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-12)
        assert not none
        for ours, theirs in zip(gradients, torch.autograd.grad(expected, [images, alpha]), strict=True):
            assert float(theirs.norm()) > 1e-9
            assert float((ours - theirs).norm() / theirs.norm()) < 1e-9


def test_students_of_all_ages_are_scored_and_none_gets_too_old(toy: Galaxies, toy_experts: Path) -> None:
    real = real_galaxies(toy, toy_experts, "adjoint", syn_steps=100, window=10)
    draws, ages, seeds = generator(1), [], []
    for _ in range(400):
        drawn = real.drawn(6, draws)
        assert len(drawn.rows) == (20 if drawn.initialisation is None else drawn.age + 20)
        real.keep(drawn, torch.ones(3))
        ages.append(drawn.age)
        seeds += [] if drawn.initialisation is None else [drawn.initialisation]
    assert set(range(10)) <= set(ages)  # windows are not always at the same steps
    assert max(ages) in range(81, 91), max(ages)
    assert len({age // 10 for age in ages}) == 10
    assert len(set(seeds)) == len(seeds) > 30


def test_a_student_that_is_not_finite_makes_room_for_a_fresh_one(toy: Galaxies, toy_experts: Path) -> None:
    real = real_galaxies(toy, toy_experts, "adjoint")
    real.pool = real.pool[:1]
    real.keep(real.drawn(6, generator(1)), torch.ones(3))
    assert real.drawn(6, generator(2)).initialisation is None
    real.keep(real.drawn(6, generator(2)), torch.tensor([1.0, torch.nan, 1.0]))
    assert real.drawn(6, generator(3)).initialisation is not None


def test_sizes_that_are_not_given_are_the_default(toy: Galaxies, toy_experts: Path) -> None:
    settings = {"objective": "match", "ipc": 1, "syn_steps": 50, "window": None, "batch_real": None}
    recipe, network = TrajectoryStore(toy_experts).recipe, FunctionalNetwork(TrajectoryStore(toy_experts).network())
    default = RealGalaxies.of(settings, toy, recipe, network, None, "none", UNROLLS["adjoint"]())
    assert (default.syn_steps, default.window, default.batch_real, len(default.pool)) == (240, 60, 256, 12)
    assert [window_of(settings | {"ipc": ipc}) for ipc in (1, 2, 10)] == [60, 20, 20]


def test_a_finish_begins_with_the_set_and_its_step_size_and_the_real_loss_falls(
    distil: Distil, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matched = distil(tmp_path / "matched", iterations=1).synthetic_set()
    matched.step_sizes = torch.tensor([0.02])
    matched.images = torch.randn(matched.images.shape, generator=generator(5))  # nothing is to be learned from these yet
    matched.save(tmp_path / "matched.h5")
    real: dict[str, Any] = {
        "objective": "real", "finish": None, "load_syn_image": str(tmp_path / "matched.h5"), "lr_teacher": None,
        "syn_steps": 20, "lr_img": 0.05,
    }  # fmt: skip
    capsys.readouterr()
    finished = distil(tmp_path / "run", **real, iterations=40)
    said = " ".join(capsys.readouterr().err.split())
    assert "40 iterations of a finish on real galaxies: each takes one of 12 students (of up to 20 steps)" in said
    assert "40 iterations on real galaxies x 40 steps" in said  # 20 that age the student, 20 that are differentiated
    assert finished.first_step_size == pytest.approx(0.02)
    assert not torch.equal(finished.images, matched.images)
    losses = []
    for images in (matched.images, finished.images.detach()):
        drawn = [finished.real.drawn(len(images), generator("score", i)) for i in range(8)]
        students = [finished.real.students(one, images, matched.labels, torch.tensor(0.02))[1] for one in drawn]
        scores = [finished.real.score(one, student.detach())[0] for one, student in zip(drawn, students, strict=True)]
        losses.append(float(torch.stack(scores).mean()))
    assert losses[1] < 0.8 * losses[0]


class StopAt(Callback):
    """Ends a run after an iteration, as a time limit would."""

    watches_only = True

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
        assert isinstance(pl_module, TrajectoryMatching)
        trainer.should_stop = trainer.should_stop or pl_module.iteration >= self.iteration


FINISH: dict[str, Any] = {"iterations": 3, "finish": 5, "init_epoch": 1, "max_duration": 10}


@pytest.mark.parametrize("cut", [1, 3, 4])
def test_a_run_with_a_finish_goes_on_with_the_same_bits(distil: Distil, tmp_path: Path, cut: int) -> None:
    whole = distil(tmp_path / "whole", **FINISH)
    distil(tmp_path / "cut", callbacks=[StopAt(cut)], **FINISH)
    resumed = distil(tmp_path / "cut", tmp_path / "cut" / "checkpoints" / "last.ckpt", **FINISH)
    assert resumed.iteration == whole.iteration == 8
    assert torch.equal(resumed.images, whole.images)
    assert torch.equal(resumed.log_step_sizes, whole.log_step_sizes)


def test_a_finish_that_has_begun_keeps_its_length(distil: Distil, tmp_path: Path) -> None:
    distil(tmp_path / "cut", callbacks=[StopAt(4)], **FINISH)
    checkpoint = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    for change in ({"finish": 6}, {"iterations": 4}):
        with pytest.raises(InputError, match=r"began at iteration 3, for 5 iterations.*cannot change any more"):
            distil(tmp_path / "cut", checkpoint, **FINISH | change)


def test_the_finish_follows_the_stages(distil: Distil, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = distil(tmp_path / "alone", **FINISH | {"finish": 0})
    capsys.readouterr()
    run = distil(tmp_path / "run", **FINISH)
    said = " ".join(capsys.readouterr().err.split())
    assert "iteration 2: the matching is over; 5 iterations on real galaxies follow" in said
    assert run.iteration == 8
    assert alone.iteration == 3
    assert run.finish.first == 3
    assert not torch.equal(run.images, alone.images)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"iterations": 9, "window": 5}, "--model.window is of a finish on real galaxies"),
        ({"stage": "fixed", "batch_real": 5}, "--model.batch_real is of a finish on real galaxies"),
        ({"objective": "real", "load_syn_image": "a.h5", "path": "straight"}, "--model.path is of --model.objective match"),
        ({"objective": "real", "load_syn_image": "a.h5", "stage": "fixed"}, "--model.stage is of --model.objective match"),
        ({"objective": "real", "load_syn_image": "a.h5", "graph": "on"}, "--model.graph on is of --model.objective match"),
        (
            {"objective": "real", "load_syn_image": "a.h5", "window": 241},
            r"window \(241\) must be at most --model.syn_steps",
        ),
        ({"ipc": 2, "window": 241}, r"window \(241\) must be at most the steps of a student of the finish"),
        ({"finish": 5, "step_sizes": "independent"}, "--model.finish needs one step size"),
        ({"objective": "real", "load_syn_image": "a.h5", "finish": 5}, "a run of real has --model.iterations"),
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
        distil(tmp_path / "run", objective="real", finish=None, load_syn_image=str(tmp_path / "bare.h5"), lr_teacher=None)
    assert len(SyntheticSet.load(tmp_path / "bare.h5").step_sizes) == 0
