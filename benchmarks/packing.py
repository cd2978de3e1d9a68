"""Images packed a second, beside images merely decoded: the same files, the same cores.

    python benchmarks/packing.py --images ../shared/data/gz2_sample/images --json benchmarks/results/packing.json

- ``decode_only_images_per_second``: the files are opened and decoded into arrays of RGB pixels by as many threads, and
  nothing else. (``open_and_load_images_per_second`` leaves out even the copy into an array.)
- ``images_per_second``: the same files become a packed file: decoded, cropped, resized, noted for a resumption, written
  with checksums, fingerprint and statistics.
- ``parquet_images_per_second``: the same from a Parquet file with the same bytes inside, row groups of 100 as ``datasets``
  writes them; ``decode_bytes_only_images_per_second``: those bytes, in memory already, decoded and nothing else.

All are measured in turn, ``--repeats`` times; a ratio is the median of the ratios of the turns; ``cpu_ratio`` is
that of the processors' time, which a busy machine does not disturb. The peak memory of
packing is that of a process of its own, for each of ``--counts`` images; files repeat where there are not enough.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pyarrow as pa
import pyarrow.parquet
from memory import peak_memory
from PIL import Image
from records import keep

from gz_lightning.data.catalog import Catalog
from gz_lightning.data.embedded import Inside, InsideImages
from gz_lightning.data.pack import pack
from gz_lightning.data.selection import select

RESOLUTION, CROP = 128, 0.5
ROW_GROUP = 100


def repeated(files: Sequence[Path], number: int) -> list[Path]:
    return [files[i % len(files)] for i in range(number)]


def shard_of(files: Sequence[Path], path: Path) -> InsideImages:
    """A Parquet file with the bytes of the files inside, as ``datasets`` writes it."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", kind)])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, len(files), ROW_GROUP):
            cells = [{"bytes": file.read_bytes(), "path": None} for file in files[start : start + ROW_GROUP]]
            writer.write_table(pa.table({"image": pa.array(cells, kind)}))
    return InsideImages([path], np.zeros(len(files), np.int16), np.arange(len(files), dtype=np.int32))


def pack_files(files: Sequence[Path | Inside], folder: Path, workers: int) -> None:
    """Files as galaxies of two leaves in turn; copies of a file, of which there is an even number, are of one."""
    object_ids = tuple(f"{i:07d}" for i in range(len(files)))
    catalog = Catalog("", ("even", "odd"), object_ids, np.eye(2)[np.arange(len(files)) % 2], files)
    # All to train on: files repeat, and a picture in two splits would be refused.
    selection = select(object_ids, catalog.confidences, catalog.class_names, val_fraction=0, test_fraction=0)
    output = folder / "packed.h5"
    pack(output, catalog, selection, {"resolution": RESOLUTION, "crop": CROP}, workers=workers, strict=True)
    output.unlink()


def decode(file: Path | io.BytesIO) -> None:
    with Image.open(file) as image:
        np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def load(file: Path) -> None:
    with Image.open(file) as image:
        image.load()


def decode_bytes(content: bytes) -> None:
    decode(io.BytesIO(content))


def in_threads(function: Callable[[Any], None], files: Sequence[Path | bytes], workers: int) -> None:
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(function, files):
            pass


def rate(function: Callable[[], None], number: int) -> tuple[float, float]:
    """Images a second, and images a second of the processors' time, which other processes do not disturb."""
    start, busy = time.perf_counter(), time.process_time()
    function()
    return number / (time.perf_counter() - start), number / (time.process_time() - busy)


def peak_of(command: list[str]) -> float:
    """Peak resident memory of a process of its own, in MB."""
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(run.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of cut-outs")
    parser.add_argument("--json", type=Path, help="file of the record")
    parser.add_argument("--number", type=int, default=1000, help="images of a turn")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--counts", type=int, nargs="*", default=[1000, 20_000], help="for the peak memory")
    parser.add_argument("--peak", type=int, help="pack so many and print the peak memory in MB, no more")
    parser.add_argument("--parquet", action="store_true", help="with --peak: from a Parquet file")
    parser.add_argument("--write", type=Path, help="write a Parquet file of --number images, no more")
    options = parser.parse_args()
    files = sorted(options.images.glob("*.jpg"))
    if len(files) < 2:
        parser.error(f"there are no two .jpg in {options.images}")
    files = files[: len(files) // 2 * 2]
    if options.write:
        shard_of(repeated(files, options.number), options.write)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.peak:
            wanted = repeated(files, options.peak)
            shard = folder / "shard.parquet"
            if options.parquet:  # written by another process, whose memory is not this one's
                command = [sys.executable, __file__, "--images", str(options.images), "--write", str(shard)]
                subprocess.run([*command, "--number", str(options.peak)], check=True)
                rows = np.arange(options.peak, dtype=np.int32)
                pack_files(InsideImages([shard], np.zeros(options.peak, np.int16), rows), folder, options.workers)
            else:
                pack_files(wanted, folder, options.workers)
            print(peak_memory() / 1e6)
            return
        files = repeated(files, options.number)
        in_threads(load, files, options.workers)  # the files are in the page cache from here on
        inside = shard_of(files, folder / "shard.parquet")
        contents = [file.read_bytes() for file in files]
        work: dict[str, Callable[[], None]] = {
            "decode_only": lambda: in_threads(decode, files, options.workers),
            "images": lambda: pack_files(files, folder, options.workers),
            "open_and_load": lambda: in_threads(load, files, options.workers),
            "decode_bytes_only": lambda: in_threads(decode_bytes, contents, options.workers),
            "parquet": lambda: pack_files(inside, folder, options.workers),
        }
        turns: dict[str, list[float]] = {what: [] for what in work}
        busy: dict[str, list[float]] = {what: [] for what in work}
        for _ in range(options.repeats):
            for what, function in work.items():
                for times, one in zip((turns, busy), rate(function, len(files)), strict=True):
                    times[what].append(one)
    pairs = (("images", "decode_only"), ("parquet", "decode_bytes_only"))
    ratios, parquet_ratios, cpu_ratios, parquet_cpu_ratios = (
        [packed / decoded for packed, decoded in zip(times[one], times[other], strict=True)]
        for times in (turns, busy)
        for one, other in pairs
    )
    record: dict[str, Any] = {
        "images_per_second": statistics.median(turns["images"]),
        "decode_only_images_per_second": statistics.median(turns["decode_only"]),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "cpu_ratio": statistics.median(cpu_ratios),
        "open_and_load_images_per_second": statistics.median(turns["open_and_load"]),
        "parquet_images_per_second": statistics.median(turns["parquet"]),
        "decode_bytes_only_images_per_second": statistics.median(turns["decode_bytes_only"]),
        "parquet_ratio": statistics.median(parquet_ratios),
        "parquet_ratios": parquet_ratios,
        "parquet_cpu_ratio": statistics.median(parquet_cpu_ratios),
        "images": len(files),
        "repeats": options.repeats,
        "workers": options.workers,
        "cores": os.cpu_count(),
        "resolution": RESOLUTION,
        "machine": f"{platform.machine()}, Python {platform.python_version()}, Pillow {PIL.__version__}",
        "peak_memory_mb": {},
        "parquet_peak_memory_mb": {},
    }
    for number in options.counts:
        command = [sys.executable, __file__, "--images", str(options.images), "--workers", str(options.workers)]
        record["peak_memory_mb"][str(number)] = peak_of([*command, "--peak", str(number)])
        record["parquet_peak_memory_mb"][str(number)] = peak_of([*command, "--peak", str(number), "--parquet"])
    keep(record, options.json)


if __name__ == "__main__":
    main()
