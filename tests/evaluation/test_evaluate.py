"""The evaluation of a distilled set, from the files to the tables."""

import inspect
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.evaluation.contenders import Contender, Outcome, compete
from gz_lightning.evaluation.evaluate import BASELINES, evaluate
from gz_lightning.evaluation.record import read_evaluation
from gz_lightning.figures import leaf_figure
from gz_lightning.randomness import generator
from gz_lightning.sets.coresets import CORESETS
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.storage.checkpoints import LAST
from gz_lightning.storage.tensors import save_signed
from gz_lightning.training.fresh import accuracies
from gz_lightning.training.protocol import Protocol
from tests.conftest import write_toy
from tests.evaluation.conftest import NETWORK, synthetic_set, vote

SMALL: dict[str, Any] = {"num_eval": 1, "epochs": 2, "draws": 1, "step_sizes": [0.02], "full_epochs": 1}


def test_evaluate(toy: Galaxies, toy_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "set.h5"
    synthetic_set(toy).save(path)
    small: dict[str, Any] = {"num_eval": 2, "epochs": 30, "draws": 2, "step_sizes": [1e-7, 0.05], "full_epochs": 12}
    result = evaluate(str(path), str(toy_path), str(tmp_path / "out"), **small)  # strings, as in a notebook
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
    assert read.settings["data"] == str(toy_path)
    assert set(inspect.signature(evaluate).parameters) < set(read.settings)
    for name in ("leaves.png", "confusion.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert min(picture.size) > 200
    assert "random real" in str(result)
    assert str(tmp_path / "out" / "leaves.png") in str(result)
    again = evaluate(path, toy, tmp_path / "again", **small, baselines=["mean", "k-centre"])
    pd.testing.assert_frame_equal(again.table, result.table.iloc[[0, 1, 3, 5]].reset_index(drop=True))
    assert again.settings["data"] == str(toy_path)


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
    scores = []
    for labels in [data.labels[torch.randperm(15, generator=order)] for _ in range(4)]:
        for shift in range(3):
            scores += accuracies(data.images, (labels + shift) % 3, NETWORK, [0.02], protocol, toy, ["test"], 1)["test"]
    assert sum(scores) / len(scores) == pytest.approx(1 / 3, abs=0.06)


def test_soft_labels_and_other_networks(toy: Galaxies, toy_experts: Path, tmp_path: Path) -> None:
    synthetic_set(toy).save(tmp_path / "set.h5")
    result = evaluate(
        tmp_path / "set.h5", toy, tmp_path / "out", soft_labels="expert", experts=toy_experts,
        networks=["ConvNetD1W4", "ConvNetW4"], baselines=["random real", "herding"], **{**SMALL, "draws": 2},
    )  # fmt: skip
    table = result.table.set_index("set")
    assert table["soft"].notna().all()
    assert list(result.architectures.index) == ["distilled, tuned", "random real"]
    assert list(result.architectures.columns) == ["ConvNetD1W4", "ConvNetW4"]
    assert "test accuracy in per cent by network" in str(result)
    synthetic_set(toy, labels=torch.eye(3).repeat_interleave(2, 0)).save(tmp_path / "soft.h5")
    table = evaluate(tmp_path / "soft.h5", toy, tmp_path / "soft", baselines=["random real"], **SMALL).table
    assert table["soft"].notna().tolist() == [True, True, False]  # a set with soft labels has both columns
    assert table["soft"][0] == table["test"][0]  # they are one-hot


def test_votes_as_soft_labels_of_galaxies_in_memory(toy: Galaxies, tmp_path: Path) -> None:
    synthetic_set(toy).save(tmp_path / "set.h5")
    settings = {**SMALL, "epochs": 30, "baselines": ["class mean", "full data"], "soft_labels": "votes"}
    vote(toy)
    table = evaluate(tmp_path / "set.h5", toy, tmp_path / "out", **settings).table
    assert table["soft"].notna().tolist() == [False, False, True, True]


def test_a_coreset_of_ones_own_is_a_baseline(toy: Galaxies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CORESETS, "again", CORESETS["herding"])
    synthetic_set(toy).save(tmp_path / "set.h5")
    table = evaluate(tmp_path / "set.h5", toy, tmp_path / "out", baselines=["again", "herding"], **SMALL).table
    assert table["set"].tolist() == ["distilled", "distilled, tuned", "herding", "again"]
    assert table["test"][2] == table["test"][3]


def test_an_interrupted_evaluation_trains_nothing_twice(
    toy: Galaxies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic_set(toy).save(tmp_path / "set.h5")
    whole = evaluate(tmp_path / "set.h5", toy, tmp_path / "whole", **SMALL)
    trained: list[str] = []
    interrupt_at = 4

    def noting(*arguments: Any) -> Outcome:
        if len(trained) == interrupt_at:
            raise KeyboardInterrupt
        trained.append(arguments[0].name)
        return compete(*arguments)

    monkeypatch.setattr("gz_lightning.evaluation.evaluate.compete", noting)
    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path / "set.h5", toy, tmp_path / "out", **SMALL)
    assert len(list((tmp_path / "out" / "unfinished").iterdir())) == 4
    interrupt_at = 100
    resumed = evaluate(tmp_path / "set.h5", toy, tmp_path / "out", **SMALL)
    assert trained == ["distilled", "distilled, tuned", *BASELINES]
    assert not (tmp_path / "out" / "unfinished").exists()
    pd.testing.assert_frame_equal(resumed.table, whole.table)
    pd.testing.assert_frame_equal(resumed.scores, whole.scores)


def test_other_refusals(toy: Galaxies, toy_path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a file of synthetic"):
        evaluate(toy_path, toy_path)
    synthetic_set(toy, class_names=("a", "b", "c")).save(tmp_path / "other.h5")
    with pytest.raises(InputError, match="other.h5 does not fit .*toy.h5: its leaves are a, b, c"):
        evaluate(tmp_path / "other.h5", toy_path)
    synthetic_set(toy).save(tmp_path / "set.h5")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"draws": 0}, "--draws must be a whole number >= 1, not 0"),
        ({"epochs": 0}, "--epochs must be a whole number >= 1, not 0"),
        ({"full_epochs": -1}, "--full_epochs must be a whole number >= 0, not -1"),
        ({"step_sizes": []}, "--step_sizes must list at least one step size"),
        ({"step_sizes": [-0.1]}, r"--step_sizes must be a list of which every item is a number > 0, not \[-0.1\]"),
        ({"step_sizes": [math.inf]}, "--step_sizes must be a list of which every item is a number > 0"),
        ({"baselines": ["magic"]}, "--baselines must be one of random real, class mean, .*, not 'magic'"),
        ({"soft_labels": "magic"}, "--soft_labels must be one of votes, expert or null, not 'magic'"),
        ({"soft_labels": "expert"}, "--soft_labels expert needs the folder of experts"),
        ({"soft_labels": "votes"}, "toy.h5 holds no votes of volunteers"),
        ({"experts": tmp_path}, "there are no experts in"),
        ({"networks": ["LeNet"]}, "there is no network 'LeNet'"),
        ({"symmetries": 3}, "--symmetries must be one of 1, 8, not 3"),
        ({"device": "abacus"}, "--device must be one of auto, cpu, cuda, not 'abacus'"),
        ({"data": 3}, "--data must be a path, not 3"),
    ]
    if not torch.cuda.is_available():
        cases.append(({"device": "cuda"}, "--device cuda needs a GPU that torch can use"))
    for settings, message in cases:
        with pytest.raises(InputError, match=message):
            evaluate(tmp_path / "set.h5", **{"data": toy_path, **settings})
    with pytest.raises(InputError, match="no val galaxies"):
        evaluate(tmp_path / "set.h5", write_toy_without_val(tmp_path, toy))


