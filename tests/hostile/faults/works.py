"""The commands that are disturbed, on tiny data: how each is called, and what it leaves behind."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gz_lightning.cli import main
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.evaluation.record import RECORD, read_evaluation
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.storage.checkpoints import LAST
from tests.conftest import toy_galaxies

LIGHTNING = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--wandb", "off"]
NETWORK = ["--model.width", "4", "--model.depth", "2"]


class Work(ABC):
    """A command in a folder of its own, fed from files that are made once.

    Args:
        given: Folder of what the commands start from.
    """

    name: str

    def __init__(self, given: Path) -> None:
        self.given = given

    @abstractmethod
    def arguments(self, folder: Path) -> list[str]:
        """The command; the same goes on where it was interrupted."""

    @property
    @abstractmethod
    def fed_by(self) -> Path:
        """A file or folder that the command reads, and that may be taken away meanwhile."""

    @abstractmethod
    def found(self, folder: Path) -> dict[str, Any]:
        """What is there, read by the program's own readers, which raise where something is not whole: name -> content.

        Whatever stays as it is once it is there must be what an undisturbed run leaves.
        """

    final: tuple[str, ...] = ()
    """Names in what is found that are the same as soon as they are there."""


def digest(*tensors: torch.Tensor) -> str:
    """SHA-256 of tensors."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(tensor.detach().contiguous().numpy().tobytes())
    return total.hexdigest()


class Prepare(Work):
    """Class folders of small images -> a packed file."""

    name = "prepare"
    final = ("packed",)

    @property
    def fed_by(self) -> Path:
        """The images."""
        return self.given / "images"

    def arguments(self, folder: Path) -> list[str]:
        """See :meth:`Work.arguments`."""
        images, output = str(self.fed_by), str(folder / "galaxies.h5")
        return [
            "prepare",
            "--images",
            images,
            "--output",
            output,
            "--resolution",
            "32",
            "--max_rejects",
            "0",
            "--overwrite",
            "true",
        ]

    def found(self, folder: Path) -> dict[str, Any]:
        """The fingerprint, and the pixels, whose checksums are looked at."""
        path = folder / "galaxies.h5"
        if not path.exists():
            return {}
        packed = Galaxies(path)
        return {"packed": [packed.fingerprint, digest(packed.images)]}


class Fit(Work):
    """Experts, two at once."""

    name = "fit"
    final = tuple(f"expert {i}" for i in range(3))

    @property
    def fed_by(self) -> Path:
        """The packed file."""
        return self.given / "toy.h5"

    def arguments(self, folder: Path) -> list[str]:
        """See :meth:`Work.arguments`."""
        numbers = ["--model.num_experts", "3", "--model.train_epochs", "4", "--model.experts_at_once", "2"]
        return [
            *[
                "fit",
                "--data.path",
                str(self.fed_by),
                "--data.batch_size",
                "16",
                "--model.trajectories",
                str(folder / "experts"),
            ],
            *[*numbers, *NETWORK, "--model.momentum", "0.9", "--model.checkpoint_minutes", "0", *LIGHTNING],
            *["--run_dir", str(folder / "run"), "--ckpt_path", "last"],
        ]

    def found(self, folder: Path) -> dict[str, Any]:
        """The trajectories; and the checkpoint, which must be readable."""
        if (folder / "run" / LAST).exists():
            torch.load(folder / "run" / LAST, weights_only=True)
        if not any((folder / "experts").glob("expert_*.h5")):
            return {}
        store = TrajectoryStore(folder / "experts")
        return {f"expert {expert}": digest(store.trajectory(expert)) for expert in store.experts}


class Distill(Work):
    """A distillation in stages, with an evaluation now and then."""

    name = "distill"

    @property
    def fed_by(self) -> Path:
        """The experts, which are read in every iteration."""
        return self.given / "experts"

    def arguments(self, folder: Path) -> list[str]:
        """See :meth:`Work.arguments`."""
        settings = ["--model.syn_steps", "3", "--model.iterations", "60", "--model.lr_teacher", "0.05"]
        evaluation = ["--model.eval_it", "25", "--model.num_eval", "1", "--model.epoch_eval_train", "2"]
        return [
            *["distill", "--data.path", str(self.given / "toy.h5"), "--model.trajectories", str(self.fed_by)],
            *[*settings, *evaluation, "--model.sigma_threshold", "0.01", *LIGHTNING],
            *["--run_dir", str(folder), "--ckpt_path", "last"],
        ]

    def found(self, folder: Path) -> dict[str, Any]:
        """Sets and checkpoint."""
        content: dict[str, Any] = {}
        for name in ("best.h5", "last.h5"):
            if (folder / name).exists():
                own = SyntheticSet.load(folder / name)
                content[name] = [digest(own.images, own.step_sizes), own.iteration, own.results]
        if (folder / LAST).exists():
            kept = torch.load(folder / LAST, weights_only=True)
            content["checkpoint"] = [kept["distillation"], digest(*kept["state_dict"].values())]
        return content


class Evaluate(Work):
    """A distilled set beside two baselines."""

    name = "evaluate"

    @property
    def fed_by(self) -> Path:
        """The distilled set."""
        return self.given / "distilled" / "best.h5"

    def arguments(self, folder: Path) -> list[str]:
        """See :meth:`Work.arguments`."""
        numbers = ["--num_eval", "2", "--epochs", "30", "--draws", "2", "--full_epochs", "0", "--step_sizes", "[0.01,0.05]"]
        return [
            *["evaluate", "--synthetic", str(self.fed_by), "--data", str(self.given / "toy.h5"), "--output", str(folder)],
            *[*numbers, "--baselines", "[random real,class mean]"],
        ]

    def found(self, folder: Path) -> dict[str, Any]:
        """The record."""
        if not (folder / RECORD).exists():
            return {}
        record = read_evaluation(folder / RECORD)
        tables = (record.table, record.scores, record.confusion, record.tried)
        return {"record": [json.loads(table.to_json(orient="split")) for table in tables]}

    final = ("record",)


WORKS = {work.name: work for work in (Prepare, Fit, Distill, Evaluate)}


def make_given(folder: Path) -> None:
    """Make what the commands start from."""
    from tests.conftest import write_toy

    torch.set_num_threads(1)
    write_toy(folder / "toy.h5")
    pixels = toy_galaxies(20, 64)
    for place, image in enumerate(pixels):
        path = folder / "images" / ("round", "long", "ring")[place // 20] / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(path)
    numbers = ["--model.num_experts", "2", "--model.train_epochs", "4", *NETWORK, "--model.lr", "0.05"]
    main(
        [
            *["fit", "--data.path", str(folder / "toy.h5"), "--data.batch_size", "16", *numbers, *LIGHTNING],
            *["--model.trajectories", str(folder / "experts"), "--run_dir", str(folder / "fit")],
        ]
    )
    main([*Distill(folder).arguments(folder / "distilled")])
