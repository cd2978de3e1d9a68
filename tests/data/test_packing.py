"""The packed file: atomic, and fingerprinted by its content."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.data.packing import Contents, PackedWriter, write_packed
from gz_lightning.errors import InputError
from tests.conftest import toy_galaxies, write_toy


def test_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    same = [Galaxies(write_toy(tmp_path / f"{i}.h5", seed=1)).fingerprint for i in range(2)]
    assert same[0] == same[1]
    assert Galaxies(write_toy(tmp_path / "2.h5", seed=2)).fingerprint != same[0]


def test_a_file_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = write_toy(tmp_path / "toy.h5")
    before = path.read_bytes()
    labels = np.arange(6) % 2
    contents = Contents(labels, np.ones((6, 2)), list("abcdef"), np.zeros(6, dtype=np.int64), ("x", "y"), "")

    def failing() -> Iterator[np.ndarray[Any, np.dtype[np.uint8]]]:
        yield toy_galaxies(2, 16)
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_packed(path, failing(), contents, resolution=16, configuration={})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_training_galaxies_of_one_leaf_are_refused(tmp_path: Path) -> None:
    """Whatever the other splits hold."""
    contents = Contents(np.array([1, 1, 0]), np.ones((3, 2)), list("abc"), np.array([0, 0, 2]), ("x", "y"), "")
    with pytest.raises(
        InputError, match="^all 2 training galaxies are of the leaf 'y'; training needs at least two classes"
    ):
        write_packed(tmp_path / "a.h5", [toy_galaxies(1, 16)], contents, resolution=16, configuration={})
    one = Contents(np.array([1, 0]), np.ones((2, 2)), list("ab"), np.array([0, 2]), ("x", "y"), "")
    with pytest.raises(
        InputError, match="^the only training galaxy is of the leaf 'y'; training needs at least two classes"
    ):
        write_packed(tmp_path / "a.h5", [toy_galaxies(1, 16)], one, resolution=16, configuration={})
    assert not list(tmp_path.iterdir())


def test_a_file_that_could_not_be_renamed_is_finished_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its labels are in it already, as when the folder is made read-only during the last second of ``prepare``."""
    images, splits = toy_galaxies(2, 16), np.array([0, 0, 0, 0, 1, 2])
    contents = Contents(np.arange(6) % 3, np.ones((6, 3)), list("abcdef"), splits, ("x", "y", "z"), "")

    def finish(output: Path, put: bool) -> bytes:
        with PackedWriter(output.with_suffix(".unfinished"), 6, 16, "plan") as writer:
            assert writer.resumed is not put
            if put:
                writer.put(0, images, splits == 0)
            else:
                assert all(writer.keeps(place, bool(splits[place] == 0)) for place in range(6))
            writer.finish(output, contents, {})
        assert [file.name for file in tmp_path.iterdir() if output.stem in file.stem] == [output.name]
        return output.read_bytes()

    undisturbed = finish(tmp_path / "b.h5", put=True)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *args: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        with pytest.raises(InputError, match=r"a.h5 cannot be written"):
            finish(tmp_path / "a.h5", put=True)
    assert finish(tmp_path / "a.h5", put=False) == undisturbed
