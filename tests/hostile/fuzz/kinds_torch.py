"""Files of torch.save: checkpoints, the published buffers and pairs, outcomes of an unfinished evaluation."""

from __future__ import annotations

import random
from pathlib import Path

import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.evaluation.record import read_evaluation
from gz_lightning.experts.exchange import import_buffers
from gz_lightning.experts.inspection import check
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.sets.sources import read_sets
from gz_lightning.sets.synthetic import SyntheticSet
from tests.hostile.fuzz.case import CANARY, Trial, copy, require
from tests.hostile.fuzz.damage import damage_file, replace_file
from tests.hostile.fuzz.hostile_torch import change_torch
from tests.hostile.fuzz.kinds_hdf5 import check_set
from tests.hostile.fuzz.originals import DISTILL, EVALUATE, FIT, Originals


def _changed(draws: random.Random, path: Path, originals: Originals, folder: Path) -> str:
    way = draws.random()
    if way < 0.08:
        return replace_file(draws, path, originals.files)
    return damage_file(draws, path) if way < 0.4 else change_torch(draws, path, folder / CANARY)


def buffers_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """Experts in the published format."""
    path = copy(
        originals / "buffers/replay_buffer_0.pt", folder / "buffers" / draws.choice(("replay_buffer_0.pt", "a b.pt"))
    )
    changed = _changed(draws, path, originals, folder)
    output, data = folder / "store", originals / "galaxies.h5"
    given = path.parent if path.name.startswith("replay") and draws.random() < 0.5 else path
    if draws.random() < 0.06:
        return Trial(changed, command=["trajectories", "import", str(given), str(data), str(output)])

    def read() -> None:
        import_buffers(given, data, output)
        store = TrajectoryStore(output)
        for expert in store.experts:
            require(bool(store.trajectory(expert).isfinite().all()), "parameters are not finite")
        check(output)

    return Trial(changed, read)


def pairs_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """Images and labels as the published code writes them."""
    name = draws.choice(("best", "soft"))
    paths = [copy(originals / f"pair/{part}_{name}.pt", folder / f"{part}_{name}.pt") for part in ("images", "labels")]
    changed = _changed(draws, draws.choice(paths), originals, folder)
    data = originals / "galaxies.h5"
    if draws.random() < 0.04:
        command = ["evaluate", *EVALUATE, "--synthetic", str(paths[0]), "--data", str(data), "--output", str(folder / "out")]
        return Trial(changed, command=command)

    def read() -> None:
        galaxies = Galaxies(data)
        (found,) = read_sets(paths[0], galaxies, "ConvNetD1W4").values()
        require(found.images.shape[1:] == galaxies.image_shape, "shape of the images")
        check_set(found)

    return Trial(changed, read)


def outcomes_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """What an unfinished evaluation has kept: it is used if it is whole, and trained again if not."""
    kept = copy(originals / "outcomes", folder / "out" / "unfinished")
    path = draws.choice(sorted(kept.iterdir()))
    changed = _changed(draws, path, originals, folder)
    command = [
        "evaluate",
        *EVALUATE,
        "--synthetic",
        str(originals / "run/best.h5"),
        "--data",
        str(originals / "galaxies.h5"),
    ]

    def verify() -> None:
        wanted = read_evaluation(originals / "run/evaluation/evaluation.json")
        found = read_evaluation(folder / "out/evaluation.json")
        for name in ("table", "scores", "confusion", "tried"):
            require(getattr(found, name).equals(getattr(wanted, name)), f"{name} is another")

    return Trial(changed, command=[*command, "--output", str(folder / "out")], verify=verify)


def fit_checkpoint_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """A checkpoint inside a group of experts: training goes on to the same bits, or not at all."""
    path = copy(originals / "fit.ckpt", folder / draws.choice(("last.ckpt", "a b.ckpt")))
    changed = _changed(draws, path, originals, folder)
    store = folder / "experts"
    data = ["--data.path", str(originals / "galaxies.h5"), "--data.batch_size", "8", "--model.trajectories", str(store)]

    def verify() -> None:
        found, wanted = TrajectoryStore(store), TrajectoryStore(originals / "experts")
        require(found.experts == wanted.experts, "other experts")
        for expert in wanted.experts:
            require(torch.equal(found.trajectory(expert), wanted.trajectory(expert)), f"expert {expert} is another")

    command = ["fit", *data, *FIT, "--run_dir", str(folder / "fit"), "--ckpt_path", str(path)]
    return Trial(changed, command=command, verify=verify)


def distill_checkpoint_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """A checkpoint of a distillation: it goes on to the same bits, or not at all."""
    path = copy(originals / "distill.ckpt", folder / draws.choice(("last.ckpt", "a b.ckpt")))
    changed = _changed(draws, path, originals, folder)
    data = ["--data.path", str(originals / "galaxies.h5"), "--data.batch_size", "8"]
    model = ["--model.trajectories", str(originals / "experts"), "--model.iterations", "4"]

    def verify() -> None:
        found, wanted = (SyntheticSet.load(place / "last.h5") for place in (folder / "run", originals / "longer"))
        require(found.iteration == wanted.iteration, "another number of iterations")
        require(torch.equal(found.images, wanted.images), "other images")
        require(torch.equal(found.step_sizes, wanted.step_sizes), "other step sizes")

    command = ["distill", *data, *DISTILL, *model, "--run_dir", str(folder / "run"), "--ckpt_path", str(path)]
    return Trial(changed, command=command, verify=verify)
