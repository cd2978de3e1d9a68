"""The experts that are trained together, and the record of their epochs.

Shapes: n experts, P parameters, E epochs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gz_lightning.errors import InputError
from gz_lightning.experts.trajectories import METRICS, Recipe, file_of, write_expert


@dataclass
class Group:
    """Experts in training, with what is known of them so far.

    Args:
        experts: Their n numbers.
        rows: Parameters at each epoch so far, E + 1 tensors of shape (n, P) on the CPU.
        history: For each of ``METRICS`` and each epoch n numbers.
    """

    experts: list[int]
    rows: list[torch.Tensor]
    history: dict[str, list[list[float]]] = field(default_factory=lambda: {name: [] for name in METRICS})

    def add_epoch(
        self, rows: torch.Tensor, metrics: Mapping[str, list[float]], advice: str, losses: Sequence[torch.Tensor] = ()
    ) -> None:
        """Keep an epoch.

        Args:
            rows: Parameters at its end, shape (n or more, P).
            metrics: For each of ``METRICS`` n numbers; none where it was not measured.
            advice: What to do about parameters that are not finite.
            losses: Of each batch n of them, to tell where it began.

        Raises:
            InputError: If some are not.
        """
        for place, (expert, theta) in enumerate(zip(self.experts, rows, strict=False)):
            if not torch.isfinite(theta).all():
                bad = [i for i, own in enumerate(losses) if not torch.isfinite(own[place])]
                began = f" (nor its loss from batch {bad[0] + 1} of {len(losses)} on)" if bad else ""
                raise InputError(
                    f"the parameters of expert {expert} are not finite after epoch {len(self.rows)}{began}; {advice}"
                )
        self.rows.append(rows[: len(self.experts)].cpu())
        for name in METRICS:
            self.history[name].append(list(metrics[name]) or [math.nan] * len(self.experts))

    def write(self, folder: Path, recipe: Recipe, confusions: torch.Tensor | None, **storage: Any) -> None:
        """Write every expert that its store does not hold yet, once all are whole.

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
            trajectory = torch.stack([rows[i] for rows in self.rows])
            write_expert(folder, expert, trajectory, history, recipe, **storage, confusion=confusion)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"experts": self.experts, "rows": self.rows, "history": self.history}
