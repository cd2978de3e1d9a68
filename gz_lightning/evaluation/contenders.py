"""What is compared: ways to train a network, each with the choices it leaves open, and what came of them.

Shapes: M images, D draws, n networks of each, N galaxies, K leaves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.evaluation.scores import confidence_interval
from gz_lightning.progress import say
from gz_lightning.randomness import derived_seed, generator
from gz_lightning.training.fresh import Training, logits, train_networks
from gz_lightning.training.protocol import Protocol

CHOOSING = 3
"""Networks that speak for a candidate on validation galaxies, over all draws: one alone is often wrong by some per cent."""
Labelled = tuple[torch.Tensor, torch.Tensor]
"""Standardised images, shape (M, 3, H, W), and leaves, shape (M,), or soft labels, shape (M, K)."""


@dataclass(frozen=True)
class Candidate:
    """One of the choices that a contender leaves open.

    Args:
        sets: Draws of the set to train on; one where nothing is random about it.
        step_sizes: As :func:`gz_lightning.training.fresh.train_network` takes them.
        name: What tells its set from those of other candidates, such as a file name.
    """

    sets: Sequence[Labelled]
    step_sizes: Sequence[float]
    name: str = ""

    @property
    def step_size(self) -> str:
        """Its step sizes in a word."""
        first, last = self.step_sizes[0], self.step_sizes[-1]
        return f"{first:.3g}" + (f" .. {last:.3g}" if len(self.step_sizes) > 1 else "")


@dataclass(frozen=True)
class Contender:
    """A way to train a network.

    Args:
        name: What the table calls it.
        candidates: What is chosen from; one where nothing is to choose.
        training: How the networks are trained.
        networks: Fresh networks for each draw.
        protocol: Where the choice is made, see :data:`gz_lightning.training.protocol.PROTOCOLS`.
        syn_steps: Least number of epochs at each of several step sizes.
        choosing: Networks, over all draws, that each candidate is judged by.
    """

    name: str
    candidates: Sequence[Candidate]
    training: Protocol
    networks: int
    protocol: str = "validated"
    syn_steps: int = 0
    choosing: int = CHOOSING

    @property
    def each(self) -> int:
        """Networks for each draw of a candidate that the choice is made with."""
        return math.ceil(self.choosing / len(self.candidates[0].sets))

    @property
    def trainings(self) -> int:
        """How many networks are trained."""
        draws = [len(candidate.sets) for candidate in self.candidates]
        if len(draws) == 1 or self.protocol == "mtt":
            return self.networks * sum(draws)
        return self.each * sum(draws) + self.networks * draws[0]


@dataclass(frozen=True)
class Outcome:
    """What came of a contender.

    Args:
        contender: The contender.
        chosen: The candidate that was taken.
        tried: For each candidate its name, step size, and mean accuracy on the galaxies the choice was made on, in [0, 1].
        val: Accuracy on validation galaxies, shape (D, n), in [0, 1].
        test_logits: Logits for the test galaxies, shape (D * n, N, K).
        hits: Which test galaxies were classified right, shape (D, n, N).
    """

    contender: Contender
    chosen: Candidate
    tried: list[tuple[str, str, float]]
    val: torch.Tensor
    test_logits: torch.Tensor
    hits: torch.Tensor

    @property
    def accuracy(self) -> float:
        """Mean test accuracy, in [0, 1]."""
        return float(self.hits.float().mean())

    def row(self) -> dict[str, Any]:
        """Its row in the table; accuracies in per cent."""
        each = 100 * self.hits.double().mean(2).flatten()
        low, high = confidence_interval(self.hits, generator(self.contender.training.seed, "interval"))
        return {
            "set": self.contender.name,
            "protocol": self.contender.protocol,
            "images": len(self.chosen.sets[0][0]),
            "step size": self.chosen.step_size,
            "networks": len(each),
            "val": 100 * float(self.val.mean()),
            "test": float(each.mean()),
            "spread": float(each.std(correction=0)),
            "low": 100 * low,
            "high": 100 * high,
        }


def compete(
    contender: Contender,
    network: Mapping[str, Any],
    galaxies: Galaxies,
    device: torch.device,
    tick: Callable[[], Any] = lambda: None,
) -> Outcome:
    """Train and score a contender.

    Under ``validated`` a few networks are trained on each candidate, the one of highest mean accuracy on the validation
    galaxies is taken, and only networks trained on that meet the test galaxies. Under ``mtt`` nothing is chosen but among
    several sets: there the one of highest *test* accuracy is taken, as the published numbers are.

    Args:
        contender: What to train.
        network: Description of the network.
        galaxies: Gives validation and test galaxies.
        device: Where to train.
        tick: Called for each network that is trained.
    """

    def trained(candidates: Sequence[Candidate], networks: int, *splits: str) -> list[dict[str, torch.Tensor]]:
        jobs: list[Training] = []
        for candidate in candidates:
            for draw, (images, labels) in enumerate(candidate.sets):
                own = images.to(device), labels.to(device)
                seeds = [derived_seed(contender.training.seed, "draw", draw, i) for i in range(networks)]
                jobs += [Training(*own, candidate.step_sizes, seed) for seed in seeds]
        models = iter(train_networks(jobs, network, contender.training, contender.syn_steps, tick=tick))
        found = []
        for candidate in candidates:
            own_models = [next(models) for _ in range(networks * len(candidate.sets))]
            each = {
                split: [logits(model, getattr(galaxies, split), galaxies, device) for model in own_models]
                for split in splits
            }
            found.append({split: torch.stack(values) for split, values in each.items()})
            lost = sum(not bool(torch.isfinite(own).all()) for own in next(iter(found[-1].values())))
            if lost:
                say(
                    f"{contender.name}{f' ({candidate.name})' if candidate.name else ''}, step size {candidate.step_size}: "
                    f"{lost} of {len(own_models)} networks diverged; what they answer is not finite"
                )
        return found

    def hits(found: dict[str, torch.Tensor], split: str) -> torch.Tensor:
        labels: torch.Tensor = getattr(galaxies, split).labels
        return found[split].argmax(2) == labels

    candidates = contender.candidates
    tried: list[tuple[str, str, float]] = []
    best, found = candidates[0], None
    if contender.protocol == "mtt":
        results = trained(candidates, contender.networks, "val", "test")
        means = [float(hits(result, "test").double().mean()) for result in results]
        best, found = candidates[means.index(max(means))], results[means.index(max(means))]
    elif len(candidates) > 1:
        results = trained(candidates, contender.each, "val")
        means = [float(hits(result, "val").double().mean()) for result in results]
        whole = [bool(torch.isfinite(result["val"]).all()) for result in results]
        # Of networks that diverged the first leaf is taken for the answer, which can be right by chance.
        best = candidates[max(range(len(means)), key=lambda i: (whole[i], means[i]))]
    if len(candidates) > 1:
        tried = [(c.name, c.step_size, mean) for c, mean in zip(candidates, means, strict=True)]
    if found is None:
        found = trained([best], contender.networks, "val", "test")[0]
    shape = (len(best.sets), contender.networks, -1)
    val = hits(found, "val").unflatten(0, shape[:2]).float().mean(2)
    return Outcome(contender, best, tried, val, found["test"], hits(found, "test").unflatten(0, shape[:2]))