def write_toy_without_val(folder: Path, toy: Galaxies) -> Path:
    """Two galaxies of each class are of the first six of ten: all for training. Statistics as the toy set's."""
    import h5py

    path = write_toy(folder / "few.h5", per_class=2)
    with h5py.File(path, "r+") as file:
        file.attrs["mean"], file.attrs["std"] = toy.mean.numpy(), toy.std.numpy()
    return path


def pick(monkeypatch: pytest.MonkeyPatch, **files: str) -> None:
    """Of several sets, let a row (by protocol) choose the one of this file."""

    def picking(contender: Contender, *others: Any) -> Outcome:
        several = len({candidate.name for candidate in contender.candidates}) > 1
        return compete(contender.only(files[contender.protocol]) if several else contender, *others)

    monkeypatch.setattr("gz_lightning.evaluation.evaluate.compete", picking)


def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, torch.Tensor], str]]:
    """What leaves.png shows, and its title."""
    calls = []

    def drawing(sets: dict[str, torch.Tensor], class_names: Any, title: str = "") -> Any:
        calls.append((sets, title))
        return leaf_figure(sets, class_names, title)

    monkeypatch.setattr("gz_lightning.evaluation.tables.leaf_figure", drawing)
    return calls


@pytest.fixture
def run(toy: Galaxies, tmp_path: Path) -> Path:
    """A run folder whose two sets can be told apart."""
    synthetic_set(toy).save(tmp_path / "run" / "best.h5")
    synthetic_set(toy, images=synthetic_set(toy).images.flip(3), iteration=9).save(tmp_path / "run" / "last.h5")
    return tmp_path / "run"


