"""The long form: ``python -m tests.hostile.faults --number 400`` (``make faults``)."""

from __future__ import annotations

import argparse
import collections
import random
import sys
import tempfile
from pathlib import Path

from tests.hostile.faults.faults import FAULTS
from tests.hostile.faults.harness import IN_A_ROW, harnesses
from tests.hostile.faults.ranks import Ranks
from tests.hostile.faults.works import WORKS, Distill, make_given


def disturb_all(number: int, seed: int, works: list[str]) -> int:
    """Disturb the commands in turn until there were ``number`` faults, print what came of them, and count the lost."""
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    lost: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        given, folder = Path(name) / "given", Path(name) / "cut"
        given.mkdir()
        folder.mkdir()
        make_given(given)
        disturbed = {work: harness for work, harness in harnesses(given, folder).items() if work in works}
        for harness in disturbed.values():
            harness.undisturbed()
        ranks = Ranks(Distill(given), folder) if "distill" in works else None
        turn = seed
        while counts.total() < number:
            for work, harness in disturbed.items():
                turn += 1
                draws = random.Random(turn)
                faults = draws.choices(list(FAULTS), k=draws.randint(1, IN_A_ROW))
                try:
                    harness.disturb(faults, turn)
                except AssertionError as error:
                    lost.append(str(error))
                    print(f"LOST: {error}", flush=True)
                counts.update((work, fault) for fault in faults)
            if ranks is not None:
                try:
                    ranks.disturb(turn)
                except AssertionError as error:
                    lost.append(str(error))
                    print(f"LOST: {error}", flush=True)
                counts["distill", "killed rank"] += 1
            print(f"{counts.total()} faults, {len(lost)} lost", end="\r", file=sys.stderr, flush=True)
    print(f"{'':16}" + "".join(f"{work:>10}" for work in disturbed))
    for fault in (*FAULTS, "killed rank"):
        print(f"{fault:16}" + "".join(f"{counts[work, fault]:10}" for work in disturbed))
    print(f"{counts.total()} faults, {len(lost)} lost")
    return len(lost)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=400, help="faults at least")
    parser.add_argument("--seed", type=int, default=0, help="decides faults and moments (not the moment's place in the run)")
    parser.add_argument("--works", nargs="+", default=list(WORKS), choices=list(WORKS))
    options = parser.parse_args()
    sys.exit(1 if disturb_all(options.number, options.seed, options.works) else 0)
