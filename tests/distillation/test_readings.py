"""Iterations whose numbers are read late, as on a GPU: all that follows from them is the same."""

import random
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from jsonargparse import Namespace
from lightning.pytorch.callbacks import EarlyStopping, LambdaCallback, Timer, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from gz_lightning.distillation.callbacks import ResumeCheckpoint
from gz_lightning.distillation.readings import Readings, may_wait
from gz_lightning.distillation.stages import STAGES, FixedRange, StageDistillation
from gz_lightning.errors import InputError
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.storage.checkpoints import LAST
from tests.distillation.conftest import Distil


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers are left unread as on a GPU; how many iterations each read was of."""
    monkeypatch.setattr("gz_lightning.distillation.module.may_wait", lambda *_: True)
    found: list[int] = []
    take = Readings.take

    def counted(self: Readings) -> Any:
        found.append(len(self.unread))
        return take(self)

    monkeypatch.setattr(Readings, "take", counted)
    return found


def course_of(folder: Path) -> Any:
    state = torch.load(folder / LAST, weights_only=True)
    course = next(kept["course"] for name, kept in state["callbacks"].items() if name.startswith("Curves"))
    return course, state["distillation"]


@pytest.mark.parametrize("settings", [{"stage": "fixed"}, {"sigma_threshold": 0.01, "step_sizes": "independent"}], ids=str)
def test_what_is_read_late_changes_nothing(
    settings: dict[str, Any], distil: Distil, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    settings = {"iterations": 24, "lr_img": 0.05, "lr_lr": 0.3, **settings}
    at_once = distil(tmp_path / "at once", **settings)
    reads = request.getfixturevalue("reads")
    late = distil(tmp_path / "late", **settings)
    assert sum(reads) == 24
    assert max(reads) == (24 if settings.get("stage") == "fixed" else 10)
    assert torch.equal(late.images, at_once.images)
    assert torch.equal(late.log_step_sizes, at_once.log_step_sizes)
    assert str(course_of(tmp_path / "late")) == str(course_of(tmp_path / "at once"))  # as text: NaN is not NaN


def test_numbers_are_read_where_they_are_needed(distil: Distil, tmp_path: Path, reads: list[int]) -> None:
    distil.options = {**distil.options, "log_every_n_steps": 4}
    distil(tmp_path / "logged", stage="fixed", iterations=10)
    assert [number for number in reads if number] == [4, 4, 2]
    reads.clear()
    distil.options = {**distil.options, "log_every_n_steps": 1000}
    distil(tmp_path / "evaluated", stage="fixed", iterations=10, eval_it=3)
    assert [number for number in reads if number] == [3, 3, 3, 1]


def test_a_checkpoint_holds_what_was_not_read(
    distil: Distil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: list[int]
) -> None:
    """Checkpoints come with time, at any iteration."""
    init = ResumeCheckpoint.__init__
    monkeypatch.setattr(ResumeCheckpoint, "__init__", lambda self, every: init(self, every, minutes=0.0))
    distil(tmp_path, stage="fixed", iterations=3)
    assert len(course_of(tmp_path)[0]) == 3
    assert [number for number in reads if number] == [1, 1, 1]


def test_refused_updates_end_a_run_though_they_are_read_late(
    distil: Distil, tmp_path: Path, capsys: pytest.CaptureFixture[str], reads: list[int]
) -> None:
    with pytest.raises(InputError, match=r"no update could be made 5 times in a row \(last at iteration 4, "):
        distil(tmp_path, lr_teacher=1e30, stage="fixed", iterations=20)
    assert capsys.readouterr().err.count("not finite: no update") == 5
    assert max(reads) == 20
    assert torch.isfinite(SyntheticSet.load(tmp_path / "last.h5").images).all()


def test_stages_say_how_long_they_can_wait() -> None:
    class Own(FixedRange):
        def record(self, probe_loss: float | None = None) -> str | None:
            return None

    class OwnStage(StageDistillation):
        def record(self, probe_loss: float | None = None) -> str | None:
            return super().record(probe_loss)

    assert (Own().patience, OwnStage().patience) == (1, 1)
    assert FixedRange().patience > 10**6


@pytest.mark.parametrize("name", [name for name in STAGES if name != "fixed"])
def test_nothing_changes_before_a_rule_has_waited(name: str) -> None:
    stages = STAGES[name](1, 3, "cycle", 0.5, 100, 1000.0)
    draws, moved = random.Random(0), 0
    for _ in range(300):
        before = stages.cap, stages.lr_factor, stages.lr_lr_factor, stages.probe_epoch, stages.restarts, stages.ended
        for i in range(stages.patience):
            now = stages.cap, stages.lr_factor, stages.lr_lr_factor, stages.probe_epoch, stages.restarts, stages.ended
            assert now == before, i
            stages.record(draws.random())
        now = stages.cap, stages.lr_factor, stages.lr_lr_factor, stages.probe_epoch, stages.restarts, stages.ended
        moved += now != before
        if stages.ended:
            break
    assert moved > 5


class Looking(pl.Callback):
    """A user's own."""


def test_numbers_wait_on_a_gpu_that_nobody_else_watches() -> None:
    def waits(device: str, *callbacks: pl.Callback) -> bool:
        trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        trainer.callbacks += callbacks  # type: ignore[attr-defined]
        return may_wait(trainer, torch.device(device))

    passive = ResumeCheckpoint(100), Timer(), TQDMProgressBar(), SaveConfigCallback(LightningArgumentParser(), Namespace())
    assert waits("cuda", *passive)
    assert not waits("cpu", *passive)
    assert not waits("cuda", *passive, EarlyStopping("loss"))
    assert not waits("cuda", Looking())
    assert not waits("cuda", LambdaCallback(on_train_batch_end=lambda *_: None))
