"""Sets of any origin, and what does not fit the galaxies."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.evaluation.evaluate import evaluate
from gz_lightning.sets.sources import READERS, read_sets, unfinished
from gz_lightning.storage.checkpoints import LAST
from gz_lightning.storage.tensors import save_signed
from tests.conftest import CLASS_NAMES
from tests.evaluation.conftest import NETWORK, synthetic_set


def write_pictures(folder: Path, toy: Galaxies, side: int = 16) -> torch.Tensor:
    """Two PNGs of each leaf; returns their standardised pixels."""
    pixels = torch.stack([toy.train.images[toy.train.of_class(label)[i]] for label in range(3) for i in range(2)])
    for i, image in enumerate(pixels):
        leaf = folder / CLASS_NAMES[i // 2].upper()
        leaf.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(np.asarray(image.permute(1, 2, 0)))
        picture.resize((side, side)).save(leaf / f"{i % 2}.png")
    return toy.standardise(pixels)


def write_pair(folder: Path, images: torch.Tensor, labels: torch.Tensor, name: str = "best") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(images, folder / f"images_{name}.pt")
    torch.save(labels, folder / f"labels_{name}.pt")
    return folder / f"images_{name}.pt"


def test_pictures_are_the_pixels(toy: Galaxies, tmp_path: Path) -> None:
    pixels = write_pictures(tmp_path / "set", toy)
    ((path, synthetic),) = read_sets(tmp_path / "set", toy, "ConvNetD2W8").items()
    assert path == tmp_path / "set"
    assert len(synthetic.step_sizes) == 0
    assert torch.equal(synthetic.images, pixels)
    assert synthetic.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert synthetic.network == NETWORK


@pytest.mark.parametrize("soft", [False, True])
def test_the_published_pair(toy: Galaxies, tmp_path: Path, soft: bool) -> None:
    made = synthetic_set(toy)
    order = torch.arange(5, -1, -1)  # the labels of a pair need not be sorted
    labels = torch.eye(3)[made.labels] if soft else made.labels
    (pair,) = read_sets(write_pair(tmp_path, made.images[order], labels[order]), toy).values()
    assert torch.equal(pair.hard_labels[pair.hard_labels.argsort()], made.labels)
    assert pair.labels.ndim == 2 if soft else torch.equal(pair.labels, made.labels)
    assert sorted(pair.images.flatten().tolist()) == sorted(made.images.flatten().tolist())


def test_a_run_folder_is_all_its_sets(toy: Galaxies, tmp_path: Path) -> None:
    for name in ("last", "best"):
        synthetic_set(toy).save(tmp_path / f"{name}.h5")
    sets = read_sets(tmp_path, toy)
    assert [path.name for path in sets] == ["best.h5", "last.h5"]
    assert all(one.step_sizes.tolist() == pytest.approx([0.02]) for one in sets.values())


def test_another_network_may_be_named(toy: Galaxies, tmp_path: Path) -> None:
    synthetic_set(toy).save(tmp_path / "set.h5")
    for name, network in ((None, NETWORK), ("ConvNetD1W4", {**NETWORK, "depth": 1, "width": 4})):
        (synthetic,) = read_sets(tmp_path / "set.h5", toy, name).values()
        assert synthetic.network == network


def test_a_reader_in_the_table_is_used(toy: Galaxies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = synthetic_set(toy)
    monkeypatch.setitem(READERS, ".mine", lambda path, galaxies, network: made)
    (tmp_path / "a.mine").write_text("")
    assert read_sets(tmp_path / "a.mine", toy) == {tmp_path / "a.mine": made}


def test_sets_of_others_are_evaluated(toy: Galaxies, toy_path: Path, tmp_path: Path) -> None:
    """Without a learned step size there is no published row, only the tuned one."""
    write_pictures(tmp_path / "set", toy)
    result = evaluate(
        tmp_path / "set", toy_path, tmp_path / "out", num_eval=1, epochs=3, draws=1, step_sizes=[0.02], full_epochs=0,
        baselines=["class mean"], network="ConvNetD2W8", symmetries=8,
    )  # fmt: skip
    assert result.table["set"].tolist() == ["distilled, tuned", "class mean"]
    assert result.settings["symmetries"] == 8


def test_pictures_that_do_not_fit(toy: Galaxies, tmp_path: Path) -> None:
    write_pictures(tmp_path / "small", toy, side=8)
    with pytest.raises(InputError, match=r"0.png has 8 x 8 px, the galaxies of .*toy.h5 16 px"):
        read_sets(tmp_path / "small", toy)
    (tmp_path / "small" / "ROUND").rename(tmp_path / "small" / "disk")
    with pytest.raises(InputError, match=r"its class folders are not the leaves .*missing: round; unknown: disk"):
        read_sets(tmp_path / "small", toy)
    write_pictures(tmp_path / "bad", toy)
    (tmp_path / "bad" / "RING" / "0.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="0.png cannot be read as an image"):
        read_sets(tmp_path / "bad", toy)


def test_pairs_that_do_not_fit(toy: Galaxies, tmp_path: Path) -> None:
    made = synthetic_set(toy)
    images, labels = made.images, made.labels
    cases = {
        "size": (images[:, :, :8, :8], labels, r"its images have shape \(3, 8, 8\), those of the galaxies \(3, 16, 16\)"),
        "leaves": (images, labels.clamp(max=1), r"its labels are \[0, 1\], those of the galaxies 0 to 2"),
        "count": (images, labels[:5], "its labels have shape"),
        "range": (made.denormalised(), labels, r"its normalisation is another: its pixels lie in \[0"),
        "scale": (images * 20, labels, "its normalisation is another: its pixels have mean"),
        "finite": (images / 0, labels, "its pixels are not all finite"),
        "none": (images[:0], labels[:0], "its images have shape"),
        "number": (images, torch.tensor(1), r"its labels have shape \(\) for 6 images"),
    }
    for name, (pixels, leaves, message) in cases.items():
        path = write_pair(tmp_path / name, pixels, leaves)
        with pytest.raises(InputError, match=rf"images_best.pt does not fit .*toy.h5: {message}"):
            read_sets(path, toy)
    path.with_name("labels_best.pt").unlink()
    with pytest.raises(InputError, match="there is no file .*labels_best.pt; the published pair is"):
        read_sets(path, toy)
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="images_best.pt is no file of PyTorch tensors alone, or is damaged"):
        read_sets(path, toy)
    torch.save({"images": images}, path)
    with pytest.raises(InputError, match="holds a dict, not a tensor"):
        read_sets(path, toy)
    with pytest.raises(InputError, match="name the images of the published pair"):
        read_sets(path.with_name("labels_best.pt"), toy)


def test_a_pair_of_other_than_real_numbers_is_refused(toy: Galaxies, tmp_path: Path) -> None:
    made = synthetic_set(toy)
    path = write_pair(tmp_path / "complex", made.images, made.labels.to(torch.complex64))
    with pytest.raises(InputError, match="labels_best.pt holds a Tensor, not a tensor of numbers that are all there"):
        read_sets(path, toy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda shares: shares * 10, "row 0 of its soft labels adds up to 10, not to 1: divide each row by its sum"),
        (lambda shares: shares * 100, "row 0 of its soft labels adds up to 100, not to 1: .*take their softmax"),
        (lambda shares: shares * torch.tensor([[1.0]] * 5 + [[1.01]]), "row 5 of its soft labels adds up to 1.01, not"),
        (lambda shares: (shares.log() + 9).float(), "row 0 of its soft labels adds up to 22.17, not to 1"),
        (lambda shares: shares.log(), r"row 0 of its soft labels has -2.303 and adds up to -4.828: .*take their softmax"),
        (lambda shares: (shares * 10).long(), "row 0 of its soft labels adds up to 10, not to 1"),
        (lambda shares: shares / 0, "row 0 of its soft labels is not finite"),
    ],
)
def test_labels_that_are_not_shares_are_refused(toy: Galaxies, tmp_path: Path, change: Any, message: str) -> None:
    """They would multiply the loss."""
    made = synthetic_set(toy)
    shares = torch.eye(3)[made.labels] * torch.tensor([0.7]) + 0.1
    path = write_pair(tmp_path, made.images, change(shares))
    with pytest.raises(InputError, match=f"labels_best.pt cannot be used: {message}"):
        read_sets(path, toy)
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        (pair,) = read_sets(write_pair(tmp_path, made.images, shares.to(dtype)), toy).values()
        torch.testing.assert_close(pair.labels, shares, atol=4e-3, rtol=0)


@pytest.mark.parametrize("name", ["lr_best.pt", "lr.pt"])
@pytest.mark.parametrize("value", [torch.tensor(0.03), torch.tensor([0.03]), torch.nn.Parameter(torch.tensor(0.03)), 0.03])
def test_a_step_size_beside_the_pair_is_the_learned_one(toy: Galaxies, tmp_path: Path, name: str, value: Any) -> None:
    made = synthetic_set(toy)
    path = write_pair(tmp_path, made.images, made.labels)
    torch.save(value, tmp_path / name)
    torch.save(torch.tensor(0.5), tmp_path / "lr_other.pt")
    (pair,) = read_sets(path, toy).values()
    assert pair.step_sizes.tolist() == pytest.approx([0.03])
    small = {"num_eval": 1, "epochs": 2, "step_sizes": [0.02], "full_epochs": 0, "baselines": [], "network": "ConvNetD1W4"}
    table = evaluate(path, toy, tmp_path / "out", **small).table  # type: ignore[arg-type]
    assert table["set"].tolist() == ["distilled", "distilled, tuned"]
    assert (table["step size"][0], table["file"][0]) == ("0.03", "images_best.pt")


@pytest.mark.parametrize(
    "value", [torch.tensor(-0.1), torch.tensor(0.0), torch.tensor([0.1, 0.2]), torch.tensor(float("nan")), "many", True]
)
def test_a_step_size_that_is_none_is_refused(toy: Galaxies, tmp_path: Path, value: Any) -> None:
    made = synthetic_set(toy)
    path = write_pair(tmp_path, made.images, made.labels)
    torch.save(value, tmp_path / "lr_best.pt")
    with pytest.raises(InputError, match=r"lr_best.pt holds .*, where the learned step size should be one number above 0"):
        read_sets(path, toy)


def test_sets_that_are_standardised_differently_are_not_one_run(toy: Galaxies, tmp_path: Path) -> None:
    synthetic_set(toy).save(tmp_path / "a.h5")
    synthetic_set(toy, mean=toy.mean + 0.01).save(tmp_path / "b.h5")
    with pytest.raises(InputError, match=r"b.h5 is standardised otherwise than .*a.h5: name one of them"):
        read_sets(tmp_path, toy)


def test_an_unfinished_run(toy: Galaxies, tmp_path: Path) -> None:
    assert unfinished(tmp_path) == ""
    of = {"iterations": 100, "stage": "fixed"}
    for iteration, stage, ended in ((7, "fixed", False), (100, "fixed", True), (7, "stage", True)):
        synthetic_set(toy, iteration=iteration, configuration={**of, "stage": stage}).save(tmp_path / "last.h5")
        assert (unfinished(tmp_path) == "") == ended, "a run in stages ends by itself"
    for iteration, finished in ((20, False), (100, True), (60, True)):
        state = {"iteration": iteration, "finished": finished}
        save_signed({"distillation": state, "hyper_parameters": of}, tmp_path / LAST)
        assert (unfinished(tmp_path) == "") == finished
        assert finished or "the run is not finished: last.ckpt is of iteration 20 of 100" in unfinished(tmp_path)
    others: list[dict[str, Any]] = [{"experts": {}}, {"distillation": 3}]
    for content in (*others, {"distillation": {"finished": False}, "hyper_parameters": 3}):
        save_signed(content, tmp_path / LAST)
        assert unfinished(tmp_path) == ""
    (tmp_path / LAST).write_bytes(b"nonsense")
    assert "whether the run is finished is unknown" in unfinished(tmp_path)
