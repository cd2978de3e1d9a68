"""Trajectories in the published format: ``replay_buffer_*.pt`` of Cazenavette et al. 2022 and all codes that follow it.

Such a file is a pickled list of experts, each a list of epochs (the first is the initialisation), each a list of tensors in
the order of ``network.parameters()``. It holds parameters alone: no losses, no settings, no galaxies.

Shapes: E epochs, P parameters.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from gz_lightning.augmentation import DSA, check_strategy
from gz_lightning.cost import counted
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.experts.expert_file import (
    METRICS,
    Recipe,
    check_storage,
    describe_difference,
    equal_epochs,
    file_of,
    fingerprint_of,
    rounded,
    write_expert,
)
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.networks.registry import allow_network, build_network
from gz_lightning.progress import say, track
from gz_lightning.storage.tensors import load_tensors, plain, save_tensors


def export_buffers(trajectories: Path, output: Path, experts_per_file: int = 10, network: str | None = None) -> None:
    """Write the experts of a folder as files of the published format, replay_buffer_0.pt and so on.

    Args:
        trajectories: Folder of the experts.
        output: Folder to write into. The published code looks for such files in buffer_path/DATASET/NETWORK.
        experts_per_file: Experts in a file. 10 in the published code. A file is put together in memory.
        network: Class of the experts' network (package.module.Class), where it is a class of yours: one that only a file
            names is not imported.

    Raises:
        InputError: If there are no experts, one is damaged, their network cannot be built, or the folder holds such files
            already.
    """
    if experts_per_file < 1:
        raise InputError(f"experts_per_file must be at least 1, not {experts_per_file}")
    store = TrajectoryStore(trajectories)
    if output.is_dir() and any(output.glob("replay_buffer_*.pt")):
        raise InputError(f"{output} holds files of replay_buffer_*.pt already; name another --output")
    if network is not None:
        allow_network(network)
    shapes = [p.shape for p in store.network().parameters()]
    groups = [store.experts[i : i + experts_per_file] for i in range(0, len(store), experts_per_file)]
    for number, experts in enumerate(track(groups, "exporting", len(groups))):
        buffer = [[_tensors(theta, shapes) for theta in store.trajectory(expert)] for expert in experts]
        save_tensors(buffer, output / f"replay_buffer_{number}.pt")
    say(f"{counted(len(store), 'expert')} in {counted(len(groups), 'file')} of {output}")


def _tensors(theta: torch.Tensor, shapes: Sequence[torch.Size]) -> list[torch.Tensor]:
    parts = theta.split([shape.numel() for shape in shapes])
    return [part.reshape(shape).clone() for part, shape in zip(parts, shapes, strict=True)]


def import_buffers(
    buffers: Path,
    data: Path,
    output: Path,
    first_expert: int = 0,
    norm: str = "instance",
    pooling: str = "avg",
    augmentation: str = DSA,
    precision: str = "float32",
    compression: str = "none",
) -> None:
    """Read files of the published format, replay_buffer_*.pt, into a folder of experts.

    The ConvNet is recognised by the shapes of its parameters. Losses and accuracies are not in such files and stay unknown.

    Args:
        buffers: A file replay_buffer_0.pt, or a folder of such files. Nothing in them is executed.
        data: The packed galaxies that the experts were trained on: distillation will ask for the same.
        output: Folder of experts to write into; new, or one to add to.
        first_expert: Number of the first expert.
        norm: Norm of the network, which the shapes do not tell. instance in the published results.
        pooling: Pooling of the network, likewise.
        augmentation: What the experts were trained with; the default of distillation. The published one is DSA.
        precision: Of the stored parameters: float32, float16 or bfloat16.
        compression: Of the stored parameters: none or gzip.

    Raises:
        InputError: If a file is none of that format, its experts are of another network than the galaxies fit, an expert is
            there twice, is in the store already, or has equal epochs at this precision.
    """
    check_storage(precision, compression)
    check_strategy(augmentation)
    galaxies = Galaxies(data, in_memory=False)
    files, leaves, side = _buffer_files(buffers), len(galaxies.class_names), galaxies.resolution
    recipes: list[Recipe] = []
    places: dict[str, str] = {}
    for path in track(files, "checking", len(files)):  # all of them, before the first is written
        for expert, (rows, network) in enumerate(_experts(path, norm, pooling)):
            if (network["num_classes"], network["resolution"]) != (leaves, side):
                raise InputError(
                    f"{path} holds experts for {network['num_classes']} classes at {network['resolution']} px, but "
                    f"{data} has {leaves} leaves at {side} px; name the galaxies they were trained on"
                )
            training = {"train_epochs": len(rows) - 1, "augmentation": augmentation, "imported": True}
            recipes.append(Recipe(network, galaxies.fingerprint, training))
            if recipes[-1] != recipes[0]:
                difference = describe_difference(recipes[-1], recipes[0])
                raise InputError(f"{path} holds experts of another kind than the first: {difference}; import them apart")
            number = first_expert + len(recipes) - 1
            if file_of(output, number).exists():
                raise InputError(f"{file_of(output, number)} is there already; give another --first_expert or --output")
            if len(recipes) == 1:
                places = _stored(output, recipes[0])
            kept = rounded(rows, precision, number)
            _refuse_equal_epochs(f"{path}: expert {expert}", rows, kept)
            place = places.setdefault(fingerprint_of(kept), f"expert {expert} of {path}")
            if place != f"expert {expert} of {path}":
                raise InputError(f"{path}: expert {expert} is the same as {place}; leave one of them out")
    unknown = {name: [math.nan] * recipes[0].training["train_epochs"] for name in METRICS}
    trajectories = (rows for path in track(files, "importing", len(files)) for rows, _ in _experts(path, norm, pooling))
    for number, rows in enumerate(trajectories, first_expert):
        write_expert(output, number, rows, unknown, recipes[0], precision, compression)
    say(f"{counted(len(recipes), 'expert')} of {counted(len(files), 'file')} in {output}")


def _stored(folder: Path, recipe: Recipe) -> dict[str, str]:
    """The experts that a folder holds already: their fingerprints, and what a message calls them."""
    if not folder.is_dir() or not any(folder.glob("expert_*.h5")):
        return {}
    store = TrajectoryStore(folder)
    if store.recipe != recipe:
        raise InputError(
            f"{folder} holds experts of another kind: {describe_difference(store.recipe, recipe)}; name another --output"
        )
    return {mark: str(file_of(folder, expert)) for mark, expert in zip(store.fingerprints, store.experts, strict=True)}


def _refuse_equal_epochs(name: str, rows: torch.Tensor, kept: torch.Tensor) -> None:
    """Refuse an expert that is at the same place twice: between these epochs there is no way that a student could match.

    Args:
        name: File and expert, for the message.
        rows: Its parameters, shape (E + 1, P).
        kept: The same, rounded.
    """
    if (pair := equal_epochs(kept)) is None:
        return
    epochs = f"{name} has the same parameters at epochs {pair[0]} and {pair[1]}"
    if not torch.equal(rows[pair[0]], rows[pair[1]]):
        precision = str(kept.dtype).removeprefix("torch.")
        raise InputError(f"{epochs} as {precision}, which is too coarse for its steps; import with --precision float32")
    advice = "Leave this expert out, or save its epochs anew"
    if all(torch.equal(row, rows[0]) for row in rows):
        advice = (
            "Saved on a CPU by p.detach().cpu(), all epochs are the last one, since that does not copy there; save "
            "p.detach().cpu().clone()"
        )
    raise InputError(f"{epochs}: no trajectory to match. {advice}")


def _buffer_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    # By length first: replay_buffer_10 comes after replay_buffer_9.
    files = sorted(path.glob("replay_buffer_*.pt"), key=lambda file: (len(file.name), file.name)) if path.is_dir() else []
    if not files:
        raise InputError(f"{path} is neither a file nor a folder with a replay_buffer_*.pt")
    return files


def _experts(path: Path, norm: str, pooling: str) -> Iterator[tuple[torch.Tensor, dict[str, Any]]]:
    """Trajectory, shape (E + 1, P), and network of each expert of a file, which is mapped into memory, not read at once."""
    buffer = load_tensors(path, mapped=True)
    if not isinstance(buffer, list) or not buffer:
        raise InputError(f"{path} holds {type(buffer).__name__}, not a list of experts")
    for expert, epochs in enumerate(buffer):
        if not isinstance(epochs, list) or len(epochs) < 2:
            raise InputError(f"{path}: expert {expert} is no list of two epochs or more")
        shapes: list[torch.Size] = []
        rows = []
        for epoch, tensors in enumerate(epochs):
            if not isinstance(tensors, list) or not all(isinstance(t, torch.Tensor) and plain(t) for t in tensors):
                raise InputError(f"{path}: epoch {epoch} of expert {expert} is no list of tensors that are whole")
            shapes = shapes or [t.shape for t in tensors]
            if [t.shape for t in tensors] != shapes or not all(torch.isfinite(t).all() for t in tensors):
                raise InputError(f"{path}: epoch {epoch} of expert {expert} has other shapes than epoch 0, or is not finite")
            rows.append(torch.cat([t.detach().float().reshape(-1) for t in tensors]))
        yield torch.stack(rows), _convnet(path, shapes, norm, pooling)


def _convnet(path: Path, shapes: Sequence[torch.Size], norm: str, pooling: str) -> dict[str, Any]:
    """The description of the ConvNet that has parameters of these shapes."""
    convolutions = [shape for shape in shapes if len(shape) == 4]
    linear = [shape for shape in shapes if len(shape) == 2]
    if convolutions and len(linear) == 1 and convolutions[0][0]:
        width, depth, (leaves, inputs) = convolutions[0][0], len(convolutions), linear[0]
        side = math.isqrt(inputs // width)
        resolution = side if pooling == "none" else side * 2**depth
        network = {"name": "ConvNet", "num_classes": leaves, "resolution": resolution, "width": width, "depth": depth}
        description = {**network, "norm": norm, "pooling": pooling}
        with contextlib.suppress(InputError):
            number = sum(shape.numel() for shape in shapes)
            if [p.shape for p in build_network(description, parameters=number).parameters()] == list(shapes):
                return description
    first = ", ".join(str(tuple(shape)) for shape in shapes[:4])
    raise InputError(
        f"{path} holds experts that are no ConvNet with norm '{norm}' and pooling '{pooling}': their parameters have "
        f"the shapes {first} ..."
    )
