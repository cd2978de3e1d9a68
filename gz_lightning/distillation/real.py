"""Cross entropy on real galaxies as what students are scored by: a finish of images that trajectories have shaped.

A student that matches an expert can at best become one. Here nothing is matched (RaT-BPTT, Feng et al. 2023): a fresh
network takes u steps of SGD on the images without a gradient, then W with one, and the loss is its cross entropy on
augmented training galaxies. The gradient through these W steps is exact. What the u steps before would add to it is left
out, as published. It needs images that teach something already: from random real galaxies the loss does not fall.

Shapes: M images, K leaves, N galaxies of a batch, T steps (``syn_steps``), W steps of the window, P parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from gz_lightning.augmentation import augment
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.distillation.matching import minibatches
from gz_lightning.distillation.unroll import Unroll, unroll
from gz_lightning.errors import InputError
from gz_lightning.experts.trajectories import Recipe
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.networks.registry import build_network
from gz_lightning.sets.synthetic import SyntheticSet

STEPS, BATCH = 80, 256
"""Steps of a student at most, and galaxies that score it, where ``syn_steps`` and ``batch_real`` are not given."""
MATCHING_ALONE = {
    **{"expert_epochs": None, "student_momentum": 0.0, "path": "raw", "match": "distance", "stage": "stage"},
    **{"init_epoch": 1, "max_start_epoch": None, "start_epochs": "cycle", "sigma_threshold": 2.0, "max_duration": 300},
    **{"step_sizes": "global"},
}
"""Settings that only matching looks at, with their defaults."""
REAL_ALONE = ("window", "batch_real")
EARLIEST = 8
"""The window does not begin in the first T / 8 steps, which are chaotic."""


def check_objective(settings: Mapping[str, Any]) -> None:
    """Refuse settings that the objective does not look at.

    Args:
        settings: Settings of a :class:`gz_lightning.distillation.module.TrajectoryMatching` by name.

    Raises:
        InputError: With the flag.
    """
    if settings["objective"] == "match":
        for name in REAL_ALONE:
            if settings[name] is not None:
                raise InputError(
                    f"--model.{name} is of --model.objective real, and this run matches trajectories: leave it out"
                )
        return
    for name, default in MATCHING_ALONE.items():
        if settings[name] != default:
            raise InputError(f"--model.{name} is of --model.objective match, and this run is of real: leave it out")
    if settings["graph"] in ("on", True):
        raise InputError("--model.graph on is of --model.objective match: leave it out")
    if settings["window"] is not None and settings["window"] > settings["syn_steps"]:
        raise InputError(
            f"--model.window ({settings['window']}) must be at most --model.syn_steps ({settings['syn_steps']})"
        )
    if settings["lr_teacher"] is None and settings["load_syn_image"] is None:
        raise InputError(
            "--model.objective real finishes images that were distilled: name them by --model.load_syn_image (or give "
            "--model.lr_teacher to begin with others; from random galaxies the loss does not fall)"
        )


def window_of(settings: Mapping[str, Any]) -> int:
    """Steps that are differentiated."""
    return int(settings["window"] or max(settings["syn_steps"] // 2, 1))


def loaded_step_size(path: str) -> float:
    """The last step size of a distilled set.

    Raises:
        InputError: If it has none.
    """
    sizes = SyntheticSet.load(path).step_sizes
    if not len(sizes):
        raise InputError(f"{path} has no step size; give --model.lr_teacher")
    return float(sizes[-1])


class RealDrawn(NamedTuple):
    """What is drawn for a student and read for its score.

    Args:
        initialisation: Seed of its parameters.
        before: Steps without a gradient, u.
        rows: Places of the images of each of its u + W steps.
        galaxies: Places of N training galaxies.
        draws: Generator of the augmentations.
    """

    initialisation: int
    before: int
    rows: Sequence[torch.Tensor]
    galaxies: torch.Tensor
    draws: torch.Generator
    start_epoch: float = 0.0

    @property
    def place(self) -> str:
        """Where it is, in words."""
        return f"initialisation {self.initialisation}, window after step {self.before}"


@dataclass(frozen=True)
class RealGalaxies:
    """Trains fresh networks on the images and scores them on training galaxies.

    Args:
        galaxies: The galaxies.
        description: Description of the network, see :func:`gz_lightning.networks.registry.build_network`.
        network: It as a function of its parameters.
        syn_steps: T.
        window: W, at most T.
        batch_real: N.
        batch_syn: Images of a minibatch; None: all.
        augmentation: Of images and galaxies, see :func:`gz_lightning.augmentation.augment`.
        way: How to differentiate through the window.
    """

    galaxies: Galaxies
    description: Mapping[str, Any]
    network: FunctionalNetwork
    syn_steps: int
    window: int
    batch_real: int
    batch_syn: int | None
    augmentation: str
    way: Unroll

    @classmethod
    def of(
        cls,
        settings: Mapping[str, Any],
        galaxies: Galaxies,
        recipe: Recipe,
        network: FunctionalNetwork,
        augmentation: str,
        way: Unroll,
    ) -> RealGalaxies:
        """What settings of a :class:`gz_lightning.distillation.module.TrajectoryMatching` ask for."""
        steps, batch_syn = settings["syn_steps"], settings["batch_syn"]
        window, batch_real = window_of(settings), settings["batch_real"] or BATCH
        return cls(galaxies, recipe.network, network, steps, window, batch_real, batch_syn, augmentation, way)

    def __str__(self) -> str:
        return (
            f"each iteration trains a fresh network for up to {self.syn_steps} steps, differentiates the last "
            f"{self.window}, and scores it on {self.batch_real} of the {len(self.galaxies.train):,} training galaxies"
        )

    def drawn(self, num_images: int, draws: torch.Generator) -> RealDrawn:
        """All that is random of a student.

        Args:
            num_images: M.
            draws: Random generator.
        """
        initialisation = int(torch.randint(2**31, (), generator=draws))
        latest = self.syn_steps - self.window
        before = int(torch.randint(min(self.syn_steps // EARLIEST, latest), latest + 1, (), generator=draws))
        rows = minibatches(num_images, self.batch_syn, before + self.window, draws)
        galaxies = torch.randint(len(self.galaxies.train), (self.batch_real,), generator=draws)
        return RealDrawn(initialisation, before, rows, galaxies, draws)

    def student(self, drawn: RealDrawn, images: torch.Tensor, labels: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
        """theta_{u+W}, shape (P,), differentiable through its last W steps.

        Args:
            drawn: Of :meth:`drawn`; its generator is used up.
            images: Standardised pixels, shape (M, 3, H, W).
            labels: int64, shape (M,), or soft, shape (M, K), on the device of the images.
            alpha: Step size, shape ().
        """
        rows = [part.to(images.device) for part in drawn.rows]
        fresh = build_network(self.description, seed=drawn.initialisation)
        theta = self.network.parameters_of(fresh).to(images)
        early, late = rows[: drawn.before], rows[drawn.before :]
        with torch.no_grad():
            batches = [augment(images[part], self.augmentation, drawn.draws) for part in early]
            theta = unroll(self.network, theta, batches, [labels[part] for part in early], alpha)
        batches = [augment(images[part], self.augmentation, drawn.draws) for part in late]
        return unroll(self.network, theta, batches, [labels[part] for part in late], alpha, self.way)

    def work(
        self,
        drawn: RealDrawn,
        images: torch.Tensor,
        labels: torch.Tensor,
        alpha: torch.Tensor,
        learned: Sequence[torch.Tensor],
    ) -> list[torch.Tensor]:
        """The loss, 0 for the probe loss that there is not, and the gradients of what is learned."""
        loss = self.loss(drawn, self.student(drawn, images, labels, alpha))
        return [loss.detach(), torch.zeros_like(loss).detach(), *torch.autograd.grad(loss, learned)]

    def loss(self, drawn: RealDrawn, student: torch.Tensor) -> torch.Tensor:
        """Cross entropy of a student on augmented training galaxies, shape ()."""
        train, device = self.galaxies.train, student.device
        pixels = self.galaxies.standardise(train.pixels(drawn.galaxies).to(device)).to(student.dtype)
        logits = self.network(student, augment(pixels, self.augmentation, drawn.draws))
        return F.cross_entropy(logits, train.labels[drawn.galaxies].to(device))
