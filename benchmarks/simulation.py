"""How far simulated galaxies are from real ones: networks trained on the one and tested on the other.

    python benchmarks/simulation.py --real ../shared/data --json benchmarks/results/simulation.json

Networks learn the five leaves of ``coarse5`` from the training galaxies of one kind and are tested on the test galaxies of
both. ``--page FILE`` draws galaxies of each of the ten leaves, real ones beside simulated ones.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from records import keep

from gz_lightning.augmentation import augment
from gz_lightning.data.galaxies import Galaxies, Split
from gz_lightning.data.prepare import prepare
from gz_lightning.networks.registry import build_network
from gz_lightning.randomness import derived_seed, generator
from gz_lightning.storage.whole import atomic_write

EPOCHS, BATCH, LR, MOMENTUM, WIDTH = 30, 64, 0.02, 0.9, 32


def trained(galaxies: Galaxies, seed: int) -> torch.nn.Module:
    """A ConvNetD3 trained by SGD with a cosine schedule and full-circle rotation."""
    description = {"name": "ConvNet", "num_classes": galaxies.num_classes, "resolution": galaxies.resolution, "width": WIDTH}
    network = build_network(description, seed=derived_seed(seed, "network"))
    steps = -(-len(galaxies.train) // BATCH)
    sgd = torch.optim.SGD(network.parameters(), lr=LR, momentum=MOMENTUM)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, EPOCHS * steps)
    draws = generator(seed, "training")
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(galaxies.train), generator=draws).split(BATCH):
            pixels, labels = galaxies.train[rows]
            images = augment(galaxies.standardise(pixels), "galaxy", draws)
            sgd.zero_grad()
            F.cross_entropy(network(images), labels).backward()
            sgd.step()
            schedule.step()
    return network


@torch.no_grad()
def accuracy(network: torch.nn.Module, on: Split, statistics: Galaxies) -> float:
    """Mean over the leaves of the share that is classified rightly."""
    hits = network(statistics.standardise(on.images)).argmax(1) == on.labels
    return float(torch.stack([hits[on.labels == label].float().mean() for label in on.labels.unique()]).mean())


def page(real: Path, folder: Path, path: Path, number: int = 5) -> None:
    """Galaxies of each leaf, real ones on the left, simulated ones on the right."""
    sample = real / "gz2_sample"
    table, mapping = sample / "gz2_hart16.csv.gz", sample / "gz2_filename_mapping.csv"
    shares: dict[str, Any] = {"resolution": 64, "val_fraction": 0.0, "test_fraction": 0.0, "overwrite": True}
    prepare(folder / "real10.h5", sample / "images", table, mapping, "simplified", per_class=number, **shares)
    prepare(folder / "simulated10.h5", tree="simplified", per_class=4 * number, **shares)
    sets = [Galaxies(folder / name) for name in ("real10.h5", "simulated10.h5")]
    figure = Figure(figsize=(2 * number * 0.9 + 2, 10 * 0.92), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(10, 2 * number)
    for axis in axes.flatten():
        axis.set_axis_off()
    for label, name in enumerate(sets[0].class_names):
        axes[label, 0].set_title(name, fontsize=7, loc="left")
        for side, galaxies in enumerate(sets):
            members = galaxies.train.of_class(label)
            for place, row in enumerate(members[torch.linspace(0, len(members) - 1, number).long().unique()]):
                axes[label, side * number + place].imshow(galaxies.train.images[row].permute(1, 2, 0))
    figure.suptitle("real (left), simulated (right)", fontsize=9)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="jpg" if path.suffix == ".jpg" else "png", dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, required=True, help="folder with gz2_5class/ and gz2_sample/")
    parser.add_argument("--json", type=Path, help="file of the record")
    parser.add_argument("--page", type=Path, help="picture to draw")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.page:
            page(options.real, folder, options.page)
        shares: dict[str, Any] = {"tree": "coarse5", "per_class": 479, "resolution": options.resolution, "val_fraction": 0.0}
        prepare(folder / "real.h5", options.real / "gz2_5class", **shares)
        prepare(folder / "simulated.h5", **shares)
        kinds = {kind: Galaxies(folder / f"{kind}.h5") for kind in ("real", "simulated")}
        scores: dict[str, list[float]] = {}
        for seed in range(options.seeds):
            for trained_on, galaxies in kinds.items():
                network = trained(galaxies, seed)
                for tested_on, others in kinds.items():
                    key = f"trained_on_{trained_on}_tested_on_{tested_on}"
                    scores.setdefault(key, []).append(accuracy(network, others.test, galaxies))
        counts = {f"{kind}_{split}": len(getattr(g, split)) for kind, g in kinds.items() for split in ("train", "test")}
    record = {"tree": "coarse5", "chance": 0.2, "resolution": options.resolution, "epochs": EPOCHS, "width": WIDTH}
    record |= {"seeds": options.seeds, "galaxies": counts, "balanced_accuracy": scores}
    keep(record, options.json)


if __name__ == "__main__":
    main()
