"""A short form of ``make mutants``, without its operators: code as it is passes, and a change that matters does not."""

import subprocess
import sys
from pathlib import Path

import yaml

from tests.hostile.mutants.modules import MODULES

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
