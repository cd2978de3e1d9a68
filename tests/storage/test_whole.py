"""Atomic writes, locks and checks of disk space."""

import multiprocessing
import os
import subprocess
import sys
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from gz_lightning.cli import main
from gz_lightning.errors import InputError
from gz_lightning.storage.whole import allocate, atomic_write, locked, remove_stale, require_disk


def hold(lock: str, held: Event, done: Event) -> None:
    """Lock until told to stop."""
    with locked(lock, "into it"):
        held.set()
        done.wait(60)


def test_a_second_run_in_a_folder_is_refused_and_a_killed_one_leaves_no_lock(
    tmp_path: Path, toy_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    folder = tmp_path / "run"
    first = context.Process(target=hold, args=(str(folder / ".lock"), held, done))
    first.start()
    assert held.wait(60)
    with pytest.raises(InputError, match="another run is writing into it"), locked(folder / ".lock", "into it"):
        raise AssertionError("never reached")
    fit = ["fit", "--data.path", str(toy_path), "--run_dir", str(folder), "--wandb", "off"]
    with pytest.raises(SystemExit) as ended:
        main([*fit, "--model.trajectories", str(tmp_path / "experts")])
    assert ended.value.code == 2
    assert f"gz-lightning fit: another run is writing into {folder}; wait for it, or name another" in capsys.readouterr().err
    assert not (tmp_path / "experts").exists()
    first.kill()
    first.join()
    with locked(folder / ".lock", "into it"):
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
    with atomic_write(tmp_path / "a.csv") as temporary:
        temporary.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([living.name, other.name, "a.csv"])


def test_what_an_ended_run_left_is_removed(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    number, logs = int(ended.stdout), tmp_path / "logs" / "version_0"
    logs.mkdir(parents=True)
    left = [tmp_path / f".last.h5.{number}.x.part", logs / f".confusion.png.{number}.x_1.part"]
    kept = [logs / f".confusion.png.{os.getpid()}.x.part", logs / ".mine.part", logs / "metrics.csv"]
    for path in left + kept:
        path.touch()
    remove_stale(tmp_path)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)


def test_room_is_made_sure_of(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(b"kept")
    allocate(path, 1000)
    assert path.read_bytes() == b"kept" + bytes(996)
    with pytest.raises(InputError, match=r"a.h5 cannot be written: .*; make room or allow it"):
        allocate(path, 2**62)
    assert path.stat().st_size == 1000


def test_a_disk_that_is_too_small_is_said(tmp_path: Path) -> None:
    require_disk(1, tmp_path / "not" / "there", "it", "leave it")
    with pytest.raises(InputError, match=r"it take 1000000000000.00 GB in .* are free: make room, or leave it"):
        require_disk(1e21, tmp_path / "not" / "there", "it", "leave it")


def test_without_locks_of_files_the_block_runs_and_a_remark_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import errno
    import fcntl

    from gz_lightning.storage import whole

    def refuse(*args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    whole._remark_unprotected.cache_clear()
    for name in ("a", "b"):
        with locked(tmp_path / name / ".lock", "into it"):
            (tmp_path / name / "written").touch()
    assert capsys.readouterr().err.count("there are no file locks here") == 1
    whole._remark_unprotected.cache_clear()
