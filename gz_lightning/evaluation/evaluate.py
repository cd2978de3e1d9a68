"""``gz-lightning evaluate``: what a distilled set is worth, beside real galaxies.

Shapes: M images (``ipc`` of each of K leaves), N training galaxies, H x W pixels.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import lightning
import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.evaluation.contenders import FULL_DATA, RANDOM_REAL, Candidate, Contender, Outcome, compete
from gz_lightning.evaluation.cost import announce_networks
from gz_lightning.evaluation.record import Evaluation
from gz_lightning.evaluation.tables import save_figures, tabulated
from gz_lightning.evaluation.unfinished import UnfinishedEvaluation
from gz_lightning.experts.teachers import Teacher
from gz_lightning.figures import MOST_IMAGES, at_places
from gz_lightning.memory import require_memory
from gz_lightning.networks.registry import build_network, check_network, describe_network
from gz_lightning.progress import doing, say, ticking
from gz_lightning.randomness import generator
from gz_lightning.sets.coresets import ALIASES, CORESETS, Chosen, Features, coreset, galaxies_at, hidden_features
from gz_lightning.sets.sources import read_sets, unfinished
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.settings import AnyPath, NonNegativeInt, PositiveFloat, PositiveInt, check_name, checked
from gz_lightning.storage.text import naming_file
from gz_lightning.storage.whole import locked
from gz_lightning.training.protocol import SCORE_BATCH, Protocol

BASELINES = ["random real", "class mean", "herding", "k-centre", "k-means-nearest", "most confident", "full data"]
"""The baselines by default: all that there are, as literals, for the command line reads them without importing this."""
STEP_SIZES = [0.001, 0.003, 0.01, 0.03, 0.1]
"""Step sizes that a baseline's is chosen from on validation galaxies."""
FULL_BATCH = 64
ACROSS = ("distilled, tuned", "class mean", RANDOM_REAL)
"""Sets that other networks are trained on as well."""


