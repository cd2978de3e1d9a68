"""``gz-lightning evaluate``: the worth of a distilled set, beside what it has to beat.

Shapes: M images (``ipc`` of each of K leaves), N training galaxies, H x W pixels.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
import torch

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.evaluation.contenders import CHOOSING, Candidate, Contender, Labelled, Outcome, compete
from gz_lightning.evaluation.record import Evaluation
from gz_lightning.evaluation.scores import confusion, label_robust_score, recalls, scores, tree_of
from gz_lightning.evaluation.unfinished import UnfinishedEvaluation
from gz_lightning.experts.teachers import Teacher
from gz_lightning.figures import MOST_IMAGES, at_places, confusion_figure, leaf_figure, save_figure
from gz_lightning.memory import require_memory
from gz_lightning.networks.registry import build_network, check_network, describe_network
from gz_lightning.progress import track
from gz_lightning.sets.coresets import BASELINES, baseline, has_votes, hidden_features
from gz_lightning.sets.sources import Source, read_source
from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.storage.text import naming_file
from gz_lightning.storage.whole import locked
from gz_lightning.training.protocol import Protocol

STEP_SIZES = [0.001, 0.003, 0.01, 0.03, 0.1]
"""Step sizes that a baseline's is chosen from on validation galaxies."""
FULL_BATCH = 64
SOFT_LABELS = ("votes", "expert")
ACROSS = ("distilled, tuned", "class mean", "random real")
"""Sets whose worth is measured on other networks as well."""


def evaluate(
    synthetic: Path,
    data: Path,
    output: Path | None = None,
    num_eval: int = 5,
    epochs: int = 1000,
    draws: int = 5,
    step_sizes: list[float] = STEP_SIZES,
    full_epochs: int = 50,
    baselines: list[str] = BASELINES,
    soft_labels: str | None = None,
    experts: Path | None = None,
    symmetries: int = 1,
    network: str | None = None,
    networks: list[str] | None = None,
    augmentation: str | None = None,
    device: str = "auto",
    deterministic: bool = False,
    seed: int = 0,
) -> Evaluation:
    """Score a distilled set on test galaxies, beside all that it has to beat.

    Fresh networks are trained on each set: SGD with momentum 0.9 and weight decay 5e-4, the step size falling to a tenth
    after half of the epochs. The row "distilled" is the published protocol (mtt): the learned step size and, of several
    sets, the best on the test galaxies themselves. In all other rows (validated) the step size, and of several sets the set,
    is the best on validation galaxies; test galaxies are scored once, at the end, and nothing is chosen on them. Full data
    is the same network trained on all training galaxies with a cosine schedule.

    Interrupted, it goes on where it was when it is run again.

    Args:
        synthetic: The distilled set: a file such as best.h5; a run folder, of which every set is a candidate; a folder with
            a folder of PNGs for each leaf; or images_*.pt of the published code with labels_*.pt beside it.
        data: The packed galaxies that it was distilled from, or others of the same leaves, size and normalisation.
        output: Folder for tables and pictures. Default: evaluation, beside the set.
        num_eval: Fresh networks for each set. Published: 5.
        epochs: Epochs on a small set. Published: 1000.
        draws: Draws of the random real galaxies.
        step_sizes: Step sizes that each is chosen from, besides the learned one of the distilled set.
        full_epochs: Epochs on the full data, with batches of 64. 0 leaves it out.
        baselines: What to compare with: random real, class mean, herding, k-centre, k-means-nearest, most confident, full
            data.
        soft_labels: A column of its own for soft labels: votes (the volunteers', where the packed file has them) or expert
            (the mean of what the experts say). Default: only where the distilled set has soft labels of its own.
        experts: Folder of experts on these galaxies: herding, k-centre and k-means then choose by their features instead
            of by pixels, and soft_labels can be expert.
        symmetries: 8 trains on the eight rotations and reflections of each image of the small sets; 1 as published.
        network: Network to train, such as ConvNetD3 or ConvNetW64. Default: the one the set was distilled for.
        networks: Other networks to train on the distilled set, class means and random galaxies: ConvNet with depth and
            width such as ConvNetD4W64, AlexNet, VGG11, ResNet18, or the path of a class.
        augmentation: galaxy, none, or families of DSA joined by underscores. Default: that of the distillation.
        device: auto, cpu or cuda.
        deterministic: On a GPU, give the same bits every time, which takes longer (of fit and distill it is
            --trainer.deterministic). On a CPU it is always so.
        seed: Seed of the networks and draws.

    Raises:
        InputError: If the set does not fit the galaxies, or a setting is out of its range.

    Example:
        >>> result = evaluate("runs/ipc1/best.h5", "gz2.h5")  # doctest: +SKIP
        >>> result.table, result.scores, result.confusion  # doctest: +SKIP
    """
    synthetic, data = Path(synthetic), Path(data)  # a notebook gives strings
    output, experts = (None if given is None else Path(given) for given in (output, experts))
    settings = {n: str(v) if isinstance(v, Path) else v for n, v in locals().items()}
    _check(settings)
    galaxies = Galaxies(data)
    source = read_source(synthetic, galaxies, network)
    galaxies.require("train", "val", "test")
    teacher = Teacher.read(experts, galaxies) if experts is not None else None
    if soft_labels == "votes" and not has_votes(galaxies):
        raise InputError(
            f"{data} holds no votes of volunteers (its galaxies come from class folders), so soft_labels cannot be votes; "
            "use expert, with the folder of experts"
        )
    others = {name: describe_network(name, galaxies.num_classes, galaxies.resolution) for name in networks or ()}
    for description in [source.sets[0].network, *others.values()]:
        # Before hours of training: is there such a network for such images?
        with naming_file(synthetic) if description is source.sets[0].network else contextlib.nullcontext():
            check_network(build_network(description, seed=0), galaxies.num_classes, galaxies.image_shape)
    if "full data" in baselines and full_epochs:
        pixels = 4 * 3 * len(galaxies.train) * galaxies.resolution**2
        advice = "leave the full data out (--full_epochs 0)"
        require_memory(2 * pixels, "cpu", f"{len(galaxies.train)} standardised training galaxies", advice)
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    folder = (synthetic if synthetic.is_dir() else synthetic.parent) / "evaluation" if output is None else output
    claim = locked(folder / ".lock", f"into {folder}; wait for it, or name another --output")
    with claim, _deterministic(deterministic and where.type == "cuda"):
        return _evaluate(source, galaxies, teacher, others, where, folder, settings)


