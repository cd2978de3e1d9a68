"""Batches of the data module beside a copy of the same memory, and beside a DataLoader that collates images one by one.

    python benchmarks/datamodule.py --data galaxies.h5 --json benchmarks/results/datamodule.json

One pass over the training galaxies in shuffled batches, all ways in turn, ``--repeats`` times:

    copy           the pixels of the split copied as they lie, uint8: what memory allows
    batches        GalaxyZoo2DataModule in memory: shuffled batches of uint8, as they go to the device
    standardised   the same, and standardised to float32
    standardise    the arithmetic of that alone, on batches that are there already
    by_rows        in_memory=False: each batch read from the file (which lies in the system's cache), checksums checked
    plain          a DataLoader over (image, label) pairs that were standardised before, as the published code has it

``megabytes_per_second`` are of uint8 pixels in all of them, so that ratios compare galaxies.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from records import keep
from torch.utils.data import DataLoader, TensorDataset

from gz_lightning.data.datamodule import GalaxyZoo2DataModule


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="packed galaxies")
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path, help="file of the record")
    options = parser.parse_args()
    held = GalaxyZoo2DataModule(options.data, batch_size=options.batch_size, in_memory=True)
    rows = GalaxyZoo2DataModule(options.data, batch_size=options.batch_size, in_memory=False)
    galaxies, _ = held.galaxies, rows.galaxies
    images, labels = galaxies.train.images, galaxies.train.labels
    parts = list(images.split(options.batch_size))
    plain = TensorDataset(galaxies.standardise(images), labels)

    def passes(module: GalaxyZoo2DataModule, standardise: bool = False) -> None:
        for batch, _ in module.train_dataloader():
            if standardise:
                module.galaxies.standardise(batch)

    ways: dict[str, Callable[[], object]] = {
        "copy": images.clone,
        "batches": lambda: passes(held),
        "standardised": lambda: passes(held, True),
        "standardise": lambda: [galaxies.standardise(part) for part in parts],
        "by_rows": lambda: passes(rows),
        "plain": lambda: list(DataLoader(plain, batch_size=options.batch_size, shuffle=True)),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(options.repeats + 1):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            if turn:  # the first warms up
                rates[name].append(images.nbytes / 1e6 / (time.perf_counter() - begin))
    record = {
        "megabytes_per_second": {name: round(statistics.median(rate), 1) for name, rate in rates.items()},
        "ratio_to_copy": {
            name: round(statistics.median(a / b for a, b in zip(rate, rates["copy"], strict=True)), 3)
            for name, rate in rates.items()
        },
        "galaxies": len(images),
        "resolution": galaxies.resolution,
        "batch_size": options.batch_size,
        "repeats": options.repeats,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    keep(record, options.json)


if __name__ == "__main__":
    main()
