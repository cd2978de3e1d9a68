"""TrajectoryMatching: the published algorithm, going on where it stopped, and clear refusals."""

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

from gz_lightning.augmentation import augment
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.distillation.divergence import FiniteUpdates
from gz_lightning.distillation.module import FAR_OFF, TrajectoryMatching
from gz_lightning.errors import InputError
from gz_lightning.experts.module import ExpertModule
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.networks.registry import build_network
from gz_lightning.randomness import generator
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.storage.checkpoints import LAST
from tests.conftest import write_toy
from tests.distillation.conftest import Distil


class Losses(pl.Callback):
    """Matching loss of every iteration."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.seen.append(float(trainer.callback_metrics["loss"]))


def test_published_update_written_out(distil: Distil, tmp_path: Path) -> None:
    """Fixed range, one step size, plain SGD with momentum on pixels and on the log of the step size (MTT)."""
    found = distil(
        tmp_path, stage="fixed", step_sizes="global", image_update="published", lr_img=5.0, lr_lr=0.02, pix_init="noise",
        start_epochs="random", batch_syn=4,
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
        s = int(torch.rand((), generator=draws) * 3)
        start, target = store.parameters(expert, s), store.parameters(expert, s + 1)
        x, log_alpha = x.requires_grad_(), log_alpha.requires_grad_()
        rows = list(torch.randperm(6, generator=draws).split(4))
        rows += torch.randperm(6, generator=draws).split(4)
        batches = [augment(x[r], "galaxy", draws) for r in rows[:3]]
        theta = start.clone().requires_grad_()
        for batch, r in zip(batches, rows, strict=False):
            loss = F.cross_entropy(network(theta, batch), y[r])
            theta = theta - log_alpha.exp() * torch.autograd.grad(loss, theta, create_graph=True)[0]
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


def test_pix_init_and_labels(distil: Distil, tmp_path: Path, toy: Galaxies) -> None:
    options: dict[str, Any] = {"iterations": 1, "lr_img": 0.0}
    real = distil(tmp_path / "real", **options)
    training = toy.standardise(toy.train.images)
    for image, label in zip(real.images, real.labels, strict=True):
        same = (training == image).all(-1).all(-1).all(-1).nonzero().flatten()
        assert toy.train.labels[same].tolist() == [int(label)]
    mean = distil(tmp_path / "mean", pix_init="mean", ipc=1, **options)
    for label in range(3):
        torch.testing.assert_close(mean.images[label], training[toy.train.labels == label].mean(0), rtol=1e-4, atol=1e-5)
    noise = distil(tmp_path / "noise", pix_init="noise", **options)
    assert abs(float(noise.images.mean())) < 0.1
    assert float(noise.images.std()) == pytest.approx(1, abs=0.05)
    assert real.labels.tolist() == [0, 0, 1, 1, 2, 2]


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


def test_files_of_a_run(distil: Distil, tmp_path: Path, toy: Galaxies) -> None:
    distiller = distil(tmp_path, iterations=5, eval_it=2)
    pictures = ["course.png", *(f"iteration_00000{i}.png" for i in (0, 2, 4, 5))]
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
def test_going_on_gives_the_same_bits(distil: Distil, tmp_path: Path, iteration: int, sent: signal.Signals | None) -> None:
    """Stopped in an iteration: the checkpoint is of a whole one, and the end is that of an uninterrupted run."""
    settings: dict[str, Any] = {"iterations": 14, "eval_it": 3, "sigma_threshold": 0.01, "lr_img": 0.05}
    whole = distil(tmp_path / "whole", **settings)
    before = signal.getsignal(signal.SIGINT)
    interrupted(distil, tmp_path / "cut", iteration, sent, **settings)
    if sent:  # Lightning leaves Ctrl-C ignored on its way out of the process
        signal.signal(signal.SIGINT, before)
    saved = torch.load(tmp_path / "cut" / LAST, weights_only=True)["distillation"]["iteration"]
    assert saved == (iteration + 1 if sent else iteration // 3 * 3)
    again = distil(tmp_path / "cut", ckpt_path=tmp_path / "cut" / LAST, **settings)
    assert again.iteration == whole.iteration == 14
    assert torch.equal(again.images, whole.images)
    assert torch.equal(again.log_step_sizes, whole.log_step_sizes)
    assert again.stages.state_dict() == whole.stages.state_dict()
    for name in ("best.h5", "last.h5"):
        one, two = (SyntheticSet.load(tmp_path / run / name) for run in ("whole", "cut"))
        assert (one.iteration, one.results) == (two.iteration, two.results)
        assert torch.equal(one.images, two.images)


def test_looking_more_often_changes_nothing(distil: Distil, tmp_path: Path) -> None:
    rarely, often = (distil(tmp_path / str(n), iterations=6, eval_it=n) for n in (100, 1))
    assert torch.equal(rarely.images, often.images)


def test_going_on_with_other_settings_is_refused(distil: Distil, tmp_path: Path) -> None:
    distil(tmp_path, iterations=3)
    with pytest.raises(InputError, match=r"holds a run already: go on with it by --ckpt_path last"):
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


def test_a_saved_set_to_begin_with(distil: Distil, tmp_path: Path) -> None:
    distil(tmp_path / "a", iterations=4)
    path = tmp_path / "a" / "last.h5"
    saved = SyntheticSet.load(path)
    second = distil(tmp_path / "b", load_syn_image=str(path), prev_iter=4, iterations=5, lr_img=0.0)
    assert second.iteration == 5
    assert torch.equal(second.images, saved.images)
    with pytest.raises(InputError, match=r"last.h5 holds 6 images; ipc 1 of 3 leaves are 3"):
        distil(tmp_path / "c", load_syn_image=str(path), ipc=1)
    with pytest.raises(InputError, match="there is no file nowhere.h5; 'gz-lightning distill' makes one"):
        distil(tmp_path / "c", load_syn_image="nowhere.h5")


def test_other_galaxies_or_networks_than_the_experts_are_refused(
    distil: Distil, tmp_path: Path, toy_path: Path, trainer_options: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=r"are another network: width 8 instead of 16, norm instance instead of none"):
        distil(tmp_path, width=16, norm="none")
    assert distil(tmp_path / "same", width=8, norm="instance").iteration == 6
    distil.toy_path = write_toy(tmp_path / "other.h5", seed=3)
    with pytest.raises(InputError, match=r"were trained on other galaxies \(fingerprint .*\) than those of .*other.h5"):
        distil(tmp_path / "x")
    distil.experts = tmp_path / "none"
    with pytest.raises(InputError, match="there are no experts in"):
        distil(tmp_path / "x")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_start_epoch": 4}, r"max_start_epoch \(4\) .* expert_epochs \(1\), within the 4 epochs of"),
        ({"expert_epochs": 5}, r"max_start_epoch \(-1\)"),
        ({"lr_teacher": [0.1, 0.2]}, "lr_teacher lists 2 step sizes, but the first stage has 1 to learn"),
        (
            {"lr_teacher": [0.1], "stage": "fixed", "step_sizes": "independent"},
            "lists 1 step sizes, but the first stage has 3",
        ),
        ({"lr_teacher": -0.1}, "lr_teacher must be positive"),
        ({"ipc": 30}, "ipc 30 is larger than leaf 'round', which has 21 training galaxies"),
        ({"pix_init": "zeros"}, "pix_init is one of noise, real, mean, not 'zeros'"),
        ({"ipc": 0}, "ipc must be at least 1"),
        ({"iterations": 3, "prev_iter": 3}, r"iterations \(3\) must be more than prev_iter \(3\)"),
        ({"unroll": "sideways"}, "unroll is one of adjoint, checkpoint, full, first_order, not 'sideways'"),
        ({"image_update": "adam"}, "image_update is one of normalised, published"),
        ({"lr_img": float("nan")}, "lr_img must be a number of at least 0"),
        ({"augmentation": "blur"}, "no augmentation 'blur'"),
        ({"init_epoch": 4}, r"init_epoch \(4\) must be between 1 and max_start_epoch \(3\)"),
    ],
)
def test_what_does_not_fit_is_refused(distil: Distil, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        distil(tmp_path, **settings)
    assert not (tmp_path / LAST).exists()


def test_a_list_of_step_sizes(distil: Distil, tmp_path: Path) -> None:
    distiller = distil(tmp_path, stage="fixed", step_sizes="independent", lr_teacher=[0.01, 0.02, 0.04], lr_lr=0.0)
    torch.testing.assert_close(distiller.log_step_sizes.exp().detach(), torch.tensor([0.01, 0.02, 0.04]))


def test_the_searched_step_size_is_the_best_of_the_grid(distil: Distil, tmp_path: Path) -> None:
    """Experts went with .05: four epochs' steps of .05 are matched by three steps of a size between that and .1."""
    found = float(distil(tmp_path, lr_teacher=None, lr_lr=0.0, iterations=1).log_step_sizes[0].exp())
    assert 0.03 < found <= 0.1


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


