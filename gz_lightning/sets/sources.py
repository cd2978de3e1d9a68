"""A set to evaluate, whoever distilled it: a SyntheticSet, a run folder, a folder of PNGs by class, or the published pair.

Shapes: M images, K leaves, H x W pixels.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gz_lightning.data.cutouts import BAD_IMAGE, refusing_huge
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.data.tree import leaf_folder
from gz_lightning.errors import InputError
from gz_lightning.networks.registry import NETWORKS, allow_network, describe_network
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.storage.tensors import load_tensors, plain
from gz_lightning.storage.text import short

PICTURES = (".png",)
MOST_STEPS = 10**6
"""Steps of a student; the published settings have up to 50."""
LARGEST_MEAN, STD_RANGE = 1.5, (0.2, 6.0)
"""Standardised pixels have mean 0 and standard deviation 1 over real galaxies; a distilled set that lies outside these was
standardised otherwise or not at all."""


@dataclass(frozen=True)
class Source:
    """A set that fits the galaxies.

    Args:
        sets: The set, or every set of a run folder.
        paths: Their files.
        learned: Whether it brings step sizes of its own.
    """

    sets: tuple[SyntheticSet, ...]
    paths: tuple[Path, ...]
    learned: bool


def read_source(path: Path, galaxies: Galaxies, network: str | None = None) -> Source:
    """Read whatever ``path`` is and check that it fits the galaxies.

    Args:
        path: A SyntheticSet (``.h5``); a run folder of ``gz-lightning distill``, all of whose sets are read; a folder with
            one folder of PNGs for each leaf; or ``images_*.pt`` of the published code, with its ``labels_*.pt`` beside it.
        galaxies: The galaxies to evaluate on.
        network: The network to train, in one word. Default: the one it was distilled for, or ConvNet where the set does
            not say.

    Raises:
        InputError: If it is none of these, or its leaves, size or normalisation do not fit; says which.
    """
    if path.is_dir():
        files = tuple(sorted(path.glob("*.h5")))
        if files:
            sets = tuple(_read_h5(file, galaxies, network) for file in files)
            return Source(sets, files, all(len(own.step_sizes) for own in sets))
        return Source((_read_pictures(path, galaxies, network),), (path,), False)
    if path.suffix == ".pt":
        return Source((_read_published(path, galaxies, network),), (path,), False)
    own = _read_h5(path, galaxies, network)
    return Source((own,), (path,), len(own.step_sizes) > 0)


def _read_h5(path: Path, galaxies: Galaxies, network: str | None) -> SyntheticSet:
    found = SyntheticSet.load(path)
    found.check_fits(galaxies, path)
    steps = found.configuration.get("syn_steps", 0)
    if not isinstance(steps, int) or not 0 <= steps <= MOST_STEPS:
        raise InputError(f"{path} is damaged: its syn_steps are {short(steps)}; distil it again")
    if network is not None:
        own = allow_network(network) == found.network.get("name") and network not in NETWORKS
        if not own:  # a class of one's own has to be named, and keeps its settings
            found.network = describe_network(network, galaxies.num_classes, galaxies.resolution)
    return found


def _bare(images: torch.Tensor, labels: torch.Tensor, galaxies: Galaxies, network: str | None) -> SyntheticSet:
    """A set that brings images and labels alone."""
    order = labels.argsort(stable=True) if labels.ndim == 1 else torch.arange(len(labels))
    return SyntheticSet(
        images=images[order].contiguous(),
        labels=labels[order],
        step_sizes=torch.empty(0),
        class_names=galaxies.class_names,
        mean=galaxies.mean,
        std=galaxies.std,
        tree=galaxies.tree,
        network=describe_network(network or "ConvNet", galaxies.num_classes, galaxies.resolution),
        data=galaxies.fingerprint,
    )


def _read_pictures(path: Path, galaxies: Galaxies, network: str | None) -> SyntheticSet:
    wanted = {leaf_folder(name): label for label, name in enumerate(galaxies.class_names)}
    there = {leaf_folder(own.name): own for own in sorted(path.iterdir()) if own.is_dir()}
    if set(there) != set(wanted):
        missing, unknown = sorted(set(wanted) - set(there)), sorted(set(there) - set(wanted))
        raise InputError(
            f"{path} does not fit {galaxies.path}: its class folders are not the leaves of the galaxies "
            f"(missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'})"
        )
    images, labels = [], []
    for name, label in wanted.items():
        files = sorted(file for file in there[name].iterdir() if file.suffix.lower() in PICTURES)
        if not files:
            raise InputError(f"{there[name]} holds no PNG; every leaf needs at least one")
        for file in files:
            images.append(_read_picture(file, galaxies))
            labels.append(label)
    return _bare(galaxies.standardise(torch.stack(images)), torch.tensor(labels), galaxies, network)


def _read_picture(file: Path, galaxies: Galaxies) -> torch.Tensor:
    side = galaxies.resolution
    if not os.path.isfile(file):
        raise InputError(f"{file} is no file")
    try:
        with refusing_huge(), Image.open(file) as picture:
            width, height = picture.size
            pixels = np.asarray(picture.convert("RGB") if (width, height) == (side, side) else None)
    except BAD_IMAGE as error:
        raise InputError(f"{file} cannot be read as an image: {' '.join(str(error).split())}") from error
    if (width, height) != (side, side):
        raise InputError(f"{file} does not fit {galaxies.path}: it has {width} x {height} px, the galaxies {side} px")
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def _read_tensor(path: Path) -> torch.Tensor:
    if not path.is_file():
        raise InputError(f"there is no file {path}; the published pair is images_*.pt with labels_*.pt beside it")
    found = load_tensors(path)
    if not isinstance(found, torch.Tensor) or not plain(found):
        raise InputError(f"{path} holds a {type(found).__name__}, not a tensor of numbers that are all there")
    return found.detach()


def _read_published(path: Path, galaxies: Galaxies, network: str | None) -> SyntheticSet:
    if not path.name.startswith("images"):
        raise InputError(f"name the images of the published pair (images_*.pt), not {path}")
    images = _read_tensor(path).float()
    labels = _read_tensor(path.with_name("labels" + path.name.removeprefix("images")))
    what = ""
    size = (3, galaxies.resolution, galaxies.resolution)
    number = galaxies.num_classes
    if images.ndim != 4 or images.shape[1:] != size or not len(images):
        what = f"its images have shape {tuple(images.shape[1:])}, those of the galaxies {size}"
    elif labels.ndim not in (1, 2) or len(labels) != len(images) or (labels.ndim == 2 and labels.shape[1] != number):
        what = f"its labels have shape {tuple(labels.shape)} for {len(images)} images of {number} leaves"
    elif labels.ndim == 1 and sorted(set(labels.tolist())) != list(range(number)):
        what = f"its labels are {sorted(set(labels.tolist()))}, those of the galaxies 0 to {number - 1}"
    elif labels.ndim == 2 and not (torch.isfinite(labels).all() and (labels >= 0).all() and (labels.sum(1) > 0).all()):
        what = "its soft labels are not all shares of at least 0; if they are logits, take their softmax first"
    elif not torch.isfinite(images).all():
        what = "its pixels are not all finite"
    elif problem := _not_standardised(images):
        what = f"its normalisation is another: {problem}"
    if what:
        raise InputError(f"{path} does not fit {galaxies.path}: {what}")
    return _bare(images, labels.long() if labels.ndim == 1 else labels.float(), galaxies, network)


def _not_standardised(images: torch.Tensor) -> str:
    """In words, why pixels cannot be standardised ones; empty where they can."""
    low, high, mean, std = (float(x) for x in (images.min(), images.max(), images.mean(), images.std()))
    if low >= 0:
        return f"its pixels lie in [{low:.3g}, {high:.3g}], whereas standardised ones have a mean of 0"
    if abs(mean) > LARGEST_MEAN or not STD_RANGE[0] < std < STD_RANGE[1]:
        return f"its pixels have mean {mean:.3g} and standard deviation {std:.3g}, whereas standardised ones have 0 and 1"
    return ""
