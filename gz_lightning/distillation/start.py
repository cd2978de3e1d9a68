"""What a distillation starts from: settings that go together, experts that fit the galaxies, first images and step sizes.

Shapes: M images (``ipc`` of each of K leaves), P parameters, S step sizes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from gz_lightning.augmentation import check_strategy
from gz_lightning.cost import counted
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.distillation.defaults import first_cap, steps_matched
from gz_lightning.distillation.matching import MATCHES, Match, Segment, Segments, matching_loss
from gz_lightning.distillation.real import STUDENT_MOMENTUM, window_of
from gz_lightning.distillation.stages import STAGES, FixedRange
from gz_lightning.distillation.unroll import MEMORY_BUDGET, UNROLLS, Unroll
from gz_lightning.distillation.updates import UPDATES
from gz_lightning.errors import InputError
from gz_lightning.experts.paths import PATHS
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.memory import require_memory
from gz_lightning.networks.derivatives import Network
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.networks.registry import check_network
from gz_lightning.progress import say, track
from gz_lightning.randomness import generator
from gz_lightning.sets.coresets import initial_images, pix_inits
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.settings import check_name
from gz_lightning.storage.text import naming_file

STEP_SIZE_GRID = tuple(float(f"{x:.3g}") for x in torch.logspace(-4, -1, 13).tolist())
"""1e-4 to 0.1, four a decade."""
SEARCH_SEGMENTS = 12
LEAST_SHARE = 1e-3
"""A leaf that no volunteer chose gets this share before the logarithm, so that it can be learned."""
FREE_TO_CHANGE = (
    *("trajectories", "iterations", "eval_it", "num_eval", "epoch_eval_train", "load_syn_image", "finish"),
    *("unroll", "memory_budget", "compile", "graph"),  # but for rounding
)
"""Settings that a resumed run may change: they do not shape the images, or are checked by fingerprint."""


def check_together(settings: Mapping[str, Any]) -> None:
    """Refuse what the types of the settings cannot: names that no table has, and settings that contradict each other.

    Args:
        settings: Settings of a :class:`gz_lightning.distillation.module.TrajectoryMatching` by name.

    Raises:
        InputError: With the flag.
    """
    tables: dict[str, Iterable[str]] = {
        "path": PATHS,
        "match": MATCHES,
        "stage": STAGES,
        "unroll": UNROLLS,
        "image_update": UPDATES,
        "pix_init": pix_inits(),
    }
    for name, table in tables.items():
        check_name(f"--model.{name}", settings[name], table)
    if settings["augmentation"] is not None:
        check_strategy(settings["augmentation"])
    if settings["prev_iter"] >= settings["iterations"]:
        raise InputError(
            f"--model.iterations ({settings['iterations']}) must be more than --model.prev_iter ({settings['prev_iter']})"
        )
    if settings["labels"] == "hard" and settings["lr_label"]:
        raise InputError("--model.lr_label: hard labels are not learned; choose --model.labels experts or votes")
    alphas = settings["lr_teacher"]
    if isinstance(alphas, list) and settings["step_sizes"] == "global" and len(alphas) != 1:
        raise InputError(f"--model.lr_teacher lists {len(alphas)} step sizes, but --model.step_sizes global has one")


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In words, settings that shape the images and are not what they were."""
    return [
        f"{name} was {then.get(name)} and is {value} now"
        for name, value in now.items()
        if name not in FREE_TO_CHANGE and then.get(name) != value
    ]


def same_run(
    path: str | os.PathLike[str], checkpoint: Mapping[str, Any], settings: Mapping[str, Any], fingerprints: Mapping[str, str]
) -> dict[str, Any]:
    """The state of the distillation in a checkpoint, once it is known to be of this run.

    Args:
        path: The checkpoint, for the message.
        checkpoint: Its content.
        settings: Settings of this run by name.
        fingerprints: Of its ``trajectories`` and ``data``.

    Raises:
        InputError: If a setting that shapes the images, the experts or the galaxies are not those of the checkpoint.
    """
    if "distillation" not in checkpoint:
        raise InputError(f"{path} is no checkpoint of 'gz-lightning distill'; leave out --ckpt_path to start anew")
    state: dict[str, Any] = checkpoint["distillation"]
    changed = changes(checkpoint["hyper_parameters"], settings)
    changed += [f"the {name} are others" for name, fingerprint in fingerprints.items() if state[name] != fingerprint]
    if changed:
        raise InputError(f"{path} is of another run: {'; '.join(changed)}; name another --run_dir")
    return state


