"""The LightningCLI of fit and distill: what a run folder gets, and settings that cannot work."""

from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from gz_lightning.cli import main
from gz_lightning.cli.lightning import wandb_mode
from gz_lightning.errors import InputError
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.storage.checkpoints import LAST
from tests.cli.test_parser import refused

QUIET = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
OFF = ["--wandb", "off"]
FIT = ["--model.num_experts", "1", "--model.train_epochs", "2", "--model.width", "4", "--model.depth", "2", *QUIET, *OFF]
DISTILL = [
    *["--model.iterations", "2", "--model.eval_it", "2", "--model.num_eval", "1", "--model.epoch_eval_train", "2"],
    *["--model.syn_steps", "2", "--model.expert_epochs", "1", "--model.max_start_epoch", "1", "--model.lr_teacher", "0.03"],
    *QUIET,
]
CHECKPOINT = ["--trainer.enable_checkpointing", "true", "--trainer.callbacks", "ModelCheckpoint"]
MONITOR = [*CHECKPOINT, "--trainer.callbacks.monitor"]
CSV_LOGGER = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "run"]


class Stop(Callback):
    """Stops as a time limit does that is over."""

    watches_only = True

    def on_train_batch_end(self, trainer: Trainer, *args: object) -> None:
        """After the first batch."""
        trainer.should_stop = True


