"""A set to evaluate, whoever made it: a SyntheticSet, a run folder, what ``export`` wrote, pictures, or the published pair.

Shapes: M images, K leaves, H x W pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.data.tree import leaf_folder
from gz_lightning.errors import InputError, entries
from gz_lightning.networks.registry import NETWORKS, allow_network, describe_network
from gz_lightning.sets.formats import described, read_exported
from gz_lightning.sets.pictures import read_png
from gz_lightning.sets.synthetic import LARGEST_MEAN, STD_RANGE, SyntheticSet, not_shares
from gz_lightning.storage.checkpoints import LAST
from gz_lightning.storage.tensors import load_signed, load_tensors, plain
from gz_lightning.storage.text import short

NUMBER = re.compile(r"^\d+_")
"""How a folder begins that is numbered."""
MOST_STEPS = 10**6
"""Steps of a student; the published settings have up to 50."""

FIRST = Path("pictures") / "first.h5"
"""In a run folder, the set before the first iteration. (Those beside ``best.h5`` are candidates of an evaluation.)"""


def read_sets(path: Path, galaxies: Galaxies, network: str | None = None) -> dict[Path, SyntheticSet]:
    """Read one set, or all sets of a run folder, and check that they fit the galaxies.

    Files of ``gz-lightning distill`` have their own mean and standard deviation, which need not be those of the galaxies.

    Args:
        path: A SyntheticSet (``.h5``); a run folder of ``gz-lightning distill``, all of whose sets are read; what
            ``gz-lightning export`` wrote; a folder with one folder of PNGs for each leaf; or ``images_*.pt`` of the
            published code with its ``labels_*.pt`` beside it, and ``lr_*.pt`` where it has a learned step size.
        galaxies: The galaxies to evaluate on.
        network: The network to train, in one word. Default: the one it was distilled for, or ConvNet where the set does
            not say.

    Returns:
        The sets by their files, sorted. Pictures have no step size, nor does a published pair without ``lr_*.pt``.

    Raises:
        InputError: If it is none of these, or its leaves, size or normalisation do not fit; says which.
    """
    if path.is_dir():
        files = sorted(path.glob("*.h5"))
        if files:
            sets = {file: read_distilled(file, galaxies, network) for file in files}
            first = sets[files[0]]
            for file, one in sets.items():
                if not (torch.equal(one.mean, first.mean) and torch.equal(one.std, first.std)):
                    raise InputError(f"{file} is standardised otherwise than {files[0]}: name one of them")
            return sets
        return {path: (read_pictures if described(path) is None else read_described)(path, galaxies, network)}
    return {path: READERS.get(path.suffix, read_distilled)(path, galaxies, network)}


def read_distilled(path: Path, galaxies: Galaxies, network: str | None) -> SyntheticSet:
    """Read the file of a SyntheticSet."""
    return _fitting(SyntheticSet.load(path), path, galaxies, network)


def read_described(path: Path, galaxies: Galaxies, network: str | None) -> SyntheticSet:
    """Read what ``gz-lightning export`` wrote."""
    return _fitting(read_exported(path), path, galaxies, network)


def _fitting(synthetic: SyntheticSet, path: Path, galaxies: Galaxies, network: str | None) -> SyntheticSet:
    """The set, with the network that the user named."""
    synthetic.standardised(galaxies, path)
    steps = synthetic.configuration.get("syn_steps", 0)
    if not isinstance(steps, int) or not 0 <= steps <= MOST_STEPS:
        raise InputError(f"{path} is damaged: its syn_steps are {short(steps)}; distil it again")
    if network is not None:
        same_class = network not in NETWORKS and allow_network(network) == synthetic.network.get("name")
        if not same_class:  # a class named by its path keeps the settings that the set was distilled with
            synthetic.network = describe_network(network, galaxies.num_classes, galaxies.resolution)
    return synthetic


def read_pictures(path: Path, galaxies: Galaxies, network: str | None) -> SyntheticSet:
    """Read a folder with one folder of PNGs for each leaf: its name, or number and name as in 01_cigar_shaped."""
    folders = {leaf_folder(folder.name): folder for folder in entries(path) if folder.is_dir()}
    leaves = [leaf_folder(name) for name in galaxies.class_names]
    numbered = {NUMBER.sub("", name): folder for name, folder in folders.items()}
    if set(folders) != set(leaves) and len(numbered) == len(folders):
        folders = numbered
    if set(folders) != set(leaves):
        missing, unknown = sorted(set(leaves) - set(folders)), sorted(set(folders) - set(leaves))
        raise InputError(
            f"{path} does not fit {galaxies.path}: its class folders are not the leaves of the galaxies "
            f"(missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'})"
        )
    images, labels = [], []
    for label, name in enumerate(leaves):
        files = [file for file in entries(folders[name]) if file.suffix.lower() == ".png"]
        if not files:
            raise InputError(f"{folders[name]} holds no PNG; every leaf needs at least one")
        images += [read_png(file, galaxies.resolution, f"the galaxies of {galaxies.path}") for file in files]
        labels += [label] * len(files)
    return _plain_set(galaxies.standardise(torch.stack(images)), torch.tensor(labels), galaxies, network)


def read_published(path: Path, galaxies: Galaxies, network: str | None) -> SyntheticSet:
    """Read the pair of files that the published code writes, and the step size that DATM's writes beside it."""
    if described(path) is not None:
        return read_described(path, galaxies, network)
    if not path.name.startswith("images"):
        raise InputError(f"name the images of the published pair (images_*.pt), not {path}")
    suffix = path.name.removeprefix("images")
    labels_path = path.with_name(f"labels{suffix}")
    images, labels = _read_tensor(path).float(), _read_tensor(labels_path)
    if problem := _misfit(images, labels, galaxies):
        raise InputError(f"{path} does not fit {galaxies.path}: {problem}")
    if labels.ndim == 2 and (problem := not_shares(labels)):
        raise InputError(f"{labels_path} cannot be used: {problem}")
    labels = labels.long() if labels.ndim == 1 else labels.float()
    beside = [file for name in (f"lr{suffix}", "lr.pt") if (file := path.with_name(name)).is_file()]
    return _plain_set(images, labels, galaxies, network, _read_step_size(beside[0]) if beside else None)


