"""TrajectoryMatching: the published algorithm, resuming to the same bits, and clear refusals."""

import math
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.strategies import DDPStrategy

from gz_lightning.augmentation import augment
from gz_lightning.data.datamodule import GalaxyZoo2DataModule
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.distillation.matching import matching_loss
from gz_lightning.distillation.module import TrajectoryMatching
from gz_lightning.distillation.readings import FAR_OFF
from gz_lightning.distillation.start import logits_of_experts
from gz_lightning.distillation.unroll import unroll
from gz_lightning.errors import InputError
from gz_lightning.experts.expert_file import METRICS, write_expert
from gz_lightning.experts.module import ExpertModule
from gz_lightning.experts.paths import PATHS
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.networks.registry import build_network
from gz_lightning.randomness import generator
from gz_lightning.sets.sources import unfinished
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.storage.checkpoints import LAST
from tests.conftest import write_toy
from tests.distillation.conftest import SETTINGS, Distil


class Losses(pl.Callback):
    """Matching loss of every iteration."""

    watches_only = True

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.seen.append(float(trainer.callback_metrics["loss"]))


@pytest.mark.parametrize(("path", "student_momentum"), [("raw", 0.0), ("straight", 0.5)])
def test_published_update_written_out(path: str, student_momentum: float, distil: Distil, tmp_path: Path) -> None:
    """Fixed range, one step size, plain SGD with momentum on pixels and on the log of the step size (MTT).

    Once as published, once along straight paths and with momentum of the student.
    """
    found = distil(
        tmp_path, stage="fixed", step_sizes="global", image_update="published", lr_img=5.0, lr_lr=0.02, pix_init="noise",
        start_epochs="random", batch_syn=4, path=path, student_momentum=student_momentum,
    )  # fmt: skip
    store = TrajectoryStore(distil.experts)
    network = FunctionalNetwork(build_network(store.recipe.network))
    x = torch.randn(6, 3, 16, 16, generator=generator(0, "images"))
    y = torch.arange(3).repeat_interleave(2)
    log_alpha = torch.tensor(0.05).log()
    velocity_x, velocity_a = torch.zeros_like(x), torch.tensor(0.0)
    for iteration in range(6):
        draws = generator(0, "iteration", iteration)
        expert = store.experts[int(torch.randint(2, (), generator=draws))]
        s = float(torch.rand((), generator=draws)) * 3
        start, target = (PATHS[path](store).point(expert, epoch) for epoch in (s, s + 1))
        x, log_alpha = x.requires_grad_(), log_alpha.requires_grad_()
        rows = list(torch.randperm(6, generator=draws).split(4))
        rows += torch.randperm(6, generator=draws).split(4)
        batches = [augment(x[r], "galaxy", draws) for r in rows[:3]]
        theta, velocity = start.clone().requires_grad_(), torch.zeros_like(start)
        for batch, r in zip(batches, rows, strict=False):
            loss = F.cross_entropy(network(theta, batch), y[r])
            velocity = student_momentum * velocity + torch.autograd.grad(loss, theta, create_graph=True)[0]
            theta = theta - log_alpha.exp() * velocity
        matching = (theta - target).pow(2).sum() / (start - target).pow(2).sum()
        to_x, to_a = torch.autograd.grad(matching, [x, log_alpha])
        velocity_x, velocity_a = 0.5 * velocity_x + to_x, 0.5 * velocity_a + to_a
        x, log_alpha = (x - 5.0 * velocity_x).detach(), (log_alpha - 0.02 * velocity_a).detach()
    torch.testing.assert_close(found.images.detach(), x, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.log_step_sizes.detach(), log_alpha[None], rtol=1e-4, atol=1e-5)
    assert not torch.equal(found.images, torch.randn(6, 3, 16, 16, generator=generator(0, "images")))


