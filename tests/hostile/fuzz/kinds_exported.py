"""Sets that were exported: the description, or one of the files that it describes."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.sets.description import DESCRIPTION
from gz_lightning.sets.sources import read_sets
from gz_lightning.sets.synthetic import SyntheticSet
from tests.hostile.fuzz.case import CANARY, Trial, copy, require
from tests.hostile.fuzz.damage import damage_file, hostile_tree, replace_file
from tests.hostile.fuzz.hostile_torch import change_torch
from tests.hostile.fuzz.kinds_hdf5 import check_set
from tests.hostile.fuzz.kinds_images import change_image
from tests.hostile.fuzz.originals import EVALUATE, EXPORTED, Originals


def exported_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """A set in one of the formats of ``export``."""
    name = draws.choice(EXPORTED)
    place = copy(originals / f"exported/{name}", folder / name)
    files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    path = draws.choice(files)
    if place.is_dir() and draws.random() < 0.4:
        path = place / DESCRIPTION
    way = draws.random()
    if way < 0.1:
        changed = replace_file(draws, path, originals.files)
    elif path.name == DESCRIPTION and way < 0.8:
        value, changed = hostile_tree(draws, json.loads(path.read_text()))
        path.write_text(json.dumps(value))
    elif path.suffix == ".pt" and way < 0.6:
        changed = change_torch(draws, path, folder / CANARY)
    elif path.suffix in (".png", ".tiff"):
        changed = change_image(draws, path, originals)
    else:
        changed = damage_file(draws, path)
    data = originals / "galaxies.h5"
    if draws.random() < 0.04:
        command = ["evaluate", *EVALUATE, "--synthetic", str(place), "--data", str(data), "--network", "ConvNetD1W4"]
        return Trial(changed, command=[*command, "--output", str(folder / "out")])

    def read() -> None:
        (found,) = read_sets(place, Galaxies(data), "ConvNetD1W4").values()
        check_set(found)
        whole = SyntheticSet.load(originals / "soft.h5")
        if place.is_file() or (place / DESCRIPTION).is_file():  # without it, PNGs are somebody's pictures
            atol = 1e-4 if name == "tiff" else 0
            right = name == "folder" or torch.allclose(found.images, whole.images, rtol=0, atol=atol)
            require(right and torch.equal(found.labels, whole.labels), "others than were written")

    return Trial(changed, read)
