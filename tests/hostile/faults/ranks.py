"""A run on two devices (gloo on CPUs) of which one process is killed at a random moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from tests.hostile.faults.works import Distill, Work

TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
MINUTE = 60
SECONDS = 300
"""Longer than such a run takes."""
ROOT = Path(__file__).parents[3]


def is_rank(process: psutil.Process) -> bool:
    """Whether a process is one that Lightning started for a device, and not a short-lived one of some import."""
    with suppress(psutil.Error):
        return "LOCAL_RANK" in process.environ()
    return False


class Ranks:
    """Kills a process of a run on two devices, and lets the run be finished.

    Args:
        work: The command.
        folder: Folder for its runs.
    """

    def __init__(self, work: Work, folder: Path) -> None:
        self.work, self.folder = work, folder
        begin = time.monotonic()
        status, said = self.run("whole")
        assert status == 0, said
        self.duration = time.monotonic() - begin
        self.expected = work.found(folder / "whole")

    def start(self, name: str, said: Path) -> subprocess.Popen[bytes]:
        """Start the command in a session of its own, with its errors in a file."""
        command = [sys.executable, "-m", "gz_lightning", *self.work.arguments(self.folder / name), *TWO]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with said.open("wb") as file:
            return subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)

    def run(self, name: str) -> tuple[int, str]:
        """Run undisturbed: the exit status, and what was said."""
        said = self.folder / f"{name}.txt"
        with self.start(name, said) as process:
            return process.wait(SECONDS), said.read_text()

    def disturb(self, seed: int) -> None:
        """Kill one of the two processes, then finish the run.

        Raises:
            AssertionError: If the other process lives on for more than a minute or does not end in one line, or the result
                is not that of an undisturbed run.
        """
        draws, name = random.Random(seed), f"cut {seed}"
        said = self.folder / f"{name}.txt"
        process = self.start(name, said)
        first = psutil.Process(process.pid)
        begin, moment, second = time.monotonic(), draws.uniform(0, self.duration), None
        while first.is_running() and first.status() != psutil.STATUS_ZOMBIE:
            second = next(filter(is_rank, first.children()), None)
            if second is not None and time.monotonic() - begin >= moment:
                break
            time.sleep(0.02)
        if second is not None and first.status() != psutil.STATUS_ZOMBIE:
            killed, other = draws.sample([first, second], 2)
            killed.send_signal(signal.SIGKILL)
            begin = time.monotonic()
            while other.is_running() and other.status() != psutil.STATUS_ZOMBIE:
                assert time.monotonic() - begin < MINUTE, f"seed {seed}: the other process lives on: {said.read_text()}"
                time.sleep(0.1)
            lines = [line for line in said.read_text().splitlines() if line.startswith(f"gz-lightning {self.work.name}: ")]
            assert "Traceback" not in said.read_text(), f"seed {seed}: {said.read_text()}"
            assert len(lines) <= 1, f"seed {seed}: {said.read_text()}"
            # Where the run is over, the other one has nothing to say, and the first may be killed just before it says so.
            over = "best validation accuracy" in said.read_text() or self.finished(name)
            told = bool(lines) and lines[0].endswith("run the same command with --ckpt_path last to resume")
            assert over or told, f"seed {seed}: {said.read_text()}"
        process.wait(SECONDS)
        status, words = self.run(name)
        assert status == 0, f"seed {seed}: {words}"
        assert self.work.found(self.folder / name) == self.expected, f"seed {seed}: the result is another"

    def finished(self, name: str) -> bool:
        """Whether the checkpoint of a run says that it is over."""
        path = self.folder / name / "checkpoints" / "last.ckpt"
        return path.exists() and bool(torch.load(path, weights_only=True)["distillation"]["finished"])


def kill_ranks(given: Path, number: int, seed: int) -> None:
    """Kill a process of ``number`` distillations on two devices."""
    with tempfile.TemporaryDirectory() as name:
        ranks = Ranks(Distill(given), Path(name))
        for turn in range(number):
            ranks.disturb(seed + turn)