@checked
def evaluate(
    synthetic: AnyPath,
    data: AnyPath,
    output: AnyPath | None = None,
    num_eval: PositiveInt = 5,
    epochs: PositiveInt = 1000,
    draws: PositiveInt = 5,
    step_sizes: list[PositiveFloat] = STEP_SIZES,
    full_epochs: NonNegativeInt = 50,
    baselines: list[str] = BASELINES,
    soft_labels: Literal["votes", "expert"] | None = None,
    experts: AnyPath | None = None,
    symmetries: Literal[1, 8] = 1,
    network: str | None = None,
    networks: list[str] | None = None,
    augmentation: str | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    deterministic: bool = False,
    seed: int = 0,
) -> Evaluation:
    """Score a distilled set on test galaxies, beside everything it has to beat.

    Fresh networks are trained on each set: SGD with momentum 0.9 and weight decay 5e-4; the step size falls to a tenth
    after half of the epochs. The row "distilled" is the published protocol (mtt): the learned step size and, of several
    sets, the best on the test galaxies themselves. In all other rows (validated) the step size and the set are chosen on
    validation galaxies; the test galaxies are scored once, at the end, and nothing is chosen on them. Full data is the same
    network trained on all training galaxies with a cosine schedule.

    An interrupted evaluation resumes when it is run again.

    Args:
        synthetic: The distilled set: a file such as best.h5; a run folder, of which every set is a candidate; a folder with
            a folder of PNGs for each leaf; or images_*.pt of the published code with labels_*.pt (and lr_*.pt) beside it.
        data: The packed galaxies that it was distilled from, or others with the same leaves and size: those are standardised
            as the set is, baselines too.
        output: Folder for tables and pictures. Default: evaluation, beside the set; for a folder of images its name with
            _evaluation, beside it.
        num_eval: Fresh networks for each set. Published: 5.
        epochs: Epochs on a small set. Published: 1000.
        draws: Draws of the random real galaxies.
        step_sizes: Step sizes to choose from, besides the learned one of the distilled set.
        full_epochs: Epochs on the full data, with batches of 64. 0 leaves it out.
        baselines: What to compare with: random real, class mean, herding, k-centre, k-means-nearest, most confident (or
            any other coreset), full data.
        soft_labels: Add a column for soft labels: votes (the volunteers', where the packed file has them) or expert (the
            mean of the experts' probabilities). Default: only where the distilled set has soft labels.
        experts: Folder of experts on these galaxies: herding, k-centre and k-means then compare their features instead of
            pixels, and soft_labels can be expert.
        symmetries: 8 trains on the eight rotations and reflections of each image of the small sets; 1 as published.
        network: Network to train, such as ConvNetD3 or ConvNetW64. Default: the one the set was distilled for.
        networks: Other networks to train on the distilled set, class means and random galaxies: ConvNet with depth and
            width such as ConvNetD4W64, AlexNet, VGG11, ResNet18, or the path of a class.
        augmentation: galaxy, none, or families of DSA joined by underscores. Default: that of the distillation.
        device: auto, cpu or cuda.
        deterministic: On a GPU, give the same bits every time, which takes longer (for fit and distill:
            --trainer.deterministic). A CPU always does.
        seed: Seed of the networks and draws.

    Raises:
        InputError: If the set does not fit the galaxies, or a setting is out of its range.

    Example:
        >>> galaxies = Galaxies("gz2.h5")  # doctest: +SKIP
        >>> result = evaluate("runs/ipc1/best.h5", galaxies, baselines=["herding"])  # doctest: +SKIP
        >>> result.table, result.scores, result.confusion  # doctest: +SKIP
    """
    _check_names(step_sizes, baselines, device, soft_labels, experts)
    galaxies = data if isinstance(data, Galaxies) else Galaxies(data)
    path = Path(synthetic) if Path(synthetic).name not in ("", "..") else Path(synthetic).resolve()
    sets = read_sets(path, galaxies, network)
    galaxies.require("train", "val", "test")
    teacher = None if experts is None else Teacher.read(Path(experts), galaxies)
    if soft_labels == "votes" and not galaxies.has_votes:
        raise InputError(
            f"{galaxies.path} holds no votes of volunteers (its galaxies come from class folders), so soft_labels cannot be "
            "votes; use expert, with the folder of experts"
        )
    first = next(iter(sets.values()))
    packed, galaxies = galaxies, first.standardised(galaxies, path)
    if experts is not None and galaxies is not packed:
        raise InputError(
            f"--experts cannot be used with a set whose mean and standard deviation are not those of {packed.path}: the "
            "experts know galaxies that were standardised otherwise"
        )
    with naming_file(path):
        _check_network(first.network, galaxies)
    others = {name: describe_network(name, galaxies.num_classes, galaxies.resolution) for name in networks or ()}
    for description in others.values():
        _check_network(description, galaxies)
    rivals = {ALIASES.get(name, name) for name in baselines} - (set() if full_epochs else {FULL_DATA})
    if FULL_DATA in rivals:
        pixels = 4 * 3 * len(galaxies.train) * galaxies.resolution**2
        advice = "leave the full data out (--full_epochs 0)"
        require_memory(2 * pixels, "cpu", f"{len(galaxies.train)} standardised training galaxies", advice)
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    among = next(iter(sets)).parent / "evaluation"  # the sets of a run, but not the images of a folder
    usual = path.with_name(f"{path.name}_evaluation") if path in sets and path.is_dir() else among
    folder = usual if output is None else Path(output)
    remarks = _remarks(sets, galaxies)
    for remark in remarks:
        say(remark)
    claim = locked(folder / ".lock", f"into {folder}; wait for it, or name another --output")
    with claim, _deterministic_algorithms(deterministic and where.type == "cuda"):
        alphas = sorted(set(step_sizes))
        training = Protocol(epochs=epochs, augmentation=augmentation or first.augmentation, seed=seed, symmetries=symmetries)
        ipc = math.ceil(len(first) / galaxies.num_classes)  # a leaf may have fewer, as learned labels move
        features = None if teacher is None else hidden_features(teacher.model, galaxies)
        with doing("choosing real galaxies to compare with"):
            real = _real_sets(rivals, galaxies, ipc, draws, features, seed)
        distilled = functools.partial(_distilled, sets, alphas=alphas, training=training, networks=num_eval)
        beside = functools.partial(
            _baselines, real, alphas=alphas, training=training, full_epochs=full_epochs, networks=num_eval
        )
        hard = [*distilled(lambda one: one.hard_labels), *beside(lambda chosen: chosen.labels)]
        soft: list[Contender] = []
        expert = teacher if soft_labels == "expert" else None
        if all(one.labels.ndim == 2 for one in sets.values()):
            soft += distilled(lambda one: one.labels)
        elif expert is not None:
            soft += distilled(lambda one: expert.labels(one.images))
        if soft_labels == "votes":
            soft += beside(lambda chosen: chosen.soft_labels)
        elif expert is not None:
            soft += beside(lambda chosen: expert.labels(chosen.images))
        planned = [*hard, *soft, *(one.only(one.candidates[0].name) for one in hard if one.name in ACROSS for _ in others)]
        announce_networks(planned, first.network, where, folder)
        kept = UnfinishedEvaluation(folder / "unfinished", _content(galaxies), str(where))
        outcomes = iter(_scored([(one, first.network) for one in [*hard, *soft]], galaxies, where, kept))
        scored = {one.name: next(outcomes) for one in hard}
        scored_soft = {one.name: next(outcomes) for one in soft}
        across = [one.only(scored[one.name].chosen.name) for one in hard if one.name in ACROSS]
        jobs = [(one, description) for description in others.values() for one in across]
        outcomes = iter(_scored(jobs, galaxies, where, kept))
        settings = {
            "synthetic": str(path), "data": str(galaxies.path), "output": None if output is None else str(output),
            "num_eval": num_eval, "epochs": epochs, "draws": draws, "step_sizes": list(step_sizes),
            "full_epochs": full_epochs, "baselines": list(baselines), "soft_labels": soft_labels,
            "experts": None if experts is None else str(experts), "symmetries": symmetries, "network": network,
            "networks": networks, "augmentation": augmentation, "device": device, "deterministic": deterministic,
            "seed": seed,
        }  # fmt: skip
        result = tabulated(
            scored,
            scored_soft,
            {name: {one.name: 100 * next(outcomes).accuracy for one in across} for name in others},
            galaxies,
            settings | _made_with(sets, galaxies, training) | {"remarks": remarks},
        )
        by_name = {file.name: one for file, one in sets.items()}
        shown, drawn = dict[str, torch.Tensor](), set[str]()
        for row, file in result.distilled.items():
            if file not in drawn:
                drawn.add(file)
                shown[row] = at_places(by_name[file].denormalised(), by_name[file].places_by_leaf(MOST_IMAGES)).flatten(0, 1)
        shown |= {name: galaxies.denormalise(real[name][0].images) for name in ("class mean", RANDOM_REAL) if name in real}
        files = *result.write(folder), *save_figures(result, shown, galaxies.class_names, folder)
        kept.remove()
        return replace(result, files=files)


