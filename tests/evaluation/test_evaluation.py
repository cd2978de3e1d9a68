"""The protocol against its plain form, and the evaluation of a distilled set."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from gz_lightning.augmentation import augment
from gz_lightning.data.datamodule import GalaxyZoo2DataModule
from gz_lightning.distillation.start import initial_images
from gz_lightning.distillation.synthetic import SyntheticSet
from gz_lightning.errors import InputError
from gz_lightning.evaluation.evaluate import evaluate
from gz_lightning.evaluation.figures import leaf_figure, save_figure
from gz_lightning.evaluation.protocol import Protocol, accuracies, predictions, train_network
from gz_lightning.networks import build_network
from gz_lightning.randomness import derived_seed, generator
from tests.conftest import CLASS_NAMES, write_toy

NETWORK = {"name": "ConvNet", "num_classes": 3, "resolution": 16, "width": 8, "depth": 2}


def synthetic_set(data: GalaxyZoo2DataModule, ipc: int = 2, **changes: Any) -> SyntheticSet:
    images, labels = initial_images("real", data, ipc, generator("set"))
    settings: dict[str, Any] = {
        "images": images, "labels": labels, "step_sizes": torch.tensor([0.02]), "class_names": CLASS_NAMES,
        "mean": data.packed.mean, "std": data.packed.std, "network": NETWORK, "augmentation": "galaxy",
        "data": data.fingerprint, "trajectories": "t", "iteration": 7, "configuration": {"syn_steps": 3},
        "results": {"val_accuracy": 0.5},
    }  # fmt: skip
    return SyntheticSet(**{**settings, **changes})


def test_published_schedules() -> None:
    assert Protocol(epochs=4).step_size_schedule([0.1]) == [0.1, 0.1, 0.01, 0.01]
    assert Protocol(epochs=5).step_size_schedule([0.1]) == [0.1, 0.1, 0.1, 0.01, 0.01]
    # 1000 epochs and four step sizes: each for 500 / 4, then 500 at a tenth of the last.
    assert Protocol().step_size_schedule([4, 3, 2, 1]) == [4] * 125 + [3] * 125 + [2] * 125 + [1] * 125 + [0.1] * 500
    assert Protocol(epochs=4).step_size_schedule([2, 1], syn_steps=3) == [2] * 3 + [1] * 3 + [0.1] * 2
    cosine = Protocol(epochs=4, schedule="cosine").step_size_schedule([1.0])
    assert cosine == pytest.approx([1, 0.8536, 0.5, 0.1464], abs=1e-4)


def test_training_against_the_plain_loop(toy: GalaxyZoo2DataModule) -> None:
    """SGD with momentum .9 and weight decay 5e-4, written out."""
    data, protocol = synthetic_set(toy), Protocol(epochs=4, augmentation="flip_scale", seed=5, batch_size=4)
    found = train_network(data.images, data.labels, NETWORK, [0.05], protocol)
    network = build_network(NETWORK, seed=derived_seed(5, "initialisation"))
    parameters = list(network.parameters())
    velocity = [torch.zeros_like(p) for p in parameters]
    draws = generator(5, "training")
    for alpha in (0.05, 0.05, 0.005, 0.005):
        for rows in torch.randperm(6, generator=draws).split(4):
            loss = F.cross_entropy(network(augment(data.images[rows], "flip_scale", draws)), data.labels[rows])
            for i, gradient in enumerate(torch.autograd.grad(loss, parameters)):
                velocity[i] = 0.9 * velocity[i] + gradient + 5e-4 * parameters[i].detach()
            with torch.no_grad():
                for p, v in zip(parameters, velocity, strict=True):
                    p.sub_(alpha * v)
    for ours, theirs in zip(found.parameters(), parameters, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_accuracies_are_of_the_split_that_is_named(toy: GalaxyZoo2DataModule) -> None:
    data, protocol = synthetic_set(toy), Protocol(epochs=3, augmentation="none")
    scores = accuracies(data.images, data.labels, NETWORK, [0.05], protocol, toy, ["val", "test"], 2)
    model = train_network(
        data.images, data.labels, NETWORK, [0.05], Protocol(3, augmentation="none", seed=derived_seed(0, "network", 1))
    )
    for split in ("val", "test"):
        galaxies = getattr(toy, split)
        right = model(toy.standardise(galaxies.images)).argmax(1) == galaxies.labels
        assert scores[split][1] == pytest.approx(float(right.float().mean()))
        assert torch.equal(predictions(model, galaxies, toy, torch.device("cpu")) == galaxies.labels, right)
    assert len(scores["test"]) == 2


def test_training_works_where_gradients_are_off(toy: GalaxyZoo2DataModule) -> None:
    data, protocol = synthetic_set(toy), Protocol(epochs=2)
    arguments = (data.images, data.labels, NETWORK, [0.05], protocol, toy, ["val"], 1)
    wanted = accuracies(*arguments)
    with torch.no_grad():
        assert accuracies(*arguments) == wanted
    state = torch.random.get_rng_state()
    with torch.inference_mode():
        assert accuracies(*arguments) == wanted
    assert torch.equal(torch.random.get_rng_state(), state)


def test_soft_labels_teach_as_well(toy: GalaxyZoo2DataModule) -> None:
    data, protocol = synthetic_set(toy), Protocol(epochs=3)
    soft = F.one_hot(data.labels, 3).float()
    hard_scores = accuracies(data.images, data.labels, NETWORK, [0.05], protocol, toy, ["test"], 1)
    assert accuracies(data.images, soft, NETWORK, [0.05], protocol, toy, ["test"], 1) == hard_scores


def test_set_round_trip(toy: GalaxyZoo2DataModule, tmp_path: Path) -> None:
    for labels in (torch.arange(3).repeat_interleave(2), torch.eye(3).repeat_interleave(2, 0)):
        saved = synthetic_set(toy, labels=labels)
        saved.save(tmp_path / "set.h5")
        loaded = SyntheticSet.load(tmp_path / "set.h5")
        for name, value in vars(saved).items():
            read = getattr(loaded, name)
            assert torch.equal(read, value) if isinstance(value, torch.Tensor) else read == value, name
        assert loaded.hard_labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_denormalised_pixels_are_those_of_the_galaxies(toy: GalaxyZoo2DataModule) -> None:
    saved = synthetic_set(toy)
    pixels = saved.denormalised() * 255
    known = toy.train.images.float()
    assert all((known - image).abs().amax((1, 2, 3)).min() < 1e-3 for image in pixels)


def test_evaluate(toy: GalaxyZoo2DataModule, toy_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "set.h5"
    synthetic_set(toy).save(path)
    small: dict[str, Any] = {"num_eval": 2, "epochs": 30, "draws": 2, "step_sizes": [1e-7, 0.05], "full_epochs": 12}
    result = evaluate(path, toy_path, tmp_path / "out", **small)
    table = result.table.set_index("set")
    assert list(table.index) == ["distilled", "class mean", "random real", "full data"]
    assert table["images"].tolist() == [6, 6, 6, 63]
    assert table["networks"].tolist() == [2, 2, 4, 2]
    assert table.loc["distilled", "step size"] == "0.02"  # the learned one
    assert table.loc["full data", "step size"] == "0.05"  # 1e-7 learns nothing
    assert table.loc["full data", "test"] > 80
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out" / "accuracy.csv", dtype={"step size": str}), result.table)
    for name in ("leaves.png", "confusion.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert min(picture.size) > 200
    assert "random real" in str(result)
    assert str(tmp_path / "out" / "leaves.png") in str(result)
    again = evaluate(path, toy_path, tmp_path / "again", **small)
    pd.testing.assert_frame_equal(again.table, result.table)


def test_shuffled_labels_score_at_chance_or_below(toy: GalaxyZoo2DataModule, toy_path: Path, tmp_path: Path) -> None:
    """Every image under a wrong label: a network that learned them is wrong more often than not."""
    right = synthetic_set(toy, ipc=5)
    wrong = synthetic_set(toy, ipc=5, labels=(right.labels + 1) % 3)
    scores = {}
    for name, data in (("right", right), ("wrong", wrong)):
        data.save(tmp_path / f"{name}.h5")
        table = evaluate(
            tmp_path / f"{name}.h5",
            toy_path,
            tmp_path / name,
            num_eval=2,
            epochs=60,
            draws=1,
            step_sizes=[0.02],
            full_epochs=0,
        ).table
        scores[name] = table.set_index("set").loc["distilled", "test"]
    assert scores["right"] > 60
    assert scores["wrong"] < 34


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ("a", "b", "c")}, "its leaves are a, b, c, those of the galaxies round, long, ring"),
        ({"images": torch.zeros(6, 3, 8, 8)}, "its images have 8 px, the galaxies 16 px"),
        ({"mean": torch.tensor([0.5, 0.5, 0.5])}, r"its pixels are standardised with mean \[0.5, 0.5, 0.5\]"),
    ],
)
def test_a_set_that_does_not_fit_is_refused(
    toy: GalaxyZoo2DataModule, toy_path: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    synthetic_set(toy, **changes).save(tmp_path / "set.h5")
    with pytest.raises(InputError, match=f"set.h5 does not fit .*: {message}"):
        evaluate(tmp_path / "set.h5", toy_path)


def test_other_refusals(toy: GalaxyZoo2DataModule, toy_path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a file of synthetic"):
        evaluate(toy_path, toy_path)
    synthetic_set(toy).save(tmp_path / "set.h5")
    with pytest.raises(InputError, match="draws must be at least 1"):
        evaluate(tmp_path / "set.h5", toy_path, draws=0)
    with pytest.raises(InputError, match="no val galaxies"):
        evaluate(tmp_path / "set.h5", write_toy_without_val(tmp_path, toy))


def write_toy_without_val(folder: Path, toy: GalaxyZoo2DataModule) -> Path:
    """Two galaxies of each class are of the first six of ten: all for training. Statistics as the toy set's."""
    import h5py

    path = write_toy(folder / "few.h5", per_class=2)
    with h5py.File(path, "r+") as file:
        file.attrs["mean"], file.attrs["std"] = toy.packed.mean.numpy(), toy.packed.std.numpy()
    return path


def test_leaf_figure_has_a_column_for_each_leaf(tmp_path: Path) -> None:
    figure = leaf_figure({"one": torch.rand(6, 3, 8, 8), "two": torch.rand(3, 3, 8, 8)}, CLASS_NAMES)
    axes = figure.axes
    assert len(axes) == 3 * 3
    assert [axis.get_title() for axis in axes[:3]] == list(CLASS_NAMES)
    assert [axes[i].get_ylabel() for i in (0, 3, 6)] == ["one", "", "two"]
    assert save_figure(figure, tmp_path / "a.png").stat().st_size > 1000
