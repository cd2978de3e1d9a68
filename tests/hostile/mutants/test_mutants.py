"""A short form of ``make mutants``, without its operators: code as it is passes, and a change that matters does not."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.hostile.mutants import record
from tests.hostile.mutants.modules import MODULES
from tests.hostile.mutants.mutant import Mutant, Mutants

ROOT = Path(__file__).parents[3]
PROGRAM = """
from tests.hostile.mutants.mutant import Mutant
from tests.hostile.mutants.trial import Trials

trials = Trials("randomness", ["tests/test_randomness.py"])
try:
    trials.warm_up()
    for before, after in (("hashlib", "hashlib"), (">> 1", ">> 2"), ("import hashlib", "import hashlibb")):
        source = trials.source.replace(before, after, 1)
        print(trials.killed(Mutant("", "", 1, 1, range(0), before, after, source, 0)))
finally:
    trials.close()
"""


def test_a_change_that_matters_is_noticed() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True"], done.stderr


def test_the_modules_and_their_tests_are_there() -> None:
    for module, tests in MODULES.items():
        assert (ROOT / "gz_lightning" / f"{module.replace('.', '/')}.py").is_file()
        assert all((ROOT / test.split("::")[0]).is_file() for test in tests)
    judged = yaml.safe_load((ROOT / "tests" / "hostile" / "mutants" / "judged.yaml").read_text())
    assert set(judged) <= set(MODULES)
    assert all(
        {"why", "mutants"} <= set(entry) <= {"why", "mutants", "function"}
        for entries in judged.values()
        for entry in entries
    )


def some_mutants(*changed: str) -> Mutants:
    """One for each line: a 1 in it becomes a 2."""
    return Mutants([Mutant("", "number", 1, 1, range(0), line, line.replace("1", "2"), "", 0) for line in changed], 0)


def test_a_module_that_was_not_tried_keeps_its_part_of_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "FOLDER", tmp_path)
    monkeypatch.setattr(record, "MODULES", {"first": ("tests/test_a.py",), "second": ("tests/test_b.py",)})
    (tmp_path / "judged.yaml").write_text("second: [{why: No matter., mutants: {b = 1: [b = 2]}}]\n")
    first = some_mutants("a = 1", *(f"a{i} = 1" for i in range(19)))
    second = some_mutants("b = 1", *(f"b{i} = 1" for i in range(39)))
    results = {mutant.name: mutant.before != "b = 1" for mutant in first.kept + second.kept}

    def write(seconds: Mutants = second, firsts_now: bool = True, seconds_now: bool = False) -> list[str]:
        killed = {"first": results if firsts_now else {}, "second": results if seconds_now else {}}
        return record.write_record({"first": first, "second": seconds}, killed, "3")

    assert write()[:2] == ["second: 40 mutants were not tried", "second: 0 of 40 mutants were killed"]
    assert write(seconds_now=True) == []
    whole = (tmp_path / "RECORD.md").read_text()
    assert "\n| `second` | `test_b.py` | 40 | 39 | 97.5 | 1 |\n| all | | 60 | 59 | 98.3 | 1 |\n\n## second\n" in whole
    for now in (True, False):
        assert write(firsts_now=now) == []
        assert (tmp_path / "RECORD.md").read_text() == whole
    # Others than it had: one more, or another in the place of the one that lived.
    assert "second: 41 mutants were not tried" in write(some_mutants(*(m.before for m in second.kept), "more = 1"))
    write(seconds_now=True)
    assert "second: 40 mutants were not tried" in write(some_mutants("c = 1", *(m.before for m in second.kept[1:])))
    # A survivor that nobody judged stays one.
    (tmp_path / "judged.yaml").write_text("{}")
    wrong = ["second: nobody judged\n- b = 1\n+ b = 2"]
    assert write(seconds_now=True) == wrong
    assert write() == wrong
    # Other tests than it had.
    monkeypatch.setattr(record, "MODULES", {"first": ("tests/test_a.py",), "second": ("tests/test_c.py",)})
    assert "second: 40 mutants were not tried" in write()
