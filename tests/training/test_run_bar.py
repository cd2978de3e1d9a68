"""The bar of fit and distill takes the place of Lightning's default one, and tells the progress in the module's words."""

from pathlib import Path

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

from gz_lightning.data.datamodule import GalaxyZoo2DataModule
from gz_lightning.experts.module import ExpertModule
from gz_lightning.training.run_bar import RunBar


def fitted(folder: Path, toy_path: Path, **settings: object) -> Trainer:
    options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = Trainer(**options | settings, default_root_dir=folder)  # type: ignore[arg-type]
    module = ExpertModule(str(folder / "experts"), num_experts=2, train_epochs=2, width=4, depth=2)
    trainer.fit(module, datamodule=GalaxyZoo2DataModule(str(toy_path), batch_size=16))
    return trainer


def test_it_replaces_the_default_bar(tmp_path: Path, toy_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = fitted(tmp_path, toy_path)
    assert type(trainer.progress_bar_callback) is RunBar
    captured = capsys.readouterr()
    assert "Epoch" not in captured.out + captured.err
    (line,) = [line for line in captured.err.splitlines() if line.startswith("expert ")]
    assert line.startswith("expert 2 of 2, epoch 2 of 2, validation ")


def test_no_bar_and_a_bar_of_the_users_stay(tmp_path: Path, toy_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fitted(tmp_path / "a", toy_path, enable_progress_bar=False).progress_bar_callback is None
    own = TQDMProgressBar(refresh_rate=7)
    assert fitted(tmp_path / "b", toy_path, callbacks=[own]).progress_bar_callback is own
    assert "expert 2 of 2, epoch" not in capsys.readouterr().err


def test_an_interrupted_run_leaves_no_line_of_the_bar(
    tmp_path: Path, toy_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(self: object, *args: object) -> None:
        raise ValueError("a batch too many")

    monkeypatch.setattr(ExpertModule, "on_train_batch_end", fails)
    with pytest.raises(ValueError, match="a batch too many"):
        fitted(tmp_path, toy_path)
    assert "epoch 1 of 2" not in capsys.readouterr().err
