"""The protocol against its plain form, and the evaluation of a distilled set."""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.evaluation.contenders import Candidate, Contender, Outcome
from gz_lightning.evaluation.evaluate import evaluate
from gz_lightning.evaluation.record import read_evaluation
from gz_lightning.evaluation.unfinished import UnfinishedEvaluation
from gz_lightning.figures import leaf_figure, save_figure
from gz_lightning.randomness import generator
from gz_lightning.sets.coresets import BASELINES
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.training.fresh import accuracies
from gz_lightning.training.protocol import Protocol
from tests.conftest import CLASS_NAMES, write_toy
from tests.evaluation.conftest import NETWORK, synthetic_set


def test_set_round_trip(toy: Galaxies, tmp_path: Path) -> None:
    for labels in (torch.arange(3).repeat_interleave(2), torch.eye(3).repeat_interleave(2, 0)):
        saved = synthetic_set(toy, labels=labels)
        saved.save(tmp_path / "set.h5")
        loaded = SyntheticSet.load(tmp_path / "set.h5")
        for name, value in vars(saved).items():
            read = getattr(loaded, name)
            assert torch.equal(read, value) if isinstance(value, torch.Tensor) else read == value, name
        assert loaded.hard_labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_denormalised_pixels_are_those_of_the_galaxies(toy: Galaxies) -> None:
    saved = synthetic_set(toy)
    pixels = saved.denormalised() * 255
    known = toy.train.images.float()
    assert all((known - image).abs().amax((1, 2, 3)).min() < 1e-3 for image in pixels)


