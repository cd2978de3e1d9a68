"""The packed file: atomic, and fingerprinted by its content."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.data.packing import Contents, write_packed
from tests.conftest import toy_galaxies, write_toy


def test_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    same = [Galaxies(write_toy(tmp_path / f"{i}.h5", seed=1)).fingerprint for i in range(2)]
    assert same[0] == same[1]
    assert Galaxies(write_toy(tmp_path / "2.h5", seed=2)).fingerprint != same[0]


def test_a_file_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = write_toy(tmp_path / "toy.h5")
    before = path.read_bytes()
    labels = np.zeros(6, dtype=np.int64)
    contents = Contents(labels, np.ones((6, 1)), list("abcdef"), labels, ("x",), "")

    def failing() -> Iterator[np.ndarray[Any, np.dtype[np.uint8]]]:
        yield toy_galaxies(2, 16)
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_packed(path, failing(), contents, resolution=16, configuration={})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
