"""Packed galaxies, trajectories, and distilled sets."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.experts.inspection import check, info
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.sets.formats import write_set
from gz_lightning.sets.sources import read_sets
from gz_lightning.sets.synthetic import SyntheticSet
from tests.hostile.fuzz.case import Trial, copy, require
from tests.hostile.fuzz.damage import damage_file, replace_file
from tests.hostile.fuzz.hostile_hdf5 import change_hdf5
from tests.hostile.fuzz.kinds_tables import check_packed
from tests.hostile.fuzz.originals import DATA, DISTILL, EVALUATE, FIT, Originals


def _changed(draws: random.Random, path: Path, originals: Originals) -> tuple[str, bool]:
    """What was done, and whether it was done to bytes alone, which checksums notice."""
    way = draws.random()
    if way < 0.08:
        return replace_file(draws, path, originals.files), False
    if way < 0.45:
        return damage_file(draws, path), True
    return change_hdf5(draws, path), False


def _same(found: Any, wanted: Any, names: tuple[str, ...]) -> None:
    for name in names:
        one, two = getattr(found, name), getattr(wanted, name)
        require(torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two, f"{name} is not what was written")


def _with(command: list[str], **settings: Path) -> list[str]:
    """A command of the originals with other paths."""
    return [*command, *(part for name, path in settings.items() for part in (f"--{name.replace('__', '.')}", str(path)))]


def packed_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """Packed galaxies."""
    path = copy(originals / "galaxies.h5", folder / draws.choice(("galaxies.h5", "a b.h5", "größe 星.h5")))
    changed, by_bytes = _changed(draws, path, originals)
    if draws.random() < 0.06:
        evaluate = _with(["evaluate", *EVALUATE], synthetic=originals / "run/best.h5", data=path, output=folder / "out")
        fit = [
            *_with(["fit", *DATA[2:], *FIT], data__path=path, model__trajectories=folder / "experts", run_dir=folder / "fit")
        ]
        fit += ["--model.num_experts", "1", "--model.train_epochs", "1"]
        buffers = ["trajectories", "import", str(originals / "buffers"), str(path), str(folder / "store")]
        return Trial(changed, command=draws.choice((evaluate, fit, buffers)))

    def read() -> None:
        packed = Galaxies(path, draws.random() < 0.7)
        if not packed.in_memory:
            rows = torch.tensor([draws.randrange(len(packed)) for _ in range(5)])
            require(packed.pixels(rows).shape == (5, *packed.image_shape), "pixels of rows")
        check_packed(packed)
        if by_bytes:
            names = ("images", "labels", "confidences", "object_ids", "splits", "mean", "std", "class_names", "tree")
            _same(packed, Galaxies(originals / "galaxies.h5"), (*names, "fingerprint", "configuration"))
        galaxies = Galaxies(path)
        for split in (galaxies.train, galaxies.val, galaxies.test):
            require(bool(galaxies.standardise(split.images).isfinite().all()), "standardised pixels")

    return Trial(changed, read)


def experts_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """A folder of experts, one of which is changed."""
    kind = draws.choice(("experts", "experts", "packed_experts"))
    store = copy(originals / kind, folder / "experts")
    path = draws.choice(sorted(store.iterdir()))
    way = draws.random()
    if way < 0.06:
        other = store / draws.choice(
            ("expert_0007.h5", "expert_x.h5", "expert_-1.h5", "expert_0000 (copy).h5", "expert_00000.h5")
        )
        changed, by_bytes = f"{copy(path, other).name} is a copy of {path.name}", False
    elif way < 0.08:
        changed, by_bytes = "folders in folders", False
        (store / "expert_0002.h5").mkdir()
    else:
        changed, by_bytes = _changed(draws, path, originals)
    if draws.random() < 0.08:
        commands = [["trajectories", "info", str(store)], ["trajectories", "check", str(store)]]
        commands.append(["trajectories", "export", str(store), str(folder / "buffers")])
        data = ["--data.path", str(originals / "galaxies.h5"), "--data.batch_size", "8", "--model.trajectories", str(store)]
        commands.append(["distill", *data, *DISTILL, "--run_dir", str(folder / "run"), "--model.iterations", "1"])
        commands.append(["fit", *data, *FIT, "--run_dir", str(folder / "fit")])
        evaluate = [
            "evaluate",
            *EVALUATE,
            "--experts",
            str(store),
            "--soft_labels",
            "expert",
            "--output",
            str(folder / "out"),
        ]
        commands.append(_with(evaluate, synthetic=originals / "run/best.h5", data=originals / "galaxies.h5"))
        return Trial(changed, command=draws.choice(commands))

    def read() -> None:
        found, whole = TrajectoryStore(store), TrajectoryStore(originals / kind)
        for expert in found.experts:
            rows = found.trajectory(expert)
            require(rows.shape == (found.num_epochs + 1, found.num_parameters), "shape of a trajectory")
            require(bool(rows.isfinite().all()), "parameters are not finite")
            require(torch.equal(found.parameters(expert, found.num_epochs), rows[-1]), "an epoch by itself")
            confusion = found.confusion(expert)
            require(confusion is None or (confusion.shape == (3, 3) and bool((confusion >= 0).all())), "confusion")
            if by_bytes:
                require(torch.equal(rows, whole.trajectory(expert)), "a trajectory is not what was written")
        accuracies = found.metrics[["train_accuracy", "val_accuracy"]].to_numpy()
        require(bool((((accuracies >= 0) & (accuracies <= 1)) | np.isnan(accuracies)).all()), "accuracies")
        if by_bytes:
            _same(found, whole, ("recipe", "fingerprint", "experts"))
        require(str(found.num_epochs) in info(store), "info")
        if by_bytes:
            require(check(store).endswith("all whole"), "check")
        else:
            check(store)  # finite numbers in the place of others are found by the fingerprint alone

    return Trial(changed, read)


def check_set(found: SyntheticSet) -> None:
    """What holds for every distilled set."""
    number, leaves = len(found), len(found.class_names)
    require(
        found.images.dtype == torch.float32 and found.images.ndim == 4 and found.images.shape[1] == 3, "shape of the images"
    )
    require(number > 0 and bool(found.images.isfinite().all()), "images")
    hard = found.hard_labels
    require(hard.shape == (number,) and bool(((hard >= 0) & (hard < leaves)).all()), "labels")
    if found.labels.ndim == 2:
        require(found.labels.shape == (number, leaves), "shape of the soft labels")
        require(bool((found.labels.isfinite() & (found.labels >= 0)).all()), "soft labels")
    require(bool((found.step_sizes.isfinite() & (found.step_sizes > 0)).all()), "step sizes")
    for statistic in (found.mean, found.std):
        require(statistic.shape == (3,) and bool((statistic.isfinite() & (statistic >= 0)).all()), "statistics")
    pixels = found.denormalised()
    require(bool(((pixels >= 0) & (pixels <= 1)).all()), "pixels")


def sets_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """A distilled set."""
    kind = draws.choice(("hard.h5", "soft.h5"))
    path = copy(originals / kind, folder / draws.choice(("best.h5", "a b.h5", "größe 星.h5")))
    changed, by_bytes = _changed(draws, path, originals)
    data = originals / "galaxies.h5"
    if draws.random() < 0.06:
        commands = [_with(["evaluate", *EVALUATE], synthetic=path, data=data, output=folder / "out")]
        commands.append(_with(["evaluate", *EVALUATE], synthetic=folder, data=data, output=folder / "out"))
        distill = [
            "distill",
            *DISTILL,
            "--data.path",
            str(data),
            "--run_dir",
            str(folder / "run"),
            "--model.iterations",
            "1",
        ]
        distill += ["--model.trajectories", str(originals / "experts"), "--model.load_syn_image", str(path)]
        commands.append(distill)
        return Trial(changed, command=draws.choice(commands))

    def read() -> None:
        found = SyntheticSet.load(path)
        check_set(found)
        if by_bytes:
            names = (
                "images",
                "labels",
                "step_sizes",
                "class_names",
                "mean",
                "std",
                "tree",
                "network",
                "augmentation",
                "data",
            )
            _same(
                found, SyntheticSet.load(originals / kind), (*names, "trajectories", "iteration", "configuration", "results")
            )
        galaxies = Galaxies(data)
        for one in read_sets(draws.choice((path, folder)), galaxies).values():
            require(one.images.shape[1:] == galaxies.image_shape, "images of another size")
        write_set(found, "folder", folder / "pictures")

    return Trial(changed, read)
