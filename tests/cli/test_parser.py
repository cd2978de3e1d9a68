"""Settings that cannot be used: one line on standard error and exit status 2, whatever a file holds."""

import re
from pathlib import Path

import pytest

from gz_lightning.cli import commands, main
from gz_lightning.cli.parser import MOST_SAID, by_name, plainer

SAID = re.compile(r"each iteration matches |\d+ iterations (at most )?x ")


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The one line that a command ends in; before what Lightning refuses last, a run has said what it is about to do."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(args)
    lines = [line for line in capsys.readouterr().err.splitlines() if not SAID.match(line)]
    assert end.value.code == 2
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("command", "content", "message"),
    [
        ("prepare", b"crop: wide", "--crop: expected a float. Got value: wide; 'gz-lightning prepare --help' lists"),
        ("prepare", b"per_class: true", "--per_class: expected "),
        ("distill", b"model: {ipc: [1]}", "--model.ipc: expected a int. Got value: [1]"),
        ("distill", b"data: {pcth: a.h5}", "Group 'data' does not accept "),
        ("distill", b"trainer: -1.0e-300", "--trainer should hold settings by name"),
        (
            "fit",
            b"model: {}\ndata: {}\nmodel: {seed: 1}",
            "config.yaml cannot be read: the key 'model' is given twice, in",
        ),
        (
            "distill",
            b"model.ipc: 1\nmodel: {seed: 2}",
            "config.yaml cannot be read: the key 'model' is given in two ways, as 'model.ipc' in line 1 and as "
            "'model' in line 2, of which one would be lost",
        ),
        ("fit", b"model: {ipc: 2}\nmodel.ipc: 1", "as 'model.ipc' in line 2 and as 'model' in line 1"),
        (
            "fit",
            b"trainer: {logger: {class_path: CSVLogger, init_args: {name: a}, init_args.name: b}}",
            "the key 'init_args' is given in two ways",
        ),
        ("fit", b"trainer.logger: false\ntrainer.logger.name: a", "the key 'trainer.logger' is given in two ways"),
        ("fit", b"a: b: c", "config.yaml cannot be read: mapping values are not allowed here"),
        ("fit", b"model: \xff", "config.yaml cannot be read: 'utf-8' codec can't decode"),
        ("fit", b"[" * 5000, "config.yaml cannot be read: it holds brackets within brackets"),
        ("fit", b"&a [*a]", "config.yaml cannot be read: its values refer to each other without end"),
        ("evaluate", b"!!python/object/apply:os.system ['true']", "could not determine a constructor for the tag"),
    ],
)
def test_a_configuration_that_goes_wrong(
    command: str,
    content: bytes,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_bytes(content)
    required = {"prepare": ["--output", "a.h5"], "evaluate": ["--synthetic", "a.h5", "--data", "b.h5"]}.get(command, [])
    line = refused(capsys, command, "--config", "config.yaml", *required)
    assert line.startswith(f"gz-lightning {command}: ")
    assert message in line


def test_a_configuration_may_come_through_a_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As from a shell's <(command)."""
    import os
    import threading

    os.mkfifo(tmp_path / "pipe.yaml")
    threading.Thread(target=(tmp_path / "pipe.yaml").write_text, args=("crop: wide",), daemon=True).start()
    assert "--crop: expected a float" in refused(
        capsys, "prepare", "--config", str(tmp_path / "pipe.yaml"), "--output", str(tmp_path / "a.h5")
    )


def test_what_is_said_of_a_long_value_is_short() -> None:
    assert len(plainer(f"Parser key \"crop\": Expected a <class 'float'>. Got value: {'9' * 5000}")) == MOST_SAID


def test_a_bug_shows_its_traceback_without_the_colours_of_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def faulty(args: object) -> None:
        raise RuntimeError("two\nlines, \x1b[31mcoloured")

    monkeypatch.setitem(commands.COMMANDS, "demo", faulty)
    with pytest.raises(SystemExit) as end:
        main(["demo"])
    assert end.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-3:-1] == ["RuntimeError: two", "lines, \\x1b[31mcoloured"]
    assert lines[-1] == (
        "gz-lightning demo: this is a bug of gz_lightning, please report it: RuntimeError: two lines, \\x1b[31mcoloured"
    )


@pytest.mark.parametrize(
    ("command", "content", "setting"),
    [
        ("prepare", "crop: null", "--crop"),
        ("fit", "model: {augmentation: null}", "--model.augmentation"),
        ("distill", "model: {ipc: null}", "--model.ipc"),
        ("distill", "model: {lr_img: 1.0e+308}", "--model.lr_img"),
    ],
)
def test_values_that_jsonargparse_lets_pass_are_refused(
    command: str,
    content: str,
    setting: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It takes null from a file for any type, and knows no range."""
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(content)
    more = ["--output", "a.h5"] if command == "prepare" else ["--data.path", "b.h5", "--wandb", "off"]
    line = refused(capsys, command, "--config", "config.yaml", *more)
    assert line.startswith(f"gz-lightning {command}: {setting} must be ")


def test_a_value_that_names_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other").write_bytes(b"\x89PNG")
    Path("config.yaml").write_text("trainer: other")
    assert "the settings cannot be read: 'utf-8' codec" in refused(capsys, "fit", "--config", "config.yaml")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["distill", "--model.iteration", "3"],
            "arguments: --model.iteration 3; did you mean --model.iterations?",
        ),
        (["fit", "--model.train_epoch=3"], "did you mean --model.train_epochs?"),
        (["evaluate", "--synth", "a.h5", "--data", "b.h5"], "did you mean --synthetic?"),
        (["prepare", "--output", "a.h5", "--resol", "8"], "did you mean --resolution?"),
        (["report", "--run", "a"], "did you mean --runs?"),
        (["fit", "galaxies.h5"], "unrecognized arguments: galaxies.h5; a value follows its flag, as in --NAME VALUE"),
        (["evaluate", "a.h5", "b.h5", "c.h5"], "unrecognized arguments: c.h5; a value follows its flag"),
    ],
)
def test_abbreviations_and_values_without_a_flag_are_refused(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, *args)


def test_required_settings_need_no_flag() -> None:
    def evaluate(synthetic: str, data: str, epochs: int = 1) -> None: ...

    def report(runs: list[str], output: str = "report") -> None: ...

    assert by_name(evaluate, ["a", "b", "--epochs", "3"]) == ["--synthetic", "a", "--data", "b", "--epochs", "3"]
    for args in (["a", "b"], ["--runs", "a", "b"], ["a", "--runs", "b"], ["--runs", '["a", "b"]']):
        assert by_name(report, args) == ["--runs", '["a", "b"]']
    assert by_name(report, ["--output", "c", "--runs=a"]) == ["--runs", '["a"]', "--output", "c"]


@pytest.mark.parametrize("args", [["--trainer", "part.yaml"], ["--trainer", "{devices: 1, devices: 2}"]])
def test_keys_given_twice_in_a_part(
    args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("part.yaml").write_text("devices: 1\ndevices: 2")
    line = refused(capsys, "fit", *args)
    assert "the key 'devices' is given twice, in line" in line
    assert args[1] in line
