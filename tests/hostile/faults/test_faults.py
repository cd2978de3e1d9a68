"""A short form of ``make faults``: every command, every fault."""

from pathlib import Path

import pytest

from tests.hostile.faults.faults import FAULTS
from tests.hostile.faults.harness import Harness
from tests.hostile.faults.ranks import kill_ranks
from tests.hostile.faults.works import WORKS, make_given


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    make_given(folder)
    return folder


@pytest.mark.parametrize("name", list(WORKS))
def test_nothing_is_lost(name: str, given: Path, tmp_path: Path) -> None:
    harness = Harness(WORKS[name](given), tmp_path)
    harness.undisturbed()
    faults = list(FAULTS)
    assert harness.disturb(faults[:3], 1) + harness.disturb(faults[3:], 2) == len(FAULTS)


def test_a_killed_rank_ends_the_other(given: Path) -> None:
    kill_ranks(given, 1, 0)
