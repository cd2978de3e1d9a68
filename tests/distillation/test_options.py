"""What is off by default: several segments, window, moving average, learned labels, skipped updates, nearest match."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from PIL import Image

from gz_lightning.data.datamodule import GalaxyZoo2DataModule
from gz_lightning.distillation.evaluating import stretched
from gz_lightning.distillation.labels import logits_of_experts, logits_of_shares
from gz_lightning.distillation.matching import matching_loss, nearest_step
from gz_lightning.distillation.module import TrajectoryMatching
from gz_lightning.distillation.unroll import unroll
from gz_lightning.errors import InputError
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.networks.registry import build_network
from gz_lightning.randomness import generator
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.storage.checkpoints import LAST
from tests.distillation.conftest import SETTINGS, Distil


class Images(pl.Callback):
    """Images after every iteration."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, TrajectoryMatching)
        self.seen.append(pl_module.images.detach().clone())


def test_segments_are_averaged(distil: Distil, tmp_path: Path) -> None:
    """One update of plain SGD by the mean gradient of three segments, each written out."""
    settings: dict[str, Any] = {"image_update": "published", "lr_img": 5.0, "stage": "fixed", "iterations": 1}
    found = distil(tmp_path / "found", segments_per_step=3, **settings)
    first = distil(tmp_path / "first", **{**settings, "lr_img": 0.0}).images.detach()
    gradients: list[torch.Tensor] = []
    for place in range(3):
        draws = generator(0, "iteration", 0, *([place] if place else []))
        expert = found.segments.expert(draws)
        torch.rand((), generator=draws)
        start, target = found.segments.ends(expert, place % 3, torch.device("cpu"))  # in turn
        images = first.clone().requires_grad_()
        batches, labels = found.segments.batches(images, found.labels, draws)
        student = unroll(found.network, start, batches, labels, torch.tensor(0.05), "full")
        gradients += torch.autograd.grad(matching_loss(student, start, target), images)
    wanted = first - 5.0 * sum(gradients) / 3
    torch.testing.assert_close(found.images.detach(), wanted, rtol=1e-3, atol=1e-4)


def in_two_processes(folder: str, toy: str, experts: str, settings: dict[str, Any], options: dict[str, Any]) -> None:
    strategy = DDPStrategy(start_method="spawn", process_group_backend="gloo")
    trainer = pl.Trainer(**options, default_root_dir=folder, devices=2, strategy=strategy)
    distiller = TrajectoryMatching(trajectories=experts, **settings)
    trainer.fit(distiller, datamodule=GalaxyZoo2DataModule(toy, batch_size=16))


def test_two_processes_give_the_images_of_two_segments(distil: Distil, tmp_path: Path) -> None:
    settings = {**SETTINGS, "sigma_threshold": 0.01, "iterations": 12, "eval_it": 5}
    one = distil(tmp_path / "one", **{**settings, "segments_per_step": 2})
    in_two_processes(str(tmp_path / "two"), str(distil.toy_path), str(distil.experts), settings, distil.options)
    found = SyntheticSet.load(tmp_path / "two" / "last.h5")
    assert found.iteration == 12
    assert torch.equal(found.images, one.images.detach())
    assert torch.equal(found.step_sizes, one.log_step_sizes.detach().exp())
    saved = torch.load(tmp_path / "two" / LAST, weights_only=True)["distillation"]
    assert saved["stages"] == one.stages.state_dict()


def test_window_opens(distil: Distil, tmp_path: Path) -> None:
    """A new start epoch begins with the step size of the one before, which has moved by then."""
    opened = []

    class Opened(pl.Callback):
        cap = 1

        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
            assert isinstance(pl_module, TrajectoryMatching)
            if pl_module.stages.cap > self.cap:
                opened.append(pl_module.log_step_sizes.detach().exp()[self.cap - 1 : pl_module.stages.cap].tolist())
                self.cap = pl_module.stages.cap

    settings: dict[str, Any] = {"stage": "window", "iterations": 6, "open_until": 4, "lr_lr": 0.3, "lr_teacher": [0.05]}
    distiller = distil(tmp_path, callbacks=[Opened()], step_sizes="independent", **settings)
    assert distiller.stages.cap == 3
    assert len(opened) == 2
    for before, new in opened:
        assert before == new
        assert new != pytest.approx(0.05, rel=1e-4)


