"""ExpertModule: trains experts (teachers) and keeps their parameters at every epoch.

Shapes: n experts at once, N images, K leaves, P parameters, E epochs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from torch.func import vmap
from torch.nn.parallel import DistributedDataParallel

from gz_lightning.augmentation import DSA
from gz_lightning.data.datamodule import datamodule_of
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.experts.batches import Batches, Scored
from gz_lightning.experts.checkpoint import GroupCheckpoint
from gz_lightning.experts.group import Group
from gz_lightning.experts.inspection import log_confusion, summary
from gz_lightning.experts.schedule import step_size
from gz_lightning.experts.settings import check_settings, training_settings
from gz_lightning.experts.sharpness import sharpness_aware_gradient
from gz_lightning.experts.stack import MAPS_PER_BLOCK, Stack, fitting_number
from gz_lightning.experts.tally import Tally
from gz_lightning.experts.trajectories import (
    METRICS,
    PRECISIONS,
    Recipe,
    TrajectoryStore,
    describe_difference,
    whole_experts,
)
from gz_lightning.memory import require_memory
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.networks.registry import allow_network
from gz_lightning.networks.written_loss import written_loss
from gz_lightning.progress import say
from gz_lightning.randomness import derived_seed
from gz_lightning.storage.checkpoints import read_by_checksum
from gz_lightning.storage.whole import require_disk


class ExpertModule(LightningModule):
    """Trains experts in groups and writes each, once whole, into a TrajectoryStore.

    One Trainer run trains all: it has ``train_epochs`` epochs for every group of experts that the store does not hold yet,
    and sets ``max_epochs`` to that. Everything random about an expert depends on ``seed`` and its number alone, so experts
    trained in another order, group, process or session are the same (of other groups up to rounding). ``validate`` and
    ``test`` of the Trainer score the experts of the store after their last epoch.

    What it logs of a group is the mean over its experts; the store keeps each one's own.

    With several devices (DDP) each process takes its share of the groups and writes its own experts; checkpoints inside a
    group are then not written.

    Args:
        trajectories: Folder of the experts; buffer_path of the published code.
        num_experts: How many experts the store is to hold. 100 in the published results.
        first_expert: Number of the first of them; lets several processes (of a job array, or one for each GPU) fill one
            store.
        experts_at_once: Experts that are trained together: on a GPU as one stack (vmap), on a CPU each on a core of its own.
            Default: as many as fill the GPU and fit into half of its free memory; 1 on a CPU.
        train_epochs: Epochs of each expert. 50 in the published results.
        lr: Step size of SGD. Published: 0.001 for Galaxy Zoo 2 at 128 px, 0.01 for CIFAR-10.
        momentum: Momentum of SGD; 0 in the published results.
        weight_decay: Weight decay of SGD; 0 in the published results.
        lr_schedule: constant (published), cosine, or step (a tenth in the second half), epoch by epoch.
        flat_rho: Flat trajectories (FTD, Du et al. 2023): length of the step uphill of sharpness-aware minimisation. 0 is
            off; 0.01 in FTD. A training step takes twice as long.
        flat_alpha: Of flat trajectories: how much of the gradient across the uphill one is taken off. 0.3 in FTD.
        augmentation: galaxy, none, or families of DSA joined by underscores.
        labels: hard (the leaf) or votes (the volunteers' shares for each leaf).
        rotations: Each galaxy is in an epoch so many times, turned by 360 / rotations degrees more each time; what a
            turn brings in from outside the frame is mirrored. 10 in the published augmented form, whose rotated copies
            are made here as they are needed.
        network: ConvNet, or the path of a class (package.module.Class) that takes num_classes, resolution, width, depth,
            norm and pooling.
        width: Channels of each block. 128 in the published results.
        depth: Number of blocks; 3 in the published results.
        norm: instance, group, layer or none.
        pooling: avg, max or none.
        seed: Seed of initialisation, order of the galaxies, and augmentation.
        precision: Of the stored parameters: float32, or at half the size float16 or bfloat16;
            gz-lightning trajectories info tells what was lost.
        compression: Of the stored parameters: none or gzip.
        checkpoint_minutes: Time between checkpoints inside a group, at the end of an epoch; 0 writes one after each. One
            holds all epochs of the group so far.

    Raises:
        InputError: If a setting is out of its range or, when training begins, if the store holds experts of other
            galaxies or settings.
    """

    def __init__(
        self,
        trajectories: str = "experts",
        num_experts: int = 10,
        first_expert: int = 0,
        experts_at_once: int | None = None,
        train_epochs: int = 50,
        lr: float = 0.01,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        lr_schedule: str = "constant",
        flat_rho: float = 0.0,
        flat_alpha: float = 0.0,
        augmentation: str = DSA,
        labels: str = "hard",
        rotations: int = 1,
        network: str = "ConvNet",
        width: int = 128,
        depth: int = 3,
        norm: str = "instance",
        pooling: str = "avg",
        seed: int = 0,
        precision: str = "float32",
        compression: str = "none",
        checkpoint_minutes: float = 2.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_settings(self.hparams)
        self.folder = Path(trajectories)
        self.train_epochs = train_epochs
        self.missing: list[int] = []
        self.scored: dict[int, torch.Tensor] = {}

    @property
    def galaxies(self) -> Galaxies:
        """The galaxies of the running Trainer's data module."""
        return datamodule_of(self.trainer).galaxies

    @property
    def batch_size(self) -> int:
        """Galaxies in a batch of each expert."""
        return datamodule_of(self.trainer).batch_size

    def setup(self, stage: str) -> None:
        """Build the network and find out which experts are missing."""
        read_by_checksum(self.trainer)
        galaxies, settings = self.galaxies, self.hparams
        galaxies.require("train", "val")
        self.description = {
            "name": allow_network(settings["network"]),
            "num_classes": galaxies.num_classes,
            "resolution": galaxies.resolution,
            **{name: settings[name] for name in ("width", "depth", "norm", "pooling")},
        }
        self.recipe = Recipe(self.description, galaxies.fingerprint, training_settings(settings, self.batch_size))
        self.loss = nn.CrossEntropyLoss(weight=galaxies.class_weights)
        self.train_tally, self.val_tally = Tally(), Tally(confusions=True)
        if stage != "fit":
            self.network = Stack(self.description, 1)
            return
        self.trainer.num_sanity_val_steps = 0  # there is no expert to score before the first epoch
        whole = whole_experts(self.folder, self.recipe)
        self.missing = [expert for expert in self._wanted() if expert not in whole]
        if len(self.missing) < settings["num_experts"]:
            held = settings["num_experts"] - len(self.missing)
            say(f"{self.folder} holds {held} of the {settings['num_experts']} experts already")
        device, size = self.trainer.strategy.root_device, (self.batch_size, galaxies.resolution, settings["width"])
        at_once = settings["experts_at_once"] or fitting_number(device, *size)
        self._plan(min(at_once, settings["num_experts"]), [])

    def _wanted(self) -> range:
        first: int = self.hparams["first_expert"]
        return range(first, first + self.hparams["num_experts"])

    def _share(self, groups: list[list[int]]) -> list[list[int]]:
        """This process's groups. Each has as many: one that comes out short trains the last again, and does not keep it."""
        world, rank = self.trainer.world_size, self.trainer.global_rank
        number = math.ceil(len(groups) / world)
        return [groups[min(place * world + rank, len(groups) - 1)] for place in range(number)]

    def _plan(self, at_once: int, begun: list[list[int]]) -> None:
        """Groups by number, whatever is missing: an expert's rounding depends on the size of its group."""
        wanted = list(self._wanted())
        groups = [wanted[i : i + at_once] for i in range(0, len(wanted), at_once)]
        left = [group for group in groups if group not in begun and not set(group).isdisjoint(self.missing)]
        self.groups, self.number_of_groups = begun + self._share(left), len(begun) + len(left)
        way = "vmap" if self.trainer.strategy.root_device.type == "cuda" else "threads"
        self.network = Stack(self.description, at_once, way)
        self.trainer.fit_loop.max_epochs = len(self.groups) * self.train_epochs

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD, as the trajectories of the literature."""
        settings = self.hparams
        return torch.optim.SGD(
            self.network.parameters(),
            lr=settings["lr"],
            momentum=settings["momentum"],
            weight_decay=settings["weight_decay"],
        )

    def configure_callbacks(self) -> list[Callback]:
        """The checkpoint to go on from."""
        return [GroupCheckpoint(self.hparams["checkpoint_minutes"])]

    def on_fit_start(self) -> None:
        """Put the training galaxies on the device, once and for all epochs."""
        self._require_memory()
        self.batches = Batches(self.galaxies, self.batch_size, self.hparams, self.device)

    def _require_memory(self) -> None:
        """Refuse what cannot fit, before hours of work."""
        number, settings, galaxies = self.network.number, self.hparams, self.galaxies
        rows = (self.train_epochs + 1) * sum(p.nbytes for p in self.network.parameters())
        what = f"the {self.train_epochs} epochs of {number} experts at once"
        require_memory(rows, "cpu", what, "take fewer --model.experts_at_once")
        if settings["compression"] == "none":
            bits = torch.finfo(PRECISIONS[settings["precision"]]).bits
            advice = "take fewer --model.num_experts or --model.precision float16, or name a folder elsewhere"
            require_disk(len(self.missing) * rows / number * bits / 32, self.folder, f"{len(self.missing)} experts", advice)
        maps = 4 * MAPS_PER_BLOCK * settings["width"] * min(self.batch_size, len(galaxies.train)) * galaxies.resolution**2
        # In threads no more experts work at a time than there are cores.
        at_once = number if self.network.stacked is not None else min(number, torch.get_num_threads())
        advice = "take a smaller --data.batch_size or fewer --model.experts_at_once"
        if self.device.type == "cuda":
            require_memory(at_once * maps / 2, self.device, f"batches of {self.batch_size} galaxies", advice)
        elif self.network.derivatives is None:  # else a batch is worked on in portions
            require_memory(at_once * maps / 4, self.device, f"batches of {self.batch_size} galaxies", advice)

    def train_dataloader(self) -> Iterable[int]:
        """Numbers of the batches of one epoch; the module takes the galaxies from the device itself."""
        return range(len(self.batches))

    def val_dataloader(self) -> Iterable[Any]:
        """All validation galaxies, in every process."""
        return Scored(self.galaxies.val, self.batch_size)

    def on_train_start(self) -> None:
        """Time left is told from here. Processes do not share gradients: each trains experts of its own."""
        if isinstance(self.trainer.model, DistributedDataParallel):
            self.trainer.model.require_backward_grad_sync = False
        self.began_at, self.first_epoch = time.monotonic(), self.current_epoch

    def on_train_epoch_start(self) -> None:
        """Begin the next group where the last one is whole; draw this epoch's orders."""
        place, self.epoch = divmod(self.current_epoch, self.train_epochs)
        settings, seed = self.hparams, self.hparams["seed"]
        optimizer = self.optimizers().optimizer  # type: ignore[union-attr]
        if self.epoch == 0:
            experts = self.groups[place]
            for i, expert in enumerate(experts):
                self.network.begin(i, derived_seed(seed, "initialisation", expert))
            optimizer.state.clear()  # momentum is the last group's
            self.group = Group(experts, [self.network.rows()[: len(experts)].cpu()])
        for group in optimizer.param_groups:
            group["lr"] = step_size(settings["lr"], settings["lr_schedule"], self.epoch, self.train_epochs)
        self.train_tally.reset()
        self.val_tally.reset()
        self.batch_losses: list[torch.Tensor] = []
        self.batches.begin_epoch(self.group.experts, self.epoch)

    def _losses(
        self, images: torch.Tensor, targets: torch.Tensor, places: list[int] | None = None
    ) -> tuple[torch.Tensor, ...]:
        if self.network.derivatives is not None and images.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
            networks = [self.network.networks[place] for place in (range(len(images)) if places is None else places)]
            given = zip(networks, images, targets, strict=True)
            weights = self.loss.weight
            assert weights is not None
            each = [written_loss(self.network.derivatives, network, x, y, weights) for network, x, y in given]
            losses, logits = zip(*each, strict=True)
            return torch.stack(losses), torch.stack(logits)
        logits = self.network(images, places)
        if self.network.stacked is None or len(logits) == 1:
            return torch.stack([self.loss(own, target) for own, target in zip(logits, targets, strict=True)]), logits
        return vmap(self.loss)(logits, targets), logits

    def training_step(self, batch: int, batch_idx: int) -> torch.Tensor:
        """Class-balanced cross entropy of an augmented batch, summed over the experts, each of which has its own batch."""
        dtype = next(self.network.parameters()).dtype

        def step(places: list[int]) -> tuple[torch.Tensor, ...]:
            images, targets, labels = self.batches.take(batch, places, dtype)
            return (*self._losses(images, targets, places), images, targets, labels)

        parts = self.network.apart(step, range(len(self.group.experts)))
        self.parts = [part[0].sum() for part in parts]
        together = [torch.cat(own) if len(own) > 1 else own[0] for own in zip(*parts, strict=True)]
        losses, logits, images, targets, labels = together
        self.given = (images, targets)
        self.train_tally.update(losses, logits, labels)
        self.batch_losses.append(losses.detach())
        return losses.sum()

    def backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """The gradient of each expert's loss; in threads, where they are trained in threads."""
        if len(self.parts) == 1:
            loss.backward(*args, **kwargs)
        else:
            self.network.apart(lambda places: self.parts[places[0]].backward(), range(len(self.parts)))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Flat trajectories: replace the gradient by the sharpness-aware one."""
        rho, alpha = self.hparams["flat_rho"], self.hparams["flat_alpha"]
        if not rho:
            return
        parameters = list(self.network.parameters())
        gradient = self.network.rows([torch.zeros_like(p) if p.grad is None else p.grad for p in parameters])
        flat = sharpness_aware_gradient(self.network, gradient, lambda: self._losses(*self.given)[0].sum(), rho, alpha)
        for parameter, own in zip(parameters, self.network.shaped(flat), strict=True):
            parameter.grad = own

    def on_validation_epoch_start(self) -> None:
        """Outside of ``fit``: read the experts to score."""
        self.val_tally.reset()
        if self.trainer.state.fn != TrainerFn.FITTING:
            store = TrajectoryStore(self.folder)
            self.scored = {e: store.parameters(e, store.num_epochs).to(self.device) for e in store.experts}
            if (store.recipe.network, store.recipe.data) != (self.description, self.galaxies.fingerprint):
                difference = describe_difference(store.recipe, self.recipe)
                raise InputError(f"{self.folder} holds experts of another kind: {difference}")

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> None:
        """Loss and accuracy on validation galaxies, of each expert."""
        images, labels = batch[0].to(next(self.network.parameters()).dtype), batch[1]
        if self.scored:
            network = FunctionalNetwork(self.network)
            logits = torch.stack([network(theta, images)[0] for theta in self.scored.values()])
        else:
            logits = self.network(images)[: len(self.group.experts)]
        losses = torch.stack([F.cross_entropy(own, labels) for own in logits])
        self.val_tally.update(losses, logits, labels)

    def on_validation_epoch_end(self) -> None:
        """Outside of ``fit``: log the mean over the store's experts, and its spread."""
        if self.scored:
            prefix = "test" if self.trainer.state.fn == TrainerFn.TESTING else "val"
            loss, accuracy = (torch.tensor(values) for values in self.val_tally.compute())
            self.log(f"{prefix}/loss", loss.mean())
            self.log(f"{prefix}/accuracy", accuracy.mean())
            self.log(f"{prefix}/accuracy_std", accuracy.std(correction=0))
            self.scored = {}

    on_test_epoch_start, test_step, on_test_epoch_end = on_validation_epoch_start, validation_step, on_validation_epoch_end

    def on_train_epoch_end(self) -> None:
        """Keep the parameters; write the experts of the group when they are whole."""
        tallies = (*self.train_tally.compute(), *self.val_tally.compute())
        metrics = dict(zip(METRICS, tallies, strict=True))
        advice = f"train with a smaller step size (--model.lr is {self.hparams['lr']})"
        self.group.add_epoch(self.network.rows(), metrics, advice, self.batch_losses)
        for name, values in self.group.history.items():
            mean = sum(values[-1]) / len(values[-1])
            self.log(name.replace("_", "/"), mean, prog_bar=name == "val_accuracy")
        self.log("expert", float(self.group.experts[0]), prog_bar=True)
        self.log("lr", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        done = self.current_epoch + 1 - self.first_epoch
        left = (self.trainer.fit_loop.max_epochs or 0) - self.current_epoch - 1
        self.log("minutes_left", (time.monotonic() - self.began_at) / 60 / done * left, prog_bar=True, logger=False)
        if self.epoch + 1 == self.train_epochs and not self._is_repeated():
            confusions = self.val_tally.confusion_counts
            storage = {name: self.hparams[name] for name in ("precision", "compression")}
            self.group.write(self.folder, self.recipe, confusions, **storage)
            if confusions is not None:
                log_confusion(self.trainer, confusions.sum(0), self.galaxies.class_names)

    def _is_repeated(self) -> bool:
        """Whether the group is another process's, trained again to keep in step."""
        place, world = self.current_epoch // self.train_epochs, self.trainer.world_size
        return place * world + self.trainer.global_rank >= self.number_of_groups

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the epochs of the group so far, and which experts the run trains."""
        checkpoint["experts"] = {
            "groups": self.groups,
            "at_once": self.network.number,
            "recipe": [self.recipe.network, self.recipe.data, self.recipe.training],
            # A group that is whole is in the store.
            "group": self.group.state() if self.epoch + 1 < self.train_epochs else None,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on inside the group that was being trained; the groups after it are of experts that are missing now.

        Raises:
            InputError: If the checkpoint is of other galaxies or settings, or of no experts.
        """
        if self.trainer.state.fn != TrainerFn.FITTING:
            return
        if self.trainer.world_size > 1:
            raise InputError(
                "a checkpoint is of the group of one process, and there are several; leave out --ckpt_path "
                "(whole experts are kept)"
            )
        path = self.trainer.ckpt_path or "the checkpoint"
        if "experts" not in checkpoint:
            raise InputError(f"{path} is no checkpoint of 'gz-lightning fit'; leave out --ckpt_path to begin anew")
        kept, epoch = checkpoint["experts"], checkpoint["epoch"] + 1
        recipe = Recipe(*kept["recipe"])
        if recipe != self.recipe:
            raise InputError(
                f"{path} is of experts of another kind: {describe_difference(recipe, self.recipe)}; "
                "leave out --ckpt_path to begin anew"
            )
        begun = kept["groups"][: math.ceil(epoch / self.train_epochs)]
        self.group = Group(**kept["group"]) if kept["group"] else Group([], [])
        self._plan(kept["at_once"], begun)

    def on_fit_end(self) -> None:
        """Say what the store holds now."""
        self.trainer.strategy.barrier()  # of the experts of all processes
        if self.trainer.is_global_zero:
            say(summary(TrajectoryStore(self.folder)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of the (first) expert in training, shape (N, K), of standardised images, shape (N, 3, H, W)."""
        return self.network(images)[0]  # type: ignore[no-any-return]
