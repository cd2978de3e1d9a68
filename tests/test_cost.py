"""What work will take is said in one line, and a dry run ends there."""

from pathlib import Path

import psutil
import pytest

from gz_lightning.cost import LATER, announce, counted, dry_run, is_dry, size
from gz_lightning.storage.whole import locked


def test_memory_counts_what_the_process_holds_already(capsys: pytest.CaptureFixture[str]) -> None:
    announce("3 experts", memory=50e9, disk=2e6, place="experts")
    held = psutil.Process().memory_info().rss
    assert capsys.readouterr().err == f"3 experts; 2 MB in experts, about {size(held + LATER + 50e9)} of memory\n"


def test_a_dry_run_ends_where_work_would_begin(capsys: pytest.CaptureFixture[str]) -> None:
    begun = []
    with dry_run():
        assert is_dry()
        announce("3 experts", 0, 0, "experts")
        begun.append(1)
    assert not begun
    assert not is_dry()
    assert capsys.readouterr().err.endswith("a dry run: nothing was trained or written\n")
    with dry_run(), dry_run(False):
        announce("galaxies that a dry run needs", 0, 0, "a temporary folder")
        begun.append(2)
    assert begun == [2]


def test_a_dry_run_locks_nothing(tmp_path: Path) -> None:
    with dry_run(), locked(tmp_path / "run" / ".lock", "run"):
        pass
    assert not list(tmp_path.iterdir())


def test_one_is_not_many() -> None:
    assert [counted(number, "network") for number in (0, 1, 2000)] == ["0 networks", "1 network", "2,000 networks"]
