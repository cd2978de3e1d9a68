"""Sets in the formats of others: written, read back by ``evaluate``, and refused where something has changed."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.evaluation.evaluate import evaluate
from gz_lightning.sets.description import DESCRIPTION
from gz_lightning.sets.formats import FORMATS, read_exported, write_set
from gz_lightning.sets.sources import read_sets
from gz_lightning.sets.synthetic import SyntheticSet
from tests.evaluation.conftest import synthetic_set

EXACT = ("npz", "pt", "huggingface")
SMALL: dict[str, Any] = {"num_eval": 1, "epochs": 4, "step_sizes": [0.05], "full_epochs": 0, "baselines": []}


def written(synthetic: SyntheticSet, to: str, folder: Path) -> Path:
    if to == "huggingface":
        pytest.importorskip("pyarrow")
    path = folder / ("set.npz" if to == "npz" else to)
    write_set(synthetic, to, path)
    return path


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("to", ["npz", *FORMATS])
def test_a_set_is_read_back(toy: Galaxies, tmp_path: Path, to: str, soft: bool) -> None:
    labels = torch.eye(3).repeat_interleave(2, 0) * 0.7 + 0.1 if soft else torch.arange(3).repeat_interleave(2)
    synthetic = synthetic_set(toy, labels=labels, step_sizes=torch.tensor([0.02, 0.05] if soft else [0.02]))
    synthetic.images *= 2  # so that a picture cuts something off
    found = read_exported(written(synthetic, to, tmp_path))
    for name, value in vars(synthetic).items():
        if name != "images":
            read = getattr(found, name)
            assert torch.equal(read, value) if isinstance(value, torch.Tensor) else read == value, name
    if to in EXACT:
        assert torch.equal(found.images, synthetic.images)
    elif to == "tiff":
        torch.testing.assert_close(found.images, synthetic.images, atol=1e-5, rtol=0)
    else:
        assert synthetic.cut_off > 0.05
        torch.testing.assert_close(found.images, toy.standardise(synthetic.pixels), atol=1e-5, rtol=0)


@pytest.mark.parametrize("to", ["folder", "tiff"])
def test_an_evaluation_is_not_written_among_the_images(toy: Galaxies, tmp_path: Path, to: str) -> None:
    folder = written(synthetic_set(toy), to, tmp_path)
    before = sorted(folder.rglob("*"))
    evaluate(folder, toy, **SMALL)
    assert (tmp_path / f"{to}_evaluation" / "evaluation.json").is_file()
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("to", EXACT)
def test_the_accuracy_is_that_of_the_set(toy: Galaxies, tmp_path: Path, to: str) -> None:
    synthetic = synthetic_set(toy)
    synthetic.save(tmp_path / "set.h5")
    wanted = evaluate(tmp_path / "set.h5", toy, tmp_path / "wanted", **SMALL)
    path = written(synthetic, to, tmp_path)
    for place in (path, path / "images_best.pt") if to == "pt" else (path,):
        found = evaluate(place, toy, tmp_path / place.name / "found" if place.is_dir() else tmp_path / "found", **SMALL)
        pd.testing.assert_frame_equal(found.table.drop(columns="file"), wanted.table.drop(columns="file"))
        pd.testing.assert_frame_equal(found.scores, wanted.scores)
        assert found.settings["trained"] == wanted.settings["trained"]
    assert wanted.table["set"].tolist() == ["distilled", "distilled, tuned"]


def test_the_published_codes_read_the_trio(toy: Galaxies, tmp_path: Path) -> None:
    """What their evaluations do with the files: MTT ``labels.long()`` and ``float(lr)``; DATM ``softmax(labels, dim=1)``."""
    for soft in (False, True):
        labels = torch.eye(3).repeat_interleave(2, 0) * 0.7 + 0.1 if soft else torch.arange(3).repeat_interleave(2)
        synthetic = synthetic_set(toy, labels=labels)
        folder = written(synthetic, "pt", tmp_path / str(soft))
        trio = {name: torch.load(folder / f"{name}_best.pt", weights_only=True) for name in ("images", "labels", "lr")}
        assert torch.equal(trio["images"].detach().float(), synthetic.images)
        assert float(trio["lr"]) == float(synthetic.step_sizes)
        if not soft:
            assert torch.equal(trio["labels"].detach().long(), labels)
        logits = torch.load(folder / "logits_best.pt", weights_only=True)
        wanted = labels if soft else torch.nn.functional.one_hot(labels).float()
        torch.testing.assert_close(torch.nn.functional.softmax(logits, dim=1), wanted, atol=1e-6, rtol=0)


def test_several_step_sizes_have_no_place_in_the_trio(toy: Galaxies, tmp_path: Path) -> None:
    synthetic = synthetic_set(toy, step_sizes=torch.tensor([0.02, 0.05]))
    folder = written(synthetic, "pt", tmp_path)
    assert not (folder / "lr_best.pt").exists()
    assert torch.equal(read_exported(folder).step_sizes, synthetic.step_sizes)


def test_without_its_description_the_trio_is_somebodys_set(toy: Galaxies, tmp_path: Path) -> None:
    synthetic = synthetic_set(toy)
    folder = written(synthetic, "pt", tmp_path)
    (folder / DESCRIPTION).unlink()
    (found,) = read_sets(folder / "images_best.pt", toy).values()
    assert torch.equal(found.images, synthetic.images)
    assert torch.equal(found.step_sizes, synthetic.step_sizes)
    assert found.network["name"] == "ConvNet"
    assert found.augmentation == "none"


def test_without_their_description_pictures_are_somebodys_set(toy: Galaxies, tmp_path: Path) -> None:
    synthetic = synthetic_set(toy)
    folder = written(synthetic, "folder", tmp_path)
    (folder / DESCRIPTION).unlink()
    (found,) = read_sets(folder, toy).values()
    assert torch.equal(found.images, toy.standardise(synthetic.pixels))
    assert torch.equal(found.labels, synthetic.labels)


@pytest.mark.parametrize("to", list(FORMATS))
def test_a_description_beside_other_images_is_refused(toy: Galaxies, tmp_path: Path, to: str) -> None:
    one = written(synthetic_set(toy), to, tmp_path / "one")
    other = written(synthetic_set(toy, images=synthetic_set(toy).images.flip(3)), to, tmp_path / "other")
    (one / DESCRIPTION).replace(other / DESCRIPTION)
    with pytest.raises(InputError, match="set.json does not describe what lies with it, .*; remove it to read"):
        read_sets(other, toy)


@pytest.mark.parametrize("name", ["labels", "lr", "images"])
def test_a_file_of_the_trio_that_was_replaced_is_refused(toy: Galaxies, tmp_path: Path, name: str) -> None:
    folder = written(synthetic_set(toy), "pt", tmp_path)
    tensor = torch.load(folder / f"{name}_best.pt", weights_only=True)
    torch.save(tensor.flip(0) if tensor.ndim else tensor * 2, folder / f"{name}_best.pt")
    with pytest.raises(InputError, match="set.json does not describe what lies with it"):
        read_exported(folder)


def test_what_does_not_fit_the_galaxies_is_refused(toy: Galaxies, tmp_path: Path) -> None:
    path = written(synthetic_set(toy, class_names=("a", "b", "c")), "npz", tmp_path)
    with pytest.raises(InputError, match=r"set.npz does not fit .*toy.h5: its leaves are a, b, c"):
        read_sets(path, toy)


def test_an_unknown_format_and_a_huge_one_are_refused(toy: Galaxies, tmp_path: Path) -> None:
    folder = written(synthetic_set(toy), "pt", tmp_path)
    description = json.loads((folder / DESCRIPTION).read_text())
    for changes, message in (
        ({"stored": "jpeg"}, "it is stored as jpeg, where it can be folder, tiff, pt, huggingface"),
        ({"resolution": 10**9}, "images of 1000000000 px"),
        ({"resolution": 17}, r"its images are torch.float32 of the shape \(6, 3, 16, 16\)"),
    ):
        (folder / DESCRIPTION).write_text(json.dumps({**description, **changes}))
        with pytest.raises(InputError, match=message):
            read_exported(folder)


def test_a_folder_in_use_is_left_alone(toy: Galaxies, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already and is not empty"):
        write_set(synthetic_set(toy), "folder", tmp_path)
    lost = synthetic_set(toy, labels=torch.tensor([0, 0, 1, 1, 0, 1]))
    with pytest.raises(InputError, match="pictures: pictures are not written: no image is labelled ring"):
        write_set(lost, "folder", tmp_path / "pictures")
    with pytest.raises(InputError, match="is not written: the image 0 is not finite"):
        write_set(synthetic_set(toy, images=torch.full((6, 3, 16, 16), float("nan"))), "npz", tmp_path / "set.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
