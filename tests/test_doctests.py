"""The examples in the docstrings do what they say; those that need files are marked ``+SKIP``."""

import doctest
import importlib
import pkgutil

import pytest

import gz_lightning

MODULES = sorted(module.name for module in pkgutil.walk_packages(gz_lightning.__path__, "gz_lightning."))


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name), report=True)
    assert outcome.failed == 0, f"{outcome.failed} of {outcome.attempted} examples of {name}"


def test_there_are_examples() -> None:
    found = doctest.DocTestFinder(exclude_empty=True)
    number = sum(len(test.examples) for name in MODULES for test in found.find(importlib.import_module(name)))
    assert number > 30