def test_moving_average(distil: Distil, tmp_path: Path) -> None:
    images = Images()
    distiller = distil(tmp_path / "whole", callbacks=[images], ema=0.75)
    first = distil(tmp_path / "first", iterations=1, lr_img=0.0).images.detach()
    average = first
    for seen in images.seen:
        average = 0.75 * average + 0.25 * seen
    torch.testing.assert_close(distiller.synthetic_set().images, average, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(distiller.images, average)
    distil(tmp_path / "cut", ema=0.75, iterations=3)
    again = distil(tmp_path / "cut", ckpt_path=tmp_path / "cut" / LAST, ema=0.75)
    assert torch.equal(again.averaged, distiller.averaged)


def test_updates_above_a_loss_are_skipped(distil: Distil, tmp_path: Path) -> None:
    plain = distil(tmp_path / "plain")
    assert torch.equal(distil(tmp_path / "high", skip_above=1e6).images, plain.images)
    low = distil(tmp_path / "low", skip_above=1e-6)
    assert torch.equal(low.images, distil(tmp_path / "first", iterations=1, lr_img=0.0).images)
    assert low.iteration == 6


def test_nearest_step(distil: Distil, tmp_path: Path) -> None:
    """A step size so long that the student passes the expert by."""
    distiller = distil(tmp_path / "first", iterations=1, lr_img=0.0)
    start, target = distiller.segments.ends(distiller.store.experts[0], 0, torch.device("cpu"))
    batches, labels = distiller.segments.batches(distiller.images.detach(), distiller.labels, generator("nearest"))
    batches, labels, alpha = batches * 3, labels * 3, torch.tensor(0.08)
    losses = []
    for steps in range(1, 10):
        student = unroll(distiller.network, start, batches[:steps], labels[:steps], alpha, "full")
        losses.append(float(matching_loss(student, start, target).detach()))
    nearest = losses.index(min(losses)) + 1
    assert 1 < nearest < 9
    assert nearest_step(distiller.network, start, batches, labels, alpha, target) == nearest
    run = distil(tmp_path / "run", nearest=True, lr_teacher=0.15, syn_steps=9)
    assert not torch.equal(run.images, distil(tmp_path / "plain", lr_teacher=0.15, syn_steps=9).images)


def test_labels_of_experts_keep_the_leaf_first() -> None:
    def network(theta: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        return theta.view(2, 3)

    thetas = [torch.tensor([3.0, 1, 2, 5, 6, 0]), torch.tensor([1.0, 1, 0, 5, 8, 0])]
    found = logits_of_experts(network, thetas, torch.zeros(2, 3, 4, 4), torch.tensor([0, 2]))
    torch.testing.assert_close(found, torch.tensor([[2.0, 1, 1], [5, 0, 7]]))
    shares = torch.tensor([[0.5, 0.5, 0.0]])
    torch.testing.assert_close(logits_of_shares(shares).softmax(1), shares, atol=2e-3, rtol=0)


def test_labels_are_learned(distil: Distil, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"labels": "experts", "lr_label": 5.0, "lr_img": 0.05}
    adjoint, full = (distil(tmp_path / mode, unroll=mode, **settings) for mode in ("adjoint", "full"))
    torch.testing.assert_close(adjoint.label_logits, full.label_logits, rtol=1e-3, atol=1e-3)
    store = TrajectoryStore(distil.experts)
    network = FunctionalNetwork(build_network(store.recipe.network))
    first = distil(tmp_path / "first", iterations=1, lr_img=0.0).images.detach()
    ends = [store.parameters(expert, store.num_epochs) for expert in store.experts]
    begun = logits_of_experts(network, ends, first, torch.arange(3).repeat_interleave(2)).softmax(1)
    fixed = distil(tmp_path / "fixed", **{**settings, "lr_label": 0.0})
    torch.testing.assert_close(fixed.synthetic_set().labels, begun)
    learned = adjoint.synthetic_set().labels
    torch.testing.assert_close(learned.sum(1), torch.ones(6))
    assert (learned - begun).abs().max() > 1e-3
    distil(tmp_path / "cut", iterations=3, **settings)
    again = distil(tmp_path / "cut", ckpt_path=tmp_path / "cut" / LAST, **settings)
    assert torch.equal(again.label_logits, adjoint.label_logits)
    path = tmp_path / "cut" / "last.h5"
    begun_with = distil(tmp_path / "more", load_syn_image=str(path), prev_iter=6, iterations=7, labels="experts")
    torch.testing.assert_close(begun_with.labels, SyntheticSet.load(path).labels)


def test_labels_learned_too_fast_are_said(distil: Distil, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = distil(tmp_path / "run", labels="experts", lr_label=1e4).synthetic_set()
    lost = [name for name, places in zip(found.class_names, found.places_by_leaf(1).tolist(), strict=True) if places[0] < 0]
    assert lost
    assert f"no image is labelled {' or '.join(lost)} any more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ema": 1.0}, "ema must be between 0 and 1"),
        ({"lr_label": 1.0}, "lr_label: hard labels are not learned"),
        ({"skip_above": -1.0}, "skip_above must be a number of at least 0"),
        ({"segments_per_step": 0}, "segments_per_step must be at least 1"),
        ({"min_start_epoch": 1}, r"min_start_epoch \(1\) must be at least 0 and below the first start epochs' end \(1"),
        ({"stage": "window", "open_until": 0}, "open_until"),
    ],
)
def test_what_does_not_fit_is_refused(distil: Distil, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        distil(tmp_path, **settings)


def test_pictures_of_the_course(distil: Distil, tmp_path: Path) -> None:
    """One row for every iteration, also where the run was cut in two."""
    courses = []
    for folder, parts in (("whole", [6]), ("cut", [4, 6])):
        for iterations in parts:
            checkpoint = tmp_path / folder / LAST
            distil(tmp_path / folder, ckpt_path=checkpoint if checkpoint.exists() else None, iterations=iterations)
        state = torch.load(tmp_path / folder / LAST, weights_only=True)["callbacks"]
        courses.append(next(kept["course"] for name, kept in state.items() if name.startswith("Curves")))
        with Image.open(tmp_path / folder / "pictures" / "course.png") as picture:
            assert picture.size == (840, 768)
            assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 100  # curves, not an empty page
    assert courses[0] == courses[1]
    assert [row[0] for row in courses[0]] == [1, 2, 3, 4, 5, 6]


def test_stretched_pictures_reach_from_black_to_white() -> None:
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images[0, 0, 0, 0] = 50.0  # one hot pixel would leave all others dark
    shown = stretched(images)
    assert shown.amin((1, 2, 3)).tolist() == [0, 0]
    assert shown.amax((1, 2, 3)).tolist() == [1, 1]
    mean, spread = images[0].mean(), 2.5 * images[0].std()
    torch.testing.assert_close(shown[0, 0, 0, 1], (images[0, 0, 0, 1] - images[0].min()) / (mean + spread - images[0].min()))
