"""The most confident galaxies of a vote table of the size of Galaxy Zoo DESI, in Parquet shards with pictures inside.

    python benchmarks/scale.py --json benchmarks/results/scale.json

Shards of ``--shard`` rows hold ``dr8_id``, vote fractions of all answers of DECaLS in single precision and a picture of
8 x 8 pixels (PPM, another one in every row). ``prepare`` takes the most confident 600 of each leaf: for each of ``--rows``
numbers of rows in a process of its own, whose seconds (also those of its processors, which a busy machine does not
disturb) and peak memory are reported, how many pictures it has decoded, and
how many it has packed. The tables are written before, each once, and are gone afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from memory import peak_memory
from records import keep

from gz_lightning.data import cutouts
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.data.prepare import prepare
from gz_lightning.data.schema import known_schema

SIDE, PER_CLASS, ROW_GROUP = 8, 600, 10_000
HEADER = b"P6\n8 8\n255\n"


def pictures(rng: np.random.Generator, number: int) -> Any:
    """So many pictures of random pixels as an Arrow column of bytes."""
    body = np.empty((number, len(HEADER) + 3 * SIDE**2), np.uint8)
    body[:, : len(HEADER)] = np.frombuffer(HEADER, np.uint8)
    body[:, len(HEADER) :] = rng.integers(0, 256, (number, 3 * SIDE**2), dtype=np.uint8)
    offsets = np.arange(number + 1, dtype=np.int32) * body.shape[1]
    return pa.Array.from_buffers(pa.binary(), number, [None, pa.py_buffer(offsets), pa.py_buffer(body)])


def write_shard(path: Path, first: int, number: int) -> None:
    """Rows ``first`` to ``first + number``; their votes are drawn like those of volunteers who mostly agree."""
    rng = np.random.default_rng(first)
    schema = known_schema("decals")
    columns: dict[str, Any] = {"dr8_id": [f"{row // 1000}_{row % 1000}" for row in range(first, first + number)]}
    for question in schema.questions:
        fractions = rng.dirichlet(np.full(len(question.answers), 0.5), number).astype(np.float32)
        for place, answer in enumerate(question.answers):
            columns[f"{schema.namings[0].counts[answer]}_fraction"] = fractions[:, place]
    image = pa.StructArray.from_arrays([pictures(rng, number), pa.nulls(number, pa.string())], ["bytes", "path"])
    pyarrow.parquet.write_table(pa.table({"image": image, **columns}), path, row_group_size=ROW_GROUP)


def run(folder: Path, output: Path) -> dict[str, Any]:
    """Prepare in this process."""
    decoded = 0
    read_square = cutouts.read_square

    def counting(*args: Any) -> Any:
        nonlocal decoded
        decoded += 1
        return read_square(*args)

    cutouts.read_square = counting  # type: ignore[assignment]
    start, busy = time.perf_counter(), time.process_time()
    settings: dict[str, Any] = {"tree": "decals", "per_class": PER_CLASS, "resolution": SIDE, "crop": 1.0, "workers": 2}
    prepared = prepare(output, table=folder, cutout_size=SIDE, **settings)
    seconds, cpu = time.perf_counter() - start, time.process_time() - busy
    galaxies = Galaxies(prepared.path)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_memory_mb": peak_memory() / 1e6,
        "decoded": decoded,
        "packed": len(galaxies),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file of the record")
    parser.add_argument("--rows", type=int, nargs="*", default=[870_000, 8_700_000])
    parser.add_argument("--shard", type=int, default=100_000, help="rows of a shard")
    parser.add_argument("--folder", type=Path, help="where the shards are written for a while; 220 bytes a row and more")
    parser.add_argument("--run", type=Path, help="prepare the shards in this folder and print the record, no more")
    options = parser.parse_args()
    if options.run:
        with tempfile.TemporaryDirectory() as name:
            print(json.dumps(run(options.run, Path(name) / "packed.h5")))
        return
    record: dict[str, Any] = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}, pyarrow {pa.__version__}",
        "cores": os.cpu_count(),
        "rows": {},
    }
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        for rows in sorted(options.rows):
            folder = Path(name) / "shards"
            folder.mkdir(exist_ok=True)
            for first in range(0, rows, options.shard):  # shards of the smaller table are used again
                path = folder / f"{first:08d}.parquet"
                number = min(options.shard, rows - first)
                if not path.exists() or pyarrow.parquet.read_metadata(path).num_rows != number:
                    write_shard(path, first, number)
            command = [sys.executable, __file__, "--run", str(folder)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            record["rows"][str(rows)] = json.loads(done.stdout.splitlines()[-1])
            print(rows, record["rows"][str(rows)], flush=True)
    keep(record, options.json)


if __name__ == "__main__":
    main()
