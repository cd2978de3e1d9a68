"""Real galaxies that a distilled set has to beat: ways to choose ``ipc`` of each leaf.

Herding and k-centre choose in a space of features (Welling 2009; Sener & Savarese 2018): the last hidden layer of an
expert where one is at hand, else standardised pixels.

Shapes: N training galaxies, n of one leaf, K leaves, F features, M = K * ipc images.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.randomness import generator
from gz_lightning.training.protocol import SCORE_BATCH

KMEANS_ROUNDS = 50
PIX_INITS = ("noise", "real", "mean")


def herding(features: torch.Tensor, number: int) -> torch.Tensor:
    """Galaxies whose mean stays nearest to the mean of all (Welling 2009), chosen one after the other.

    Args:
        features: Shape (n, F).
        number: How many to choose, at most n.

    Returns:
        Their places, int64, shape (number,).

    Example:
        >>> herding(torch.tensor([[0.0], [1.0], [2.0], [7.0]]), 2)  # the mean is 2.5
        tensor([2, 1])
    """
    mean, chosen, total = features.mean(0), [], torch.zeros_like(features[0])
    free = torch.ones(len(features), dtype=torch.bool)
    for size in range(1, number + 1):
        distance = ((total + features) / size - mean).square().sum(1)
        chosen.append(int(torch.where(free, distance, torch.inf).argmin()))
        free[chosen[-1]] = False
        total = total + features[chosen[-1]]
    return torch.tensor(chosen)


def k_centre(features: torch.Tensor, number: int) -> torch.Tensor:
    """Galaxies such that none is far from the nearest chosen one: greedily the farthest (Sener & Savarese 2018).

    The first is the one nearest to the mean. Arguments and result as of :func:`herding`.
    """
    chosen = [int((features - features.mean(0)).square().sum(1).argmin())]
    nearest = (features - features[chosen[0]]).square().sum(1)
    while len(chosen) < number:
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (features - features[chosen[-1]]).square().sum(1))
    return torch.tensor(chosen)


def k_means_nearest(features: torch.Tensor, number: int, draws: torch.Generator) -> torch.Tensor:
    """The galaxy nearest to each centre of k-means (Lloyd's rounds from the galaxies of k-centre).

    ``draws`` orders the centres' claims where two have the same nearest galaxy: the later one takes its next nearest.
    Other arguments and the result as of :func:`herding`.
    """
    centres = features[k_centre(features, number)]
    for _ in range(KMEANS_ROUNDS):
        own = torch.cdist(features, centres).argmin(1)
        moved = torch.stack([features[own == i].mean(0) if (own == i).any() else centre for i, centre in enumerate(centres)])
        if torch.equal(moved, centres):
            break
        centres = moved
    distance = torch.cdist(centres, features)
    chosen = torch.empty(number, dtype=torch.int64)
    for i in torch.randperm(number, generator=draws).tolist():
        chosen[i] = distance[i].argmin()
        distance[:, chosen[i]] = torch.inf
    return chosen


def most_confident(galaxies: Galaxies, label: int, number: int) -> torch.Tensor:
    """Places, among the leaf's training galaxies, of those that the volunteers were surest of, shape (number,)."""
    rows = galaxies.train.of_class(label)
    return galaxies.train.confidences[rows, label].argsort(descending=True, stable=True)[:number]


@torch.no_grad()
def hidden_features(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What the last linear layer of a network is given, shape (N, F), of standardised images, shape (N, 3, H, W).

    Raises:
        InputError: If the network has no linear layer.
    """
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise InputError(f"{type(model).__name__} has no linear layer whose input could serve as features")
    seen: list[torch.Tensor] = []
    hook = linear[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten(1).cpu()))
    try:
        for batch in images.split(SCORE_BATCH):
            model(batch)
    finally:
        hook.remove()
    return torch.cat(seen)


Chosen = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Standardised images, shape (M, 3, H, W), leaves, shape (M,), and soft labels from the votes, shape (M, K)."""


def votes_of(galaxies: Galaxies, rows: torch.Tensor) -> torch.Tensor:
    """The volunteers' leaf confidences of training galaxies as soft labels that sum to one, shape (len(rows), K)."""
    confidences = galaxies.train.confidences[rows]
    return confidences / confidences.sum(1, keepdim=True).clamp(min=torch.finfo(confidences.dtype).tiny)


def has_votes(galaxies: Galaxies) -> bool:
    """Whether the packed file holds the volunteers' votes, and not the class folders' ones and zeros alone."""
    confidences = galaxies.train.confidences
    return bool(((confidences > 0) & (confidences < 1)).any())


def initial_images(
    pix_init: str, galaxies: Galaxies, ipc: int, draws: torch.Generator, soft: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """The images that distillation begins with.

    Args:
        pix_init: ``noise`` (normal, mean 0 and standard deviation 1), ``real`` (random training galaxies of the leaf) or
            ``mean`` (means of the leaf's training galaxies, dealt into ``ipc`` groups).
        galaxies: Gives the training galaxies.
        ipc: Images of each leaf.
        draws: Random generator.
        soft: Labels are shares of the votes: those of the galaxies that an image is made of, of noise those of the leaf.

    Returns:
        Standardised pixels, shape (K * ipc, 3, H, W), sorted by leaf; and labels, int64, shape (K * ipc,), or soft ones,
        float32, shape (K * ipc, K).

    Raises:
        InputError: If there is no such initialisation, or a leaf has fewer than ``ipc`` training galaxies.
    """
    if pix_init not in PIX_INITS:
        raise InputError(f"pix_init is one of {', '.join(PIX_INITS)}, not '{pix_init}'")
    labels = torch.arange(galaxies.num_classes).repeat_interleave(ipc)
    images, votes = [], []
    for label, name in enumerate(galaxies.class_names):
        rows = galaxies.train.of_class(label)
        if pix_init == "noise":
            votes += [_votes(galaxies, rows, label)] * ipc
            continue
        if len(rows) < ipc:
            raise InputError(
                f"ipc {ipc} is larger than leaf '{name}', which has {len(rows)} training galaxies in {galaxies.path}; "
                "choose a smaller ipc, or pix_init noise"
            )
        rows = rows[torch.randperm(len(rows), generator=draws)]
        groups = rows[:ipc, None] if pix_init == "real" else rows.tensor_split(ipc)
        images += [galaxies.standardise(galaxies.train.pixels(group)).mean(0) for group in groups]
        votes += [_votes(galaxies, group, label) for group in groups]
    shape = (len(labels), *galaxies.image_shape)
    first = torch.randn(shape, generator=draws) if pix_init == "noise" else torch.stack(images)
    return first, torch.stack(votes) if soft else labels


def _votes(galaxies: Galaxies, rows: torch.Tensor, label: int) -> torch.Tensor:
    """Mean soft label of some training galaxies, shape (K,); of none: all votes for the leaf."""
    if not len(rows):
        return torch.eye(galaxies.num_classes)[label]
    return galaxies.train.soft_labels[rows].mean(0)


def class_means(galaxies: Galaxies, ipc: int, draws: torch.Generator) -> Chosen:
    """Means of the leaf's training galaxies, dealt into ``ipc`` groups; their votes are means as well."""
    images, labels = initial_images("mean", galaxies, ipc, draws)
    votes = [votes_of(galaxies, galaxies.train.of_class(k)).mean(0) for k in range(galaxies.num_classes)]
    return images, labels, torch.stack(votes)[labels]


def _pick(galaxies: Galaxies, ipc: int, choose: Callable[[int, torch.Tensor], torch.Tensor]) -> Chosen:
    rows = []
    for label, name in enumerate(galaxies.class_names):
        own = galaxies.train.of_class(label)
        if len(own) < ipc:
            raise InputError(
                f"{galaxies.path} has {len(own)} training galaxies of leaf '{name}', fewer than the {ipc} images per leaf "
                "of the set; prepare it with more galaxies"
            )
        rows.append(own[choose(label, own)])
    chosen = torch.cat(rows)
    return galaxies.standardise(galaxies.train.images[chosen]), galaxies.train.labels[chosen], votes_of(galaxies, chosen)


BASELINES = ["random real", "class mean", "herding", "k-centre", "k-means-nearest", "most confident", "full data"]
"""The baselines by name."""


def baseline(name: str, galaxies: Galaxies, ipc: int, features: torch.Tensor, seed: int, draw: int = 0) -> Chosen:
    """The images of a baseline.

    Args:
        name: One of ``BASELINES``.
        galaxies: Gives the training galaxies.
        ipc: Images of each leaf; of no account for the full data.
        features: Features of the training galaxies, shape (N, F).
        seed: Seed of all draws.
        draw: Number of the draw.

    Raises:
        InputError: If there is no such baseline, or a leaf has too few galaxies.
    """
    draws = generator(seed, name, draw)
    if name == "class mean":
        return class_means(galaxies, ipc, draws)
    if name == "full data":
        everything = torch.arange(len(galaxies.train))
        images = galaxies.standardise(galaxies.train.images)
        return images, galaxies.train.labels, votes_of(galaxies, everything)
    ways: dict[str, Callable[[int, torch.Tensor], torch.Tensor]] = {
        "random real": lambda _, own: torch.randperm(len(own), generator=draws)[:ipc],
        "herding": lambda _, own: herding(features[own], ipc),
        "k-centre": lambda _, own: k_centre(features[own], ipc),
        "k-means-nearest": lambda _, own: k_means_nearest(features[own], ipc, draws),
        "most confident": lambda label, _: most_confident(galaxies, label, ipc),
    }
    if name not in ways:
        raise InputError(f"there is no baseline '{name}'; the baselines are {', '.join(BASELINES)}")
    return _pick(galaxies, ipc, ways[name])
