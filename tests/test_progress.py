"""Progress and remarks go to standard error: bars on a terminal, a few plain lines elsewhere."""

import io
import re

import pytest
from rich.console import Console

from gz_lightning import progress
from gz_lightning.progress import MEASURED, PARTS, Bar, doing, say, ticking, track


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, to be set."""
    now = [1000.0]
    monkeypatch.setattr("gz_lightning.progress.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal of 100 columns gets."""
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=100, color_system=None, force_jupyter=False)
    monkeypatch.setattr(progress, "console", console)
    return written


def test_a_remark_is_neither_markup_nor_broken_into_lines(capsys: pytest.CaptureFixture[str]) -> None:
    text = "[red]gz5.h5[/red] " + "x" * 300
    say(text)
    captured = capsys.readouterr()
    assert captured.err == f"{text}\n"
    assert captured.out == ""


def test_what_is_tracked_is_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(iter("abc"), "reading", 3)) == ["a", "b", "c"]
    captured = capsys.readouterr()
    assert captured.err == "reading: 3 of 3 (0:00)\n"
    assert captured.out == ""


def test_what_ends_early_leaves_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in track("abc", "reading", 3):
        break
    assert capsys.readouterr().err == ""


def test_a_log_file_gets_a_line_for_each_tenth_at_most(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in track(range(1000), "steps", 1000):
        clock[0] += 20
    lines = capsys.readouterr().err.splitlines()
    assert PARTS <= len(lines) <= PARTS + 2
    assert lines[0] == f"steps: {MEASURED} of 1,000, 5:32:20 left"
    assert lines[-1] == "steps: 1,000 of 1,000 (5:33:20)"


def test_work_of_a_few_seconds_leaves_one_line(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in track(range(1000), "steps", 1000):
        clock[0] += 0.009
    assert capsys.readouterr().err == "steps: 1,000 of 1,000 (0:09)\n"


def test_the_time_left_leaves_out_the_first_step_and_what_was_done_before(clock: list[float]) -> None:
    bar = Bar("iterations", 60, done=30)
    clock[0] += 500
    bar.update(31)
    too_early = bar.seconds_left
    assert too_early is None
    for done in (32, 33):
        clock[0] += 2
        bar.update(done)
    assert bar.seconds_left == 2 * 27
    assert Bar("loading", None).seconds_left is None


def test_a_terminal_gets_one_display_for_bars_within_bars(terminal: io.StringIO) -> None:
    with doing("evaluating"):
        for _ in track(range(5), "networks", 5):
            say("a remark")
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue()).replace("\r", "\n")
    lines = {line.strip() for line in text.splitlines()}
    assert "a remark" in lines  # not glued to a bar
    assert any(line.endswith("evaluating") for line in lines)
    assert any("networks: " in line for line in lines)
    assert progress._lines.display is None


def test_what_is_being_done_is_said_at_once_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with doing("loading PyTorch"):
        assert capsys.readouterr().err == "loading PyTorch ...\n"
    assert capsys.readouterr().err == ""


def test_shares_add_up_to_whole_networks(capsys: pytest.CaptureFixture[str]) -> None:
    with ticking("fresh networks", 3) as tick:
        for _ in range(30):
            tick(0.1, of="herding")
    assert capsys.readouterr().err == "fresh networks: 3 of 3 (herding) (0:00)\n"
    with pytest.raises(ValueError, match="diverged"), ticking("fresh networks", 3) as tick:
        raise ValueError("diverged")
    assert capsys.readouterr().err == ""


def test_the_time_left_goes_by_weights(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Three quick networks of four are a third of the work, if the last takes six times as long."""
    now = 0.0
    monkeypatch.setattr("gz_lightning.progress.time.monotonic", lambda: now)
    with ticking("fresh networks", 4, work=9) as tick:
        for _ in range(3):
            now += 15
            tick(1, of="herding")
        now += 90
        tick(1, of="full data", weight=6)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2:] == ["fresh networks: 3 of 4 (herding), 1:30 left", "fresh networks: 4 of 4 (full data) (2:15)"]
