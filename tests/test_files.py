"""Files that are whole or not there, and claims on folders."""

import multiprocessing
import os
import subprocess
import sys
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from gz_lightning.cli import main
from gz_lightning.errors import InputError
from gz_lightning.files import claimed, written_whole


def hold(lock: str, held: Event, done: Event) -> None:
    """Claim, and keep it until told."""
    with claimed(lock, "into it"):
        held.set()
        done.wait(60)


def test_a_second_run_in_a_folder_is_refused_and_a_killed_one_leaves_no_claim(
    tmp_path: Path, toy_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    folder = tmp_path / "run"
    first = context.Process(target=hold, args=(str(folder / ".lock"), held, done))
    first.start()
    assert held.wait(60)
    with pytest.raises(InputError, match="another run is writing into it"), claimed(folder / ".lock", "into it"):
        raise AssertionError("never reached")
    fit = ["fit", "--data.path", str(toy_path), "--run_dir", str(folder), "--wandb", "off"]
    with pytest.raises(SystemExit) as ended:
        main([*fit, "--model.trajectories", str(tmp_path / "experts")])
    assert ended.value.code == 2
    assert f"gz-lightning fit: another run is writing into {folder}; wait for it, or name another" in capsys.readouterr().err
    assert not (tmp_path / "experts").exists()
    first.kill()
    first.join()
    with claimed(folder / ".lock", "into it"):
        assert (folder / ".lock").exists()
    assert not (folder / ".lock").exists()


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    stale = tmp_path / f".a.csv.{int(ended.stdout)}.x.part"
    living, other = tmp_path / f".a.csv.{os.getpid()}.x.part", tmp_path / ".b.csv.1.x.part"
    for path in (stale, living, other):
        path.write_text("half")
    with written_whole(tmp_path / "a.csv") as temporary:
        temporary.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([living.name, other.name, "a.csv"])
