"""Contenders: ways to train a network, the choices that each leaves open, and how they are trained and scored.

Shapes: M images, D draws, n networks of each, N galaxies, K leaves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from gz_lightning.data.galaxies import Galaxies, Split
from gz_lightning.evaluation.scores import confidence_interval
from gz_lightning.progress import say
from gz_lightning.randomness import derived_seed, generator
from gz_lightning.training.fresh import Training, logits, train_networks
from gz_lightning.training.protocol import Protocol

CHOOSING = 3
"""Networks that judge a candidate on validation galaxies, over all draws: one alone is often wrong by some per cent."""
FULL_DATA, RANDOM_REAL = "full data", "random real"
"""Names of the contenders that scores relate all others to."""
Labelled = tuple[torch.Tensor, torch.Tensor]
"""Standardised images, shape (M, 3, H, W), and leaves, shape (M,), or soft labels, shape (M, K)."""


@dataclass(frozen=True)
class Candidate:
    """One of the choices that a contender leaves open.

    Args:
        sets: Draws of the set to train on; one where nothing is random about it.
        step_sizes: As :func:`gz_lightning.training.fresh.train_network` takes them.
        name: Its set, such as a file name, where there are several.
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
        candidates: What is chosen from; one where there is no choice.
        training: How the networks are trained.
        networks: Fresh networks for each draw.
        protocol: Where the choice is made, see :data:`gz_lightning.training.protocol.PROTOCOLS`.
        syn_steps: Least number of epochs at each of several step sizes.
        choosing: Networks, over all draws, that judge each candidate.
    """

    name: str
    candidates: Sequence[Candidate]
    training: Protocol
    networks: int
    protocol: str = "validated"
    syn_steps: int = 0
    choosing: int = CHOOSING

    @property
    def judges(self) -> int:
        """Networks for each draw that judge a candidate."""
        return math.ceil(self.choosing / len(self.candidates[0].sets))

    def only(self, name: str) -> Contender:
        """This contender with the candidates of one set alone."""
        return replace(self, candidates=[candidate for candidate in self.candidates if candidate.name == name])

    @property
    def trainings(self) -> int:
        """How many networks are trained."""
        draws = [len(candidate.sets) for candidate in self.candidates]
        if len(draws) == 1 or self.protocol == "mtt":
            return self.networks * sum(draws)
        return self.judges * sum(draws) + self.networks * draws[0]

    @property
    def epochs(self) -> int:
        """Epochs that each of them takes."""
        return len(self.training.step_size_schedule(self.candidates[0].step_sizes, self.syn_steps))

    @property
    def images(self) -> int:
        """Images in each epoch."""
        return len(self.candidates[0].sets[0][0]) * self.training.symmetries

    @property
    def seen(self) -> int:
        """Images that each of them sees in all, by which its time goes: full data takes as long as dozens of small sets."""
        return self.epochs * self.images

    @property
    def steps(self) -> int:
        """Steps of SGD that they take in all."""
        return self.trainings * self.epochs * math.ceil(self.images / self.training.batch_size)


@dataclass(frozen=True)
class Outcome:
    """How a contender scored.

    Args:
        contender: The contender.
        chosen: The candidate that was chosen.
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
        test = 100 * self.hits.double().mean(2).flatten()
        low, high = confidence_interval(self.hits, generator(self.contender.training.seed, "interval"))
        return {
            "set": self.contender.name,
            "protocol": self.contender.protocol,
            "images": len(self.chosen.sets[0][0]),
            "step size": self.chosen.step_size,
            "networks": len(test),
            "val": 100 * float(self.val.mean()),
            "test": float(test.mean()),
            "spread": float(test.std(correction=0)),
            "low": 100 * low,
            "high": 100 * high,
        }


def compete(
    contender: Contender,
    network: Mapping[str, Any],
    galaxies: Galaxies,
    device: torch.device,
    tick: Callable[[float], Any] = lambda share: None,
) -> Outcome:
    """Train and score a contender.

    Under ``validated`` a few networks judge each candidate, the one of highest mean accuracy on the validation galaxies is
    chosen, and only networks trained on it meet the test galaxies. Under ``mtt`` the only choice is among several sets: the
    one of highest *test* accuracy is chosen, as for the published numbers.

    Args:
        contender: What to train.
        network: Description of the network.
        galaxies: Gives validation and test galaxies.
        device: Where to train.
        tick: See :func:`gz_lightning.training.fresh.train_networks`.
    """

    def scored(candidates: Sequence[Candidate], networks: int, *splits: str) -> list[dict[str, torch.Tensor]]:
        """For each candidate: split -> logits of its networks, shape (D * networks, N, K)."""
        trainings: list[Training] = []
        for candidate in candidates:
            for draw, (images, labels) in enumerate(candidate.sets):
                on_device = images.to(device), labels.to(device)
                seeds = [derived_seed(contender.training.seed, "draw", draw, i) for i in range(networks)]
                trainings += [Training(*on_device, candidate.step_sizes, seed) for seed in seeds]
        models = iter(train_networks(trainings, network, contender.training, contender.syn_steps, tick=tick))
        results = []
        for candidate in candidates:
            trained = [next(models) for _ in range(networks * len(candidate.sets))]
            result = {
                split: torch.stack([logits(model, getattr(galaxies, split), galaxies, device) for model in trained])
                for split in splits
            }
            _say_diverged(contender, candidate, result[splits[0]])
            results.append(result)
        return results

    candidates, accuracies = contender.candidates, list[float]()
    best, result = candidates[0], None
    if contender.protocol == "mtt":
        results = scored(candidates, contender.networks, "val", "test")
        accuracies = [float(_hits(result["test"], galaxies.test).double().mean()) for result in results]
        place = accuracies.index(max(accuracies))
        best, result = candidates[place], results[place]
    elif len(candidates) > 1:
        judged = [result["val"] for result in scored(candidates, contender.judges, "val")]
        accuracies = [float(_hits(answers, galaxies.val).double().mean()) for answers in judged]
        # A network that diverged answers with the first leaf, which can be right by chance.
        finite = [bool(torch.isfinite(answers).all()) for answers in judged]
        best = candidates[max(range(len(candidates)), key=lambda i: (finite[i], accuracies[i]))]
    if result is None:
        (result,) = scored([best], contender.networks, "val", "test")
    tried = [(c.name, c.step_size, accuracy) for c, accuracy in zip(candidates, accuracies, strict=False)]
    shape = (len(best.sets), contender.networks)
    val, hits = (_hits(result[split], getattr(galaxies, split)).unflatten(0, shape) for split in ("val", "test"))
    return Outcome(contender, best, tried if len(tried) > 1 else [], val.float().mean(2), result["test"], hits)


def _hits(answers: torch.Tensor, galaxies: Split) -> torch.Tensor:
    """Which galaxies each network classifies right, bool, shape (D * n, N)."""
    return answers.argmax(2) == galaxies.labels


def _say_diverged(contender: Contender, candidate: Candidate, answers: torch.Tensor) -> None:
    diverged = sum(not bool(torch.isfinite(of_network).all()) for of_network in answers)
    if diverged:
        name = f"{contender.name} ({candidate.name})" if candidate.name else contender.name
        say(
            f"{name}, step size {candidate.step_size}: {diverged} of {len(answers)} networks diverged; "
            "their answers are not finite"
        )