@pytest.mark.parametrize(("mtt", "validated"), [("last.h5", "last.h5"), ("last.h5", "best.h5"), ("best.h5", "best.h5")])
def test_the_set_that_is_scored_is_named_and_drawn(
    toy: Galaxies, run: Path, monkeypatch: pytest.MonkeyPatch, mtt: str, validated: str
) -> None:
    calls = drawn(monkeypatch)
    pick(monkeypatch, mtt=mtt, validated=validated)
    result = evaluate(run, toy, baselines=["class mean"], **SMALL)
    assert result.table["file"].tolist() == [mtt, validated, "toy.h5"]
    ((sets, title),) = calls
    names = {f"distilled\n({mtt})": mtt, f"distilled, tuned\n({validated})": validated}
    expected = dict(list(names.items())[: len({mtt, validated})])
    assert list(sets) == [*expected, "class mean"]
    for name, file in expected.items():
        assert torch.equal(sets[name], SyntheticSet.load(run / file).denormalised())
    test = result.table["test"]
    words = " ".join(title.split())
    assert words.startswith(f"distilled ({mtt}) {test[0]:.1f} %, distilled, tuned ({validated}) {test[1]:.1f} %, class mean")
    both = f"the row 'distilled' is of {mtt}; the row 'distilled, tuned' is of {validated}"
    assert (both in result.remarks) == (both in str(result)) == (mtt != validated)
    read = read_evaluation(run / "evaluation" / "evaluation.json")
    assert read.distilled == {"distilled": mtt, "distilled, tuned": validated}
    assert read.settings["sets"] == {file: SyntheticSet.load(run / file).digest for file in ("best.h5", "last.h5")}


def test_other_networks_and_soft_labels_say_their_set(toy: Galaxies, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other networks are trained on the set of the row; with soft labels another set may be better, and is named."""
    trained: list[tuple[str, set[str]]] = []

    def noting(contender: Contender, *others: Any) -> Outcome:
        trained.append((contender.name, {candidate.name for candidate in contender.candidates}))
        soft = contender.candidates[0].sets[0][1].ndim == 2
        several = len(trained[-1][1]) > 1
        return compete(contender.only("best.h5" if soft else "last.h5") if several else contender, *others)

    for path in run.iterdir():
        one = SyntheticSet.load(path)
        one.labels = torch.eye(3)[one.labels]
        one.save(path)
    monkeypatch.setattr("gz_lightning.evaluation.evaluate.compete", noting)
    result = evaluate(run, toy, baselines=["class mean"], networks=["ConvNetD1W4"], **SMALL)
    assert result.table["file"].tolist() == ["last.h5", "last.h5", "toy.h5"]
    assert result.table["soft file"].tolist() == ["best.h5", "best.h5", "toy.h5"]
    assert trained[-2:] == [("distilled, tuned", {"last.h5"}), ("class mean", {""})]


def test_galaxies_of_others_are_scored_and_named(toy: Galaxies, toy_experts: Path, tmp_path: Path) -> None:
    """A colleague's galaxies have another mean in the third digit: set and baselines are scored with the set's."""
    other = Galaxies(write_toy(tmp_path / "other.h5", seed=1))
    assert not torch.allclose(other.mean, toy.mean)
    synthetic_set(toy, ipc=5).save(tmp_path / "set.h5")
    settings: dict[str, Any] = {**SMALL, "epochs": 30, "full_epochs": 0, "baselines": ["class mean"]}
    result = evaluate(tmp_path / "set.h5", other, tmp_path / "out", **settings)
    assert "galaxies: others than those of the distillation (other.h5)" in str(result)
    read = read_evaluation(tmp_path / "out" / "evaluation.json")
    assert read.remarks == result.remarks
    assert (read.settings["galaxies"], read.settings["galaxies of the distillation"]) == (other.fingerprint, toy.fingerprint)
    changed = other.standardised_by(toy.mean, toy.std)  # the same by hand
    again = evaluate(tmp_path / "set.h5", changed, tmp_path / "again", **settings)
    pd.testing.assert_frame_equal(again.table, result.table)
    assert result.table["test"][0] > 60
    synthetic_set(toy, mean=toy.mean + 0.004).save(tmp_path / "elsewhere.h5")
    with pytest.raises(InputError, match="--experts cannot be used with a set whose mean and standard deviation"):
        evaluate(tmp_path / "elsewhere.h5", toy, experts=toy_experts, **settings)
    same = evaluate(tmp_path / "set.h5", toy, tmp_path / "same", **settings)
    assert same.remarks == []
    coarse = write_toy(tmp_path / "coarse.h5", resolution=8)
    with pytest.raises(InputError, match="its images have 16 px, the galaxies 8 px"):
        evaluate(tmp_path / "set.h5", coarse)


def test_images_that_are_test_galaxies_are_told(toy: Galaxies, tmp_path: Path) -> None:
    images = synthetic_set(toy).images.clone()
    images[[0, 4]] = toy.standardise(toy.test.images[[3, 14]])
    synthetic_set(toy, images=images).save(tmp_path / "set.h5")
    result = evaluate(tmp_path / "set.h5", toy, baselines=[], **SMALL)
    assert result.remarks == ["set.h5: 2 of its 6 images are the very pixels of test galaxies"]


def test_an_unfinished_run_is_told(toy: Galaxies, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = {"distillation": {"iteration": 20, "finished": False}, "hyper_parameters": {"iterations": 100}}
    save_signed(state, run / LAST)
    for synthetic in (run, run / "best.h5"):
        result = evaluate(synthetic, toy, baselines=[], **SMALL)
        (remark,) = result.settings["remarks"]
        assert remark.startswith("the run is not finished: last.ckpt is of iteration 20 of 100")
        assert remark in str(result)
        assert remark in capsys.readouterr().err
