"""The experts that are trained together: which they are, their step size, their epochs so far, and an epoch's metrics.

Shapes: n experts, N images, K leaves, P parameters, E epochs.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix

from gz_lightning.errors import InputError
from gz_lightning.experts.expert_file import METRICS, Recipe, describe_difference, file_of, write_expert


def step_size(lr: float, schedule: str, epoch: int, epochs: int) -> float:
    """The step size of an epoch, counted from 0.

    Args:
        lr: That of the first epoch.
        schedule: ``constant``, as published; ``cosine``, down to nearly 0 (Loshchilov & Hutter 2017, arXiv 1608.03983);
            ``step``, a tenth after ``epochs // 2 + 1`` epochs (Cazenavette et al. 2022, their ``--decay``).
        epoch: Number of the epoch.
        epochs: How many there are.

    Example:
        >>> [step_size(0.01, "step", epoch, 4) for epoch in range(4)]
        [0.01, 0.01, 0.01, 0.001]
    """
    if schedule == "cosine":
        return lr * (1 + math.cos(math.pi * epoch / epochs)) / 2
    return lr * 0.1 if schedule == "step" and epoch >= epochs // 2 + 1 else lr


def groups_to_train(
    experts: Sequence[int], at_once: int, missing: Collection[int], begun: list[list[int]]
) -> list[list[int]]:
    """Those already begun, then all others in which an expert is missing.

    Groups go by number, whatever is missing: an expert's rounding depends on the size of its group.
    """
    groups = [list(experts[i : i + at_once]) for i in range(0, len(experts), at_once)]
    return begun + [group for group in groups if group not in begun and not set(group).isdisjoint(missing)]


def share(groups: list[list[int]], world: int, rank: int) -> tuple[list[list[int]], bool]:
    """The groups of one of ``world`` processes, as many for each; and whether the last is another process's, trained again.

    (Processes keep in step: one that comes out short trains the last of all groups and does not write it.)
    """
    places = range(rank, math.ceil(len(groups) / world) * world, world)
    return [groups[min(place, len(groups) - 1)] for place in places], len(places) > 0 and places[-1] >= len(groups)


@dataclass
class Group:
    """Experts in training.

    Args:
        experts: Their n numbers.
        rows: Parameters at each epoch so far, E + 1 tensors of shape (n, P) on the CPU.
        history: For each of ``METRICS`` and each epoch n numbers.
    """

    experts: list[int]
    rows: list[torch.Tensor]
    history: dict[str, list[list[float]]] = field(default_factory=lambda: {name: [] for name in METRICS})

    def add_epoch(
        self, theta: torch.Tensor, metrics: Mapping[str, list[float]], advice: str, losses: Sequence[torch.Tensor] = ()
    ) -> None:
        """Keep an epoch.

        Args:
            theta: Parameters at its end, shape (n, P); copied.
            metrics: For each of ``METRICS`` n numbers; none where it was not measured.
            advice: What to do about parameters that are not finite.
            losses: Of each batch n of them, to tell where it began.

        Raises:
            InputError: If parameters are not finite.
        """
        for place, (expert, row) in enumerate(zip(self.experts, theta, strict=True)):
            if not torch.isfinite(row).all():
                bad = [i for i, of_batch in enumerate(losses) if not torch.isfinite(of_batch[place])]
                began = f" (nor its loss from batch {bad[0] + 1} of {len(losses)} on)" if bad else ""
                raise InputError(
                    f"the parameters of expert {expert} are not finite after epoch {len(self.rows)}{began}; {advice}"
                )
        self.rows.append(theta.detach().to("cpu", copy=True))
        for name in METRICS:
            self.history[name].append(list(metrics[name]) or [math.nan] * len(self.experts))

    def write(self, folder: Path, recipe: Recipe, confusions: torch.Tensor | None, **storage: Any) -> None:
        """Write every expert that its store does not hold yet, once all have been trained.

        Args:
            folder: The store.
            recipe: What made them.
            confusions: Of each expert, shape (n, K, K).
            **storage: See :func:`gz_lightning.experts.expert_file.write_expert`.
        """
        for i, expert in enumerate(self.experts):
            if file_of(folder, expert).exists():
                continue  # the group was interrupted while it was written
            history = {name: [values[i] for values in self.history[name]] for name in METRICS}
            confusion = None if confusions is None else confusions[i]
            trajectory = torch.stack([theta[i] for theta in self.rows])
            write_expert(folder, expert, trajectory, history, recipe, **storage, confusion=confusion)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"experts": self.experts, "rows": self.rows, "history": self.history}


def state_of(checkpoint: Mapping[str, Any], recipe: Recipe, path: str) -> dict[str, Any]:
    """What a checkpoint says of the experts in training.

    Args:
        checkpoint: Its content.
        recipe: What the experts of this run are.
        path: Where it was read, for the message.

    Raises:
        InputError: If it is of other galaxies or settings, or of no experts.
    """
    if "experts" not in checkpoint:
        raise InputError(f"{path} is no checkpoint of 'gz-lightning fit'; leave out --ckpt_path to start anew")
    state: dict[str, Any] = checkpoint["experts"]
    theirs = Recipe(*state["recipe"])
    if theirs != recipe:
        raise InputError(
            f"{path} is of experts of another kind: {describe_difference(theirs, recipe)}; "
            "leave out --ckpt_path to start anew"
        )
    return state


class Tally:
    """Loss and accuracy of n experts over an epoch: sums over batches, on the device until they are asked for.

    Args:
        confusions: Also count the confusions.
    """

    def __init__(self, confusions: bool = False) -> None:
        self.counts_confusions = confusions
        self.reset()

    def reset(self) -> None:
        """Begin a new epoch."""
        self.images = 0
        self.loss_sum: torch.Tensor | float = 0.0
        self.hits: torch.Tensor | float = 0.0
        self.confusion_counts: torch.Tensor | None = None

    def update(self, losses: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Add a batch.

        Args:
            losses: Mean loss of the batch, shape (n,).
            logits: Shape (n, N, K).
            labels: Leaves, shape (n, N), or (N,) where all have the same batch.
        """
        number, leaves = logits.shape[1:]
        labels = labels.expand(len(logits), -1)
        predictions = logits.argmax(-1)
        self.images += number
        self.loss_sum = self.loss_sum + losses.double() * number
        self.hits = self.hits + (predictions == labels).sum(1)
        if self.counts_confusions:
            pairs = zip(predictions, labels, strict=True)
            counts = torch.stack([multiclass_confusion_matrix(*pair, leaves, validate_args=False) for pair in pairs])
            self.confusion_counts = counts if self.confusion_counts is None else self.confusion_counts + counts

    def compute(self) -> tuple[list[float], list[float]]:
        """Mean loss and accuracy in [0, 1] of each expert; without a batch, nothing."""
        if not self.images:
            return [], []
        loss, hits = torch.as_tensor(self.loss_sum), torch.as_tensor(self.hits)
        return (loss / self.images).tolist(), (hits.double() / self.images).tolist()
