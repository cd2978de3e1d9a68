"""Tries all mutants, or those of some modules, and writes RECORD.md (``make mutants``)."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import multiprocessing
import sys
from pathlib import Path

from tests.hostile.mutants.modules import MODULES
from tests.hostile.mutants.mutant import Mutants
from tests.hostile.mutants.mutations import mutants_of
from tests.hostile.mutants.record import judgement, judgements, write_record
from tests.hostile.mutants.trial import ROOT, Trials


def try_all(module: str, mutants: Mutants, results: Path) -> None:
    """Try the mutants of a module that were not killed before, nor lived and are judged; write each result down at once."""
    before, why = killed_before(results, module), judgements()
    settled = {name for name, killed in before.items() if killed}
    settled |= {m.name for m in mutants.kept if m.name in before and judgement(why, module, m)}
    waiting = [mutant for mutant in mutants.kept if mutant.name not in settled]
    print(f"{module}: {len(mutants.kept)} mutants, {len(waiting)} of them to try", flush=True)
    if not waiting:
        return
    trials = Trials(module, MODULES[module])
    try:
        trials.warm_up()
        with (results / f"{module}.jsonl").open("a") as file:
            for done, mutant in enumerate(waiting, 1):
                killed = trials.killed(mutant)
                file.write(json.dumps({"name": mutant.name, "killed": killed}) + "\n")
                file.flush()  # it may end at any moment
                if not killed:
                    print(
                        f"  line {mutant.first}, {mutant.operator}\n    - {mutant.before}\n    + {mutant.after}", flush=True
                    )
                print(f"{module}: {done} of {len(waiting)}", end="\r", file=sys.stderr, flush=True)
    finally:
        trials.close()


def killed_before(results: Path, module: str) -> dict[str, bool]:
    """Name of a mutant -> whether it was killed, of those that were tried."""
    path = results / f"{module}.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return {result["name"]: result["killed"] for result in map(json.loads, lines)}


def main(modules: list[str], results: Path) -> int:
    """Try and record; 1 if mutants live that should not."""
    results.mkdir(parents=True, exist_ok=True)
    mutants = {module: mutants_of(module_file(module).read_text()) for module in MODULES}
    for module in modules:
        process = multiprocessing.get_context("fork").Process(target=try_all, args=(module, mutants[module], results))
        process.start()  # one process for each module: it imports a copy of the package
        process.join()
        if process.exitcode:
            print(f"{module} could not be tried")
            return 1
    killed = {module: killed_before(results, module) for module in MODULES}
    wrong = write_record(mutants, killed, importlib.metadata.version("mutmut"))
    print("\n".join(wrong))
    return 1 if wrong else 0


def module_file(module: str) -> Path:
    """Where a module stands."""
    return ROOT / "gz_lightning" / f"{module.replace('.', '/')}.py"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modules", nargs="+", default=list(MODULES), choices=list(MODULES), metavar="MODULE")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "mutants", help="goes on with what is here")
    options = parser.parse_args()
    sys.exit(main(options.modules, options.results))
