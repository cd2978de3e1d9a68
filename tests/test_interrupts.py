"""Ctrl-C and SIGTERM end a command in one line, whatever the code at work makes of them."""

import os
import signal
import time

import pytest

from gz_lightning.cli import commands
from gz_lightning.interrupts import interrupted, signals_interrupt


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("swallowed", [False, True])
def test_a_signal_ends_a_command(
    sent: signal.Signals, swallowed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(args: object) -> None:
        try:
            os.kill(os.getpid(), sent)
        except KeyboardInterrupt:
            if not swallowed:
                raise
        raise ValueError("Invalid affine transformation matrix")  # as code in C may, which lets no interrupt through

    monkeypatch.setitem(commands.COMMANDS, "report", work)
    before = signal.getsignal(sent)
    with pytest.raises(SystemExit) as end:
        commands.main(["report"])
    assert end.value.code == 130
    assert capsys.readouterr().err.strip() == "gz-lightning report: interrupted; what is whole is kept"
    assert signal.getsignal(sent) == before


def test_a_signal_while_the_result_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Result:
        def __str__(self) -> str:
            os.kill(os.getpid(), signal.SIGTERM)
            return "a table"

    monkeypatch.setitem(commands.COMMANDS, "report", lambda args: Result())
    with pytest.raises(SystemExit) as end:
        commands.main(["report"])
    assert end.value.code == 130
    assert capsys.readouterr().err.strip() == "gz-lightning report: interrupted; what is whole is kept"


def test_an_error_without_a_signal_is_no_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(args: object) -> None:
        raise ValueError("of the program")

    monkeypatch.setitem(commands.COMMANDS, "report", work)
    with pytest.raises(SystemExit) as end:
        commands.main(["report"])
    assert end.value.code == 1
    assert "this is a bug of gz_lightning, please report it: ValueError: of the program" in capsys.readouterr().err


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as nohup does
    try:
        with signals_interrupt():
            os.kill(os.getpid(), signal.SIGINT)
            assert not interrupted()
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_signal_in_a_destructor_ends_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python (3.11.7) prints an exception that leaves a destructor and goes on: the signal would be lost."""

    class Batch:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.001)

    def work(args: object) -> None:
        batch = Batch()
        del batch
        time.sleep(10)
        raise ValueError("the signal was lost")

    monkeypatch.setitem(commands.COMMANDS, "report", work)
    with pytest.raises(SystemExit) as end:
        commands.main(["report"])
    assert end.value.code == 130
    assert capsys.readouterr().err.strip() == "gz-lightning report: interrupted; what is whole is kept"
