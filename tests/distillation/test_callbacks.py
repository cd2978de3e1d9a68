"""Pictures, the course of a run, and the word on a step size that collapses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gz_lightning.figures import leaf_figure
from gz_lightning.sets.sources import FIRST
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.storage.checkpoints import LAST
from tests.distillation.conftest import Distil


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
    np.testing.assert_array_equal(*courses)  # there is no finish: NaN is equal to NaN here
    assert [row[0] for row in courses[0]] == [1, 2, 3, 4, 5, 6]


def test_the_first_images_are_kept(distil: Distil, tmp_path: Path) -> None:
    """Those before the first iteration, of a run that was cut in two as well."""
    firsts = []
    for folder, parts in (("whole", [4]), ("cut", [2, 4])):
        for iterations in parts:
            checkpoint = tmp_path / folder / LAST
            resumed = checkpoint if checkpoint.exists() else None
            found = distil(tmp_path / folder, ckpt_path=resumed, iterations=iterations, eval_it=1)
        firsts.append(SyntheticSet.load(tmp_path / folder / FIRST))
        assert firsts[-1].iteration == 0
        assert not torch.equal(firsts[-1].images, found.images)
    assert torch.equal(firsts[0].images, firsts[1].images)


def test_pictures_have_the_words_of_the_report(distil: Distil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def kept(rows: dict[str, torch.Tensor], *others: Any) -> Any:
        drawn.append(list(rows))
        return leaf_figure(rows, *others)

    monkeypatch.setattr("gz_lightning.distillation.callbacks.leaf_figure", kept)
    distil(tmp_path, iterations=1)
    assert drawn[0] == ["distilled", "stretched"]


def test_labels_learned_too_fast_are_said(distil: Distil, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = distil(tmp_path / "run", labels="experts", lr_label=1e4).synthetic_set()
    lost = [name for name, places in zip(found.class_names, found.places_by_leaf(1).tolist(), strict=True) if places[0] < 0]
    assert lost
    assert f"no image is labelled {' or '.join(lost)} any more" in capsys.readouterr().err


def test_looking_more_often_changes_nothing(distil: Distil, tmp_path: Path) -> None:
    rarely, often = (distil(tmp_path / str(n), iterations=6, eval_it=n) for n in (100, 1))
    assert torch.equal(rarely.images, often.images)


def test_a_step_size_that_collapses_is_reported_once(
    distil: Distil, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a fall to three tenths of the first is one: no toy falls to a hundredth within a few iterations."""
    monkeypatch.setattr("gz_lightning.distillation.callbacks.COLLAPSED", 0.3)
    far: dict[str, Any] = {"lr_teacher": 0.5, "lr_img": 0.0, "stage": "fixed"}
    distil(tmp_path / "slow", **far, lr_lr=0.0, iterations=3)
    assert "step size has fallen" not in capsys.readouterr().err
    distil(tmp_path / "fast", **far, lr_lr=2.0, iterations=4)
    said = capsys.readouterr().err
    assert said.count("the step size has fallen from 0.5 to ") == 1
    assert "(--model.expert_epochs, now 1)" in said