def test_evaluate(toy: Galaxies, toy_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "set.h5"
    synthetic_set(toy).save(path)
    small: dict[str, Any] = {"num_eval": 2, "epochs": 30, "draws": 2, "step_sizes": [1e-7, 0.05], "full_epochs": 12}
    result = evaluate(str(path), str(toy_path), str(tmp_path / "out"), **small)  # type: ignore[arg-type]  # as in a notebook
    table = result.table.set_index("set")
    assert list(table.index) == ["distilled", "distilled, tuned", *BASELINES]
    assert table["protocol"].tolist() == ["mtt"] + ["validated"] * 8
    assert table["images"].tolist() == [6] * 8 + [63]
    assert table["networks"].tolist() == [2, 2, 4, 2, 2, 2, 2, 2, 2]
    assert table.loc["distilled", "step size"] == "0.02"  # the learned one
    assert table.loc["distilled, tuned", "step size"] in ("0.02", "0.05")
    assert (table["low"] <= table["test"]).all()
    assert (table["test"] <= table["high"]).all()
    assert table.loc["full data", "step size"] == "0.05"  # 1e-7 learns nothing
    assert table.loc["full data", "test"] > 80
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out" / "accuracy.csv", dtype={"step size": str}), result.table)
    scores = result.scores.set_index("set")
    assert scores.loc["full data", "relative accuracy"] == 1
    assert scores["accuracy"].tolist() == pytest.approx((table["test"] / 100).tolist())
    assert scores.loc["distilled", "recall: round"] == pytest.approx(
        result.confusion.loc["round", "round"] / result.confusion.loc["round"].sum()
    )
    read = read_evaluation(tmp_path / "out" / "evaluation.json")
    for name in ("table", "scores", "confusion", "tried"):
        pd.testing.assert_frame_equal(getattr(read, name), getattr(result, name))
    assert read.settings["galaxies"] == toy.fingerprint
    for name in ("leaves.png", "confusion.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert min(picture.size) > 200
    assert "random real" in str(result)
    assert str(tmp_path / "out" / "leaves.png") in str(result)
    again = evaluate(path, toy_path, tmp_path / "again", **small, baselines=["k-centre"])
    pd.testing.assert_frame_equal(again.table[:2], result.table[:2])


def test_a_mislabelled_set_scores_below_chance(toy: Galaxies, toy_path: Path, tmp_path: Path) -> None:
    """Every image under a wrong label: a network that learned them is wrong more often than not."""
    right = synthetic_set(toy, ipc=5)
    scores = {}
    for name, labels in (("right", right.labels), ("wrong", (right.labels + 1) % 3)):
        synthetic_set(toy, ipc=5, labels=labels).save(tmp_path / f"{name}.h5")
        result = evaluate(
            tmp_path / f"{name}.h5", toy_path, tmp_path / name, num_eval=2, epochs=30, step_sizes=[0.02], baselines=[]
        )
        scores[name] = result.table.set_index("set").loc["distilled", "test"]
    assert scores["right"] > 60
    assert scores["wrong"] < 34


def test_shuffled_sets_score_at_chance(toy: Galaxies) -> None:
    """A shuffle by itself may be lucky; with its labels handed round, each leaf is once right: one in three on average."""
    data, protocol = synthetic_set(toy, ipc=5), Protocol(epochs=20, augmentation="galaxy")
    order = generator("shuffle")
    found = []
    for labels in [data.labels[torch.randperm(15, generator=order)] for _ in range(4)]:
        for shift in range(3):
            own = (labels + shift) % 3
            found += accuracies(data.images, own, NETWORK, [0.02], protocol, toy, ["test"], 1)["test"]
    assert sum(found) / len(found) == pytest.approx(1 / 3, abs=0.06)


def test_of_several_sets_mtt_takes_the_best_on_test_galaxies(toy: Galaxies, toy_path: Path, tmp_path: Path) -> None:
    """And ours the best on validation galaxies; both say what they chose from."""
    good = synthetic_set(toy, ipc=3)
    good.save(tmp_path / "good.h5")
    synthetic_set(toy, ipc=3, labels=(good.labels + 1) % 3).save(tmp_path / "bad.h5")
    result = evaluate(tmp_path, toy_path, num_eval=1, epochs=30, draws=1, step_sizes=[0.02], full_epochs=0, baselines=[])
    tried = result.tried.set_index(["set", "candidate", "step size"])["accuracy"]
    assert len(tried) == 2 + 4  # two learned step sizes; those, and each set with the one that is given
    assert tried["distilled", "good.h5", "0.02"].item() == result.table["test"][0]
    assert tried["distilled", "bad.h5", "0.02"].item() < result.table["test"][0]
    assert result.table["step size"].tolist() == ["0.02", "0.02"]
    assert "choices.csv" in {path.name for path in result.files}


def test_soft_labels_and_other_networks(toy: Galaxies, toy_path: Path, toy_experts: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"num_eval": 1, "epochs": 2, "draws": 2, "step_sizes": [0.02], "full_epochs": 1}
    synthetic_set(toy).save(tmp_path / "set.h5")
    result = evaluate(
        tmp_path / "set.h5", toy_path, tmp_path / "out", soft_labels="expert", experts=toy_experts,
        networks=["ConvNetD1W4", "ConvNetW4"], baselines=["random real", "herding"], **settings,
    )  # fmt: skip
    table = result.table.set_index("set")
    assert table["soft"].notna().all()
    assert list(result.architectures.index) == ["distilled, tuned", "random real"]
    assert list(result.architectures.columns) == ["ConvNetD1W4", "ConvNetW4"]
    assert "test accuracy in per cent by network" in str(result)
    own = synthetic_set(toy, labels=torch.eye(3).repeat_interleave(2, 0))
    own.save(tmp_path / "soft.h5")  # a set with soft labels of its own has both columns
    table = evaluate(tmp_path / "soft.h5", toy_path, tmp_path / "own", baselines=["random real"], **settings).table
    assert table["soft"].notna().tolist() == [True, True, False]
    assert table["soft"][0] == table["test"][0]  # they are one-hot


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ("a", "b", "c")}, "its leaves are a, b, c, those of the galaxies round, long, ring"),
        ({"images": torch.zeros(6, 3, 8, 8)}, "its images have 8 px, the galaxies 16 px"),
        ({"mean": torch.tensor([0.5, 0.5, 0.5])}, r"its pixels are standardised with mean \[0.5, 0.5, 0.5\]"),
    ],
)
def test_a_set_that_does_not_fit_is_refused(
    toy: Galaxies, toy_path: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    synthetic_set(toy, **changes).save(tmp_path / "set.h5")
    with pytest.raises(InputError, match=f"set.h5 does not fit .*: {message}"):
        evaluate(tmp_path / "set.h5", toy_path)


def test_other_refusals(toy: Galaxies, toy_path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a file of synthetic"):
        evaluate(toy_path, toy_path)
    synthetic_set(toy).save(tmp_path / "set.h5")
    for settings, message in (
        ({"draws": 0}, "draws must be at least 1, not 0"),
        ({"full_epochs": -1}, "full_epochs must be at least 0"),
        ({"step_sizes": []}, "step_sizes must be positive, and at least one"),
        ({"step_sizes": [-0.1]}, "step_sizes must be positive"),
        ({"baselines": ["magic"]}, "no baseline 'magic'; the baselines are random real"),
        ({"soft_labels": "magic"}, "soft_labels is one of votes, expert, not 'magic'"),
        ({"soft_labels": "expert"}, "soft_labels expert needs the folder of experts"),
        ({"soft_labels": "votes"}, "toy.h5 holds no votes of volunteers"),
        ({"experts": tmp_path}, "there are no experts in"),
        ({"networks": ["LeNet"]}, "there is no network 'LeNet'"),
        ({"symmetries": 3}, "symmetries is 1 or 8"),
        ({"device": "abacus"}, "device is auto, cpu or cuda"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate(tmp_path / "set.h5", toy_path, **settings)
    with pytest.raises(InputError, match="no val galaxies"):
        evaluate(tmp_path / "set.h5", write_toy_without_val(tmp_path, toy))


def write_toy_without_val(folder: Path, toy: Galaxies) -> Path:
    """Two galaxies of each class are of the first six of ten: all for training. Statistics as the toy set's."""
    import h5py

    path = write_toy(folder / "few.h5", per_class=2)
    with h5py.File(path, "r+") as file:
        file.attrs["mean"], file.attrs["std"] = toy.mean.numpy(), toy.std.numpy()
    return path


def test_leaf_figure_has_a_column_for_each_leaf(tmp_path: Path) -> None:
    figure = leaf_figure({"one": torch.rand(6, 3, 8, 8), "two": torch.rand(3, 3, 8, 8)}, CLASS_NAMES)
    axes = figure.axes
    assert len(axes) == 3 * 3
    assert [axis.get_title() for axis in axes[:3]] == list(CLASS_NAMES)
    assert [axes[i].get_ylabel() for i in (0, 3, 6)] == ["one", "", "two"]
    assert save_figure(figure, tmp_path / "a.png").stat().st_size > 1000


def test_networks_that_diverge_are_named_and_not_chosen(
    toy: Galaxies, toy_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What such a network answers can be right by chance."""
    synthetic_set(toy).save(tmp_path / "set.h5")
    small: dict[str, Any] = {"num_eval": 2, "epochs": 3, "draws": 1, "full_epochs": 0, "baselines": []}
    result = evaluate(tmp_path / "set.h5", toy_path, tmp_path / "out", step_sizes=[0.01, 1e30], **small)
    assert "distilled, tuned (set.h5), step size 1e+30: 3 of 3 networks diverged" in capsys.readouterr().err
    assert result.table["step size"].tolist()[1] in ("0.01", "0.02")
    with pytest.raises(InputError, match="step_sizes must be positive"):
        evaluate(tmp_path / "set.h5", toy_path, tmp_path / "out", step_sizes=[math.inf], **small)


@pytest.mark.parametrize("part", ["images", "step_sizes"])
def test_a_set_that_is_not_finite_is_not_written(toy: Galaxies, tmp_path: Path, part: str) -> None:
    made = synthetic_set(toy)
    made.save(tmp_path / "set.h5")
    getattr(made, part).view(-1)[-1] = math.nan
    named = "image 5" if part == "images" else "step size of start epoch 0"
    with pytest.raises(InputError, match=rf"set.h5 is not written: the {named} is not finite"):
        made.save(tmp_path / "set.h5")
    assert torch.isfinite(SyntheticSet.load(tmp_path / "set.h5").images).all()


def test_a_kept_outcome_under_another_ones_name_is_made_again(toy: Galaxies, tmp_path: Path) -> None:
    made = synthetic_set(toy)
    one = Contender("one", [Candidate([(made.images, made.labels)], [0.01])], Protocol(epochs=1), 1)
    two, kept = replace(one, name="two"), UnfinishedEvaluation(tmp_path / "kept", toy.fingerprint, "cpu")
    for contender in (one, two):
        hits = torch.ones(1, 1, 4, dtype=torch.bool)
        kept.keep(Outcome(contender, contender.candidates[0], [], torch.ones(1, 1), torch.zeros(1, 4, 3), hits), NETWORK)
        assert kept.find(contender, NETWORK) is not None
    first, second = sorted((tmp_path / "kept").iterdir())
    shutil.copy(first, second)
    assert [kept.find(contender, NETWORK) is None for contender in (one, two)].count(True) == 1
    torch.save({"weights": torch.zeros(3)}, first)
    assert all(kept.find(contender, NETWORK) is None for contender in (one, two))
