"""Cross entropy on real galaxies as what students are scored by: a finish of images that trajectories have shaped.

A student that matches an expert can at best become one. Here nothing is matched (RaT-BPTT, Feng et al. 2023): students are
trained on the images by SGD with momentum, as the networks are that a set is scored by, and the loss is their cross
entropy on augmented training galaxies. It is differentiated exactly through their last W steps; what the steps before
would add is left out, as published.

Students are not trained anew for each iteration: a pool of them is kept (FRePo, Zhou et al. 2022). An iteration draws one,
takes its next W steps and puts it back, W steps older; one of T steps makes room for a fresh one. So students of every age
are scored.

What is scored is not the student itself. The networks that judge a set end with a tenth of the step size (see
:class:`gz_lightning.training.protocol.Protocol`), and what they have learned shows only then: at the full one the noise
of the last steps hides it, from the score and from the gradient. So W more steps at a tenth of the step size follow, and
these are differentiated; then they are forgotten. Momentum begins anew with each W steps.

Networks that are trained on a handful of images are far too sure of themselves, and most of their cross entropy is that.
So logits are divided by a temperature first, the best of a grid for each batch (Guo et al. 2017): what is left is what they
confuse. The gradient takes the temperature as given.

Shapes: M images, K leaves, N galaxies of a batch, T steps (``syn_steps``), W steps of the window, P parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from gz_lightning.augmentation import augment
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.distillation.defaults import REAL_STEPS
from gz_lightning.distillation.matching import minibatches
from gz_lightning.distillation.unroll import Unroll, unroll
from gz_lightning.errors import InputError
from gz_lightning.experts.expert_file import Recipe
from gz_lightning.networks.derivatives import derivatives_of
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.networks.registry import build_network
from gz_lightning.sets.synthetic import SyntheticSet

WINDOW, WINDOW_MORE, BATCH = 60, 20, 256
"""Steps that are differentiated, of one image per class and of more, and galaxies that score a student, where not given."""
POOL = 12
"""Students that are kept."""
STUDENT_MOMENTUM = 0.9
"""As in :class:`gz_lightning.training.protocol.Protocol`."""
ANNEALED = 0.1
"""The step size of the steps that are scored, in parts of the full one: where the protocol ends."""
TEMPERATURES = tuple(10 ** (-1.5 + 0.1 * i) for i in range(36))
MATCHING_ALONE = {
    **{"expert_epochs": None, "student_momentum": 0.0, "path": "raw", "match": "distance", "stage": "stage"},
    **{"init_epoch": None, "max_start_epoch": None, "start_epochs": "cycle", "sigma_threshold": 2.0, "max_duration": 300},
    **{"step_sizes": "global", "image_update": "normalised"},
}
"""Settings that only matching looks at, with their defaults."""
REAL_ALONE = ("window", "batch_real")


def check_objective(settings: Mapping[str, Any]) -> None:
    """Refuse settings that the objective does not look at.

    Args:
        settings: Settings of a :class:`gz_lightning.distillation.module.TrajectoryMatching` by name.

    Raises:
        InputError: With the flag.
    """
    real, finish = settings["objective"] == "real", settings["finish"]
    if not real and not finish:
        for name in REAL_ALONE:
            if settings[name] is not None:
                raise InputError(f"--model.{name} is of a finish on real galaxies, and this run has none: leave it out")
    if finish and settings["step_sizes"] != "global":
        raise InputError("--model.finish needs one step size: --model.step_sizes global")
    steps = settings["syn_steps"] if real else REAL_STEPS
    if (real or finish) and settings["window"] is not None and settings["window"] > steps:
        what = "--model.syn_steps" if real else "the steps of a student of the finish"
        raise InputError(f"--model.window ({settings['window']}) must be at most {what} ({steps})")
    if not real:
        return
    for name, default in MATCHING_ALONE.items():
        if settings[name] != default:
            raise InputError(f"--model.{name} is of --model.objective match, and this run is of real: leave it out")
    if finish:
        raise InputError("--model.finish is of --model.objective match; a run of real has --model.iterations")
    if settings["graph"] in ("on", True):
        raise InputError("--model.graph on is of --model.objective match: leave it out")
    if settings["lr_teacher"] is None and settings["load_syn_image"] is None:
        raise InputError(
            "--model.objective real finishes images that were distilled: name them by --model.load_syn_image (or give "
            "--model.lr_teacher to begin with others)"
        )


def window_of(settings: Mapping[str, Any]) -> int:
    """Steps that are differentiated. Those on many images are dearer, and need not reach as far back."""
    steps: int = settings["syn_steps"] if settings["objective"] == "real" else REAL_STEPS
    return int(settings["window"] or min(WINDOW if settings["ipc"] == 1 else WINDOW_MORE, steps))


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
        student: Its place in the pool.
        age: Steps that it has taken; those of a fresh one are still to be taken, without a gradient.
        initialisation: Seed of its parameters, if it is a fresh one, else None.
        rows: Places of the images of each of its steps.
        galaxies: Places of N training galaxies.
        draws: Generator of the augmentations.
    """

    student: int
    age: int
    initialisation: int | None
    rows: Sequence[torch.Tensor]
    galaxies: torch.Tensor
    draws: torch.Generator
    start_epoch: float = 0.0

    @property
    def place(self) -> str:
        """Where it is, in words."""
        return f"student {self.student} after step {self.age}"


