"""The experts that are trained together: which they are, their epochs so far, an epoch's metrics, and the checkpoint.

Shapes: n experts, N images, K leaves, P parameters, E epochs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torchmetrics.functional.classification import multiclass_confusion_matrix

from gz_lightning.errors import InputError
from gz_lightning.experts.trajectories import METRICS, Recipe, file_of, write_expert
from gz_lightning.networks.ensemble import Ensemble
from gz_lightning.progress import say
from gz_lightning.storage.checkpoints import LAST, save_last

MAPS_PER_BLOCK = 8
"""Full-size maps of the first block that a training step holds at most, deeper blocks included: what norm, ReLU and pooling
keep for their derivatives, and the gradients on their way back."""
MOST_SHARE = 20
"""Training takes at least so many times as long as writing checkpoints."""


def fitting_number(ensemble: Ensemble, batch_size: int, resolution: int, width: int) -> int:
    """How many experts to train at once.

    1 on anything but a GPU, so that experts do not depend on the number of cores. On a GPU as many as make up one stack of
    the ensemble, which fills it, and take at most half of the free memory.

    Args:
        ensemble: Says how many make up a stack, and on which device.
        batch_size: Images of each expert in a step.
        resolution: H = W in pixels.
        width: Channels of the network's first block.
    """
    if ensemble.device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(ensemble.device)
    by_memory = int(free / 2 / (4 * MAPS_PER_BLOCK * width * batch_size * resolution**2))
    return max(1, min(ensemble.stack_size((batch_size, 3, resolution, resolution)), by_memory))


def groups_to_train(
    experts: Sequence[int], at_once: int, missing: Collection[int], begun: list[list[int]]
) -> list[list[int]]:
    """Those already begun, then all others in which an expert is missing.

    Groups go by number, whatever is missing: an expert's rounding depends on the size of its group.
    """
    groups = [list(experts[i : i + at_once]) for i in range(0, len(experts), at_once)]
    return begun + [group for group in groups if group not in begun and not set(group).isdisjoint(missing)]


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
            **storage: See :func:`gz_lightning.experts.trajectories.write_expert`.
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


class GroupCheckpoint(Checkpoint):
    """Keeps ``checkpoints/last.ckpt`` in the run folder, always of a whole epoch.

    Finished experts are in their store and need none; this one holds those in training, with all their epochs so far. A run
    shorter than ``minutes`` writes none.

    Args:
        minutes: Least time between two checkpoints; 0 writes one after every epoch.
    """

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes
        self.written_at = time.monotonic()
        self.cost = 0.0
        self.current = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a run that resumes from a checkpoint keeps it up to date."""
        self.written_at = time.monotonic()
        self.current = trainer.ckpt_path is not None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write one if it is time, or if the last one is of a group that is finished now."""
        if trainer.world_size > 1:  # each process has another group
            return
        begin = time.monotonic()
        finished = pl_module.epoch + 1 == pl_module.train_epochs  # type: ignore[operator]
        pause = max(60 * self.minutes, MOST_SHARE * self.cost) if self.minutes else 0
        if (finished and self.current) or begin - self.written_at >= pause:
            save_last(trainer)
            self.current = True
            self.written_at = time.monotonic()
            self.cost = self.written_at - begin

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say how to resume."""
        if self.current:
            path = Path(trainer.default_root_dir) / LAST
            say(f"go on from {path} with the same command and --ckpt_path last")