def _check_names(
    step_sizes: Sequence[float], baselines: Sequence[str], device: str, soft_labels: str | None, experts: AnyPath | None
) -> None:
    """Raise InputError where settings are wrong in a way that their types cannot say."""
    if not step_sizes:
        raise InputError("--step_sizes must list at least one step size")
    for name in baselines:
        check_name("--baselines", name, (*CORESETS, FULL_DATA, *ALIASES))
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda needs a GPU that torch can use")
    if soft_labels == "expert" and experts is None:
        raise InputError("--soft_labels expert needs the folder of experts (--experts)")


def _check_network(description: Mapping[str, Any], galaxies: Galaxies) -> None:
    """Before hours of training: is there such a network for such images?"""
    check_network(build_network(description, seed=0), galaxies.num_classes, galaxies.image_shape)


@contextlib.contextmanager
def _deterministic_algorithms(on: bool) -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _real_sets(
    names: set[str], galaxies: Galaxies, ipc: int, draws: int, features: Features | None, seed: int
) -> dict[str, list[Chosen]]:
    """The draws of each baseline, in the order of the table."""
    real = {}
    for name in [name for name in CORESETS if name in names]:
        seeds = [generator(seed, name, draw) for draw in range(draws if name == RANDOM_REAL else 1)]
        real[name] = [coreset(name, galaxies, ipc, draw, features) for draw in seeds]
    if FULL_DATA in names:
        real[FULL_DATA] = [galaxies_at(galaxies, torch.arange(len(galaxies.train)))]
    return real


