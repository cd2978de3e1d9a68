"""How long a command takes to answer: its help, a mistyped flag, its first words; beside another checkout, in turns.

Every answer is a process of its own. Processor time is what counts on a busy machine; the time on the clock is beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TYPED = {
    **{f"{name} --help": (name, "--help") for name in ("prepare", "download", "evaluate", "report", "fit", "distill")},
    "trajectories check --help": ("trajectories", "check", "--help"),
    **{f"{name} --mistyped": (name, "--mistyped", "1") for name in ("prepare", "download", "evaluate", "report")},
    "trajectories check --mistyped": ("trajectories", "check", "--mistyped", "1"),
}
"""Commands that are answered and end."""
FIRST_WORDS = {
    "evaluate": ("evaluate", "none.h5", "none.h5"),
    "prepare": ("prepare", "--output", "none/none.h5", "--images", "none"),
    "distill": ("distill", "--data.path", "none.h5", "--wandb", "off"),
}
"""Commands that load PyTorch, of which only the time until their first words is taken."""
FLOOR = ("-c", "import lightning.pytorch")
PACKAGES = ("torch", "lightning", "jsonargparse", "rich")


def run(command: tuple[str, ...], checkout: Path, to_its_end: bool = True) -> dict[str, float]:
    """Seconds of a process: of the processor, on the clock, and until its first words."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "TERM": "dumb"}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command], cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    process.stdout.read(1)
    first = time.perf_counter() - begin
    if to_its_end:
        process.stdout.read()
    else:
        process.kill()
    process.wait()
    process.stdout.close()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"processor": used, "clock": time.perf_counter() - begin, "first words": first}


Job = tuple[str, str]
"""A command, and the checkout that it is run in."""


def summary(taken: dict[Job, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians of each command in each checkout, and the ratios of the medians of processor time."""
    medians: dict[str, dict[str, dict[str, float]]] = {}
    for (name, of), results in taken.items():
        median = {what: round(statistics.median(one[what] for one in results), 3) for what in results[0]}
        medians.setdefault(name, {})[of] = median
    floor = medians["import lightning.pytorch"]["new"]["processor"]
    ratios = {}
    for name, median_of in medians.items():
        new = median_of["new"]["processor"]
        ratios[name] = {"to import lightning.pytorch": round(new / floor, 3)}
        if "old" in median_of:
            ratios[name]["to the old checkout"] = round(new / median_of["old"]["processor"], 3)
    return {"seconds": medians, "ratios of processor time": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--old", type=Path, help="another checkout to measure in turns with this one")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="commands to measure, by the names in the record; default: all")
    parser.add_argument("--json", type=Path, help="file for the record")
    settings = parser.parse_args()
    checkouts = {"new": ROOT} if settings.old is None else {"old": settings.old.resolve(), "new": ROOT}
    commands = {name: args for name, args in {**TYPED, **FIRST_WORDS}.items() if name in (settings.only or [name])}
    jobs = {(name, of): ("-m", "gz_lightning", *args) for name, args in commands.items() for of in checkouts}
    jobs["import lightning.pytorch", "new"] = FLOOR
    taken: dict[Job, list[dict[str, float]]] = {job: [] for job in jobs}
    for turn in range(1, settings.turns + 1):
        for (name, of), command in jobs.items():
            taken[name, of].append(run(command, checkouts[of], name not in FIRST_WORDS))
        record = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "versions": {name: version(name) for name in PACKAGES},
            "turns": turn,
            **summary(taken),
        }
        text = json.dumps(record, indent=1)
        print(text)
        if settings.json is not None:  # after each turn: a record of fewer turns is one too
            settings.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
