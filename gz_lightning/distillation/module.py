"""TrajectoryMatching: learns synthetic images and step sizes by matching the experts' trajectories.

Shapes: M images (``ipc`` of each of K leaves), T steps (``syn_steps``), P parameters, S step sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import nn

from gz_lightning.cost import announce
from gz_lightning.data.datamodule import datamodule_of
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.distillation.callbacks import CollapseWatch, Curves, EvaluateSynthetic, ResumeCheckpoint
from gz_lightning.distillation.cost import cost_of
from gz_lightning.distillation.defaults import defaults_of, first_cap, images_of_a_step
from gz_lightning.distillation.finish import AT, LR_IMG, Finish
from gz_lightning.distillation.graph import matching
from gz_lightning.distillation.matching import MATCHES, Drawn, Segment, Segments
from gz_lightning.distillation.readings import Readings, may_wait
from gz_lightning.distillation.real import RealDrawn, RealGalaxies, check_objective, loaded_step_size
from gz_lightning.distillation.snapshot import configuration_of, set_of
from gz_lightning.distillation.stages import TEST_EVERY, FixedRange
from gz_lightning.distillation.start import (
    augmentation_of,
    check_together,
    describe_matching,
    epochs_to_match,
    first_images,
    first_step_size,
    first_step_sizes,
    logits_of_shares,
    network_of,
    require_unroll_memory,
    same_run,
    stages_of,
)
from gz_lightning.distillation.unroll import MEMORY_BUDGET, UNROLLS, unroll
from gz_lightning.distillation.updates import UPDATES, FiniteSteps, mean_of, optimizer_of
from gz_lightning.experts.paths import PATHS
from gz_lightning.experts.trajectories import matching_experts
from gz_lightning.networks.registry import allow_network
from gz_lightning.progress import say
from gz_lightning.randomness import generator
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.settings import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Range, check_settings
from gz_lightning.storage.checkpoints import read_by_checksum
from gz_lightning.training.quiet import quiet
from gz_lightning.training.run_bar import run_bar
from gz_lightning.training.trainer import refuse_monitors, refuse_trainer

quiet()


class TrajectoryMatching(LightningModule):
    """Distils galaxies by matching experts' trajectories (Cazenavette et al. 2022), stage by stage (Guan et al. 2023).

    An outer iteration draws an expert and a start epoch s, lets a student take ``syn_steps`` steps of SGD on the
    synthetic images from the expert's parameters at s, and moves images and step size so that it ends nearer to where
    the expert was ``expert_epochs`` later. It needs the galaxies that the experts were trained on.

    The run folder (the Trainer's ``default_root_dir``) gets ``best.h5`` and ``last.h5`` (distilled sets), ``pictures/``
    and ``checkpoints/last.ckpt``.

    Args:
        trajectories: Folder of the experts; buffer_path of the published code.
        ipc: Images per class.
        syn_steps: Steps of the student in an outer iteration, N. Default: as published for Galaxy Zoo 2, 50 where ipc is 1
            and 20 where it is more, or 40 where a finish follows; of objective real 240, at most.
        expert_epochs: Epochs of the expert that those steps are to match, m. Default: those in which the expert takes
            five times as many steps (ten times, where a finish follows the matching of more than one image per class), at
            least 1, at most a third of the trajectory. Published: 1.
        segments_per_step: Segments whose mean an iteration matches; under DDP this many of each process.
        finish: Iterations of a finish, in which students are scored on real galaxies, once the stages have ended or
            ``iterations`` are over, with a step size on the images that falls from 0.003 (at 32 px) to 0. Default: 200
            for more than one image per class where ``iterations`` is not given, in stage ``stage`` with normalised updates
            and one step size; else 0, none.
        objective: match (the experts' trajectories, then the finish) or real (a finish of ``iterations`` of images distilled
            before: it needs load_syn_image, begins with the step size of that set and looks at no setting of matching).
        window: Steps of a student in an iteration of the finish, and then steps at a tenth of the step size that are
            differentiated. Default: 60, or 20 of more than one image per class.
        batch_real: Training galaxies that score a student of the finish. Default: 256.
        student_momentum: Momentum of the student's SGD, below 1. Published: 0.
        path: raw (the epochs as they were; published) or straight (from the expert's first to its last epoch in a straight
            line, layer by layer, at the expert's pace; start epochs are then real numbers).
        match: Matching loss by name: distance (the published one).
        stage: stage (move on by itself from early to later epochs), fixed (all start epochs from the beginning), published
            or first_code (the stage rules of the authors' two codes).
        init_epoch: Stage distillation begins with the start epochs below this one. Default: 1; expert_epochs where a finish
            follows the matching of more than one image per class.
        max_start_epoch: Start epochs stay below this one. Default: as far as the trajectories go. Published: 29 of 50.
        start_epochs: cycle or random.
        sigma_threshold: How clearly probe losses must fall for a stage to be learned, in standard errors. Published: 5,
            with which a stage took 60 to 300 iterations in trials; with 2 most take 20 to 160.
        max_duration: Iterations of one stage before the fine-tuning begins. Published: 1000.
        step_sizes: global (one learned step size) or independent (one for each start epoch, as in the first code; each
            learns from its own iterations alone, so that lr_lr is multiplied by their number).
        lr_teacher: First step size of the students, or a list with one for each start epoch below init_epoch
            (independent step sizes). Default: the one of 13 between 1e-4 and 0.1 that brings the first images nearest
            to the experts. Published: 1e-4; beginning far off costs most of the accuracy.
        lr_lr: Step size of SGD on the log of the step sizes. Published: 0.01.
        image_update: normalised (the gradient of each image is divided by its root mean square, so that lr_img is in
            units of standardised pixels; where the matching loss is above 1, that is where the student ends farther from
            the expert than it began, all updates are divided by it; the gradient of the log of the step sizes is cut off
            at 1) or published (plain SGD).
        lr_img: Step size of SGD on the images while experts are matched. Default: 0.003 at 32 px and inversely as the
            resolution, so that an image moves by the same length at each (normalised), or 1000 (published; right at 128 px
            only).
        momentum: Momentum of SGD on the images and on the step sizes, below 1. Published: 0.5.
        pix_init: First images: noise, real (random training galaxies of the leaf), mean (means of the leaf), or another
            coreset: herding, k-centre, k-means-nearest, most confident.
        load_syn_image: A distilled set to begin with instead.
        labels: hard (the leaf), votes (the volunteers' shares for each leaf: those of the galaxies that an image is made
            of, of noise the mean of its leaf) or experts (what trained experts say of the first images).
        lr_label: Step size of SGD (momentum 0.9) on the logits of soft labels; 0 leaves them as they are. DATM: 2 to 10.
        batch_syn: Images in each step of the student. Default: all; half of them where a finish follows the matching of more
            than one image per class.
        augmentation: galaxy, none, or families of DSA joined by underscores. Default: that of the experts.
        unroll: How to differentiate through the steps: adjoint (exact; of a further step it keeps the parameters and the
            minibatch) or full (exact; it keeps the whole graph), or first_order, an approximation.
        memory_budget: GiB that adjoint may take for all its steps; more saves time and changes nothing else.
        compile: Compile the steps of adjoint and first_order (torch.compile; on a CPU it needs a C++ compiler). It takes
            a minute or so at first and pays in long runs of small problems; activations are not kept then.
        graph: on (in YAML also true) captures the computation of an iteration as a CUDA graph, which takes one launch
            instead of thousands; results are the same. It needs a GPU, augmentation galaxy or none, and global step
            sizes; auto captures where these are given, there is one device, and matching loss, unroll and network are
            the package's own; off (false) does not. Where the capture fails, a remark says so and iterations run without.
        iterations: Outer iterations that match; Iteration of the published code. Stages may end before. Default: 60
            for more than one image per class where a finish follows; 200 of objective real; else the published 5000.
        prev_iter: Outer iterations that load_syn_image has behind it; counting continues from there.
        eval_it: Outer iterations between evaluations on the validation galaxies.
        num_eval: Fresh networks in an evaluation.
        epoch_eval_train: Epochs that each is trained for. Published: 1000.
        network: Class of the experts' network (package.module.Class), where it is one of your own: what only a file names
            is not imported.
        seed: Seed of all that is random.

    Raises:
        InputError: If a setting is out of its range; or, when distillation begins, if the experts are of other galaxies or
            of another network, the trajectories are too short, a list of step sizes is of the wrong length, a leaf has
            fewer galaxies than ``ipc``, or the run folder holds a run already.
    """

    images: nn.Parameter
    log_step_sizes: nn.Parameter
    label_logits: nn.Parameter

    def __init__(
        self,
        trajectories: str = "experts",
        ipc: PositiveInt = 1,
        syn_steps: PositiveInt | None = None,
        expert_epochs: PositiveInt | None = None,
        segments_per_step: PositiveInt = 1,
        finish: NonNegativeInt | None = None,
        objective: Literal["match", "real"] = "match",
        window: PositiveInt | None = None,
        batch_real: PositiveInt | None = None,
        student_momentum: Annotated[float, Range(least=0, below=1)] = 0.0,
        path: str = "raw",
        match: str = "distance",
        stage: str = "stage",
        init_epoch: PositiveInt | None = None,
        max_start_epoch: PositiveInt | None = None,
        start_epochs: Literal["cycle", "random"] = "cycle",
        sigma_threshold: PositiveFloat = 2.0,
        max_duration: Annotated[int, Range(least=TEST_EVERY)] = 300,
        step_sizes: Literal["global", "independent"] = "global",
        lr_teacher: PositiveFloat | list[PositiveFloat] | None = None,
        lr_lr: NonNegativeFloat = 0.01,
        image_update: str = "normalised",
        lr_img: NonNegativeFloat | None = None,
        momentum: Annotated[float, Range(least=0, below=1)] = 0.5,
        pix_init: str = "real",
        load_syn_image: str | None = None,
        labels: Literal["hard", "votes", "experts"] = "hard",
        lr_label: NonNegativeFloat = 0.0,
        batch_syn: PositiveInt | None = None,
        augmentation: str | None = None,
        unroll: str = "adjoint",
        memory_budget: NonNegativeFloat = MEMORY_BUDGET,
        compile: bool = False,
        graph: Literal["auto", "on", "off"] | bool = "auto",
        iterations: PositiveInt | None = None,
        prev_iter: NonNegativeInt = 0,
        eval_it: PositiveInt = 200,
        num_eval: PositiveInt = 5,
        epoch_eval_train: PositiveInt = 1000,
        network: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        iterations, finish, syn_steps = defaults_of(locals()).values()
        self.save_hyperparameters()  # takes the values above
        check_settings(TrajectoryMatching.__init__, self.hparams, "--model.")
        check_together(self.hparams)
        check_objective(self.hparams)
        self.match = MATCHES[match]
        self.way = UNROLLS[unroll](memory_budget=memory_budget)
        self.update = UPDATES[image_update]
        self.steps, self.readings = FiniteSteps(), Readings(self)
        self.iteration, self.first_step_size, self.resumed = prev_iter, 0.0, False

    @property
    def galaxies(self) -> Galaxies:
        """The galaxies of the running Trainer's data module."""
        return datamodule_of(self.trainer).galaxies

    def setup(self, stage: str) -> None:
        """Read the experts, check that all fits together, and make the first images and step sizes."""
        read_by_checksum(self.trainer)
        if hasattr(self, "images"):
            return  # fit is called once more in a notebook: continue
        settings, galaxies = self.hparams, self.galaxies
        galaxies.require("train", "val")
        self.lr_img = settings["lr_img"]
        if self.lr_img is None:
            self.lr_img = self.update.lr_img(galaxies.resolution)
        self.batch_syn = images_of_a_step(settings, settings["ipc"] * galaxies.num_classes)
        name = None if settings["network"] is None else allow_network(settings["network"])
        self.store = matching_experts(settings["trajectories"], galaxies, {"name": name})
        self.network = network_of(self.store, galaxies)
        if settings["compile"]:
            self.network.derivatives.compile()
        self.augmentation: str = settings["augmentation"] or augmentation_of(self.store)
        if settings["objective"] == "real":
            self.expert_epochs, self.stages = 0, FixedRange(1, 1)
            matching, finish, rate = settings["prev_iter"], settings["iterations"] - settings["prev_iter"], self.lr_img
        else:
            self.expert_epochs = epochs_to_match(settings, self.store, len(galaxies.train))
            self.stages = stages_of(settings, self.store, self.expert_epochs, self.lr_img)
            sizes = settings["syn_steps"], self.batch_syn
            self.segments = Segments(PATHS[settings["path"]](self.store), self.expert_epochs, *sizes, self.augmentation)
            matching, finish, rate = settings["iterations"], settings["finish"], LR_IMG * AT / galaxies.resolution
        self.real = RealGalaxies.of(
            settings, galaxies, self.store.recipe, self.network, self.batch_syn, self.augmentation, self.way
        )
        self.finish = Finish(matching, finish, rate, self.stages)
        images, self.labels = first_images(settings, galaxies, self.store, self.network)
        self.images = nn.Parameter(images)
        number = self.stages.max_start_epoch if settings["step_sizes"] == "independent" else 1
        self.log_step_sizes = nn.Parameter(first_step_sizes(settings["lr_teacher"] or 1.0, number, self.stages.cap).log())
        if settings["lr_label"]:
            self.label_logits = nn.Parameter(logits_of_shares(self.labels))

    def learned(self) -> list[nn.Parameter]:
        """What is learned, in the order of the optimizer's groups."""
        return [self.images, self.log_step_sizes, *([self.label_logits] if self.hparams["lr_label"] else [])]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One SGD with a group for each thing learned: two optimizers would count every iteration twice."""
        return optimizer_of(self.learned(), self.lr_img, self.hparams)

    def configure_callbacks(self) -> list[Callback]:
        """Evaluations, pictures, and the checkpoint to resume from, the last so that it holds the others' records."""
        refuse_trainer(self.trainer, "distill", ("32-true",))  # here, for Lightning's own checks come next
        settings, every = self.hparams, self.hparams["eval_it"]
        evaluation = EvaluateSynthetic(every, settings["num_eval"], settings["epoch_eval_train"], settings["seed"])
        curves, watch = Curves(every), CollapseWatch()
        self.readings.observers = [curves, watch]
        return [*run_bar(self.trainer), evaluation, curves, watch, ResumeCheckpoint(every)]

    def progress(self) -> tuple[float, float, str]:
        """Iterations done, all, and where the run is in words."""
        finishing = self.finish.begun(self.iteration)
        stage = ", on real galaxies" if finishing else f", start epochs below {self.stages.cap}"
        loss = "" if math.isnan(self.readings.last_loss) else f", loss {self.readings.last_loss:.2f}"
        total = self.iteration + self.finish.most(self.iteration)
        return self.iteration, total, f"iteration {self.iteration:,} of {total:,}{stage}{loss}"

    def train_dataloader(self) -> Iterable[int]:
        """One item for each outer iteration to do; what an iteration draws depends on its number alone."""
        return range(self.finish.most(self.iteration))

    def on_fit_start(self) -> None:
        """Refuse to write over a run; find the first step size. One pass over the iterations is all."""
        self.announce()
        self.trainer.fit_loop.max_epochs = 1
        self.labels = self.labels.to(self.device)  # no buffer: DDP would send it in every iteration
        self.readings.wait = may_wait(self.trainer, self.device)
        parts = self.match, type(self.way), type(self.network.module)
        self.matched = matching(self.work, self.hparams, self.device, self.augmentation, self.trainer.world_size, parts)
        if self.resumed:
            if self.trainer.is_global_zero:
                say(f"going on from iteration {self.iteration}")
            return
        ResumeCheckpoint.require_none(self.trainer)
        if self.hparams["lr_teacher"] is None:
            if self.hparams["objective"] == "real":
                alpha = loaded_step_size(self.hparams["load_syn_image"])
            else:
                draws = self.segments, self.stages, *self.current()
                alpha = first_step_size(*draws, self.follow, self.match, self.hparams["seed"])
            self.log_step_sizes.detach().fill_(math.log(alpha))
        self.first_step_size = float(self.log_step_sizes.detach().min().exp())

    def announce(self) -> None:
        """Refuse monitors of other metrics and what does not fit into memory; say what the run does and takes."""
        self.finish.begins(self.iteration)
        refuse_monitors(self.trainer, self.logged())
        theta, shown = self.store.parameters(self.store.experts[0], 0), self.images[: self.batch_syn]
        memory = require_unroll_memory(self.way, self.network, theta, shown, self.hparams)
        if not self.trainer.is_global_zero:
            return
        if self.hparams["objective"] == "match":
            say(describe_matching(self.hparams, self.store, len(self.galaxies.train), self.expert_epochs, self.stages))
        if self.finish.iterations:
            say(f"{self.finish.iterations} iterations of a finish on real galaxies: {self.real}")
        work, disk = cost_of(self.hparams, self.iteration, self.finish, 2 * self.real.window, len(theta), self.images)
        announce(work, memory, disk, self.trainer.default_root_dir)

    def on_train_end(self) -> None:
        """Refuse to end without a single update."""
        self.readings.settle()
        self.steps.require_one()

    def logged(self) -> list[str]:
        """The metrics that the next iteration logs, whatever it draws."""
        probed = self.stages.probe_epoch is not None
        losses = ["real_loss"] if self.finish.begun(self.iteration) else ["loss", *(["probe_loss"] if probed else [])]
        return [*losses, "step_size", "stage", "lr_img", "step"]

    def current(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Images, shape (M, 3, H, W), and labels as they are now, int64, shape (M,), or soft, shape (M, K)."""
        return self.images, self.label_logits.softmax(1) if self.hparams["lr_label"] else self.labels

    def drawn(self, place: int) -> Drawn | RealDrawn:
        """What the student at a place is to do; all that is random depends on iteration and place alone."""
        draws = generator(self.hparams["seed"], "iteration", self.iteration, *([place] if place else []))
        if self.finish.begun(self.iteration):
            return self.real.drawn(len(self.images), draws)
        expert = self.segments.expert(draws)
        number = self.iteration * self.hparams["segments_per_step"] * self.trainer.world_size + place
        start_epoch = self.stages.start_epoch(number, float(torch.rand((), generator=draws)))
        return self.segments.drawn(expert, start_epoch, len(self.images), draws, self.stages.probe_epoch)

    def follow(self, segment: Segment, alpha: torch.Tensor) -> torch.Tensor:
        """Where a student ends that takes its steps with step size alpha, theta_N, shape (P,)."""
        alpha, momentum = alpha.to(self.device), self.hparams["student_momentum"]
        return unroll(self.network, segment.start, segment.batches, segment.labels, alpha, self.way, momentum)

    def step_size(self, start_epoch: float) -> torch.Tensor:
        """Alpha for a start epoch, shape (); it lives in log space, so it can never turn negative."""
        return self.log_step_sizes[min(math.floor(start_epoch), len(self.log_step_sizes) - 1)].exp()

    def training_step(self, batch: int, batch_idx: int) -> None:
        """One outer iteration: images and step size move so that students end nearer to the experts."""
        number = self.hparams["segments_per_step"]  # of this process; all are counted together
        places = range(self.trainer.global_rank * number, (self.trainer.global_rank + 1) * number)
        drawn = [self.drawn(place) for place in places]
        results = [(self.work if isinstance(one, RealDrawn) else self.matched)(one) for one in drawn]
        loss, probe_loss, *gradients = mean_of(results, self.trainer.strategy.reduce)
        verdict = self.move(loss, gradients)
        losses = {math.floor(one.start_epoch): result[0] for one, result in zip(drawn, results, strict=True)}
        alphas = {epoch: self.step_size(epoch).detach() for epoch in losses}
        segments = [(one.expert, one.start_epoch) for one in drawn if isinstance(one, Drawn)]
        self.readings.add("; ".join(one.place for one in drawn), segments, [verdict, loss, probe_loss], losses, alphas)
        if self.readings.due(batch_idx + 1):
            self.readings.settle()
        self.iteration += 1

    def work(self, drawn: Drawn | RealDrawn) -> list[torch.Tensor]:
        """Loss and probe loss of a student, and the gradients of the former: what the device has to do."""
        if isinstance(drawn, RealDrawn):
            return self.real.work(drawn, *self.current(), self.step_size(0), self.learned())
        segment = self.segments.made(drawn, *self.current())
        student = self.follow(segment, self.step_size(segment.start_epoch))
        loss = self.match(student, segment.start, segment.target)
        return [loss.detach(), self.probe(drawn, segment), *torch.autograd.grad(loss, self.learned())]

    @torch.no_grad()
    def probe(self, drawn: Drawn, segment: Segment) -> torch.Tensor:
        """Matching loss from the epoch that is not matched yet, with the last step size, shape (); 0 where there is none."""
        epoch = self.stages.probe_epoch
        if epoch is None:
            return torch.zeros((), device=self.device)
        later = self.segments.later(drawn, segment, epoch)
        return self.match(self.follow(later, self.step_size(epoch - 1)), later.start, later.target)

    def without_way(self, segments: Sequence[tuple[int, float]]) -> str:
        """Which of some segments (expert, start epoch) has no length, so that no loss could be finite; empty if none."""
        for expert, epoch in segments:
            start, target = (self.segments.path.point(expert, epoch + epochs) for epochs in (0, self.expert_epochs))
            if not (start - target).square().sum():
                return (
                    f"Expert {expert} is the same at epochs {epoch:.4g} and {epoch + self.expert_epochs:.4g}: there is "
                    f"nothing to match; 'gz-lightning trajectories check {self.store.folder}' names such experts"
                )
        return ""

    def move(self, loss: torch.Tensor, gradients: list[torch.Tensor]) -> torch.Tensor:
        """Move what is learned; the verdict of :class:`FiniteSteps`."""
        optimizer, learned = self.optimizers(), self.learned()
        assert isinstance(optimizer, LightningOptimizer)
        finishing = self.finish.begun(self.iteration)
        (UPDATES["normalised"] if finishing else self.update)(loss, *gradients)
        for parameter, gradient in zip(learned, gradients, strict=True):
            parameter.grad = gradient
        images, step_sizes = optimizer.param_groups[:2]
        images["lr"] = self.finish.lr_img(self.iteration) if finishing else self.lr_img * self.stages.lr_factor
        if self.hparams["step_sizes"] == "independent":
            step_sizes["lr"] = self.hparams["lr_lr"] * self.stages.lr_lr_factor
        if self.stages.restarts:
            optimizer.optimizer.state.pop(self.images, None)
        return self.steps.step(optimizer, loss, learned)

    def synthetic_set(self) -> SyntheticSet:
        """The distilled set as it is now."""
        used = self.log_step_sizes[: self.stages.cap] if len(self.log_step_sizes) > 1 else self.log_step_sizes
        found = {"lr_img": self.lr_img, "lr_teacher": self.first_step_size, "max_start_epoch": self.stages.max_start_epoch}
        found |= {"expert_epochs": self.expert_epochs, "batch_syn": self.batch_syn or len(self.images)}
        found["init_epoch"] = first_cap(self.hparams, self.expert_epochs, self.stages.max_start_epoch)
        configuration = configuration_of(self.hparams, **found)
        run: dict[str, Any] = {"iteration": self.iteration, "configuration": configuration}
        return set_of(*self.current(), used.exp(), self.galaxies, self.store, self.augmentation, **run)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What Lightning does not keep by itself."""
        checkpoint["distillation"] = {
            "iteration": self.iteration,
            "finished": self.finish.ended(self.iteration),
            "stages": self.stages.state_dict(),
            "finish": self.finish.state_dict(),
            "students": self.students(),
            "first_step_size": self.first_step_size,
            "trajectories": self.store.fingerprint,
            "data": self.galaxies.fingerprint,
        }

    def students(self) -> list[dict[str, Any]]:
        """The pool of the finish, of each process; all of them must ask for it together."""
        pools: list[Any] = [self.real.state()]
        if self.trainer.world_size > 1:
            pools = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(pools, self.real.state())
        return pools

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Resume, if this is the same distillation.

        Raises:
            InputError: If a setting that shapes the images, the experts or the galaxies are not those of the checkpoint.
        """
        now = {"trajectories": self.store.fingerprint, "data": self.galaxies.fingerprint}
        state = same_run(self.trainer.ckpt_path or "the checkpoint", checkpoint, self.hparams, now)
        # Lightning's loops count batches of an epoch; here the iterations count, and a finished run may be made longer.
        del checkpoint["loops"]
        self.resumed = True
        self.iteration, self.first_step_size = state["iteration"], state["first_step_size"]
        self.stages.load_state_dict(state["stages"])
        self.finish.load_state_dict(state["finish"])
        self.real.load_state(state["students"][self.trainer.global_rank % len(state["students"])])