@dataclass
class RealGalaxies:
    """Trains a pool of networks on the images and scores them on training galaxies.

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
        pool: For each student its age, and its parameters once it has some.
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
    pool: list[tuple[int, torch.Tensor | None]] = field(default_factory=lambda: [(0, None)] * POOL)

    @classmethod
    def of(
        cls,
        settings: Mapping[str, Any],
        galaxies: Galaxies,
        recipe: Recipe,
        network: FunctionalNetwork,
        batch_syn: int | None,
        augmentation: str,
        way: Unroll,
    ) -> RealGalaxies:
        """What settings of a :class:`gz_lightning.distillation.module.TrajectoryMatching` ask for."""
        steps = settings["syn_steps"] if settings["objective"] == "real" else REAL_STEPS
        window, batch_real = window_of(settings), settings["batch_real"] or BATCH
        sizes = steps, window, batch_real, batch_syn
        return cls(galaxies, recipe.network, network, *sizes, augmentation, way)

    def __str__(self) -> str:
        return (
            f"each takes one of {len(self.pool)} students (of up to {self.syn_steps} steps) {self.window} steps further, "
            f"differentiates {self.window} more at a tenth of the step size, and scores it on {self.batch_real} of the "
            f"{len(self.galaxies.train):,} training galaxies"
        )

    def drawn(self, num_images: int, draws: torch.Generator) -> RealDrawn:
        """All that is random of a student.

        Args:
            num_images: M.
            draws: Random generator.
        """
        student = int(torch.randint(len(self.pool), (), generator=draws))
        initialisation, offset = (int(torch.randint(most, (), generator=draws)) for most in (2**31, self.window))
        age, theta = self.pool[student]
        if theta is None:  # the first ones are of all ages
            age, fresh = student * (self.syn_steps - self.window) // len(self.pool), True
        elif fresh := age + self.window > self.syn_steps:
            age = min(offset, self.syn_steps - self.window)
        before = age if fresh else 0
        rows = minibatches(num_images, self.batch_syn, before + 2 * self.window, draws)
        galaxies = torch.randint(len(self.galaxies.train), (self.batch_real,), generator=draws)
        return RealDrawn(student, age, initialisation if fresh else None, rows, galaxies, draws)

    def students(
        self, drawn: RealDrawn, images: torch.Tensor, labels: torch.Tensor, alpha: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The student W steps older, and what it becomes in W more at a tenth of the step size, both of shape (P,).

        Args:
            drawn: Of :meth:`drawn`; its generator is used up to the galaxies.
            images: Standardised pixels, shape (M, 3, H, W).
            labels: int64, shape (M,), or soft, shape (M, K), on the device of the images.
            alpha: Step size, shape ().

        Returns:
            The first without a gradient, the second differentiable through its last W steps.
        """
        rows = [part.to(images.device) for part in drawn.rows]
        early, late, last = rows[: -2 * self.window], rows[-2 * self.window : -self.window], rows[-self.window :]
        theta = self.pool[drawn.student][1]
        if drawn.initialisation is not None or theta is None:
            theta = self.network.parameters_of(build_network(self.description, seed=drawn.initialisation))
        theta = theta.to(images)

        def trained(theta: torch.Tensor, parts: Sequence[torch.Tensor], alpha: torch.Tensor) -> torch.Tensor:
            batches = [augment(images[part], self.augmentation, drawn.draws) for part in parts]
            return unroll(self.network, theta, batches, [labels[part] for part in parts], alpha, self.way, STUDENT_MOMENTUM)

        with torch.no_grad():
            older = trained(trained(theta, early, alpha), late, alpha)
        return older, trained(older, last, ANNEALED * alpha)

    def work(
        self,
        drawn: RealDrawn,
        images: torch.Tensor,
        labels: torch.Tensor,
        alpha: torch.Tensor,
        learned: Sequence[torch.Tensor],
    ) -> list[torch.Tensor]:
        """The loss, 0 for the probe loss that there is not, and the gradients of what is learned; the student ages."""
        older, annealed = self.students(drawn, images, labels, alpha)
        self.keep(drawn, older)
        loss, gradient = self.score(drawn, annealed.detach())
        return [loss, torch.zeros_like(loss), *torch.autograd.grad(annealed, learned, gradient)]

    def keep(self, drawn: RealDrawn, student: torch.Tensor) -> None:
        """Put a student back into the pool, W steps older; one that is not finite makes room for a fresh one."""
        sound = bool(torch.isfinite(student).all())
        self.pool[drawn.student] = (drawn.age + self.window if sound else self.syn_steps), student

    @torch.no_grad()
    def score(self, drawn: RealDrawn, student: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross entropy of a student on augmented training galaxies, shape (), and its gradient, shape (P,)."""
        train, device = self.galaxies.train, student.device
        pixels = self.galaxies.standardise(train.pixels(drawn.galaxies).to(device)).to(student.dtype)
        pixels, labels = augment(pixels, self.augmentation, drawn.draws), train.labels[drawn.galaxies].to(device)
        logits = self.network(student, pixels)
        losses = torch.stack([F.cross_entropy(logits / temperature, labels) for temperature in TEMPERATURES])
        loss, coolest = losses.min(0)
        temperature = losses.new_tensor(TEMPERATURES)[coolest]
        # The derivatives are those of a plain cross entropy: with these shares its error is that of the scaled logits.
        error = ((logits / temperature).softmax(1) - F.one_hot(labels, logits.shape[1])) / temperature
        shares = logits.softmax(1) - error
        return loss, derivatives_of(self.network).linearise(student, pixels, shares, "nothing").gradient

    def state(self) -> dict[str, Any]:
        """The pool: ages, and parameters of those that have some."""
        return {"ages": [age for age, _ in self.pool], "students": [theta for _, theta in self.pool]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Resume from a state."""
        self.pool = list(zip(state["ages"], state["students"], strict=True))
