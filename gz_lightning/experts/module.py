"""ExpertModule: trains experts (teachers) and keeps their parameters at every epoch.

One Trainer run trains all: it has ``train_epochs`` epochs for every group of experts that the store does not hold yet, and
sets ``max_epochs`` to that. The only parameter is ``theta``, with a row for each expert of the group. Optimisation is
manual, with the gradients of an :class:`gz_lightning.networks.ensemble.Ensemble`. ``validate`` and ``test`` of the Trainer
score the experts of the store after their last epoch.

Shapes: n experts at once, N images, K leaves, P parameters, E epochs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

from gz_lightning.augmentation import DSA, check_strategy
from gz_lightning.cost import counted
from gz_lightning.data.datamodule import datamodule_of
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.experts.batches import Batches, Scored
from gz_lightning.experts.callbacks import GroupCheckpoint, GroupLock
from gz_lightning.experts.capacity import announce_experts, fitting_number, require_room
from gz_lightning.experts.expert_file import METRICS, Recipe
from gz_lightning.experts.group import Group, Tally, groups_to_train, share, state_of, step_size
from gz_lightning.experts.inspection import log_confusion, summary
from gz_lightning.experts.trajectories import TrajectoryStore, last_parameters, whole_experts
from gz_lightning.networks.convnet import Depth, NormName, PoolingName
from gz_lightning.networks.ensemble import Ensemble
from gz_lightning.networks.registry import allow_network
from gz_lightning.progress import say
from gz_lightning.randomness import derived_seed
from gz_lightning.settings import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, check_settings
from gz_lightning.storage.checkpoints import read_by_checksum
from gz_lightning.training.quiet import quiet
from gz_lightning.training.run_bar import run_bar
from gz_lightning.training.trainer import refuse_monitors, refuse_trainer

SHAPING = ("train_epochs", "lr", "momentum", "weight_decay", "lr_schedule", "augmentation", "labels", "rotations", "seed")
"""Settings that shape a trajectory, beside batch size and the Trainer's precision: the experts of a store share them."""
PRECISIONS = ("32-true", "64-true", "bf16-mixed")
LOGGED = (*(name.replace("_", "/") for name in METRICS), "expert", "lr")

quiet()