def network_of(store: TrajectoryStore, galaxies: Galaxies) -> FunctionalNetwork:
    """The experts' network as a function of its parameters.

    Raises:
        InputError: If it cannot be built, or does not take these galaxies.
    """
    with naming_file(store.folder):
        network = store.network()
        check_network(network, galaxies.num_classes, galaxies.image_shape)
        return FunctionalNetwork(network)


def augmentation_of(store: TrajectoryStore) -> str:
    """The augmentation that experts were trained with.

    Raises:
        InputError: If they do not say, or there is no such augmentation.
    """
    strategy = store.recipe.training.get("augmentation")
    if not isinstance(strategy, str):
        raise InputError(f"the experts in {store.folder} do not say their augmentation; give --model.augmentation")
    with naming_file(store.folder):
        return check_strategy(strategy)


def epochs_to_match(settings: Mapping[str, Any], store: TrajectoryStore, galaxies: int) -> int:
    """Epochs m to match: ``expert_epochs`` or those in which an expert takes five or ten times ``syn_steps`` steps.

    Args:
        settings: Settings of the distillation by name.
        store: The experts; m is at most a third of their trajectory, where it is not given.
        galaxies: Number of their training galaxies.

    Raises:
        InputError: If the experts do not say how large their batches were.
    """
    if settings["expert_epochs"] is not None:
        return int(settings["expert_epochs"])
    steps = store.recipe.steps_per_epoch(galaxies)
    if steps is None:
        batch_size, rotations = (store.recipe.training.get(name) for name in ("batch_size", "rotations"))
        raise InputError(
            f"the experts in {store.folder} do not say how many steps an epoch took (batch_size {batch_size!r:.40}, "
            f"rotations {rotations!r:.40}), as imported ones do not; give --model.expert_epochs"
        )
    syn_steps: int = settings["syn_steps"]
    return max(1, min(round(steps_matched(settings) * syn_steps / steps), store.num_epochs // 3))


def describe_matching(
    settings: Mapping[str, Any], store: TrajectoryStore, galaxies: int, epochs: int, stages: FixedRange
) -> str:
    """In words, what an iteration matches, in epochs and in steps of the expert.

    Args:
        settings: Settings of the distillation by name.
        store: The experts.
        galaxies: Number of their training galaxies.
        epochs: Epochs to match.
        stages: Rule of the start epochs.
    """
    steps = store.recipe.steps_per_epoch(galaxies)
    in_steps = "" if steps is None else f" ({counted(epochs * steps, 'step')})"
    until = "" if stages.cap == stages.max_start_epoch else f", later up to {stages.max_start_epoch}"
    matched = f"{counted(epochs, 'epoch')}{in_steps}"
    of, by = counted(len(store), "expert"), counted(settings["syn_steps"], "step")
    return (
        f"each iteration matches {matched} of one of {of} by {by} of a student; start epochs below {stages.cap}{until} of "
        f"{store.num_epochs}"
    )


def stages_of(settings: Mapping[str, Any], store: TrajectoryStore, expert_epochs: int, lr_img: float) -> FixedRange:
    """The rule of the start epochs, of those that the experts have.

    Args:
        settings: Settings of a :class:`gz_lightning.distillation.module.TrajectoryMatching` by name.
        store: The experts.
        expert_epochs: Epochs to match from a start epoch, m.
        lr_img: Step size on the images.

    Raises:
        InputError: If max_start_epoch or init_epoch is beyond the trajectories, or the rule has no end with such an lr_img.
    """
    last_start = store.num_epochs - expert_epochs
    max_start_epoch = last_start if settings["max_start_epoch"] is None else settings["max_start_epoch"]
    if not 1 <= max_start_epoch <= last_start:
        raise InputError(
            f"max_start_epoch ({max_start_epoch}) must be at least 1 and, with expert_epochs ({expert_epochs}), "
            f"within the {store.num_epochs} epochs of {store.folder}"
        )
    return STAGES[settings["stage"]](
        first_cap(settings, expert_epochs, max_start_epoch),
        max_start_epoch,
        settings["start_epochs"],
        settings["sigma_threshold"],
        settings["max_duration"],
        lr_img,
    )


def first_images(
    settings: Mapping[str, Any], galaxies: Galaxies, store: TrajectoryStore, network: Network
) -> tuple[torch.Tensor, torch.Tensor]:
    """The images and labels that a distillation begins with: a coreset, noise, or a loaded set.

    Returns:
        Standardised pixels, shape (M, 3, H, W), and labels, int64, shape (M,), or soft, shape (M, K).

    Raises:
        InputError: If a leaf has too few galaxies, or the loaded set does not fit.
    """
    if settings["load_syn_image"] is not None:
        soft = {"hard": False, "votes": True, "experts": None}[settings["labels"]]
        images, labels = loaded_images(settings["load_syn_image"], galaxies, settings["ipc"], soft)
    else:
        draws, votes = generator(settings["seed"], "images"), settings["labels"] == "votes"
        images, labels = initial_images(settings["pix_init"], galaxies, settings["ipc"], draws, votes)
    if settings["labels"] == "experts" and labels.ndim == 1:
        ends = [store.parameters(expert, store.num_epochs) for expert in store.experts]
        labels = logits_of_experts(network, ends, images, labels).softmax(1)
    return images, labels


def loaded_images(path: str, galaxies: Galaxies, ipc: int, soft: bool | None = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels of a distilled set to begin with; ``soft`` None: labels as they are.

    Raises:
        InputError: If the set does not fit the galaxies, has not ``ipc`` images of each leaf, or lacks soft labels that are
            asked for.
    """
    loaded = SyntheticSet.load(path)
    loaded.check_fits(galaxies, path)
    if len(loaded) != ipc * galaxies.num_classes:
        raise InputError(
            f"{path} holds {len(loaded)} images; ipc {ipc} of {galaxies.num_classes} leaves are {ipc * galaxies.num_classes}"
        )
    if soft and loaded.labels.ndim == 1:
        raise InputError(f"{path} has no soft labels; distil it with --model.labels hard")
    return loaded.images, loaded.hard_labels if soft is False else loaded.labels


@torch.no_grad()
def logits_of_experts(
    network: Network, thetas: Sequence[torch.Tensor], images: torch.Tensor, leaves: torch.Tensor
) -> torch.Tensor:
    """Soft labels of trained experts as logits (DATM, Guo et al. 2024): the mean over the experts.

    Where they take an image for another leaf, the logits of the two leaves change places: the leaf stays the most likely.
    (DATM takes one expert and only images that it classifies rightly.)

    Args:
        network: Function (theta, images) -> logits.
        thetas: Parameters of experts at the end of their training, each of shape (P,).
        images: Standardised pixels, shape (M, 3, H, W).
        leaves: int64, shape (M,).

    Returns:
        Shape (M, K).
    """
    logits = torch.stack([network(theta, images) for theta in thetas]).mean(0)
    rows, likeliest = torch.arange(len(logits)), logits.argmax(1)
    swapped = logits.clone()
    swapped[rows, leaves], swapped[rows, likeliest] = logits[rows, likeliest], logits[rows, leaves]
    return swapped


def logits_of_shares(shares: torch.Tensor) -> torch.Tensor:
    """Logits whose softmax gives soft labels, shape (M, K): learned as logits, labels stay shares after any update."""
    return shares.clamp(min=LEAST_SHARE).log()


def first_step_sizes(alphas: float | Sequence[float], number: int, first_stage: int) -> torch.Tensor:
    """The step sizes that a distillation begins with.

    Args:
        alphas: One number, or one for each start epoch of the first stage.
        number: S: one, or one for each start epoch there can be.
        first_stage: Start epochs of the first stage.

    Returns:
        Shape (S,). Later start epochs begin with the last step size of the list.

    Raises:
        InputError: If a list has the wrong length.
    """
    needed = min(first_stage, number)
    first = [float(alphas)] * needed if isinstance(alphas, (int, float)) else [float(alpha) for alpha in alphas]
    if len(first) != needed:
        raise InputError(
            f"lr_teacher lists {len(first)} step sizes, but the first stage has {needed} to learn; give as many "
            "(with step_sizes independent one for each start epoch, with global one), or one number for all"
        )
    return torch.tensor(first + [first[-1]] * (number - needed))


@torch.no_grad()
def first_step_size(
    segments: Segments,
    stages: FixedRange,
    images: torch.Tensor,
    labels: torch.Tensor,
    student: Callable[[Segment, torch.Tensor], torch.Tensor],
    match: Match,
    seed: int,
) -> float:
    """The step size that brings the first images nearest to the experts, from ``SEARCH_SEGMENTS`` segments.

    Args:
        segments: Draws the segments.
        stages: Rule of the start epochs.
        images: First images, shape (M, 3, H, W).
        labels: Their labels.
        student: Function (segment, alpha) -> theta_N, shape (P,).
        match: The matching loss.
        seed: Seed of the draws.
    """
    draws, places = generator(seed, "step size"), []
    for i in range(SEARCH_SEGMENTS):
        start_epoch = stages.start_epoch(i, float(torch.rand((), generator=draws)))
        places.append((segments.expert(draws), start_epoch))
    drawn = (
        segments.at(*place, images, labels, generator(seed, "step size", i))
        for i, place in enumerate(track(places, "first step size, segments tried", len(places), quiet=True))
    )
    alpha, losses = search_step_size(drawn, lambda segment, alpha: student(segment, torch.tensor(alpha)), match)
    say(f"first step size {alpha:.3g}: matching loss {losses[alpha]:.3f}")
    return alpha


@torch.no_grad()
def search_step_size(
    segments: Iterable[Segment],
    student: Callable[[Segment, float], torch.Tensor],
    match: Match = matching_loss,
    grid: Sequence[float] = STEP_SIZE_GRID,
) -> tuple[float, dict[float, float]]:
    """The step size at which the images, as they are, come nearest to the experts.

    Args:
        segments: What students follow.
        student: Function (segment, alpha) -> theta_N, shape (P,): an unroll with step size alpha.
        match: The matching loss.
        grid: Step sizes to try.

    Returns:
        The one of least mean matching loss, and the mean matching loss of each.
    """
    losses: dict[float, list[torch.Tensor]] = {alpha: [] for alpha in grid}
    for segment in segments:
        for alpha in grid:
            losses[alpha].append(match(student(segment, alpha), segment.start, segment.target))
    means = {alpha: float(torch.stack(values).mean()) for alpha, values in losses.items()}
    return min(means, key=lambda alpha: means[alpha] if math.isfinite(means[alpha]) else math.inf), means


def require_unroll_memory(
    way: Unroll, network: Network, theta: torch.Tensor, images: torch.Tensor, settings: Mapping[str, Any]
) -> float:
    """Refuse an unroll that cannot fit into memory, before hours of work; the bytes that it takes at least.

    Args:
        way: How to differentiate.
        network: The network.
        theta: Parameters, shape (P,).
        images: A minibatch, on the device.
        settings: Settings of the distillation by name.

    Raises:
        InputError: If it cannot.
    """
    advice = "take fewer --model.syn_steps or a smaller --model.batch_syn"
    if settings["unroll"] == "full":
        advice = f"{advice}, or --model.unroll adjoint, which keeps least"
    elif settings["memory_budget"] > MEMORY_BUDGET:
        advice = f"{advice}, or a smaller --model.memory_budget"
    real = settings["objective"] == "real"
    steps = window_of(settings) if real else settings["syn_steps"]
    what = f"{steps} steps of {len(images)} images (unroll {settings['unroll']})"
    momentum = STUDENT_MOMENTUM if real else settings["student_momentum"]
    least = way.least_memory(network, theta, images, steps, momentum)
    require_memory(least, images.device, what, advice)
    return least
