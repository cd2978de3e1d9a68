"""What a distillation starts from: settings, first images, labels and step sizes."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.distillation.module import TrajectoryMatching
from gz_lightning.distillation.start import logits_of_experts, logits_of_shares
from gz_lightning.errors import InputError
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.storage.checkpoints import LAST
from tests.distillation.conftest import Distil


def test_labels_of_experts_keep_the_leaf_first() -> None:
    def network(theta: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        return theta.view(2, 3)

    thetas = [torch.tensor([3.0, 1, 2, 5, 6, 0]), torch.tensor([1.0, 1, 0, 5, 8, 0])]
    found = logits_of_experts(network, thetas, torch.zeros(2, 3, 4, 4), torch.tensor([0, 2]))
    torch.testing.assert_close(found, torch.tensor([[2.0, 1, 1], [5, 0, 7]]))
    shares = torch.tensor([[0.5, 0.5, 0.0]])
    torch.testing.assert_close(logits_of_shares(shares).softmax(1), shares, atol=2e-3, rtol=0)


def test_the_searched_step_size_is_the_best_of_the_grid(distil: Distil, tmp_path: Path) -> None:
    """Experts went with .05: four epochs' steps of .05 are matched by three steps of a size between that and .1."""
    found = float(distil(tmp_path, lr_teacher=None, lr_lr=0.0, iterations=1).log_step_sizes.detach().exp())
    assert 0.03 < found <= 0.1


def test_a_run_says_what_it_matches_in_epochs_and_in_steps(
    distil: Distil, tmp_path: Path, toy: Galaxies, capsys: pytest.CaptureFixture[str]
) -> None:
    distil(tmp_path, iterations=1, expert_epochs=2)
    steps = 2 * math.ceil(len(toy.train) / 16)
    said = " ".join(capsys.readouterr().err.split())
    assert f"each iteration matches 2 epochs ({steps} steps) of one of 2 experts by 3 steps of a student" in said
    assert "start epochs below 1, later up to 2 of 4" in said
    assert "1 iteration at most x 3 steps on 6 images, a network of " in said


def test_a_list_of_step_sizes(distil: Distil, tmp_path: Path) -> None:
    distiller = distil(tmp_path, stage="fixed", step_sizes="independent", lr_teacher=[0.01, 0.02, 0.04], lr_lr=0.0)
    torch.testing.assert_close(distiller.log_step_sizes.exp().detach(), torch.tensor([0.01, 0.02, 0.04]))


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
    noise = distil(tmp_path / "noise", pix_init="noise", **options).images.detach()
    assert abs(float(noise.mean())) < 0.1
    assert float(noise.std()) == pytest.approx(1, abs=0.05)
    assert real.labels.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("pix_init", ["herding", "k-centre", "most confident"])
def test_pix_init_takes_every_coreset(distil: Distil, tmp_path: Path, toy: Galaxies, pix_init: str) -> None:
    images = distil(tmp_path, pix_init=pix_init, iterations=1, lr_img=0.0).images
    training = toy.standardise(toy.train.images)
    assert all((training == image).flatten(1).all(1).any() for image in images.detach())  # each is a training galaxy


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_start_epoch": 4}, r"max_start_epoch \(4\) .* expert_epochs \(1\), within the 4 epochs of"),
        ({"expert_epochs": 5}, r"max_start_epoch \(-1\)"),
        ({"lr_teacher": [0.1, 0.2]}, "--model.lr_teacher lists 2 step sizes, but --model.step_sizes global has one"),
        (
            {"lr_teacher": [0.1, 0.2], "step_sizes": "independent"},
            "lr_teacher lists 2 step sizes, but the first stage has 1",
        ),
        (
            {"lr_teacher": [0.1], "stage": "fixed", "step_sizes": "independent"},
            "lists 1 step sizes, but the first stage has 3",
        ),
        (
            {"lr_teacher": -0.1},
            "--model.lr_teacher must be a number > 0 or a list of which every item is a number > 0 or null, not -0.1",
        ),
        ({"ipc": 30}, "ipc 30 is larger than leaf 'round', which has 21 training galaxies"),
        ({"pix_init": "zeros"}, "--model.pix_init must be one of noise, .*, not 'zeros'"),
        ({"ipc": 0}, "--model.ipc must be a whole number >= 1, not 0"),
        ({"momentum": -0.5}, "--model.momentum must be a number >= 0 and < 1, not -0.5"),
        ({"max_duration": 9}, "--model.max_duration must be a whole number >= 10, not 9"),
        ({"stage": "window"}, "--model.stage must be one of stage, fixed, published, first_code, not 'window'"),
        ({"match": "cosine"}, "--model.match must be one of distance, not 'cosine'"),
        ({"lr_label": 1.0}, "--model.lr_label: hard labels are not learned"),
        ({"segments_per_step": 0}, "--model.segments_per_step must be a whole number >= 1, not 0"),
        ({"iterations": 3, "prev_iter": 3}, r"--model.iterations \(3\) must be more than --model.prev_iter \(3\)"),
        ({"unroll": "sideways"}, "--model.unroll must be one of adjoint, full, first_order, not 'sideways'"),
        ({"image_update": "adam"}, "--model.image_update must be one of normalised, published"),
        ({"lr_img": float("nan")}, "--model.lr_img must be a number >= 0 or null, not nan"),
        ({"augmentation": "blur"}, "no augmentation 'blur'"),
        ({"init_epoch": 4}, r"init_epoch \(4\) must be between 1 and max_start_epoch \(3\)"),
    ],
)
def test_what_does_not_fit_is_refused(distil: Distil, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        distil(tmp_path, **settings)
    assert not (tmp_path / LAST).exists()


def test_a_wrong_setting_fails_in_the_constructor_before_a_file_is_opened() -> None:
    with pytest.raises(InputError, match="--model.syn_steps must be a whole number >= 1 or null, not 0"):
        TrajectoryMatching("no such folder", syn_steps=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_epochs": 3}, "--trainer.max_epochs 3 is not supported here: use --model.iterations instead"),
        ({"max_steps": 3}, "--trainer.max_steps 3 is not supported here: use --model.iterations instead"),
        ({"precision": "bf16-mixed"}, "--trainer.precision must be one of 32-true here, not bf16-mixed"),
        ({"gradient_clip_val": 0.5}, "--trainer.gradient_clip_val 0.5"),
    ],
)
def test_trainer_settings_that_cannot_be_honoured_are_refused(
    distil: Distil, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    distil.options = {**distil.options, **settings}
    with pytest.raises(InputError, match=message):
        distil(tmp_path)
    assert not list(tmp_path.iterdir())