@pytest.mark.parametrize("update", ["normalised", "published"])
def test_both_unrolls_give_the_same_images(distil: Distil, tmp_path: Path, update: str) -> None:
    images = [
        distil(tmp_path / mode, unroll=mode, image_update=update, lr_img=0.1, iterations=3).images.detach()
        for mode in ("adjoint", "full")
    ]
    torch.testing.assert_close(images[0], images[1], rtol=1e-3, atol=1e-3)


def test_a_normalised_first_step_is_lr_img_for_every_image(distil: Distil, tmp_path: Path) -> None:
    before = distil(tmp_path / "0", iterations=1, lr_img=0.0).images.detach()
    after = distil(tmp_path / "1", iterations=1, lr_img=0.25).images.detach()
    torch.testing.assert_close((after - before).square().mean((1, 2, 3)).sqrt(), torch.full((6,), 0.25), rtol=1e-4, atol=0)


def test_the_default_lr_img_moves_images_of_all_resolutions_by_the_same_length(distil: Distil, tmp_path: Path) -> None:
    before = distil(tmp_path / "0", iterations=1, lr_img=0.0).images.detach()
    after = distil(tmp_path / "1", iterations=1, lr_img=None).images.detach()
    of_32_px = 0.003 * (3 * 32 * 32) ** 0.5
    torch.testing.assert_close((after - before).flatten(1).norm(dim=1), torch.full((6,), of_32_px), rtol=1e-3, atol=0)


def test_the_matching_loss_falls(distil: Distil, tmp_path: Path) -> None:
    losses = Losses()
    distil(tmp_path, callbacks=[losses], iterations=60, stage="fixed", max_start_epoch=1, lr_teacher=None, syn_steps=5)
    assert sum(losses.seen[-10:]) < 0.9 * sum(losses.seen[:10])


def test_stages_move_and_take_the_step_size_along(distil: Distil, tmp_path: Path) -> None:
    """A threshold so low that any trend at all ends a stage."""
    distiller = distil(tmp_path, iterations=40, sigma_threshold=0.01, lr_img=0.05, lr_lr=0.3, step_sizes="independent")
    assert 1 < distiller.stages.cap <= 3
    alphas = distiller.log_step_sizes.exp()
    assert len(alphas) == 3
    assert not torch.allclose(alphas[0], torch.tensor(0.05))
    assert len(distiller.synthetic_set().step_sizes) == distiller.stages.cap


def test_a_run_in_stages_ends_by_itself(distil: Distil, tmp_path: Path) -> None:
    distiller = distil(
        tmp_path, iterations=5000, ipc=1, syn_steps=1, max_start_epoch=1, max_duration=10, lr_img=0.0, lr_lr=0.0
    )
    assert distiller.stages.ended
    assert 700 < distiller.iteration < 800
    assert unfinished(tmp_path) == ""


def test_files_of_a_run(distil: Distil, tmp_path: Path, toy: Galaxies) -> None:
    distiller = distil(tmp_path, iterations=5, eval_it=2)
    pictures = ["course.png", "first.h5", *(f"iteration_00000{i}.png" for i in (0, 2, 4, 5))]
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == pictures
    last = SyntheticSet.load(tmp_path / "last.h5")
    assert torch.equal(last.images, distiller.images.detach())
    assert last.iteration == 5
    assert last.data == toy.fingerprint
    assert last.network["width"] == 8
    assert last.augmentation == "galaxy"
    best = SyntheticSet.load(tmp_path / "best.h5")
    assert best.results["val_accuracy"] >= last.results["val_accuracy"]
    last.check_fits(toy)


class StopAt(pl.Callback):
    """Ends the process's run in the middle of an iteration, as a power cut (None), a Ctrl-C or a SIGTERM would."""

    watches_only = True

    def __init__(self, iteration: int, sent: signal.Signals | None = None) -> None:
        self.iteration, self.sent = iteration, sent

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: object) -> None:
        if pl_module.iteration == self.iteration:
            if self.sent is None:
                raise RuntimeError("power cut")
            os.kill(os.getpid(), self.sent)