def test_a_step_size_that_overflows_is_taken_back(
    distil: Distil, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="no update could be made 5 times in a row"):
        distil(tmp_path, lr_teacher=0.05, lr_lr=1e30)
    assert "the updated images or step sizes not finite: no update" in capsys.readouterr().err
    kept = SyntheticSet.load(tmp_path / "last.h5")
    torch.testing.assert_close(kept.step_sizes, torch.tensor([0.05]))


def test_updates_are_made_again_once_all_is_finite() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.5)
    updates = FiniteUpdates(most=3)
    said = []
    for gradient in (1.0, math.nan, math.inf, 1.0, math.nan):
        parameter.grad = torch.full((2,), gradient)
        said.append(updates.step(optimizer, torch.tensor(0.5), [parameter], lambda: True) is None)
        updates.check("here", "there")  # never three in a row
    assert said == [True, False, False, True, False]
    torch.testing.assert_close(parameter.detach(), torch.full((2,), 1 - 0.1 - 0.15))
    updates.in_a_row = 3
    with pytest.raises(InputError, match="3 times in a row"):
        updates.check("here", "there")


def test_an_ordinary_data_module_is_refused(toy_experts: Path, trainer_options: dict[str, Any]) -> None:
    for module in (TrajectoryMatching(str(toy_experts)), ExpertModule()):
        with pytest.raises(InputError, match="GalaxyZoo2DataModule"):
            pl.Trainer(**trainer_options).fit(module)


