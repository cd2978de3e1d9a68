"""A vote table of the size of Galaxy Zoo 2 -> the selection of galaxies, beside an older checkout in the same run.

    git worktree add --detach old COMMIT
    python benchmarks/selections.py --table table5.fits.gz --old old --json benchmarks/results/selections.json

The published table (228 columns) is repeated ``--copies`` times with other object ids and written as CSV and Parquet.
Each turn is a process of its own, the checkouts in turn: votes are read, leaves and splits found (``simplified``, 100
galaxies a leaf). Measured is the processors' time, which other work does not disturb, without the imports.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
from astropy.table import Table
from records import keep

TURN = """
import sys, time
from pathlib import Path
from gz_lightning.data.selection import select
from gz_lightning.data.tree import get_tree
from gz_lightning.data.votes import read_votes

start = time.process_time()
tree = get_tree("simplified")
votes = read_votes(Path(sys.argv[1]), tree, "weighted_fraction")
confidences = tree.confidences({answer: votes[answer].to_numpy() for answer in tree.answers})
chosen = select(votes["object_id"].array, confidences, tree.class_names, 100)
print(len(votes), len(chosen.rows), time.process_time() - start)
"""


def write_tables(source: Path, copies: int, folder: Path) -> list[Path]:
    """The table, many times over, as CSV and as Parquet."""
    one = Table.read(source).to_pandas()
    for name in one.select_dtypes("object").columns:
        one[name] = one[name].str.decode("ascii")
    whole = pd.concat([one.assign(objid=one["objid"].astype(np.int64) + 1_000_003 * i) for i in range(copies)])
    csv, parquet = folder / "votes.csv", folder / "votes.parquet"
    whole.to_csv(csv, index=False)
    whole.to_parquet(parquet, index=False)
    return [csv, parquet]


def seconds(checkout: Path, table: Path) -> tuple[int, int, float]:
    """Rows read, rows selected, and seconds of the processors."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", TURN, str(table)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=table.parent)
    rows, selected, taken = run.stdout.split()
    return int(rows), int(selected), float(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True, help="table5 of Hart et al. 2016 (FITS)")
    parser.add_argument("--old", type=Path, required=True, help="the other checkout")
    parser.add_argument("--copies", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, help="file of the record")
    options = parser.parse_args()
    here = Path(__file__).parents[1]
    versions = f"Python {platform.python_version()}, pandas {pd.__version__}, pyarrow {pyarrow.__version__}"
    record: dict[str, object] = {
        "machine": f"{platform.machine()}, {versions}",
        "cores": os.cpu_count(),
        "repeats": options.repeats,
    }
    with tempfile.TemporaryDirectory() as name:
        for table in write_tables(options.table, options.copies, Path(name)):
            old: list[float] = []
            new: list[float] = []
            for turn in range(options.repeats):
                for checkout, taken in ((options.old, old), (here, new)):
                    rows, selected, one = seconds(checkout, table)
                    taken.append(one)
                print(f"{table.name}, turn {turn + 1}: {old[-1]:.2f} and {new[-1]:.2f} s", flush=True)
            record[table.suffix[1:]] = {
                "rows": rows,
                "selected": selected,
                "old_seconds": statistics.median(old),
                "new_seconds": statistics.median(new),
                "ratio": statistics.median(b / a for a, b in zip(old, new, strict=True)),
                "ratios": [b / a for a, b in zip(old, new, strict=True)],
            }
    keep(record, options.json)


if __name__ == "__main__":
    main()
