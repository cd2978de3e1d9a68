"""Runs a module's tests on a mutant, each in a fork of a process that has imported everything already.

The mutant stands in a copy of the repository, so the repository itself is never changed.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.mutants.modules import SLOW
from tests.hostile.mutants.mutant import Mutant

ROOT = Path(__file__).parents[3]
MEMORY = 16 * 2**30
"""Bytes of address space of a trial: a mutant may ask for any amount."""
PATIENCE, LEAST_SECONDS = 10, 30
"""A trial is over, and the mutant killed, after so many times what its tests take, and so many seconds."""
LONG = 3600
"""Seconds: longer than the tests of a module take."""
QUICK = ("--assert=plain", "--tb=no", "-p", "no:cacheprovider", "-p", "no:unraisableexception")
OPTIONS = ("-q", "-x", *QUICK, *(f"--deselect={test}" for test in SLOW))
"""Nothing is shown, and nothing but the tests takes time."""


@dataclass
class Covered:
    """A test, and the lines of the module that it ran.

    Args:
        name: Its id.
        seconds: How long it took.
        lines: The lines.
    """

    name: str
    seconds: float
    lines: set[int]


class Recorder:
    """A pytest plugin that takes note of which lines of a file each test runs."""

    def __init__(self, file: Path) -> None:
        self.file, self.tests = str(file), list[Covered]()

    def _trace(self, frame: types.FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        if frame.f_code.co_filename != self.file:
            return None
        self.tests[-1].lines.add(frame.f_lineno)
        return self._trace

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.tests.append(Covered(item.nodeid, 0.0, set()))
        begin = time.monotonic()
        sys.settrace(self._trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            self.tests[-1].seconds = time.monotonic() - begin


class Trials:
    """Trials of the mutants of one module.

    Args:
        module: The module, such as ``distillation.stages``.
        tests: Its test files, below the root of the repository.
    """

    def __init__(self, module: str, tests: Sequence[str]) -> None:
        self.module, self.tests = module, list(tests)
        self.folder = Path(tempfile.mkdtemp(prefix="mutants-"))
        for name in ("gz_lightning", "tests", "benchmarks", "configs", "docs", "notebooks", "pyproject.toml"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
            copy(ROOT / name, self.folder / name)
        self.file = self.folder / "gz_lightning" / f"{module.replace('.', '/')}.py"
        self.source = self.file.read_text()
        self.written = 0
        self.stale = importers(self.folder / "gz_lightning", module)
        self.covered: list[Covered] = []

    def close(self) -> None:
        """Remove the copy."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def warm_up(self) -> None:
        """Run the tests as they are, once for what they import and once for what they cover.

        Raises:
            RuntimeError: If they fail.
        """
        names = self._answer(self.tests, lambda: sorted(sys.modules))
        sys.path.insert(0, str(self.folder))
        for name in names:
            if name.split(".")[0] not in ("tests", "__main__"):
                with contextlib.suppress(Exception):
                    importlib.import_module(name)
        gc.freeze()  # forks do not look through all that was imported
        recorder = Recorder(self.file)
        seen = self._answer(self.tests, lambda: [(t.name, t.seconds, sorted(t.lines)) for t in recorder.tests], recorder)
        self.covered = [Covered(name, seconds, set(lines)) for name, seconds, lines in seen]
        if self._fork([test.name for test in self.covered], LONG) != 0:
            raise RuntimeError(f"the tests of {self.module} fail one by one")

    def _answer(self, tests: Sequence[str], ask: Callable[[], Any], *plugins: object) -> Any:
        """What a fork says after tests that must pass."""
        answer = self.folder / "answer.json"
        if self._fork(tests, LONG, lambda: answer.write_text(json.dumps(ask())), *plugins) != 0:
            raise RuntimeError(f"the tests of {self.module} fail as they are: {' '.join(self.tests)}")
        return json.loads(answer.read_text())

    def killed(self, mutant: Mutant) -> bool:
        """Whether some test fails on a mutant; one that hangs or dies has failed as well.

        First the tests that run its lines, then those that run its function, then all others, the quickest first.
        """
        lines, body = set(range(mutant.first, mutant.last + 1)), set(mutant.body)
        order = sorted(self.covered, key=lambda test: (not test.lines & lines, not test.lines & body, test.seconds))
        seconds = LEAST_SECONDS + PATIENCE * sum(test.seconds for test in order)
        self._write(mutant.source)
        try:
            status = self._fork([test.name for test in order], seconds)
            if status == pytest.ExitCode.USAGE_ERROR:  # no such test any more: its parameters have other names
                status = self._fork(self.tests, seconds)
            return status != 0
        finally:
            self._write(self.source)

    def _write(self, source: str) -> None:
        self.file.write_text(source)
        self.written += 1
        os.utime(self.file, (self.written, self.written))  # no compiled file of another mutant is taken for its own

    def _fork(self, tests: Sequence[str], seconds: float, after: Callable[[], object] = int, *plugins: object) -> int:
        process = os.fork()
        if process == 0:
            status = 99
            try:
                os.setpgid(0, 0)
                resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
                status = self._run(tests, plugins)
                after()
            finally:
                os._exit(status)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process, signal.SIGKILL)
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        os.killpg(process, signal.SIGKILL)
        os.waitpid(process, 0)
        return -1

    def _run(self, tests: Sequence[str], plugins: Sequence[object]) -> int:
        with open(os.devnull, "w") as nothing:
            for output in (1, 2):
                os.dup2(nothing.fileno(), output)
        os.chdir(self.folder)
        sys.path[:] = [str(self.folder), *(path for path in sys.path if path not in ("", str(ROOT), str(self.folder)))]
        forget(self.stale)
        sys.dont_write_bytecode = False  # in the copy: what does not change is compiled once
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        return int(pytest.main([*OPTIONS, "--rootdir", str(self.folder), *tests], plugins=list(plugins)))


def importers(package: Path, module: str) -> set[str]:
    """A module of a package, and all others that import it, directly or through others."""
    imports = {_name(package, path): _imports(path) for path in package.rglob("*.py")}
    found = {f"{package.name}.{module}"}
    while more := {name for name, imported in imports.items() if imported & found} - found:
        found |= more
    return found


def forget(modules: set[str]) -> None:
    """Have modules imported anew, and all tests."""
    gone = {name for name in sys.modules if name in modules or name.split(".")[0] == "tests"}
    for name in gone:
        found = sys.modules.pop(name)
        parent, _, own = name.rpartition(".")
        if parent in sys.modules and getattr(sys.modules[parent], own, None) is found:
            delattr(sys.modules[parent], own)
    for name, module in list(sys.modules.items()):
        parent, _, own = name.rpartition(".")
        if parent in gone:  # a package that stays below one that goes
            setattr(importlib.import_module(parent), own, module)


def _name(package: Path, path: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def _imports(path: Path) -> set[str]:
    """Modules that a file imports; of ``from a import b`` both a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found