def interrupted(distil: Distil, folder: Path, iteration: int, sent: signal.Signals | None, **settings: Any) -> None:
    with pytest.raises(SystemExit if sent else RuntimeError):
        distil(folder, callbacks=[StopAt(iteration, sent)], **settings)


@pytest.mark.parametrize("sent", [None, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("iteration", [3, 7, 11])
def test_a_resumed_run_gives_the_same_bits(
    distil: Distil, tmp_path: Path, iteration: int, sent: signal.Signals | None
) -> None:
    """Stopped in an iteration: the checkpoint is of a whole one, and the end is that of an uninterrupted run."""
    settings: dict[str, Any] = {"iterations": 14, "eval_it": 3, "sigma_threshold": 0.01, "lr_img": 0.05}
    whole = distil(tmp_path / "whole", **settings)
    before = signal.getsignal(signal.SIGINT)
    interrupted(distil, tmp_path / "cut", iteration, sent, **settings)
    if sent:  # Lightning leaves Ctrl-C ignored on its way out of the process
        signal.signal(signal.SIGINT, before)
    saved = torch.load(tmp_path / "cut" / LAST, weights_only=True)["distillation"]["iteration"]
    assert saved == (iteration + 1 if sent else iteration // 3 * 3)
    assert f"the run is not finished: last.ckpt is of iteration {saved} of 14" in unfinished(tmp_path / "cut")
    again = distil(tmp_path / "cut", ckpt_path=tmp_path / "cut" / LAST, **settings)
    assert again.iteration == whole.iteration == 14
    assert unfinished(tmp_path / "cut") == unfinished(tmp_path / "whole") == ""
    assert torch.equal(again.images, whole.images)
    assert torch.equal(again.log_step_sizes, whole.log_step_sizes)
    assert again.stages.state_dict() == whole.stages.state_dict()
    for name in ("best.h5", "last.h5"):
        one, two = (SyntheticSet.load(tmp_path / run / name) for run in ("whole", "cut"))
        assert (one.iteration, one.results) == (two.iteration, two.results)
        assert torch.equal(one.images, two.images)


def test_resuming_with_other_settings_is_refused(distil: Distil, tmp_path: Path) -> None:
    distil(tmp_path, iterations=3)
    with pytest.raises(InputError, match=r"holds a run already: resume it by --ckpt_path last"):
        distil(tmp_path, iterations=3)
    with pytest.raises(InputError, match=r"another run: syn_steps was 3 and is 4 now; name another --run_dir"):
        distil(tmp_path, ckpt_path=tmp_path / LAST, iterations=6, syn_steps=4)


def test_a_finished_run_can_be_made_longer(distil: Distil, tmp_path: Path) -> None:
    whole = distil(tmp_path / "whole", iterations=6)
    distil(tmp_path / "cut", iterations=3)
    (tmp_path / "cut" / "last.h5").unlink()  # as if it had been killed in the evaluation at the end
    distil(tmp_path / "cut", ckpt_path=tmp_path / "cut" / LAST, iterations=3)
    assert SyntheticSet.load(tmp_path / "cut" / "last.h5").iteration == 3
    longer = distil(tmp_path / "cut", ckpt_path=tmp_path / "cut" / LAST, iterations=6)
    assert torch.equal(longer.images, whole.images)


def test_other_galaxies_or_networks_than_the_experts_are_refused(
    distil: Distil, tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match="are another network: name ConvNet instead of VGG11"):
        distil(tmp_path, network="VGG11")
    assert distil(tmp_path / "same", network="ConvNet").iteration == 6
    distil.toy_path = write_toy(tmp_path / "other.h5", seed=3)
    with pytest.raises(InputError, match=r"were trained on other galaxies \(fingerprint .*\) than those of .*other.h5"):
        distil(tmp_path / "x")
    distil.experts = tmp_path / "none"
    with pytest.raises(InputError, match="there are no experts in"):
        distil(tmp_path / "x")


def test_divergence_is_reported_and_ends_with_the_last_good_images(
    distil: Distil, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        InputError,
        match=r"no update could be made 5 times in a row \(last at iteration 4, .*smaller --model.lr_teacher",
    ):
        distil(tmp_path, lr_teacher=1e30)
    said = capsys.readouterr().err
    assert re.search(r"iteration 0, expert \d, start epoch 0: the matching loss \((nan|inf)\) not finite: no update", said)
    assert torch.isfinite(SyntheticSet.load(tmp_path / "last.h5").images).all()


@pytest.mark.parametrize("iterations", [1, 4])
def test_a_run_too_short_for_that_does_not_end_as_if_it_had_learned(
    iterations: int, distil: Distil, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        InputError, match=rf"no update could be made in any of {iterations} iterations: the images are those"
    ):
        distil(tmp_path, lr_teacher=1e30, iterations=iterations)
    assert "best validation accuracy" not in capsys.readouterr().err


@pytest.mark.parametrize("iterations", [1, 8])
def test_experts_that_stand_still_are_named_where_no_update_can_be_made(
    iterations: int, distil: Distil, tmp_path: Path
) -> None:
    """Smaller steps would be of no help."""
    store = TrajectoryStore(distil.experts)
    rows = store.trajectory(1)[[0, 1, 0, 1, 0]]
    write_expert(tmp_path / "ex", 1, rows, {name: [0.5] * 4 for name in METRICS}, store.recipe)
    distil.experts = tmp_path / "ex"
    advice = rf"Expert 1 is the same at epochs 0 and 2: .* 'gz-lightning trajectories check {distil.experts}' names such"
    with pytest.raises(InputError, match=rf"no update could be made .*\. {advice}"):
        distil(tmp_path / "run", iterations=iterations, expert_epochs=2, max_start_epoch=1)


def test_a_run_that_made_one_update_ends_well(distil: Distil, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def spoil(module: TrajectoryMatching) -> None:
        module.log_step_sizes.fill_(80.0)

    module = distil(tmp_path, iterations=2, callbacks=[Spoil(1, spoil)])
    assert (module.steps.made, module.steps.in_a_row) == (1, 1)
    assert "best validation accuracy" in capsys.readouterr().err


def test_a_step_size_that_overflows_is_taken_back(
    distil: Distil, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="no update could be made 5 times in a row"):
        distil(tmp_path, lr_teacher=0.05, lr_lr=1e30)
    assert "the updated images or step sizes not finite: no update" in capsys.readouterr().err
    kept = SyntheticSet.load(tmp_path / "last.h5")
    torch.testing.assert_close(kept.step_sizes, torch.tensor([0.05]))


def test_an_ordinary_data_module_is_refused(toy_experts: Path, trainer_options: dict[str, Any]) -> None:
    for module in (TrajectoryMatching(str(toy_experts)), ExpertModule()):
        with pytest.raises(InputError, match="GalaxyZoo2DataModule"):
            pl.Trainer(**trainer_options).fit(module)


class Spoil(pl.Callback):
    """Changes something before an iteration."""

    watches_only = True  # it stands for a fault, of which no record tells

    def __init__(self, iteration: int, change: Callable[[TrajectoryMatching], None]) -> None:
        self.iteration, self.change = iteration, change

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        assert isinstance(pl_module, TrajectoryMatching)
        if pl_module.iteration == self.iteration:
            with torch.no_grad():
                self.change(pl_module)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("what", ["image", "step size"])
def test_a_number_that_goes_wrong_is_named_and_what_was_written_stays(
    what: str, value: float, distil: Distil, tmp_path: Path
) -> None:
    def spoil(module: TrajectoryMatching) -> None:
        if what == "image":
            module.images[4, 0, 0, 0] = value
        else:
            module.log_step_sizes[0] = value

    given: dict[str, Any] = {"eval_it": 2, "stage": "fixed", "step_sizes": "global"}
    named = "image 4" if what == "image" else "step size of start epoch 0"
    with pytest.raises(InputError, match=rf"iteration 3, expert \d, start epoch \d: the {named} is not finite, though no"):
        distil(tmp_path, callbacks=[Spoil(3, spoil)], **given)
    kept = SyntheticSet.load(tmp_path / "last.h5")
    assert kept.iteration == 2
    SyntheticSet.load(tmp_path / "best.h5")
    again = distil(tmp_path, ckpt_path=tmp_path / LAST, **given)
    assert torch.equal(again.images, distil(tmp_path / "whole", **given).images)


def test_a_trajectory_that_goes_wrong_while_it_is_matched_is_named(
    distil: Distil, toy_experts: Path, tmp_path: Path
) -> None:
    """Written by a program that makes right checksums of wrong numbers."""
    shutil.copytree(toy_experts, tmp_path / "experts")

    def spoil(module: TrajectoryMatching) -> None:
        for path in (tmp_path / "experts").glob("*.h5"):
            with h5py.File(path, "r+") as file:
                rows = file["parameters"][...]
                rows[:, 5] = math.nan
                file["parameters"][...] = rows

    with pytest.raises(InputError, match=r"expert_000\d.h5 .*the parameters of epoch \d are not finite"):
        distil(tmp_path / "run", trajectories=str(tmp_path / "experts"), eval_it=1, callbacks=[Spoil(2, spoil)])
    assert SyntheticSet.load(tmp_path / "run" / "last.h5").iteration == 2


def test_a_probe_loss_that_is_not_finite_does_not_stop_the_stages(
    distil: Distil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(TrajectoryMatching, "probe", lambda *args: torch.tensor(math.nan))
    module = distil(tmp_path, stage="stage", init_epoch=1, max_start_epoch=2, iterations=2)
    assert module.stages.state_dict()["probes"] == [FAR_OFF, FAR_OFF]
    assert "iteration 1: the probe loss (nan) is not finite; it counts as 10" in capsys.readouterr().err


def test_a_student_gone_astray_moves_little(distil: Distil, tmp_path: Path) -> None:
    """Above a matching loss of 1 the update is divided by it, and the log step size moves by lr_lr; as published neither."""
    far: dict[str, Any] = {"lr_teacher": 0.5, "iterations": 1, "lr_lr": 0.001}
    first = distil(tmp_path / "first", **{**far, "lr_lr": 0.0}, lr_img=0.0)
    losses = Losses()
    guarded = distil(tmp_path / "guarded", **far, lr_img=0.25, callbacks=[losses])
    (loss,) = losses.seen
    assert loss > 1.5
    moved = (guarded.images - first.images).detach().square().mean((1, 2, 3)).sqrt()
    torch.testing.assert_close(moved, torch.full((6,), 0.25 / loss), rtol=1e-3, atol=0)
    published = distil(tmp_path / "published", **far, image_update="published", lr_img=0.0)
    assert float((guarded.log_step_sizes - first.log_step_sizes).detach()) == pytest.approx(-0.001, rel=1e-3)
    assert float((published.log_step_sizes - first.log_step_sizes).detach()) < -0.001 * loss


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
        images = first.clone().requires_grad_()
        segment = found.segments.at(expert, place % 3, images, found.labels, draws)  # in turn
        student = unroll(found.network, segment.start, segment.batches, segment.labels, torch.tensor(0.05), "full")
        gradients += torch.autograd.grad(matching_loss(student, segment.start, segment.target), images)
    expected = first - 5.0 * sum(gradients) / 3
    torch.testing.assert_close(found.images.detach(), expected, rtol=1e-3, atol=1e-4)


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
