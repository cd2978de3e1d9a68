"""TrajectoryMatching: learns synthetic images and step sizes by matching the experts' trajectories.

Shapes: M images (``ipc`` of each of K leaves), T steps (``syn_steps``), P parameters, S step sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import nn

from gz_lightning.data.datamodule import datamodule_of
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.distillation.checkpoint import ResumeCheckpoint
from gz_lightning.distillation.curves import Curves
from gz_lightning.distillation.divergence import FiniteUpdates, collapse
from gz_lightning.distillation.evaluating import EvaluateSynthetic
from gz_lightning.distillation.image_update import normalise
from gz_lightning.distillation.labels import logits_of_experts, logits_of_shares
from gz_lightning.distillation.matching import matching_loss, nearest_step
from gz_lightning.distillation.segments import Segments
from gz_lightning.distillation.settings import changes, check_settings, default_lr_img
from gz_lightning.distillation.start import (
    augmentation_of,
    epochs_to_match,
    first_step_sizes,
    loaded_images,
    search_step_size,
    stages_of,
)
from gz_lightning.distillation.unroll import KEPT_OF_GRAPH, MEMORY_BUDGET, least_memory, unroll
from gz_lightning.errors import InputError
from gz_lightning.experts.trajectories import matching_experts
from gz_lightning.memory import require_memory
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.networks.registry import allow_network, check_network
from gz_lightning.progress import say
from gz_lightning.randomness import generator
from gz_lightning.sets.coresets import initial_images
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.storage.checkpoints import read_by_checksum
from gz_lightning.storage.text import naming_file

SEARCH_SEGMENTS = 12
FAR_OFF = 10.0
"""What a probe loss that is not finite counts as; a student that stays where it is has 1."""
LABEL_MOMENTUM = 0.9
"""As in DATM (Guo et al. 2024)."""


class TrajectoryMatching(LightningModule):
    """Distils galaxies by matching experts' trajectories (Cazenavette et al. 2022), stage by stage (Guan et al. 2023).

    An outer iteration draws an expert and a start epoch s, lets a student take ``syn_steps`` steps of SGD on the
    synthetic images from the expert's parameters at s, and moves images and step size so that it ends nearer to where
    the expert was ``expert_epochs`` later. Needs a GalaxyZoo2DataModule with the galaxies that the experts were trained on.

    The run folder (the Trainer's ``default_root_dir``) gets ``best.h5`` and ``last.h5`` (distilled sets), ``pictures/``
    and ``checkpoints/last.ckpt``.

    Args:
        trajectories: Folder of the experts; ``buffer_path`` of the published code.
        ipc: Images per class.
        syn_steps: Steps of the student in an outer iteration, N. Default: as published for Galaxy Zoo 2, 50 where ipc is 1
            and 20 where it is more.
        expert_epochs: Epochs of the expert that those steps are to match, m. Default: those in which the expert takes five
            times as many steps of its own, at least 1, at most a third of the trajectory. Published: 1.
        segments_per_step: Segments, each of an expert and a start epoch of its own, whose mean an iteration matches; under
            DDP so many of each process.
        stage: stage (move on by itself from early to later epochs), fixed (all start epochs from the beginning) or window
            (later start epochs come in evenly; DATM).
        init_epoch: Stage distillation and the window begin with the start epochs below this one.
        min_start_epoch: Start epochs are not below this one.
        max_start_epoch: Start epochs stay below this one. Default: as far as the trajectories go. Published: 29 of 50.
        open_until: Iterations after which the window is fully open.
        start_epochs: cycle or random.
        sigma_threshold: How clearly probe losses must fall for a stage to be learned, in standard errors. Published: 5,
            with which a stage took 60 to 300 iterations in trials; with 2 most take 20 to 160.
        max_duration: Iterations of one stage before the fine-tuning begins. Published: 1000.
        step_sizes: global (one learned step size) or independent (one for each start epoch, as in the first code; each is
            then learned from its own iterations alone, which takes longer).
        lr_teacher: First step size of the students, or a list of one for each start epoch below init_epoch
            (independent step sizes). Default: the one of 13 between 1e-4 and 0.1 that brings the first images nearest
            to the experts. Published: 1e-4; beginning far off costs most of the accuracy.
        lr_lr: Step size of SGD on the log of the step sizes. Published: 0.01.
        image_update: normalised (the gradient of each image is divided by its root mean square, so that lr_img is in
            units of the standardised pixels; where the matching loss is above 1, that is where the student ends farther from
            the expert than it began, all updates are divided by it, and the gradient of the log of the step sizes is cut off
            at 1) or published (plain SGD).
        lr_img: Step size of SGD on the images. Default: 0.003 at 32 px and inversely as the resolution, so that an image
            moves by the same length at each (normalised), or 1000 (published; right at 128 px only).
        momentum: Momentum of SGD on the images and on the step sizes. Published: 0.5.
        pix_init: First images: noise, real (random training galaxies) or mean (means of the leaf).
        load_syn_image: A distilled set to begin with instead.
        labels: hard (the leaf), votes (the volunteers' shares for each leaf: those of the galaxies that an image is made
            of, of noise the mean of its leaf) or experts (what trained experts say of the first images).
        lr_label: Step size of SGD (momentum 0.9) on the logits of soft labels; 0 leaves them as they are. DATM: 2 to 10.
        ema: Decay of an exponential moving average of the images, which is then what is evaluated and saved; between 0 and
            1, say 0.999 (FTD). Default: none.
        skip_above: No update where the matching loss is above this; say 1 (DATM). Default: always update.
        nearest: Match the student where it is nearest to the expert, after however many of its steps (ATT).
        batch_syn: Images in each step of the student. Default: all.
        augmentation: galaxy, none, or families of DSA joined by underscores. Default: that of the experts.
        unroll: How to differentiate through the steps: adjoint (of a further step only parameters and minibatch
            are kept), checkpoint (more is, and it is slower) or full (its whole graph is), which
            are exact; or first_order, which is an approximation.
        memory_budget: GiB that adjoint may take for all its steps; more saves time and changes nothing else.
        compile: Compile the steps of adjoint and first_order (torch.compile; on the CPU it needs a C++ compiler). It takes
            a minute or so at first and pays in long runs of small problems; then no activations are kept.
        iterations: Outer iterations; Iteration of the published code. A run in stages may end by itself before.
        prev_iter: Outer iterations that load_syn_image has behind it; counting goes on from there.
        eval_it: Outer iterations between evaluations on the validation galaxies.
        num_eval: Fresh networks in an evaluation.
        epoch_eval_train: Epochs that each is trained for. Published: 1000.
        network: Name of the network. Default: that of the experts; any other than theirs is refused.
        width: Channels of each block. Default: that of the experts.
        depth: Number of blocks. Default: that of the experts.
        norm: Norm of the blocks. Default: that of the experts.
        pooling: Pooling of the blocks. Default: that of the experts.
        seed: Seed of all that is random.

    Raises:
        InputError: If a setting is out of its range; or, when distillation begins, if the experts are of other galaxies or
            of another network, the trajectories are too short, a list of step sizes is of the wrong length, a leaf has
            fewer galaxies than ``ipc``, or the run folder holds a run already.
    """

    images: nn.Parameter
    log_step_sizes: nn.Parameter
    label_logits: nn.Parameter
    averaged: torch.Tensor

    def __init__(
        self,
        trajectories: str = "experts",
        ipc: int = 1,
        syn_steps: int | None = None,
        expert_epochs: int | None = None,
        segments_per_step: int = 1,
        stage: str = "stage",
        init_epoch: int = 1,
        min_start_epoch: int = 0,
        max_start_epoch: int | None = None,
        open_until: int = 1000,
        start_epochs: str = "cycle",
        sigma_threshold: float = 2.0,
        max_duration: int = 300,
        step_sizes: str = "global",
        lr_teacher: float | list[float] | None = None,
        lr_lr: float = 0.01,
        image_update: str = "normalised",
        lr_img: float | None = None,
        momentum: float = 0.5,
        pix_init: str = "real",
        load_syn_image: str | None = None,
        labels: str = "hard",
        lr_label: float = 0.0,
        ema: float | None = None,
        skip_above: float | None = None,
        nearest: bool = False,
        batch_syn: int | None = None,
        augmentation: str | None = None,
        unroll: str = "adjoint",
        memory_budget: float = MEMORY_BUDGET,
        compile: bool = False,
        iterations: int = 5000,
        prev_iter: int = 0,
        eval_it: int = 200,
        num_eval: int = 5,
        epoch_eval_train: int = 1000,
        network: str | None = None,
        width: int | None = None,
        depth: int | None = None,
        norm: str | None = None,
        pooling: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        if syn_steps is None:
            syn_steps = 50 if ipc == 1 else 20
        self.save_hyperparameters()  # takes the value above
        check_settings(self.hparams)
        self.iteration = prev_iter
        self.updates = FiniteUpdates()
        self.first_step_size, self.collapsed = 0.0, False
        self.resumed = False

    @property
    def galaxies(self) -> Galaxies:
        """The galaxies of the running Trainer's data module."""
        return datamodule_of(self.trainer).galaxies

    def setup(self, stage: str) -> None:
        """Read the experts, check that all fits together, and make the first images and step sizes."""
        read_by_checksum(self.trainer)
        if hasattr(self, "images"):
            return  # fit is called once more in a notebook: go on
        settings, galaxies = self.hparams, self.galaxies
        galaxies.require("train", "val")
        found = default_lr_img(settings["image_update"], galaxies.resolution)
        self.lr_img: float = found if settings["lr_img"] is None else settings["lr_img"]
        if settings["network"] is not None:
            allow_network(settings["network"])
        network = {"name": settings["network"]} | {n: settings[n] for n in ("width", "depth", "norm", "pooling")}
        self.store = matching_experts(settings["trajectories"], galaxies, network)
        with naming_file(self.store.folder):
            network_of_experts = self.store.network()
            check_network(network_of_experts, galaxies.num_classes, galaxies.image_shape)
            self.network = FunctionalNetwork(network_of_experts)
        if settings["compile"]:
            self.network.derivatives.compile()
        self.augmentation = settings["augmentation"] or augmentation_of(self.store)
        self.expert_epochs = settings["expert_epochs"] or epochs_to_match(
            self.store, len(galaxies.train), settings["syn_steps"]
        )
        self.stages = stages_of(settings, self.store, self.expert_epochs)
        self.segments = Segments(
            self.store, self.expert_epochs, settings["syn_steps"], settings["batch_syn"], self.augmentation
        )
        if settings["load_syn_image"] is None:
            draws, votes = generator(settings["seed"], "images"), settings["labels"] == "votes"
            images, self.labels = initial_images(settings["pix_init"], galaxies, settings["ipc"], draws, votes)
        else:
            soft = {"hard": False, "votes": True, "experts": None}[settings["labels"]]
            images, self.labels = loaded_images(settings["load_syn_image"], galaxies, settings["ipc"], soft)
        given = 1.0 if settings["lr_teacher"] is None else settings["lr_teacher"]  # None: searched for in on_fit_start
        number = self.stages.max_start_epoch if settings["step_sizes"] == "independent" else 1
        self.log_step_sizes = nn.Parameter(first_step_sizes(given, number, self.stages.cap).log())
        self.images = nn.Parameter(images)
        if settings["labels"] == "experts" and self.labels.ndim == 1:
            ends = [self.store.parameters(expert, self.store.num_epochs) for expert in self.store.experts]
            self.labels = logits_of_experts(self.network, ends, images, self.labels).softmax(1)
        if settings["lr_label"]:
            self.label_logits = nn.Parameter(logits_of_shares(self.labels))
        if settings["ema"] is not None:
            self.register_buffer("averaged", images.clone())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One SGD with a group for each thing learned: an optimizer of each would count every iteration anew."""
        groups: list[dict[str, Any]] = [
            {"params": [self.images], "lr": self.lr_img, "name": "images"},
            {"params": [self.log_step_sizes], "lr": self.hparams["lr_lr"], "name": "step_sizes"},
        ]
        if self.hparams["lr_label"]:
            lr_label = self.hparams["lr_label"]
            groups += [{"params": [self.label_logits], "lr": lr_label, "momentum": LABEL_MOMENTUM, "name": "labels"}]
        return torch.optim.SGD(groups, momentum=self.hparams["momentum"])

    def configure_callbacks(self) -> list[Callback]:
        """Evaluations, pictures, and the checkpoint to go on from."""
        settings = self.hparams
        evaluation = EvaluateSynthetic(
            settings["eval_it"], settings["num_eval"], settings["epoch_eval_train"], settings["seed"]
        )
        # The checkpoint is the last, so that it holds what the others took note of.
        return [evaluation, Curves(settings["eval_it"]), ResumeCheckpoint(every=settings["eval_it"])]

    def train_dataloader(self) -> Iterable[int]:
        """One item for each outer iteration to do; what an iteration draws depends on its number alone."""
        return range(max(self.hparams["iterations"] - self.iteration, 0))

    def on_fit_start(self) -> None:
        """Refuse to write over a run; find the first step size. One pass over the iterations is all."""
        self._require_memory()
        self.trainer.fit_loop.max_epochs = 1
        if self.resumed:
            return
        if ResumeCheckpoint.path(self.trainer).exists():
            raise InputError(
                f"{self.trainer.default_root_dir} holds a run already: go on with it by --ckpt_path last, "
                "or name another --run_dir"
            )
        if self.hparams["lr_teacher"] is None:
            self._search_step_size()
        self.first_step_size = float(self.log_step_sizes.detach().min().exp())

    def _require_memory(self) -> None:
        """Refuse what cannot fit, before hours of work."""
        settings = self.hparams
        theta = self.store.parameters(self.store.experts[0], 0)
        shown, mode = self.images[: settings["batch_syn"]], settings["unroll"]
        needed = least_memory(self.network, theta, shown, settings["syn_steps"], mode, settings["memory_budget"])
        advice = "take fewer --model.syn_steps or a smaller --model.batch_syn"
        if mode in KEPT_OF_GRAPH:
            advice = f"{advice}, or --model.unroll adjoint, which keeps least"
        elif settings["memory_budget"] > MEMORY_BUDGET:
            advice = f"{advice}, or a smaller --model.memory_budget"
        what = f"{settings['syn_steps']} steps of {len(shown)} images (unroll {mode})"
        require_memory(needed, self.device, what, advice)

    @torch.no_grad()
    def _search_step_size(self) -> None:
        """Begin with the step size that brings the first images nearest to the experts."""
        seed = self.hparams["seed"]
        draws = generator(seed, "step size")
        segments = []
        for i in range(SEARCH_SEGMENTS):
            start_epoch = self.stages.start_epoch(i, float(torch.rand((), generator=draws)))
            segments.append(self.segments.ends(self.segments.expert(draws), start_epoch, self.device))

        def run(theta: torch.Tensor, alpha: float, i: int) -> torch.Tensor:
            batches, labels = self.segments.batches(self.images, self._labels(), generator(seed, "step size", i))
            return unroll(self.network, theta, batches, labels, torch.tensor(alpha, device=self.device))

        found, losses = search_step_size(segments, run)
        self.log_step_sizes.fill_(math.log(found))
        say(f"first step size {found:.3g}: matching loss {losses[found]:.3f}")

    def training_step(self, batch: int, batch_idx: int) -> None:
        """One outer iteration: the mean over its segments."""
        learned, number = self._learned(), self.hparams["segments_per_step"]
        sums = [torch.zeros(2, device=self.device), *(torch.zeros_like(parameter) for parameter in learned)]
        first, places, losses = self.trainer.global_rank * number, [], {}
        for place in range(first, first + number):
            expert, start_epoch, loss, probe = self._match(place)
            for total, found in zip(sums[1:], torch.autograd.grad(loss, learned), strict=True):
                total += found
            sums[0] += torch.tensor([float(loss.detach()), probe or 0.0], device=self.device)
            places.append(f"expert {expert}, start epoch {start_epoch}")
            losses[start_epoch] = loss.detach()
        # Not by manual_backward: under DDP it would average each segment's gradient by itself.
        flat = self.trainer.strategy.reduce(torch.cat([part.flatten() for part in sums]) / number, reduce_op="mean")
        assert isinstance(flat, torch.Tensor)
        (loss, probe_loss), *gradients = flat.split([part.numel() for part in sums])
        for parameter, gradient in zip(learned, gradients, strict=True):
            parameter.grad = gradient.view_as(parameter)
        if self._update(loss, f"iteration {self.iteration}, {'; '.join(places)}"):
            self._record(loss, None if self.stages.probe_epoch is None else float(probe_loss), losses)
        self.iteration += 1

    def _match(self, place: int) -> tuple[int, int, torch.Tensor, float | None]:
        """Expert, start epoch, matching loss and probe loss of a segment; ``place`` counts the segments of an iteration."""
        draws = generator(self.hparams["seed"], "iteration", self.iteration, *([place] if place else []))
        expert = self.segments.expert(draws)
        number = self.iteration * self.hparams["segments_per_step"] * self.trainer.world_size + place
        start_epoch = self.stages.start_epoch(number, float(torch.rand((), generator=draws)))
        start, target = self.segments.ends(expert, start_epoch, self.device)
        batches, labels = self.segments.batches(self.images, self._labels(), draws)
        alpha, steps = self._step_size(start_epoch), len(batches)
        if self.hparams["nearest"]:
            steps = nearest_step(self.network, start, batches, labels, alpha, target)
        ways = self.hparams["unroll"], self.hparams["memory_budget"]
        student = unroll(self.network, start, batches[:steps], labels[:steps], alpha, *ways)
        return expert, start_epoch, matching_loss(student, start, target), self._probe(expert, batches, labels)

    def _learned(self) -> list[nn.Parameter]:
        """What is learned, in the order of the optimizer."""
        return [self.images, self.log_step_sizes, *([self.label_logits] if self.hparams["lr_label"] else [])]

    def _labels(self) -> torch.Tensor:
        """Labels as they are now: int64, shape (M,), or soft, shape (M, K)."""
        return self.label_logits.softmax(1) if self.hparams["lr_label"] else self.labels.to(self.device)

    def _step_size(self, start_epoch: int) -> torch.Tensor:
        """Alpha for a start epoch, shape (); it lives in log space, so it can never turn negative."""
        return self.log_step_sizes[min(start_epoch, len(self.log_step_sizes) - 1)].exp()

    @torch.no_grad()
    def _probe(self, expert: int, batches: list[torch.Tensor], labels: list[torch.Tensor]) -> float | None:
        """Matching loss from the epoch that is not matched yet, with the last step size."""
        epoch = self.stages.probe_epoch
        if epoch is None:
            return None
        start, target = self.segments.ends(expert, epoch, self.device)
        return float(matching_loss(unroll(self.network, start, batches, labels, self._step_size(epoch - 1)), start, target))

    def _update(self, loss: torch.Tensor, place: str) -> bool:
        """Move what is learned; whether all was finite."""
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        if self.hparams["skip_above"] is not None and self.hparams["skip_above"] < loss < math.inf:
            return True
        if self.hparams["image_update"] == "normalised":
            normalise(loss, *(parameter.grad for parameter in self._learned() if parameter.grad is not None))
        optimizer.param_groups[0]["lr"] = self.lr_img * self.stages.lr_factor
        wrong = self.updates.step(optimizer, loss, self._learned(), self._is_finite)
        if wrong is None:
            if self.hparams["ema"] is not None:
                self.averaged.lerp_(self.images.detach(), 1 - self.hparams["ema"])
            return True
        if wrong_already := self.synthetic_set().not_finite():
            raise InputError(
                f"{place}: {wrong_already}, though no update made it so (is the memory of this machine sound?); nothing was "
                "written: go on with --ckpt_path last"
            )
        say(f"{place}: {wrong} not finite: no update")
        last = Path(self.trainer.default_root_dir) / "last.h5"
        if self.trainer.is_global_zero:
            self.synthetic_set().save(last)
        self.updates.check(place, str(last))
        return False

    def _is_finite(self) -> bool:
        alphas = self.log_step_sizes.detach().exp()
        finite = torch.isfinite(alphas).all() and (alphas > 0).all()
        return bool(finite and all(torch.isfinite(parameter).all() for parameter in self._learned()))

    def _record(self, loss: torch.Tensor, probe: float | None, losses: Mapping[int, torch.Tensor]) -> None:
        """Log the iteration, and let the stages take note of it; ``losses`` are those of its start epochs."""
        alphas = {start_epoch: float(self._step_size(start_epoch).detach()) for start_epoch in losses}
        shown: dict[str, Any] = {"loss": loss, "stage": float(self.stages.cap), "step_size": next(iter(alphas.values()))}
        self.log_dict(shown, prog_bar=True)
        self.log_dict({f"loss/start_epoch_{start_epoch}": own for start_epoch, own in losses.items()})
        self.log_dict({f"step_size/start_epoch_{start_epoch}": own for start_epoch, own in alphas.items()})
        self.log("step", float(self.iteration))  # what loggers put on the axis, also where a run goes on
        self.log("lr_img", self.lr_img * self.stages.lr_factor)
        if probe is not None:
            self.log("probe_loss", probe)
        if probe is not None and not math.isfinite(probe):
            say(f"iteration {self.iteration}: the probe loss ({probe}) is not finite; it counts as {FAR_OFF:g}")
            probe = FAR_OFF
        if not self.collapsed and (told := collapse(min(alphas.values()), self.first_step_size)):
            self.collapsed = True
            say(
                f"iteration {self.iteration}: {told}. Match fewer epochs (--model.expert_epochs, now {self.expert_epochs}) "
                f"or earlier ones (--model.max_start_epoch, now start epochs below {self.stages.cap})"
            )
        before = self.stages.cap
        event = self.stages.record(probe)
        if len(self.log_step_sizes) > 1:
            with torch.no_grad():  # a new start epoch begins with the step size of the one before
                self.log_step_sizes[before : self.stages.cap] = self.log_step_sizes[before - 1]
        if event is not None:
            say(f"iteration {self.iteration}: {event}; start epochs below {self.stages.cap} are matched")
        if self.stages.ended:
            self.trainer.should_stop = True

    def synthetic_set(self) -> SyntheticSet:
        """The distilled set as it is now."""
        galaxies = self.galaxies
        used = self.log_step_sizes[: self.stages.cap] if len(self.log_step_sizes) > 1 else self.log_step_sizes
        return SyntheticSet(
            images=(self.images.detach() if self.hparams["ema"] is None else self.averaged).cpu().clone(),
            labels=self._labels().detach().cpu().clone(),
            step_sizes=used.detach().exp().cpu(),
            class_names=galaxies.class_names,
            mean=galaxies.mean,
            std=galaxies.std,
            tree=galaxies.tree,
            network=self.store.recipe.network,
            augmentation=self.augmentation,
            data=galaxies.fingerprint,
            trajectories=self.store.fingerprint,
            iteration=self.iteration,
            configuration=dict(self.hparams),
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What Lightning does not keep by itself."""
        checkpoint["distillation"] = {
            "iteration": self.iteration,
            "stages": self.stages.state_dict(),
            "first_step_size": self.first_step_size,
            "trajectories": self.store.fingerprint,
            "data": self.galaxies.fingerprint,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on, if this is the same distillation.

        Raises:
            InputError: If a setting that shapes the images, the experts or the galaxies are not those of the checkpoint.
        """
        path = self.trainer.ckpt_path or "the checkpoint"
        if "distillation" not in checkpoint:
            raise InputError(f"{path} is no checkpoint of 'gz-lightning distill'; leave out --ckpt_path to begin anew")
        state, then = checkpoint["distillation"], checkpoint["hyper_parameters"]
        changed = changes(then, self.hparams)
        now = {"trajectories": self.store.fingerprint, "data": self.galaxies.fingerprint}
        changed += [f"the {name} are others" for name, fingerprint in now.items() if state[name] != fingerprint]
        if changed:
            raise InputError(f"{path} is of another run: {'; '.join(changed)}; name another --run_dir")
        # Lightning's loops count batches of an epoch; here the iterations count, and a finished run may be made longer.
        del checkpoint["loops"]
        self.resumed = True
        self.iteration = state["iteration"]
        self.first_step_size = state.get("first_step_size", 0.0)
        self.stages.load_state_dict(state["stages"])
