"""Disturbs a command again and again: nothing whole is lost, and the next run finishes with the same result."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from gz_lightning.cli import main
from tests.hostile.faults.faults import FAULTS, moment, nothing, prepare_process
from tests.hostile.faults.works import WORKS, Work

IN_A_ROW = 3
"""Faults at most before the command may finish."""
SECONDS = 300
"""Longer than any of these commands takes: one that runs on hangs."""
EXPECTED = {"SIGKILL": (-9, 0), "SIGTERM": (130, 0, -15), "SIGINT": (130, 0, -2), "no locks": (0,)}
"""Exit statuses by fault; of others: done, or one line and 2."""


def run(arguments: list[str], fault: str, seed: int, output: int, ready: Any) -> None:
    """What the process does: the command itself. ``output`` is where its standard error goes."""
    import torch

    torch.set_num_threads(1)
    os.dup2(output, 2)
    os.dup2(output, 1)
    prepare_process(fault, seed)
    ready.set()
    main(arguments)


@dataclass
class Harness:
    """Disturbs one command.

    Args:
        work: The command.
        folder: Where it may work.
    """

    work: Work
    folder: Path
    duration: float = 0.0
    wanted: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Forks of a process that has only imported things: they begin at once, and no thread of ours is in them.
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["gz_lightning.experts.module", "gz_lightning.cli.lightning", __name__])

    def undisturbed(self) -> None:
        """Run once to warm up and once to know what must come out, and how long it takes."""
        for name in ("warm", "whole"):
            begin = time.monotonic()
            status, said = self.process(self.folder / name, "none", 0, random.Random(0))
            self.duration = time.monotonic() - begin
            assert status == 0, said
        self.wanted = self.work.found(self.folder / "whole")
        assert self.wanted

    def process(self, folder: Path, fault: str, seed: int, draws: random.Random) -> tuple[int, str]:
        """Run the command in a process, with a fault at a random moment: its exit status, and what it said."""
        folder.mkdir(exist_ok=True)
        reading, writing = os.pipe()
        ready = self.context.Event()
        arguments = (self.work.arguments(folder), fault, seed, multiprocessing.reduction.DupFd(writing), ready)
        started: BaseProcess = self.context.Process(target=_run, args=arguments)
        started.start()
        os.close(writing)
        said: list[bytes] = []
        listener = threading.Thread(target=_listen, args=(reading, said))
        listener.start()
        ready.wait(60)
        around: Any = FAULTS.get(fault, nothing)
        with around(started, moment(draws, self.duration), folder, self.work.fed_by):
            started.join(SECONDS)
            if started.is_alive():
                started.kill()
                started.join()
                raise AssertionError(f"{self.work.name} hangs after {fault}")
        listener.join()
        assert started.exitcode is not None
        return started.exitcode, b"".join(said).decode(errors="replace")

    def disturb(self, faults: Sequence[str], seed: int) -> int:
        """Disturb a fresh run by faults at random moments, then let it finish; how many faults there were.

        Raises:
            AssertionError: If anything is lost, damaged, other than it should be, or left over.
        """
        folder = self.folder / f"cut {seed}"
        draws = random.Random(seed)
        for place, fault in enumerate(faults):
            status, said = self.process(folder, fault, 10 * seed + place, draws)
            where = f"{self.work.name} after {fault} (seed {seed}, {place + 1} of {len(faults)}): "
            assert status in EXPECTED.get(fault, (0, 2)), f"{where}exit status {status}: {said}"
            assert "Traceback" not in said, where + said
            if fault == "no locks" and self.work.name in ("fit", "distill"):  # those that lock their folder
                assert said.count("there are no file locks here") == 1, where + said
            if status == 2:
                lines = [line for line in said.splitlines() if line.startswith(f"gz-lightning {self.work.name}: ")]
                assert len(lines) == 1, where + said
            found = self.work.found(folder)
            for name in self.work.final:
                assert found.get(name) in (None, self.wanted[name]), f"{where}{name} is another"
        status, said = self.process(folder, "none", 0, draws)
        assert status == 0, f"{self.work.name} does not finish after {', '.join(faults)} (seed {seed}): {said}"
        assert self.work.found(folder) == self.wanted, f"{self.work.name} is another after {', '.join(faults)} (seed {seed})"
        left = [path.name for path in folder.rglob("*") if path.suffix in (".part", ".unfinished", ".lock")]
        assert not left, f"{self.work.name} leaves {left} after {', '.join(faults)} (seed {seed})"
        shutil.rmtree(folder)
        return len(faults)


def _run(arguments: list[str], fault: str, seed: int, output: Any, ready: Any) -> None:
    run(arguments, fault, seed, output.detach(), ready)


def _listen(reading: int, said: list[bytes]) -> None:
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while piece := pipe.read(1 << 16):
            said.append(piece)


def harnesses(given: Path, folder: Path) -> dict[str, Harness]:
    """One for each command."""
    found = {}
    for name, work in WORKS.items():
        (folder / name).mkdir()
        found[name] = Harness(work(given), folder / name)
    return found
