"""The demo: five commands, of which those that have run are left out."""

from pathlib import Path

import pytest

from gz_lightning.cli import commands
from gz_lightning.cli.commands import COMMANDS
from gz_lightning.cli.demo import demo, demo_commands


def test_the_commands_are_the_whole_way_in_one_folder(tmp_path: Path) -> None:
    commands = demo_commands(tmp_path)
    assert [command[0] for command in commands] == ["prepare", "fit", "distill", "evaluate", "report"]
    assert all(str(tmp_path) in " ".join(command) for command in commands)


def test_it_distils_in_stages_and_finishes_on_real_galaxies(tmp_path: Path) -> None:
    (distill,) = [command for command in demo_commands(tmp_path) if command[0] == "distill"]
    given = {word for word in distill if word.startswith("--model.")}
    schedule = {"iterations", "finish", "window", "eval_it", "num_eval", "epoch_eval_train"}
    assert given == {f"--model.{name}" for name in ("trajectories", "ipc", *schedule)}


def test_galaxies_that_exist_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert next(command[0] for command in demo(tmp_path)) == "prepare"
    (tmp_path / "galaxies.h5").touch()
    assert next(command[0] for command in demo(tmp_path)) == "fit"
    assert f"{tmp_path / 'galaxies.h5'} exists already" in capsys.readouterr().err


def test_the_demo_on_real_galaxies_fetches_them_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GZ_LIGHTNING_CACHE", str(tmp_path / "cache"))
    commands = demo_commands(tmp_path, real=True)
    assert [command[0] for command in commands] == ["download", "prepare", "fit", "distill", "evaluate", "report"]
    assert commands[0][1:] == ["--source", "tiny", "--folder", str(tmp_path / "cache" / "gz2")]
    tiny = tmp_path / "cache" / "gz2" / "tiny"
    tables = f"[{tiny / 'train-00000-of-00001.parquet'}, {tiny / 'test-00000-of-00001.parquet'}]"
    assert commands[1][commands[1].index("--table") + 1] == tables
    assert commands[2:] == demo_commands(tmp_path)[1:]


@pytest.mark.parametrize("args", [[], ["--real"]], ids=str)
def test_the_demo_runs_with_flags_and_without(args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(commands, "main", ran.append)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GZ_LIGHTNING_CACHE", str(tmp_path / "cache"))
    COMMANDS["demo"](args)
    expected = ["prepare", "fit", "distill", "evaluate", "report"]
    assert [command[0] for command in ran] == (["download", *expected] if "--real" in args else expected)
