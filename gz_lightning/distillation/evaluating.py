"""Evaluation while distilling: sets, scores and pictures in the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from gz_lightning.figures import MOST_IMAGES, at_places, leaf_figure, save_figure
from gz_lightning.progress import say
from gz_lightning.randomness import derived_seed
from gz_lightning.training.fresh import accuracies
from gz_lightning.training.protocol import Protocol

CLIP = 2.5
"""Standard deviations that the published pictures are cut off at."""


def stretched(images: torch.Tensor) -> torch.Tensor:
    """Each image cut off at ``CLIP`` standard deviations from its mean and stretched to [0, 1]: what is faint shows.

    Args:
        images: Shape (M, 3, H, W).
    """
    mean, spread = images.mean((1, 2, 3), keepdim=True), CLIP * images.std((1, 2, 3), keepdim=True)
    clipped = images.clamp(mean - spread, mean + spread)
    low, high = clipped.amin((1, 2, 3), keepdim=True), clipped.amax((1, 2, 3), keepdim=True)
    return (clipped - low) / (high - low).clamp(min=1e-12)


class EvaluateSynthetic(Callback):
    """Every ``eval_it`` outer iterations fresh networks are trained on the images and scored on validation galaxies.

    The run folder gets ``last.h5``, ``best.h5`` (the highest mean validation accuracy so far) and a picture each time.
    An evaluation comes before the iteration of its number, so a run that goes on from there evaluates there as well.

    Args:
        eval_it: Outer iterations between evaluations.
        num_eval: Fresh networks in an evaluation.
        epochs: Epochs that each is trained for.
        seed: Seed of the networks; all evaluations of a run use the same.
    """

    def __init__(self, eval_it: int, num_eval: int, epochs: int, seed: int) -> None:
        self.eval_it, self.num_eval, self.epochs, self.seed = eval_it, num_eval, epochs, seed
        self.scores: list[tuple[int, float, float]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Evaluate where it is time."""
        if pl_module.iteration % self.eval_it == 0:  # type: ignore[operator]
            self.evaluate(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the last images, and say which were the best.

        (Not in ``on_train_end``, which a run that goes on with nothing left to do does not come to.)
        """
        if not trainer.is_global_zero:
            return
        if not self.scores or self.scores[-1][0] != pl_module.iteration:
            self.evaluate(trainer, pl_module)
        iteration, mean, _ = max(self.scores, key=lambda score: score[1])
        folder = Path(trainer.default_root_dir)
        say(f"best validation accuracy {100 * mean:.1f} % at iteration {iteration}: {folder / 'best.h5'}")

    def evaluate(self, trainer: Trainer, distiller: Any) -> None:
        """Score the images as they are now; save sets and picture."""
        if not trainer.is_global_zero:
            return
        synthetic, folder = distiller.synthetic_set(), Path(trainer.default_root_dir)
        scores = accuracies(
            synthetic.images.to(distiller.device),
            synthetic.labels,
            synthetic.network,
            synthetic.step_sizes.tolist(),
            Protocol(epochs=self.epochs, augmentation=synthetic.augmentation, seed=derived_seed(self.seed, "evaluation")),
            distiller.galaxies,
            ["val"],
            self.num_eval,
            synthetic.configuration["syn_steps"],
        )["val"]
        accuracy = torch.tensor(scores)
        mean, std = float(accuracy.mean()), float(accuracy.std(correction=0))
        synthetic.results = {"val_accuracy": mean, "val_accuracy_std": std}
        synthetic.save(folder / "last.h5")
        if all(mean > before for _, before, _ in self.scores):
            synthetic.save(folder / "best.h5")
        self.scores.append((synthetic.iteration, mean, std))
        title = f"iteration {synthetic.iteration}, validation accuracy {100 * mean:.1f} ± {100 * std:.1f} %"
        both = {"distilled": synthetic.denormalised(), f"at {CLIP} sigma": stretched(synthetic.images)}
        places = synthetic.places_by_leaf(MOST_IMAGES)
        rows = {name: at_places(pixels, places).flatten(0, 1) for name, pixels in both.items()}
        figure = leaf_figure(rows, synthetic.class_names, title)
        picture = save_figure(figure, folder / "pictures" / f"iteration_{synthetic.iteration:06d}.png")
        for logger in trainer.loggers:
            logger.log_metrics({"val/accuracy": mean, "val/accuracy_std": std}, step=synthetic.iteration)
            if isinstance(logger, WandbLogger):
                logger.log_image("images", [str(picture)])
        say(title)
        lost = [name for name, own in zip(synthetic.class_names, places, strict=True) if own[0] < 0]
        if lost and synthetic.configuration["lr_label"]:
            say(f"no image is labelled {' or '.join(lost)} any more: learn the labels more slowly (--model.lr_label)")

    def state_dict(self) -> dict[str, Any]:
        """The scores so far."""
        return {"scores": [list(score) for score in self.scores]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from them."""
        self.scores = [(int(iteration), mean, std) for iteration, mean, std in state_dict["scores"]]