def _read_step_size(path: Path) -> float:
    """The learned step size in a file of the published code."""
    value = load_tensors(path)
    if isinstance(value, torch.Tensor) and plain(value) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise InputError(
            f"{path} holds {short(value)}, where the learned step size should be one number above 0; move it away to "
            "evaluate without it"
        )
    return float(value)


def _read_tensor(path: Path) -> torch.Tensor:
    if not path.is_file():
        raise InputError(f"there is no file {path}; the published pair is images_*.pt with labels_*.pt beside it")
    tensor = load_tensors(path)
    if not isinstance(tensor, torch.Tensor) or not plain(tensor):
        raise InputError(f"{path} holds a {type(tensor).__name__}, not a tensor of numbers that are all there")
    return tensor.detach()


def _misfit(images: torch.Tensor, labels: torch.Tensor, galaxies: Galaxies) -> str:
    """In words, why images and labels do not fit the galaxies; empty where they do."""
    leaves = galaxies.num_classes
    if images.ndim != 4 or images.shape[1:] != galaxies.image_shape or not len(images):
        return f"its images have shape {tuple(images.shape[1:])}, those of the galaxies {galaxies.image_shape}"
    if labels.ndim not in (1, 2) or len(labels) != len(images) or (labels.ndim == 2 and labels.shape[1] != leaves):
        return f"its labels have shape {tuple(labels.shape)} for {len(images)} images of {leaves} leaves"
    if labels.ndim == 1 and sorted(set(labels.tolist())) != list(range(leaves)):
        return f"its labels are {sorted(set(labels.tolist()))}, those of the galaxies 0 to {leaves - 1}"
    if not torch.isfinite(images).all():
        return "its pixels are not all finite"
    low, high, mean, std = (float(x) for x in (images.min(), images.max(), images.mean(), images.std()))
    problem = ""
    if low >= 0:
        problem = f"lie in [{low:.3g}, {high:.3g}], whereas standardised ones have a mean of 0"
    elif abs(mean) > LARGEST_MEAN or not STD_RANGE[0] < std < STD_RANGE[1]:
        problem = f"have mean {mean:.3g} and standard deviation {std:.3g}, whereas standardised ones have 0 and 1"
    return f"its normalisation is another: its pixels {problem}" if problem else ""


def _plain_set(
    images: torch.Tensor, labels: torch.Tensor, galaxies: Galaxies, network: str | None, step_size: float | None = None
) -> SyntheticSet:
    """A set of images and labels that says nothing about its making, with a step size or without."""
    order = labels.argsort(stable=True) if labels.ndim == 1 else torch.arange(len(labels))
    return SyntheticSet(
        images=images[order].contiguous(),
        labels=labels[order],
        step_sizes=torch.empty(0) if step_size is None else torch.tensor([step_size]),
        class_names=galaxies.class_names,
        mean=galaxies.mean,
        std=galaxies.std,
        tree=galaxies.tree,
        network=describe_network(network or "ConvNet", galaxies.num_classes, galaxies.resolution),
    )


def unfinished(folder: Path) -> str:
    """In words, how far the run of a folder is; empty where it is finished, or the folder does not say."""
    last, checkpoint = folder / "last.h5", folder / LAST
    try:
        if checkpoint.is_file():
            content = load_signed(checkpoint)
            state, settings = content.get("distillation"), content.get("hyper_parameters")
            finished = not isinstance(state, dict) or state.get("finished") is not False
            where = checkpoint
        elif last.is_file():
            newest = SyntheticSet.load(last)
            state, settings = {"iteration": newest.iteration}, newest.configuration
            iterations = settings.get("iterations")
            # Without the checkpoint, a run that ended by its stages looks the same.
            finished = not isinstance(iterations, int) or newest.iteration >= iterations or settings.get("stage") != "fixed"
            where = last
        else:
            return ""
    except InputError as error:
        return f"whether the run is finished is unknown: {error}"
    if finished or not isinstance(state, dict) or not isinstance(settings, dict):
        return ""
    return (
        f"the run is not finished: {where.name} is of iteration {short(state.get('iteration'))} of "
        f"{short(settings.get('iterations'))}; 'gz-lightning distill' with --ckpt_path last resumes it"
    )


READERS: dict[str, Callable[[Path, Galaxies, str | None], SyntheticSet]] = {
    ".h5": read_distilled,
    ".npz": read_described,
    ".pt": read_published,
}
"""Ending of a file -> (file, galaxies, network or None) -> a set that fits the galaxies."""
