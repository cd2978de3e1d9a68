"""``python -m tests.hostile.fuzz``: many cases of all kinds, or one again.

Cases run one after the other in a second process, so that one that kills it, or that no timer reaches, is found as well: it
has failed, and the rest goes on in a new process.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import queue
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from tests.hostile.fuzz.case import SECONDS, Outcome
from tests.hostile.fuzz.kinds import KINDS
from tests.hostile.fuzz.originals import Originals, originals

STATUSES = ("read", "refused", "failed")


def cases_of(number: int, only: list[str], first: int = 0) -> list[tuple[str, int]]:
    """Kind and seed of at least so many cases, each kind having its share; seeds from ``first`` on."""
    kinds = [KINDS[name] for name in only or KINDS]
    whole = sum(kind.share for kind in kinds)
    return [(kind.name, first + i) for kind in kinds for i in range(math.ceil(number * kind.share / whole))]


def work(folder: Path) -> None:
    """The second process: reads cases, a line each, and answers each with a line."""
    import torch

    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a case prints stays out of the answers
    for line in sys.stdin:
        name, seed = json.loads(line)
        outcome = KINDS[name].run(Originals(folder), seed)
        answers.write(json.dumps([outcome.status, outcome.detail, outcome.changed]) + "\n")


class Worker:
    """The second process, begun anew after each that was lost."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[str] | None = None

    def _begin(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.hostile.fuzz", "--work", str(self.folder)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.answers: queue.Queue[str] = queue.Queue()
        answers, stream = self.answers, process.stdout
        assert stream is not None

        def listen() -> None:
            for line in stream:
                answers.put(line)
            answers.put("")

        threading.Thread(target=listen, daemon=True).start()
        return process

    def run(self, name: str, seed: int) -> Outcome:
        """Run a case there."""
        self.process = self.process or self._begin()
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, seed]) + "\n")
        self.process.stdin.flush()
        try:
            answer = self.answers.get(timeout=3 * SECONDS + 40)  # the first case waits for imports as well
        except queue.Empty:
            self.end()
            return Outcome("failed", "hangs where no signal reaches it")
        if not answer:
            code = self.process.wait()
            self.process = None
            return Outcome("failed", f"the process died of it (exit status {code})")
        return Outcome(*json.loads(answer))

    def end(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def table(counts: dict[str, Counter[str]]) -> str:
    """Counts of each kind."""
    lines = [f"{'kind':<20}{'cases':>8}{'read':>8}{'refused':>9}{'failed':>8}"]
    total: Counter[str] = Counter()
    for name, count in counts.items():
        total += count
        lines.append(f"{name:<20}{count.total():>8}{count['read']:>8}{count['refused']:>9}{count['failed']:>8}")
    return "\n".join([*lines, f"{'all':<20}{total.total():>8}{total['read']:>8}{total['refused']:>9}{total['failed']:>8}"])


def main(args: list[str] | None = None) -> int:
    """Run what is asked for; 1 if a case failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000, help="at least so many cases of all kinds together")
    parser.add_argument("--kind", action="append", default=[], choices=list(KINDS), help="only this kind; may be repeated")
    parser.add_argument("--seed", type=int, help="one case of each kind named: that of this seed, in this process")
    parser.add_argument(
        "--first", type=int, default=0, help="seed of the first case of each kind; others than 0 are new cases"
    )
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(args)
    if given.work is not None:
        work(given.work)
        return 0
    os.environ["WANDB_MODE"] = "offline"
    counts: dict[str, Counter[str]] = {}
    begin = time.monotonic()
    with originals() as made:
        if given.seed is not None:
            for name in given.kind:
                outcome = KINDS[name].run(made, given.seed)
                print(f"{name} {given.seed}: {outcome.changed}\n{outcome.status}: {outcome.detail}")
                counts.setdefault(name, Counter())[outcome.status] += 1
            return int(any(count["failed"] for count in counts.values()))
        worker = Worker(made.folder)
        try:
            for name, seed in cases_of(given.cases, given.kind, given.first):
                if name not in counts:
                    print(f"{time.monotonic() - begin:6.0f} s  {name}", flush=True)
                outcome = worker.run(name, seed)
                counts.setdefault(name, Counter())[outcome.status] += 1
                if outcome.status == "failed":
                    again = f"python -m tests.hostile.fuzz --kind {name} --seed {seed}"
                    print(f"FAILED {name} {seed}: {outcome.changed}\n  again: {again}\n  {outcome.detail}", flush=True)
        finally:
            worker.end()
    print(table(counts))
    return int(any(count["failed"] for count in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