def _distilled(
    sets: Mapping[Path, SyntheticSet],
    labels: Callable[[SyntheticSet], torch.Tensor],
    alphas: Sequence[float],
    training: Protocol,
    networks: int,
) -> list[Contender]:
    """The distilled sets as published (if they have learned step sizes), and with the step size tuned."""
    steps = next(iter(sets.values())).configuration.get("syn_steps", 0)
    pairs = {path.name: [(one.images, labels(one))] for path, one in sets.items()}
    tuned = [Candidate(pair, [alpha], name) for name, pair in pairs.items() for alpha in alphas]
    if not all(len(one.step_sizes) for one in sets.values()):
        return [Contender("distilled, tuned", tuned, training, networks, syn_steps=steps)]
    learned = [Candidate(pairs[path.name], one.step_sizes.tolist(), path.name) for path, one in sets.items()]
    return [
        Contender("distilled", learned, training, networks, "mtt", steps),
        Contender("distilled, tuned", [*learned, *tuned], training, networks, syn_steps=steps),
    ]


def _baselines(
    real: Mapping[str, Sequence[Chosen]],
    labels: Callable[[Chosen], torch.Tensor],
    alphas: Sequence[float],
    training: Protocol,
    full_epochs: int,
    networks: int,
) -> list[Contender]:
    """Each baseline with its step size tuned."""
    full = replace(training, epochs=max(full_epochs, 1), batch_size=FULL_BATCH, schedule="cosine", symmetries=1)
    contenders = []
    for name, drawn in real.items():
        pairs = [(chosen.images, labels(chosen)) for chosen in drawn]
        candidates = [Candidate(pairs, [alpha]) for alpha in alphas]
        if name == FULL_DATA:  # its networks differ little, and are expensive
            contenders.append(Contender(name, candidates, full, networks, choosing=1))
        else:
            contenders.append(Contender(name, candidates, training, networks))
    return contenders


def _scored(
    jobs: Sequence[tuple[Contender, Mapping[str, Any]]],
    galaxies: Galaxies,
    device: torch.device,
    kept: UnfinishedEvaluation,
) -> list[Outcome]:
    """Train and score contenders, each with a network; those that an interrupted evaluation has scored are read."""
    outcomes: list[Outcome] = []
    if not jobs:
        return outcomes
    networks = sum(contender.trainings for contender, _ in jobs)
    seen = sum(contender.trainings * contender.seen for contender, _ in jobs)
    with ticking("fresh networks", networks, work=seen) as tick:
        for contender, network in jobs:
            one = functools.partial(tick, of=contender.name, weight=contender.seen)
            outcome = kept.find(contender, network)
            if outcome is None:
                outcome = compete(contender, network, galaxies, device, one)
                kept.keep(outcome, network)
            else:
                one(contender.trainings)
            outcomes.append(outcome)
    return outcomes


def _content(galaxies: Galaxies) -> str:
    """What outcomes depend on: the galaxies and how they are standardised."""
    return f"{galaxies.fingerprint} {galaxies.mean.tolist()} {galaxies.std.tolist()}"


def _remarks(sets: Mapping[Path, SyntheticSet], galaxies: Galaxies) -> list[str]:
    """What to know about the sets beside their scores."""
    remarks = []
    first = next(iter(sets.values()))
    if first.data and first.data != galaxies.fingerprint:
        remarks.append(
            f"galaxies: others than those of the distillation ({galaxies.path.name}); all are standardised with the mean "
            "and standard deviation of the set"
        )
    if any(path.suffix == ".h5" for path in sets) and (state := unfinished(next(iter(sets)).parent)):
        remarks.append(state)
    pixels = {path: [row.numpy().tobytes() for row in one.pixels] for path, one in sets.items()}
    among_test, all_pixels = set[bytes](), {row for rows in pixels.values() for row in rows}
    for places in torch.arange(len(galaxies.test)).split(SCORE_BATCH):
        among_test |= all_pixels & {row.numpy().tobytes() for row in galaxies.test.pixels(places)}
    for path, one in sets.items():
        if same := sum(row in among_test for row in pixels[path]):
            remarks.append(f"{path.name}: {same} of its {len(one)} images are the very pixels of test galaxies")
    return remarks


def _made_with(sets: Mapping[Path, SyntheticSet], galaxies: Galaxies, training: Protocol) -> dict[str, Any]:
    """What the record says beside the settings."""
    first = next(iter(sets.values()))
    return {
        "sets": {path.name: one.digest for path, one in sets.items()},
        "trained": {**first.network, "augmentation": training.augmentation},
        "galaxies": galaxies.fingerprint,
        "galaxies of the distillation": first.data,
        "experts of the distillation": first.trajectories,
        "test galaxies": len(galaxies.test),
        "validation galaxies": len(galaxies.val),
        "versions": {"torch": torch.__version__, "lightning": lightning.__version__},
    }