@contextlib.contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _evaluate(
    source: Source,
    galaxies: Galaxies,
    teacher: Teacher | None,
    others: dict[str, dict[str, Any]],
    where: torch.device,
    folder: Path,
    settings: dict[str, Any],
) -> Evaluation:
    """Train and score all; the arguments are what :func:`evaluate` was given, read and checked."""
    epochs, full_epochs, num_eval, seed = (settings[name] for name in ("epochs", "full_epochs", "num_eval", "seed"))
    baselines, draws, soft_labels = (settings[name] for name in ("baselines", "draws", "soft_labels"))
    symmetries, augmentation, step_sizes = (settings[name] for name in ("symmetries", "augmentation", "step_sizes"))
    first = source.sets[0]
    training = Protocol(epochs=epochs, augmentation=augmentation or first.augmentation, seed=seed, symmetries=symmetries)
    full = replace(training, epochs=max(full_epochs, 1), batch_size=FULL_BATCH, schedule="cosine", symmetries=1)
    ipc = -(-len(first) // galaxies.num_classes)  # labels that are learned need not be as many of each leaf
    features = galaxies.standardise(galaxies.train.images)
    features = hidden_features(teacher.model, features) if teacher is not None else features.flatten(1)
    alphas = sorted(set(step_sizes))
    hard, soft = _distilled(source, alphas, training, num_eval, teacher if soft_labels == "expert" else None)
    real: dict[str, torch.Tensor] = {}
    for name in [name for name in BASELINES if name in baselines and (full_epochs or name != "full data")]:
        chosen = [
            baseline(name, galaxies, ipc, features, seed, draw) for draw in range(draws if name == "random real" else 1)
        ]
        real[name] = chosen[0][0]
        way = full if name == "full data" else training
        sets = [(images, labels) for images, labels, _ in chosen]
        hard.append(_tuned(name, sets, alphas, way, num_eval))
        if soft_labels is not None:
            taught = [(x, teacher.labels(x) if teacher and soft_labels == "expert" else votes) for x, _, votes in chosen]
            soft.append(_tuned(name, taught, alphas, way, num_eval))
    across = [one for one in hard if one.name in ACROSS] if others else []
    total = sum(one.trainings for one in [*hard, *soft]) + len(others) * sum(one.trainings for one in across)
    progress = iter(track(range(total), "training fresh networks", total))
    tick = functools.partial(next, progress, None)
    kept = UnfinishedEvaluation(folder / "unfinished", galaxies.fingerprint, str(where))

    def outcome(one: Contender, network: dict[str, Any]) -> Outcome:
        known = kept.find(one, network)
        if known is None:
            known = compete(one, network, galaxies, where, tick)
            kept.keep(known, network)
        else:
            for _ in range(one.trainings):
                tick()
        return known

    outcomes = [outcome(one, first.network) for one in hard]
    softened = {one.name: outcome(one, first.network) for one in soft}
    matrix = {
        name: {one.name: 100 * outcome(one, description).accuracy for one in across} for name, description in others.items()
    }
    next(progress, None)
    result = _record(outcomes, softened, matrix, galaxies, settings | _made_with(source, galaxies, training))
    shown = _pictures(first, real, galaxies)
    result = replace(result, files=(*result.write(folder), *_figures(result, shown, galaxies.class_names, folder)))
    kept.remove()
    return result


def _check(settings: dict[str, Any]) -> None:
    """Raise InputError where a setting is out of its range."""
    for name in ("num_eval", "epochs", "draws"):
        if settings[name] < 1:
            raise InputError(f"{name} must be at least 1, not {settings[name]}")
    if settings["full_epochs"] < 0:
        raise InputError(f"full_epochs must be at least 0 (which leaves the full data out), not {settings['full_epochs']}")
    if not settings["step_sizes"] or not all(0 < alpha < math.inf for alpha in settings["step_sizes"]):
        raise InputError(f"step_sizes must be positive, and at least one, not {settings['step_sizes']}")
    if unknown := [name for name in settings["baselines"] if name not in BASELINES]:
        raise InputError(f"there is no baseline '{unknown[0]}'; the baselines are {', '.join(BASELINES)}")
    if settings["soft_labels"] not in (None, *SOFT_LABELS):
        raise InputError(f"soft_labels is one of {', '.join(SOFT_LABELS)}, not '{settings['soft_labels']}'")
    if settings["device"] not in ("auto", "cpu", "cuda") or (settings["device"] == "cuda" and not torch.cuda.is_available()):
        found = "with a GPU that torch can use" if settings["device"] == "cuda" else f"not '{settings['device']}'"
        raise InputError(f"device is auto, cpu or cuda, {found}")
    if settings["soft_labels"] == "expert" and settings["experts"] is None:
        raise InputError("soft_labels expert needs the folder of experts (--experts)")


def _tuned(name: str, sets: Sequence[Labelled], alphas: Sequence[float], training: Protocol, networks: int) -> Contender:
    choosing = 1 if name == "full data" else CHOOSING  # its networks differ little, and are dear
    return Contender(name, [Candidate(sets, [alpha]) for alpha in alphas], training, networks, choosing=choosing)


def _distilled(
    source: Source, alphas: Sequence[float], training: Protocol, networks: int, teacher: Teacher | None
) -> tuple[list[Contender], list[Contender]]:
    """The distilled set as published and with its step size tuned; and with soft labels, where it has or gets some."""
    steps = source.sets[0].configuration.get("syn_steps", 0)

    def contenders(labels: Callable[[SyntheticSet], torch.Tensor]) -> list[Contender]:
        sets = [(path.name, own, [(own.images, labels(own))]) for path, own in zip(source.paths, source.sets, strict=True)]
        learned = [Candidate(pair, own.step_sizes.tolist(), name) for name, own, pair in sets if source.learned]
        tuned = [Candidate(pair, [alpha], name) for name, _, pair in sets for alpha in alphas]
        published = [Contender("distilled", learned, training, networks, "mtt", steps)] if learned else []
        return [*published, Contender("distilled, tuned", [*learned, *tuned], training, networks, "validated", steps)]

    if all(own.labels.ndim == 2 for own in source.sets):
        return contenders(lambda own: own.hard_labels), contenders(lambda own: own.labels)
    if teacher is not None:
        return contenders(lambda own: own.hard_labels), contenders(lambda own: teacher.labels(own.images))
    return contenders(lambda own: own.hard_labels), []


def _record(
    outcomes: Sequence[Outcome],
    soft: dict[str, Outcome],
    matrix: dict[str, dict[str, float]],
    galaxies: Galaxies,
    settings: dict[str, Any],
) -> Evaluation:
    labels, tree = galaxies.test.labels, tree_of(galaxies.tree, galaxies.class_names)
    accuracy = {one.contender.name: one.accuracy for one in outcomes}
    rows, scored, tried = [], [], []
    for one in outcomes:
        name = one.contender.name
        row, own = one.row(), {"set": name, **scores(one.test_logits, labels, tree)}
        if soft:
            each = 100 * soft[name].hits.double().mean(2) if name in soft else torch.tensor([torch.nan])
            row |= {"soft": float(each.mean()), "soft spread": float(each.std(correction=0))}
            own["calibration error, soft"] = (
                scores(soft[name].test_logits, labels, tree)["calibration error"] if name in soft else torch.nan
            )
        if "full data" in accuracy:
            own["relative accuracy"] = one.accuracy / accuracy["full data"]
        if {"full data", "random real"} <= set(accuracy) and name not in ("full data", "random real"):
            best = soft if {name, "random real"} <= set(soft) else {o.contender.name: o for o in outcomes}
            own["label-robust score"] = label_robust_score(
                accuracy["full data"], one.accuracy, best[name].accuracy, best["random real"].accuracy
            )
        own |= {f"recall: {leaf}": r for leaf, r in zip(galaxies.class_names, recalls(one.test_logits, labels), strict=True)}
        rows.append(row)
        scored.append(own)
        for kind, o in (("hard", one), ("soft", soft.get(name))):
            for candidate, step, mean in o.tried if o is not None else ():
                choice = {"set": name, "labels": kind, "protocol": one.contender.protocol}
                tried.append({**choice, "candidate": candidate, "step size": step, "accuracy": 100 * mean})
    counts = pd.DataFrame(
        confusion(outcomes[0].test_logits, labels).numpy(), index=galaxies.class_names, columns=galaxies.class_names
    )
    architectures = pd.DataFrame(matrix)
    return Evaluation(pd.DataFrame(rows), pd.DataFrame(scored), counts, pd.DataFrame(tried), architectures, settings)


def _made_with(source: Source, galaxies: Galaxies, training: Protocol) -> dict[str, Any]:
    first = source.sets[0]
    return {
        "sets": [str(path) for path in source.paths],
        "trained": {**first.network, "augmentation": training.augmentation},
        "galaxies": galaxies.fingerprint,
        "galaxies of the distillation": first.data,
        "experts of the distillation": first.trajectories,
        "test galaxies": len(galaxies.test),
        "validation galaxies": len(galaxies.val),
        "versions": {"torch": torch.__version__, "lightning": lightning.__version__},
    }


def _pictures(first: SyntheticSet, real: dict[str, torch.Tensor], galaxies: Galaxies) -> dict[str, torch.Tensor]:
    """Pixels in [0, 1] of the sets to look at, sorted by leaf."""
    shown = {"distilled": at_places(first.denormalised(), first.places_by_leaf(MOST_IMAGES)).flatten(0, 1)}
    return shown | {name: galaxies.denormalise(real[name]) for name in ("class mean", "random real") if name in real}


def _figures(
    result: Evaluation, pictures: dict[str, torch.Tensor], class_names: Sequence[str], folder: Path
) -> tuple[Path, ...]:
    test = result.table.set_index("set")["test"]
    title = ", ".join(f"{name} {test[name]:.1f} %" for name in (*pictures, "full data") if name in test.index)
    leaves = save_figure(leaf_figure(pictures, class_names, title), folder / "leaves.png")
    counts = torch.tensor(result.confusion.to_numpy())
    title = f"{test.index[0]}, {result.table['networks'][0]} networks, test galaxies"
    return leaves, save_figure(confusion_figure(counts, class_names, title), folder / "confusion.png")
