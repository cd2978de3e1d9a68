"""ExpertModule: trains experts (teachers) and keeps their parameters at every epoch.

Shapes: N images, K leaves, P parameters, E epochs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from gz_lightning.augmentation import DSA, augment, check_strategy
from gz_lightning.data.datamodule import LABELS, GalaxyZoo2DataModule
from gz_lightning.errors import InputError
from gz_lightning.experts.trajectories import METRICS, Recipe, TrajectoryStore, describe_difference, write_expert
from gz_lightning.networks import build_network
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.progress import say
from gz_lightning.randomness import derived_seed, generator


class ExpertModule(LightningModule):
    """Trains ``num_experts`` experts one after the other and writes each, once whole, into a TrajectoryStore.

    One Trainer run trains all: it has ``train_epochs`` epochs for every expert that the store does not hold yet, and sets
    ``max_epochs`` to that. Everything random about an expert depends on ``seed`` and its number alone, so experts trained
    in another order, process or session are the same.

    Args:
        trajectories: Folder of the TrajectoryStore; ``buffer_path`` of the published code.
        num_experts: How many experts the store is to hold. 100 in the published results.
        first_expert: Number of the first of them; lets several processes fill one store.
        train_epochs: Epochs of each expert. 50 in the published results.
        lr: Step size of SGD. Published: 0.001 for Galaxy Zoo 2 at 128 px, 0.01 for CIFAR-10.
        momentum: Momentum of SGD; 0 in the published results.
        weight_decay: Weight decay of SGD; 0 in the published results.
        augmentation: ``galaxy``, ``none``, or families of DSA joined by underscores.
        labels: ``hard`` (the leaf) or ``votes`` (the volunteers' shares for each leaf).
        rotations: Each galaxy is in an epoch so many times, turned by 360 / ``rotations`` degrees more each time; what a
            turn brings in from outside the frame is mirrored. 10 in the published augmented form, whose rotated copies
            are made here as they are needed.
        network: Name of the network.
        width: Channels of each block. 128 in the published results.
        depth: Number of blocks; 3 in the published results.
        norm: ``instance``, ``group``, ``layer`` or ``none``.
        pooling: ``avg``, ``max`` or ``none``.
        seed: Seed of initialisation, order of the galaxies, and augmentation.

    Raises:
        InputError: If a setting is out of its range or, when training begins, if the store holds experts of other
            galaxies or settings.
    """

    def __init__(
        self,
        trajectories: str = "experts",
        num_experts: int = 10,
        first_expert: int = 0,
        train_epochs: int = 50,
        lr: float = 0.01,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        augmentation: str = DSA,
        labels: str = "hard",
        rotations: int = 1,
        network: str = "ConvNet",
        width: int = 128,
        depth: int = 3,
        norm: str = "instance",
        pooling: str = "avg",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if num_experts < 1 or train_epochs < 1 or first_expert < 0:
            raise InputError(
                f"num_experts ({num_experts}) and train_epochs ({train_epochs}) must be at least 1, "
                f"first_expert ({first_expert}) at least 0"
            )
        if not lr > 0:
            raise InputError(f"lr must be positive, not {lr}")
        if labels not in LABELS:
            raise InputError(f"labels is one of {', '.join(LABELS)}, not '{labels}'")
        if rotations < 1:
            raise InputError(f"rotations must be at least 1, not {rotations}")
        check_strategy(augmentation)
        self.save_hyperparameters()
        self.folder = Path(trajectories)
        self.train_epochs = train_epochs
        self.missing: list[int] = []

    @property
    def galaxies(self) -> GalaxyZoo2DataModule:
        """The data module of the running Trainer."""
        module = getattr(self.trainer, "datamodule", None)
        if not isinstance(module, GalaxyZoo2DataModule):
            raise InputError("experts are trained on a GalaxyZoo2DataModule: trainer.fit(experts, datamodule=galaxies)")
        return module

    def setup(self, stage: str) -> None:
        """Build the network and find out which experts are missing."""
        galaxies, settings = self.galaxies, self.hparams
        galaxies.require("train", "val")
        self.description = {
            "name": settings["network"],
            "num_classes": galaxies.num_classes,
            "resolution": galaxies.resolution,
            **{name: settings[name] for name in ("width", "depth", "norm", "pooling")},
        }
        self.network = build_network(self.description)
        names = ("train_epochs", "lr", "momentum", "weight_decay", "augmentation", "seed")
        training = {name: settings[name] for name in names} | {"batch_size": galaxies.batch_size}
        # Named only where they are not the default, so that stores from before they were settings stay of one kind.
        plain = {"labels": "hard", "rotations": 1}
        training |= {name: settings[name] for name, default in plain.items() if settings[name] != default}
        self.recipe = Recipe(self.description, galaxies.fingerprint, training)
        self.loss = nn.CrossEntropyLoss(weight=galaxies.class_weights)
        self.train_loss, self.val_loss = (MeanMetric(nan_strategy="ignore") for _ in range(2))
        self.train_accuracy, self.val_accuracy = (
            MulticlassAccuracy(num_classes=galaxies.num_classes, average="micro") for _ in range(2)
        )
        wanted = range(settings["first_expert"], settings["first_expert"] + settings["num_experts"])
        whole = self._whole_experts()
        self.missing = [expert for expert in wanted if expert not in whole]
        if len(self.missing) < len(wanted):
            say(f"{self.folder} holds {len(wanted) - len(self.missing)} of the {len(wanted)} experts already")
        self.trainer.fit_loop.max_epochs = len(self.missing) * self.train_epochs

    def _whole_experts(self) -> list[int]:
        if not self.folder.is_dir() or not any(self.folder.glob("expert_*.h5")):
            return []
        store = TrajectoryStore(self.folder)
        if store.recipe != self.recipe:
            raise InputError(
                f"{self.folder} holds experts of another kind: {describe_difference(store.recipe, self.recipe)}; "
                "name another --model.trajectories"
            )
        return store.experts

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD, as the trajectories of the literature."""
        settings = self.hparams
        return torch.optim.SGD(
            self.network.parameters(),
            lr=settings["lr"],
            momentum=settings["momentum"],
            weight_decay=settings["weight_decay"],
        )

    def on_fit_start(self) -> None:
        """Put the training galaxies on the device, once and for all epochs, still as uint8, unless they are too many."""
        train = self.galaxies.train
        self.train_images = train.images.to(self.device) if train.in_memory else None
        self.train_labels = train.labels.to(self.device)
        self.targets = train.soft_labels.to(self.device) if self.hparams["labels"] == "votes" else self.train_labels

    def train_dataloader(self) -> Iterable[int]:
        """Numbers of the batches of one epoch; the module takes the galaxies from the device itself."""
        return range(math.ceil(len(self.galaxies.train) * self.hparams["rotations"] / self.galaxies.batch_size))

    def on_train_epoch_start(self) -> None:
        """Begin the next expert where the last one is whole; draw this epoch's order."""
        place, self.epoch = divmod(self.current_epoch, self.train_epochs)
        self.expert = self.missing[place]
        seed = self.hparams["seed"]
        if self.epoch == 0:
            fresh = build_network(self.description, seed=derived_seed(seed, "initialisation", self.expert))
            self.network.load_state_dict(fresh.state_dict())
            self.optimizers().optimizer.state.clear()  # type: ignore[union-attr]  # momentum is the last expert's
            self.trajectory = [FunctionalNetwork.parameters_of(self.network).cpu()]
            self.history: dict[str, list[float]] = {name: [] for name in METRICS}
        draws = generator(seed, "order", self.expert, self.epoch)
        number = len(self.train_labels) * self.hparams["rotations"]
        self.order = torch.randperm(number, generator=draws).to(self.device)
        self.augmentation_draws = generator(seed, "augmentation", self.expert, self.epoch)

    def training_step(self, batch: int, batch_idx: int) -> torch.Tensor:
        """Class-balanced cross entropy of one augmented batch."""
        rows = self.order[batch_idx * self.galaxies.batch_size :][: self.galaxies.batch_size]
        turns, rows = rows // len(self.train_labels), rows % len(self.train_labels)
        pixels = self.galaxies.train.pixels(rows.cpu()) if self.train_images is None else self.train_images[rows]
        images = self.galaxies.standardise(pixels.to(self.device))
        if self.hparams["rotations"] > 1:
            images = rotated(images, turns * (360 / self.hparams["rotations"]))
        images = augment(images, self.hparams["augmentation"], self.augmentation_draws)
        logits, labels = self.network(images), self.train_labels[rows]
        loss: torch.Tensor = self.loss(logits, self.targets[rows])
        self.train_loss.update(loss.detach(), len(rows))
        self.train_accuracy.update(logits.detach(), labels)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> None:
        """Loss and accuracy on validation galaxies."""
        images, labels = batch
        logits = self.network(images)
        self.val_loss.update(F.cross_entropy(logits, labels), len(labels))
        self.val_accuracy.update(logits, labels)

    def on_train_epoch_end(self) -> None:
        """Keep the parameters; write the expert when it is whole."""
        self.trajectory.append(FunctionalNetwork.parameters_of(self.network).cpu())
        if not torch.isfinite(self.trajectory[-1]).all():
            raise InputError(
                f"the parameters of expert {self.expert} are not finite after epoch {self.epoch + 1}; "
                f"train with a smaller step size (--model.lr is {self.hparams['lr']})"
            )
        for name in METRICS:
            metric: Metric = getattr(self, name)
            value = float(metric.compute())
            metric.reset()
            self.history[name].append(value)
            self.log(name.replace("_", "/"), value, prog_bar=name == "val_accuracy")
        self.log("expert", float(self.expert), prog_bar=True)
        if self.epoch + 1 == self.train_epochs:
            write_expert(self.folder, self.expert, torch.stack(self.trajectory), self.history, self.recipe)

    def on_fit_end(self) -> None:
        """Say what the store holds now."""
        if self.trainer.is_global_zero:
            say(summary(TrajectoryStore(self.folder)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of the expert in training, shape (N, K), of standardised images, shape (N, 3, H, W)."""
        return self.network(images)  # type: ignore[no-any-return]


def rotated(images: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """Images turned counterclockwise about their centre, with bilinear interpolation; the corners mirror the inside.

    Args:
        images: Shape (N, C, H, W).
        degrees: Shape (N,).
    """
    angle = torch.deg2rad(degrees.to(images.dtype))
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    matrix = torch.stack([torch.stack([cos, -sin, zero], -1), torch.stack([sin, cos, zero], -1)], 1)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def summary(store: TrajectoryStore) -> str:
    """One line on a store: how many experts, and their accuracy at the last epoch."""
    last: Any = store.metrics[store.metrics["epoch"] == store.num_epochs]["val_accuracy"] * 100
    return (
        f"{len(store)} experts of {store.num_epochs} epochs in {store.folder}: validation accuracy "
        f"{last.mean():.1f} ± {last.std(ddof=0):.1f} % ({last.min():.1f} to {last.max():.1f})"
    )