class ExpertModule(LightningModule):
    """Trains experts on all training galaxies, and keeps the parameters of each at every epoch in a folder.

    Experts that the folder holds already are not trained again. Several are trained at once, as a group; what is logged is
    their mean, and the folder keeps the numbers of each.

    Everything random about an expert depends on ``seed`` and its number alone, so experts trained in another order, group,
    process or session are the same (of other groups up to rounding).

    With several devices each takes its share of the groups; an interrupted group then begins anew.

    Args:
        trajectories: Folder of the experts; buffer_path of the published code.
        num_experts: How many experts the folder is to hold. 100 in the published results.
        first_expert: Number of the first of them; lets several processes (of a job array, or one for each GPU) fill one
            folder.
        experts_at_once: Experts that are trained together: on a GPU as one stack (vmap), on a CPU in a thread for each core.
            Default: as many as fill the GPU and fit into half of its free memory; 1 on a CPU.
        train_epochs: Epochs of each expert. 50 in the published results.
        lr: Step size of SGD. Published: 0.001 for Galaxy Zoo 2 at 128 px, 0.01 for CIFAR-10.
        momentum: Momentum of SGD; 0 in the published results.
        weight_decay: Weight decay of SGD; 0 in the published results.
        lr_schedule: constant (published), cosine, or step (a tenth in the second half), epoch by epoch.
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
        num_experts: PositiveInt = 10,
        first_expert: NonNegativeInt = 0,
        experts_at_once: PositiveInt | None = None,
        train_epochs: PositiveInt = 50,
        lr: PositiveFloat = 0.01,
        momentum: NonNegativeFloat = 0.0,
        weight_decay: NonNegativeFloat = 0.0,
        lr_schedule: Literal["constant", "cosine", "step"] = "constant",
        augmentation: str = DSA,
        labels: Literal["hard", "votes"] = "hard",
        rotations: PositiveInt = 1,
        network: str = "ConvNet",
        width: PositiveInt = 128,
        depth: Depth = 3,
        norm: NormName = "instance",
        pooling: PoolingName = "avg",
        seed: int = 0,
        precision: Literal["float32", "float16", "bfloat16"] = "float32",
        compression: Literal["none", "gzip"] = "none",
        checkpoint_minutes: NonNegativeFloat = 2.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_settings(ExpertModule.__init__, self.hparams, "--model.")
        check_strategy(augmentation)
        self.automatic_optimization = False  # the ensemble computes the gradients
        self.folder = Path(trajectories)
        self.train_epochs = train_epochs
        self.missing: list[int] = []
        self.scored: torch.Tensor | None = None
        self.batches_done, self.last_validation = 0, math.nan

    @property
    def galaxies(self) -> Galaxies:
        """The galaxies of the running Trainer's data module."""
        return datamodule_of(self.trainer).galaxies

    @property
    def batch_size(self) -> int:
        """Galaxies in a batch of each expert."""
        return datamodule_of(self.trainer).batch_size

    @property
    def experts(self) -> range:
        """Numbers of the experts that the store is to hold."""
        first: int = self.hparams["first_expert"]
        return range(first, first + self.hparams["num_experts"])

    def setup(self, stage: str) -> None:
        """Describe the network and find out which experts are missing."""
        read_by_checksum(self.trainer)
        galaxies, settings = self.galaxies, self.hparams
        galaxies.require("train", "val")
        description = {
            "name": allow_network(settings["network"]),
            "num_classes": galaxies.num_classes,
            "resolution": galaxies.resolution,
            **{name: settings[name] for name in ("width", "depth", "norm", "pooling")},
        }
        training = {name: settings[name] for name in SHAPING}
        training |= {"batch_size": self.batch_size, "trainer_precision": self.trainer.precision}
        self.recipe = Recipe(description, galaxies.fingerprint, training)
        self.ensemble = Ensemble(description, self.trainer.strategy.root_device)
        self.train_tally, self.val_tally = Tally(), Tally(confusions=True)
        if stage != "fit":
            return
        self.trainer.num_sanity_val_steps = 0  # there is no expert to score before the first epoch
        stored = whole_experts(self.folder, self.recipe)
        self.missing = [expert for expert in self.experts if expert not in stored]
        if len(self.missing) < len(self.experts):
            say(f"{self.folder} holds {len(self.experts) - len(self.missing)} of the {len(self.experts)} experts already")
        at_once = settings["experts_at_once"] or fitting_number(self.ensemble, self._batch(), settings["width"])
        self._plan(min(at_once, len(self.experts)), [])

    def _batch(self) -> tuple[int, int, int, int]:
        """The shape of an expert's batch, (N, C, H, W)."""
        return min(self.batch_size, len(self.galaxies.train)), *self.galaxies.image_shape

    def _plan(self, at_once: int, begun: list[list[int]]) -> None:
        """Choose the groups to train, and make room for one."""
        groups = groups_to_train(self.experts, at_once, self.missing, begun)
        self.groups, self.repeats_last = share(groups, self.trainer.world_size, self.trainer.global_rank)
        self.theta = nn.Parameter(torch.zeros(at_once, self.ensemble.network.num_parameters, device=self.ensemble.device))
        self.trainer.fit_loop.max_epochs = len(self.groups) * self.train_epochs

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD, as the trajectories of the literature; element by element, so each expert is trained as it would be alone."""
        settings = {name: self.hparams[name] for name in ("lr", "momentum", "weight_decay")}
        return torch.optim.SGD([self.theta], **settings)

    def configure_callbacks(self) -> list[Callback]:
        """The progress, the locks, and the checkpoint to resume from."""
        refuse_trainer(self.trainer, "fit", PRECISIONS)  # here, for Lightning's own checks come next
        refuse_monitors(self.trainer, LOGGED)
        return [*run_bar(self.trainer), GroupLock(), GroupCheckpoint(self.hparams["checkpoint_minutes"])]

    def progress(self) -> tuple[float, float, str]:
        """Batches done, all, and where the run is in words."""
        total, steps = len(self.groups) * self.train_epochs, len(self.batches)
        place, epoch = divmod(min(self.current_epoch, total - 1), self.train_epochs)
        numbers = [expert - self.experts[0] + 1 for expert in self.groups[place]]
        which = f"expert {numbers[0]}" if len(numbers) == 1 else f"experts {numbers[0]} to {numbers[-1]}"
        validation = f", validation {100 * self.last_validation:.0f} %" if math.isfinite(self.last_validation) else ""
        text = f"{which} of {len(self.experts)}, epoch {epoch + 1} of {self.train_epochs}{validation}"
        return min(self.current_epoch * steps + self.batches_done, total * steps), total * steps, text

    def on_fit_start(self) -> None:
        """Put the training galaxies on the device, once for all epochs."""
        require_room(self.ensemble, len(self.theta), self._batch(), self.hparams, len(self.missing))
        self.announce()
        self.batches = Batches(self.galaxies, self.batch_size, self.hparams, self.device)
        self.class_weights = self.galaxies.class_weights.to(self.device)

    def announce(self) -> None:
        """Say what is to be trained, and what it takes."""
        if self.trainer.is_global_zero:
            steps, galaxies = self.recipe.steps_per_epoch(len(self.galaxies.train)) or 0, self.galaxies
            announce_experts(self.ensemble, len(self.theta), self._batch(), self.hparams, len(self.missing), steps, galaxies)

    def train_dataloader(self) -> Iterable[int]:
        """Numbers of the batches of one epoch; the module takes the galaxies from the device itself."""
        return range(len(self.batches))

    def val_dataloader(self) -> Iterable[Any]:
        """All validation galaxies, in every process."""
        return Scored(self.galaxies.val, self.batch_size)

    def on_train_epoch_start(self) -> None:
        """Begin the next group where the last one is finished; draw this epoch's orders."""
        place, self.epoch = divmod(self.current_epoch, self.train_epochs)
        optimizer = self.optimizers().optimizer  # type: ignore[union-attr]
        if self.epoch == 0:
            experts = self.groups[place]
            seeds = [derived_seed(self.hparams["seed"], "initialisation", expert) for expert in experts]
            with torch.no_grad():
                self.theta[: len(experts)] = self.ensemble.initial(seeds).to(self.theta)
            optimizer.state.clear()  # momentum is the last group's
            self.group = Group(experts, [self.theta[: len(experts)].detach().to("cpu", copy=True)])
        for group in optimizer.param_groups:
            group["lr"] = step_size(self.hparams["lr"], self.hparams["lr_schedule"], self.epoch, self.train_epochs)
        self.stop_at_end = False
        self.train_tally.reset()
        self.val_tally.reset()
        self.batch_losses: list[torch.Tensor] = []
        self.batches_done = 0
        self.batches.begin_epoch(self.group.experts, self.epoch)

    def training_step(self, batch: int, batch_idx: int) -> None:
        """A step of SGD of each expert on the class-balanced cross entropy of its augmented batch."""
        number, dtype = len(self.group.experts), self.theta.dtype
        taken = self.ensemble.map(lambda place: self.batches.take(batch, place, dtype), number)
        images, targets, labels = (torch.stack(parts) for parts in zip(*taken, strict=True))
        losses, logits, gradients = self.ensemble.losses_logits_gradients(
            self.theta[:number], images, targets, self.class_weights
        )
        self.theta.grad = F.pad(gradients, (0, 0, 0, len(self.theta) - number))  # a last group may be smaller
        self.optimizers().step()  # type: ignore[union-attr]
        self.train_tally.update(losses, logits, labels)
        self.batch_losses.append(losses)
        self.batches_done = batch_idx + 1

    def on_train_batch_end(self, outputs: Any, batch: int, batch_idx: int) -> None:
        """Put off a stop by a time limit or a callback to the end of the epoch: half an epoch is none."""
        self.stop_at_end = self.stop_at_end or self.trainer.should_stop
        self.trainer.should_stop = False

    def on_validation_epoch_start(self) -> None:
        """Outside of ``fit``: read the experts to score."""
        self.val_tally.reset()
        if self.trainer.state.fn != TrainerFn.FITTING:
            self.scored = last_parameters(self.folder, self.recipe).to(self.device)

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> None:
        """Loss and accuracy on validation galaxies, of each expert."""
        theta = self.theta[: len(self.group.experts)] if self.scored is None else self.scored
        images, labels = batch[0].to(theta.dtype), batch[1]
        logits = self.ensemble.logits(theta, images)
        losses = torch.stack([F.cross_entropy(of_expert, labels) for of_expert in logits])
        self.val_tally.update(losses, logits, labels)

    def on_validation_epoch_end(self) -> None:
        """Outside of ``fit``: log the mean over the store's experts, and its spread."""
        if self.scored is not None:
            prefix = "test" if self.trainer.state.fn == TrainerFn.TESTING else "val"
            loss, accuracy = (torch.tensor(values) for values in self.val_tally.compute())
            self.log(f"{prefix}/loss", loss.mean())
            self.log(f"{prefix}/accuracy", accuracy.mean())
            self.log(f"{prefix}/accuracy_std", accuracy.std(correction=0))
            self.scored = None

    on_test_epoch_start, test_step, on_test_epoch_end = on_validation_epoch_start, validation_step, on_validation_epoch_end

    def on_train_epoch_end(self) -> None:
        """Keep the parameters; write the experts of the group when they are finished."""
        self.trainer.should_stop = self.trainer.should_stop or self.stop_at_end
        tallies = (*self.train_tally.compute(), *self.val_tally.compute())
        metrics = dict(zip(METRICS, tallies, strict=True))
        advice = f"train with a smaller step size (--model.lr is {self.hparams['lr']})"
        self.group.add_epoch(self.theta[: len(self.group.experts)], metrics, advice, self.batch_losses)
        for name, values in self.group.history.items():
            mean = sum(values[-1]) / len(values[-1])
            self.log(name.replace("_", "/"), mean)
            self.last_validation = mean if name == "val_accuracy" else self.last_validation
        self.log("expert", float(self.group.experts[0]))
        self.log("lr", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        last = self.current_epoch + 1 == self.trainer.fit_loop.max_epochs
        if self.epoch + 1 == self.train_epochs and not (last and self.repeats_last):
            confusions = self.val_tally.confusion_counts
            storage = {name: self.hparams[name] for name in ("precision", "compression")}
            self.group.write(self.folder, self.recipe, confusions, **storage)
            if confusions is not None:
                log_confusion(self.trainer, confusions.sum(0), self.galaxies.class_names)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the epochs of the group so far, and which experts the run trains."""
        checkpoint["experts"] = {
            "groups": self.groups,
            "at_once": len(self.theta),
            "recipe": [self.recipe.network, self.recipe.data, self.recipe.training],
            # A finished group is in the store.
            "group": self.group.state() if self.epoch + 1 < self.train_epochs else None,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Resume inside the group that was being trained; the groups after it are of experts that are missing now.

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
        state = state_of(checkpoint, self.recipe, str(self.trainer.ckpt_path or "the checkpoint"))
        epoch = checkpoint["epoch"] + 1
        self.group = Group(**state["group"]) if state["group"] else Group([], [])
        if self.group.rows:
            say(f"going on from epoch {len(self.group.rows) - 1} of expert {', '.join(map(str, self.group.experts))}")
        self._plan(state["at_once"], state["groups"][: math.ceil(epoch / self.train_epochs)])

    def on_fit_end(self) -> None:
        """Say what the store holds now."""
        self.trainer.strategy.barrier()  # of the experts of all processes
        if not self.trainer.is_global_zero:
            return
        stored = whole_experts(self.folder, self.recipe)
        if stored:
            say(summary(TrajectoryStore(self.folder)))
        if missing := set(self.experts) - set(stored):  # a time limit or a callback ended the run
            number = f"{len(self.experts) - len(missing)} of {counted(len(self.experts), 'expert')}"
            say(f"stopped with {number}: resume by the same command with --ckpt_path last")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of the first expert in training, shape (N, K), of standardised images, shape (N, 3, H, W)."""
        return self.ensemble.network(self.theta[0], images)