class Spoil(pl.Callback):
    """Changes something before an iteration."""

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


def test_an_infinite_loss_is_no_update_that_is_left_out(
    distil: Distil, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``skip_above`` leaves out what is large, not what is wrong."""
    with pytest.raises(InputError, match="no update could be made 5 times in a row"):
        distil(tmp_path, lr_teacher=1e30, skip_above=100.0)
    assert "not finite: no update" in capsys.readouterr().err


def test_a_probe_loss_that_is_not_finite_does_not_stop_the_stages(
    distil: Distil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(TrajectoryMatching, "_probe", lambda *args: math.nan)
    module = distil(tmp_path, stage="stage", init_epoch=1, max_start_epoch=2, iterations=2)
    assert module.stages.probes == [FAR_OFF, FAR_OFF]
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
    assert float(guarded.log_step_sizes - first.log_step_sizes) == pytest.approx(-0.001, rel=1e-3)
    assert float(published.log_step_sizes - first.log_step_sizes) < -0.001 * loss


def test_a_step_size_that_collapses_is_reported_once(
    distil: Distil, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a fall to three tenths of the first is one: no toy falls to a hundredth within a few iterations."""
    monkeypatch.setattr("gz_lightning.distillation.divergence.COLLAPSED", 0.3)
    far: dict[str, Any] = {"lr_teacher": 0.5, "lr_img": 0.0, "stage": "fixed"}
    distil(tmp_path / "slow", **far, lr_lr=0.0, iterations=3)
    assert "step size has fallen" not in capsys.readouterr().err
    distil(tmp_path / "fast", **far, lr_lr=2.0, iterations=4)
    said = capsys.readouterr().err
    assert said.count("the step size has fallen from 0.5 to ") == 1
    assert "(--model.expert_epochs, now 1)" in said
