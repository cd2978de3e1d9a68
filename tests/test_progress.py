"""Progress and remarks go to standard error, as they are."""

import pytest

from gz_lightning.progress import say, track


def test_a_remark_is_neither_markup_nor_broken_into_lines(capsys: pytest.CaptureFixture[str]) -> None:
    text = "[red]gz5.h5[/red] " + "x" * 300
    say(text)
    captured = capsys.readouterr()
    assert captured.err == f"{text}\n"
    assert captured.out == ""


def test_what_is_tracked_is_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(iter("abc"), "reading", 3)) == ["a", "b", "c"]
    captured = capsys.readouterr()
    assert "reading" in captured.err
    assert "3/3" in captured.err
    assert captured.out == ""