class Shrink(Callback):
    """Makes parameters smaller."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        """After each batch."""
        with torch.no_grad():
            for parameter in pl_module.parameters():
                parameter.mul_(0.9)


STOP = ["--trainer.callbacks", f"{__name__}.Stop"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def distill(toy_path: Path, toy_experts: Path) -> list[str]:
    """A short distillation, without Weights & Biases settings."""
    return ["distill", "--data.path", str(toy_path), "--model.trajectories", str(toy_experts), *DISTILL]


def test_a_run_from_a_saved_configuration_writes_into_its_folder(distill: list[str]) -> None:
    pytest.importorskip("wandb")
    main([*distill, "--run_dir", "a"])
    before = sorted(Path("a").rglob("*"))
    saved = Path("a/logs/version_0/config.yaml")
    settings = yaml.safe_load(saved.read_text())
    assert settings["trainer"]["logger"] is None
    assert "default_root_dir" not in settings["trainer"]
    main(["distill", "--config", str(saved), "--run_dir", "b"])
    main(["distill", "--config", str(saved), "--run_dir", "c", "--wandb", "off"])
    assert sorted(Path("a").rglob("*")) == before
    assert Path("b/logs/version_0/metrics.csv").exists()
    assert len(list(Path("b/wandb").glob("offline-run-*"))) == 1
    assert Path("c/logs/version_0/metrics.csv").exists()
    assert not Path("c/wandb").exists()
    assert torch.equal(SyntheticSet.load("a/last.h5").images, SyntheticSet.load("b/last.h5").images)


@pytest.mark.filterwarnings("ignore:Experiment logs directory")
@pytest.mark.parametrize(
    "logger", [["--trainer.logger", "false"], CSV_LOGGER, [*CSV_LOGGER, "--trainer.logger.version", "one"]]
)
def test_the_same_command_runs_again_with_any_logger(distill: list[str], logger: list[str]) -> None:
    for _ in range(3):
        main([*distill, *OFF, *logger, "--run_dir", "run", "--ckpt_path", "last"])
    assert list(Path("run").rglob("config.yaml"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--trainer.gradient_clip_val", "1"], "--trainer.gradient_clip_val 1 is not supported here: leave it out"),
        (["--trainer.accumulate_grad_batches", "2"], "--trainer.accumulate_grad_batches 2"),
        (["--trainer.precision", "64-true"], "--trainer.precision must be one of 32-true here, not 64-true"),
        (["--trainer.max_steps", "1"], "--trainer.max_steps 1 is not supported here: use --model.iterations instead"),
        (["--trainer.val_check_interval", "50"], "--trainer.val_check_interval 50 is not supported here"),
        (["--trainer.accelerator", "tpu"], "the settings cannot be used: "),
        (["--trainer.devices", "many"], "the settings cannot be used: `devices` selected with"),
        (["--trainer.strategy", "none"], "the settings cannot be used: You selected an invalid strategy name"),
        (["--trainer.logger", "Nothing"], "--trainer.logger: there is no class Nothing; name one as package.module.Class"),
        (["--trainer.logger", "no.Logger"], "--trainer.logger: no.Logger cannot be imported: No module named 'no'"),
        ([*CSV_LOGGER, "--trainer.logger.flush_logs_every_n_steps", "x"], "--trainer.logger"),
        (["--trainer.limit_train_batches", "1"], "--trainer.limit_train_batches 1 is not supported here: use --model.iter"),
        (
            ["--trainer.max_epochs", "1000"],
            "--trainer.max_epochs 1000 is not supported here: use --model.iterations instead",
        ),
        (["--trainer.min_steps", "3"], "--trainer.min_steps 3 is not supported here: leave it out"),
        (["--trainer.sync_batchnorm", "true"], "--trainer.sync_batchnorm true is not supported here: leave it out"),
        ([*MONITOR, "val_loss"], "ModelCheckpoint monitors 'val_loss', and what is logged from the beginning is loss, "),
        ([*MONITOR, "probe_loss", "--model.stage", "fixed"], "ModelCheckpoint monitors 'probe_loss', and what is logged"),
        ([*MONITOR, "step_size/start_epoch_77"], "ModelCheckpoint monitors 'step_size/start_epoch_77', and what"),
        (["--trainer.callbacks", "BatchSizeFinder"], "BatchSizeFinder may change what is trained"),
        (["--trainer.callbacks", "LearningRateFinder"], "LearningRateFinder may change what is trained"),
        (["--trainer.callbacks", f"{__name__}.Shrink"], "Shrink may change what is trained"),
        (
            ["--trainer.callbacks", "LearningRateMonitor", "--trainer.logger", "false"],
            "the settings cannot be used: Cannot use",
        ),
        (["--trainer.max_time", "soon"], "the settings cannot be used: `Timer(duration='soon')`"),
        (["--seed_everything", "42"], "--seed_everything 42 seeds nothing here: use --model.seed 42 instead"),
        (["--seed_everything", "true"], "--seed_everything seeds nothing here: use --model.seed instead"),
    ],
)
def test_settings_that_cannot_work_end_in_one_line(
    distill: list[str], settings: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, *distill, *OFF, *settings, "--run_dir", "run")
    assert not Path("run/last.h5").exists()


def test_callbacks_with_an_enumeration_among_their_settings_are_saved(distill: list[str]) -> None:
    main([*distill, *OFF, "--trainer.callbacks", "Timer", "--trainer.callbacks.duration", "00:01:00:00", "--run_dir", "a"])
    saved = Path("a/logs/version_0/config.yaml")
    (timer,) = yaml.safe_load(saved.read_text())["trainer"]["callbacks"]
    assert timer["init_args"] == {"duration": "00:01:00:00", "interval": "step", "verbose": True}
    main(["distill", "--config", str(saved), "--run_dir", "b"])
    assert torch.equal(SyntheticSet.load("a/last.h5").images, SyntheticSet.load("b/last.h5").images)


@pytest.mark.parametrize("monitor", ["loss", "step_size"])
def test_what_is_always_logged_can_be_monitored(distill: list[str], monitor: str) -> None:
    main([*distill, *OFF, *MONITOR, monitor, "--run_dir", "run"])
    assert list(Path("run").rglob("epoch=*.ckpt"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["--trainer.limit_train_batches", "1"],
            "--trainer.limit_train_batches 1 is not supported here: use --model.train_",
        ),
        (["--trainer.limit_val_batches", "0"], "--trainer.limit_val_batches 0 is not supported here: leave it out"),
        (
            ["--trainer.callbacks", f"{__name__}.Shrink"],
            "Shrink may change what is trained, and no record would tell: leave",
        ),
    ],
)
def test_experts_of_another_training_do_not_come_into_a_store(
    toy_path: Path, settings: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ["fit", "--data.path", str(toy_path), *FIT, "--model.trajectories", "experts", "--run_dir", "run"]
    assert message in refused(capsys, *fit, *settings)
    assert not Path("experts").exists()


def test_a_logger_without_its_library_ends_in_one_line(distill: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    logger = ["--trainer.logger", "MLFlowLogger"]
    assert "the settings cannot be used: " in refused(capsys, *distill, *OFF, *logger, "--run_dir", "run")


def test_a_seed_of_lightning_recipes_in_a_file(distill: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("recipe.yaml").write_text("seed_everything: 42\nmodel: {seed: 1}")
    assert "use --model.seed 42 instead" in refused(capsys, *distill, *OFF, "--config", "recipe.yaml")
    Path("recipe.yaml").write_text("seed_everything: null")
    main([*distill, *OFF, "--config", "recipe.yaml", "--run_dir", "run"])


def test_a_stopped_run_leaves_a_checkpoint_and_says_how_to_resume(
    distill: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    longer = [*distill, *OFF, "--model.iterations", "12", "--model.eval_it", "12"]
    main([*longer, "--run_dir", "whole"])
    main([*longer, "--run_dir", "run", *STOP, "--ckpt_path", "last"])
    err = capsys.readouterr().err
    assert "stopped after 1 of 12 iterations; resume from run/checkpoints/last.ckpt by the same command" in err
    main([*longer, "--run_dir", "run", "--ckpt_path", "last"])
    assert "stopped" not in capsys.readouterr().err
    assert torch.equal(SyntheticSet.load("run/last.h5").images, SyntheticSet.load("whole/last.h5").images)


def test_fit_stops_after_a_whole_epoch(toy_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = ["fit", "--data.path", str(toy_path), "--data.batch_size", "16", *FIT, "--model.train_epochs", "3"]
    main([*fit, "--model.trajectories", "whole"])
    cut = [*fit, "--model.trajectories", "experts", "--run_dir", "run", "--ckpt_path", "last"]
    main([*cut, *STOP])
    assert "stopped with 0 of 1 expert: resume by the same command with --ckpt_path last" in capsys.readouterr().err
    assert Path("run", LAST).exists()
    main(cut)
    assert torch.equal(TrajectoryStore("whole").trajectory(0), TrajectoryStore("experts").trajectory(0))


def test_data_that_was_forgotten_is_named(
    toy_experts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GZ_LIGHTNING_CACHE", "cache")
    for command, more in (("distill", [*DISTILL, *OFF]), ("fit", FIT)):
        line = refused(capsys, command, *more, "--model.trajectories", str(toy_experts))
        assert f"--data.path was not given, and the experts in {toy_experts} were not trained on the simulated" in line
    assert not Path("cache").exists()


def test_weights_and_biases_without_a_key_or_with_wandb_mode(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert [wandb_mode(flag) for flag in ("online", "offline", "off")] == ["offline", "offline", "off"]
    assert capsys.readouterr().err == "WANDB_MODE is offline: Weights & Biases is offline, not online\n"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert [wandb_mode(flag) for flag in ("online", "offline", "off")] == ["off", "off", "off"]
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr("gz_lightning.cli.lightning._has_key", lambda: False)
    with pytest.raises(InputError, match="--wandb online needs the key of an account: run 'wandb login', set WANDB_API_KEY"):
        wandb_mode("online")
    assert wandb.run is None


@pytest.mark.parametrize(
    ("mode", "variable", "value", "message"),
    [
        ("online", "WANDB_API_KEY", "bad", "Weights & Biases cannot be used: WANDB_API_KEY invalid: API key must have 40"),
        ("online", "WANDB_BASE_URL", "nonsense", "WANDB_BASE_URL is 'nonsense': "),
        ("offline", "WANDB_MODE", "nonsense", "WANDB_MODE is 'nonsense', not one of online, offline, disabled, "),
        ("offline", "WANDB_CONSOLE", "nonsense", "WANDB_CONSOLE is 'nonsense': Input should be 'auto', "),
        ("offline", "WANDB_PROJECT", "a/b", "Weights & Biases cannot be used: Invalid project name 'a/b'"),
    ],
)
def test_variables_that_weights_and_biases_refuses_end_in_one_line(
    mode: str,
    variable: str,
    value: str,
    message: str,
    distill: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wandb = pytest.importorskip("wandb")
    wandb.teardown()  # it reads variables once
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv(variable, value)
    try:
        assert message in refused(capsys, *distill, "--wandb", mode)
    finally:
        wandb.teardown()
