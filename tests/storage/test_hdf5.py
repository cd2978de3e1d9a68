"""HDF5: the header, and readers that refuse what a file cannot hold."""

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from gz_lightning.errors import Damaged, InputError, Unreachable
from gz_lightning.storage.hdf5 import (
    array,
    create_hdf5,
    dataset_dims,
    get_json,
    get_number,
    get_text,
    get_vector,
    open_hdf5,
    raw_hdf5,
    read_row_into,
    set_text,
    write_header,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of kind ``things``, version 2: values 0 to 11 in three rows, and some attributes."""
    path = tmp_path / "a.h5"
    with create_hdf5(path) as file:
        file.create_dataset("values", data=np.arange(12.0).reshape(3, 4), fletcher32=True)
        set_text(file, "names", '["a", "b"]')
        file.attrs["count"], file.attrs["weights"] = 3, [0.5, 0.5]
        write_header(file, "things", 2, {"seed": 1}, "f00d")
    return path


def test_what_was_written_is_read(path: Path) -> None:
    with open_hdf5(path, "things", 2, "make") as file:
        assert array(file, "values", "f", (None, 4)).tolist() == np.arange(12.0).reshape(3, 4).tolist()
        row = np.zeros((2, 4))
        read_row_into(file["values"], 2, row, 1)
        assert row.tolist() == [[0, 0, 0, 0], [8, 9, 10, 11]]
        assert get_json(file, "names", list) == ["a", "b"]
        assert (get_number(file, "count"), get_vector(file, "weights", 2).tolist()) == (3, [0.5, 0.5])
        assert (get_text(file, "fingerprint"), get_json(file, "configuration", dict)) == ("f00d", {"seed": 1})


def test_a_file_that_is_taken_away_while_it_is_open_is_read_to_its_end(path: Path) -> None:
    with open_hdf5(path, "things", 2, "make") as file:
        path.unlink()
        path.write_bytes(b"another")  # under the same name, and smaller
        assert array(file, "values", "f", (None, 4)).sum() == 66


def test_other_files_are_refused(path: Path, tmp_path: Path) -> None:
    for kind, version, message in (
        ("stuff", 2, "is not a file of stuff: its format is gz_lightning.things; 'make' makes one"),
        ("things", 3, "has format version 2, written by .*; this release .* reads version 3"),
    ):
        with pytest.raises(InputError, match=message), open_hdf5(path, kind, version, "make"):
            raise AssertionError("never reached")
    (tmp_path / "b.h5").write_text("text")
    with pytest.raises(InputError, match=r"b.h5 is not a file of things or is damaged .*; 'make' makes a new one"):
        open_hdf5(tmp_path / "b.h5", "things", 2, "make").__enter__()


def test_what_a_file_does_not_hold_is_damage(path: Path) -> None:
    with raw_hdf5(path) as file:
        for read, message in (
            (lambda: array(file, "none", "f", (None,)), "none cannot be read: it is missing"),
            (lambda: array(file, "values", "i", (None, 4)), "values has the shape .* and the type float64"),
            (lambda: array(file, "values", "f", (2, 4)), r"its shape should be \(2, 4\)"),
            (lambda: get_text(file, "count"), "count is not text"),
            (lambda: get_number(file, "names"), "names is .*, not a whole number"),
            (lambda: get_vector(file, "weights", 3), "weights is .*, not 3 numbers"),
            (lambda: get_json(file, "names", dict), "names holds"),
        ):
            with pytest.raises(Damaged, match=message):
                read()


def test_a_group_or_nothing_in_the_place_of_values_is_damage(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("group")
        file["empty"] = h5py.Empty("f4")
        for name in ("group", "empty"):
            with pytest.raises(Damaged, match=f"{name} holds no values"):
                dataset_dims(file, name)
            with pytest.raises(Damaged, match=f"{name} holds no values"):
                array(file, name, "f", (None,))


def test_a_claim_that_the_file_cannot_hold_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("values", shape=(2**40,), dtype="f8", chunks=(2**20,))
    with (
        raw_hdf5(tmp_path / "a.h5") as file,
        pytest.raises(Damaged, match="claims the shape .*, which is more than is there"),
    ):
        array(file, "values", "f", (None,))


def test_a_bug_while_a_file_is_open_is_no_damage(path: Path) -> None:
    for error in (AttributeError, KeyError, TypeError, ValueError, RuntimeError):
        with pytest.raises(error, match="a bug"), open_hdf5(path, "things", 2, "make"):
            raise error("a bug")
    with raw_hdf5(path) as file, pytest.raises(TypeError, match="broadcast"):
        read_row_into(file["values"], 0, np.zeros((3, 5)), 0)


def test_hdf5_that_a_full_disk_cuts_short_says_so_once(tmp_path: Path) -> None:
    program = """
import resource, signal, sys
import numpy as np
from gz_lightning.errors import InputError
from gz_lightning.storage.hdf5 import create_hdf5
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    with create_hdf5(sys.argv[1]) as file:
        file.create_dataset("a", data=np.zeros(5000), fletcher32=True)
except InputError as error:
    print(error)
"""
    path = tmp_path / "a.h5"
    ended = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == f"{path} cannot be written: File too large; make room or allow it, and run the same again"
    assert ended.stderr == ""
    assert not list(tmp_path.iterdir())


WRITER = """
import sys, h5py
file = h5py.File(sys.argv[1], "r+")
print("open", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def written_by_another(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has a file open for writing."""
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"open\n"
        try:
            yield writer
        finally:
            writer.communicate(timeout=60)


def test_a_file_that_another_process_writes_is_not_called_damaged(path: Path) -> None:
    with (
        written_by_another(path),
        pytest.raises(Unreachable, match=r"^\S*a\.h5 is being written by another process; wait for it, and run again$"),
        open_hdf5(path, "things", 2, "make things"),
    ):
        raise AssertionError("never reached")
    with open_hdf5(path, "things", 2, "make things"):
        pass


def test_the_mark_of_a_writer_that_was_killed_is_no_damage(path: Path) -> None:
    with written_by_another(path) as writer:
        writer.kill()
    with (
        pytest.raises(Unreachable, match=rf"a.h5: a process that had .* was killed, .* 'h5clear --status {path}' \("),
        open_hdf5(path, "things", 2, "make things"),
    ):
        raise AssertionError("never reached")
    with pytest.raises(Damaged, match="was killed, or still has"), raw_hdf5(path):
        raise AssertionError("never reached")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.EIO])
def test_what_the_system_does_not_let_us_read_is_no_damage(path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def file(*args: object, **settings: object) -> h5py.File:
        raise OSError(number, "Unable to synchronously open file (unable to open file)")

    monkeypatch.setattr(h5py, "File", file)
    with (
        pytest.raises(Unreachable, match=f"a.h5 cannot be read: {os.strerror(number)}"),
        open_hdf5(path, "things", 2, "make things"),
    ):
        raise AssertionError("never reached")


def test_a_file_system_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lockless, opened = h5py.File, []

    def file(path: Path, mode: str, locking: bool = True, **settings: object) -> h5py.File:
        opened.append(locking)
        if locking:
            raise OSError(37, "Unable to synchronously open file (unable to lock file, errno = 37)")
        return lockless(path, mode, locking=False, **settings)

    monkeypatch.setattr(h5py, "File", file)
    with raw_hdf5(path) as content:
        assert dataset_dims(content, "values") == 2
    assert opened == [True, False]
