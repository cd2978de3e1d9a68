"""The demo: four commands, of which those that have run are left out."""

from pathlib import Path

import pytest

from gz_lightning.cli.demo import demo, demo_commands


def test_the_commands_are_the_whole_way_in_one_folder(tmp_path: Path) -> None:
    commands = demo_commands(tmp_path)
    assert [command[0] for command in commands] == ["prepare", "fit", "distill", "evaluate"]
    assert all(str(tmp_path) in " ".join(command) for command in commands)


def test_galaxies_that_exist_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert next(command[0] for command in demo(tmp_path)) == "prepare"
    (tmp_path / "galaxies.h5").touch()
    assert next(command[0] for command in demo(tmp_path)) == "fit"
    assert f"{tmp_path / 'galaxies.h5'} exists already" in capsys.readouterr().err
