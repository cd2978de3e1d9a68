"""A short form of ``make fuzz``: some cases of every kind, each with a seed of its own."""

from pathlib import Path

import pytest

from tests.hostile.fuzz.kinds import KINDS
from tests.hostile.fuzz.originals import Originals, make_originals

CASES = 150
"""Of all kinds together, each having its share and at least ``LEAST``."""
LEAST = 3


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Originals:
    return make_originals(tmp_path_factory.mktemp("valid") / "files")


@pytest.mark.parametrize("name", list(KINDS))
def test_changed_files_are_read_rightly_or_refused(name: str, valid: Originals) -> None:
    kind, whole = KINDS[name], sum(kind.share for kind in KINDS.values())
    found = {seed: kind.run(valid, seed) for seed in range(max(LEAST, CASES * kind.share // whole))}
    failed = [f"{name} {seed}: {one.changed}: {one.detail}" for seed, one in found.items() if one.status == "failed"]
    assert not failed, "\n".join(failed)


def test_the_valid_files_are_read(valid: Originals) -> None:
    """A fuzzer whose files are broken already would find nothing."""
    assert all(path.is_file() for path in valid.files)
    read = {name: sum(KINDS[name].run(valid, seed).status == "read" for seed in range(20)) for name in ("experts", "sets")}
    assert all(read.values()), read


def test_a_case_is_the_same_every_time(valid: Originals, tmp_path: Path) -> None:
    kind = KINDS["experts"]
    again = make_originals(tmp_path / "files")
    for seed in range(5):
        one, two = kind.run(valid, seed), kind.run(again, seed)
        assert (one.status, one.changed) == (two.status, two.changed)
