"""Coresets: ``ipc`` images of each leaf made of real galaxies, to distil from or to compare with.

Put a function into ``CORESETS`` and its name works as ``pix_init`` and as a baseline of ``evaluate``.

Shapes: N training galaxies, n of one leaf, K leaves, F features, M = K * ipc images of 3 x H x W pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.settings import check_name
from gz_lightning.training.protocol import SCORE_BATCH

KMEANS_ROUNDS = 50


class Chosen(NamedTuple):
    """What a coreset consists of, sorted by leaf.

    Attributes:
        images: Standardised pixels, float32, shape (M, 3, H, W).
        labels: Leaves, int64, shape (M,).
        soft_labels: The volunteers' shares for each leaf, float32, shape (M, K).
    """

    images: torch.Tensor
    labels: torch.Tensor
    soft_labels: torch.Tensor


Features = Callable[[torch.Tensor], torch.Tensor]
"""Places of training galaxies, int64, shape (n,) -> their features, shape (n, F). A coreset that needs none never asks."""
Coreset = Callable[[Galaxies, int, torch.Generator, Features], Chosen]
"""(galaxies, ipc, draws, features) -> ``ipc`` images of each leaf. All that is random comes from ``draws``."""


def coreset(name: str, galaxies: Galaxies, ipc: int, draws: torch.Generator, features: Features | None = None) -> Chosen:
    """A coreset by its name.

    Args:
        name: One of ``CORESETS``, or ``real`` or ``mean`` as in the published code.
        galaxies: Gives the training galaxies.
        ipc: Images of each leaf, at least 1.
        draws: Random generator.
        features: Where herding, k-centre and k-means measure distances. Default: standardised pixels; see also
            :func:`hidden_features`.

    Raises:
        InputError: If there is no such coreset, or a leaf has fewer than ``ipc`` training galaxies.

    Example:
        >>> galaxies = Galaxies("gz2.h5")  # doctest: +SKIP
        >>> images, labels, soft_labels = coreset("herding", galaxies, 10, torch.Generator())  # doctest: +SKIP
    """
    check_name("the coreset", name, (*ALIASES, *CORESETS))
    return CORESETS[ALIASES.get(name, name)](galaxies, ipc, draws, features or standardised_pixels(galaxies))


def initial_images(
    pix_init: str, galaxies: Galaxies, ipc: int, draws: torch.Generator, soft: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """The images that distillation begins with: noise or a coreset.

    Args:
        pix_init: ``noise`` (normal, mean 0 and standard deviation 1) or a coreset, see :func:`coreset`.
        galaxies: Gives the training galaxies.
        ipc: Images of each leaf, at least 1.
        draws: Random generator.
        soft: Return soft labels: the volunteers' shares for the galaxies that an image is made of; for noise, the mean of
            its leaf.

    Returns:
        Standardised pixels, shape (M, 3, H, W), sorted by leaf; and leaves, int64, shape (M,), or soft labels, float32,
        shape (M, K).

    Raises:
        InputError: If there is no such initialisation, or a leaf has fewer than ``ipc`` training galaxies.
    """
    check_name("pix_init", pix_init, pix_inits())
    chosen = _noise(galaxies, ipc, draws) if pix_init == "noise" else coreset(pix_init, galaxies, ipc, draws)
    return chosen.images, chosen.soft_labels if soft else chosen.labels


def pix_inits() -> list[str]:
    """The names that ``pix_init`` takes."""
    return ["noise", *ALIASES, *CORESETS]


def _noise(galaxies: Galaxies, ipc: int, draws: torch.Generator) -> Chosen:
    labels = torch.arange(galaxies.num_classes).repeat_interleave(ipc)
    soft_labels = torch.eye(galaxies.num_classes)  # stays so for a leaf without galaxies
    for leaf in galaxies.train.labels.unique().tolist():
        soft_labels[leaf] = galaxies.train.soft_labels[galaxies.train.of_class(leaf)].mean(0)
    return Chosen(torch.randn(len(labels), *galaxies.image_shape, generator=draws), labels, soft_labels[labels])


def rows_by_leaf(galaxies: Galaxies, ipc: int) -> list[torch.Tensor]:
    """Places of the training galaxies of each leaf, K tensors, int64, shape (n,).

    Raises:
        InputError: If a leaf has fewer than ``ipc``.
    """
    rows = [galaxies.train.of_class(leaf) for leaf in range(galaxies.num_classes)]
    for name, of_leaf in zip(galaxies.class_names, rows, strict=True):
        if len(of_leaf) < ipc:
            raise InputError(
                f"ipc {ipc} is larger than leaf '{name}', which has {len(of_leaf)} training galaxies in {galaxies.path}; "
                "take fewer images per leaf, or prepare it with more galaxies (pix_init noise needs none)"
            )
    return rows


def galaxies_at(galaxies: Galaxies, rows: torch.Tensor) -> Chosen:
    """Training galaxies as they are.

    Args:
        galaxies: Gives them.
        rows: Their places, int64, shape (M,).
    """
    train = galaxies.train
    return Chosen(galaxies.standardise(train.pixels(rows)), train.labels[rows], train.soft_labels[rows])


def random_real(galaxies: Galaxies, ipc: int, draws: torch.Generator, features: Features) -> Chosen:
    """Random training galaxies of each leaf."""
    rows = [rows[torch.randperm(len(rows), generator=draws)[:ipc]] for rows in rows_by_leaf(galaxies, ipc)]
    return galaxies_at(galaxies, torch.cat(rows))


def class_mean(galaxies: Galaxies, ipc: int, draws: torch.Generator, features: Features) -> Chosen:
    """Means of each leaf's training galaxies, dealt into ``ipc`` random groups; soft labels are means as well."""
    images, soft_labels = [], []
    for rows in rows_by_leaf(galaxies, ipc):
        for group in rows[torch.randperm(len(rows), generator=draws)].tensor_split(ipc):
            images.append(galaxies.standardise(galaxies.train.pixels(group)).mean(0))
            soft_labels.append(galaxies.train.soft_labels[group].mean(0))
    labels = torch.arange(galaxies.num_classes).repeat_interleave(ipc)
    return Chosen(torch.stack(images), labels, torch.stack(soft_labels))


def most_confident(galaxies: Galaxies, ipc: int, draws: torch.Generator, features: Features) -> Chosen:
    """The training galaxies of each leaf that the volunteers were surest of."""
    rows = []
    for leaf, of_leaf in enumerate(rows_by_leaf(galaxies, ipc)):
        confidence = galaxies.train.confidences[of_leaf, leaf]
        rows.append(of_leaf[confidence.argsort(descending=True, stable=True)[:ipc]])
    return galaxies_at(galaxies, torch.cat(rows))


def by_features(choose: Callable[[torch.Tensor, int, torch.Generator], torch.Tensor]) -> Coreset:
    """The coreset of a function that chooses among the galaxies of one leaf.

    Args:
        choose: (features of its n galaxies, shape (n, F), how many, random generator) -> their places among the n, int64.
    """

    def chosen(galaxies: Galaxies, ipc: int, draws: torch.Generator, features: Features) -> Chosen:
        rows = [rows[choose(features(rows), ipc, draws)] for rows in rows_by_leaf(galaxies, ipc)]
        return galaxies_at(galaxies, torch.cat(rows))

    return chosen


def herding(features: torch.Tensor, number: int) -> torch.Tensor:
    """Galaxies whose mean stays nearest to the mean of all, chosen one after the other (Welling 2009).

    Args:
        features: Shape (n, F).
        number: How many to choose, in [1, n].

    Returns:
        Their places, int64, shape (number,).

    Example:
        >>> herding(torch.tensor([[0.0], [1.0], [2.0], [7.0]]), 2)  # the mean is 2.5
        tensor([2, 1])
    """
    mean, chosen, total = features.mean(0), [], torch.zeros_like(features[0])
    free = torch.ones(len(features), dtype=torch.bool, device=features.device)
    for size in range(1, number + 1):
        distance = ((total + features) / size - mean).square().sum(1)
        chosen.append(int(torch.where(free, distance, torch.inf).argmin()))
        free[chosen[-1]] = False
        total = total + features[chosen[-1]]
    return torch.tensor(chosen)


def k_centre(features: torch.Tensor, number: int) -> torch.Tensor:
    """The galaxy nearest to the mean, then always the one farthest from those chosen (Sener & Savarese 2018).

    Arguments and result as of :func:`herding`.
    """
    chosen = [int((features - features.mean(0)).square().sum(1).argmin())]
    nearest = (features - features[chosen[0]]).square().sum(1)
    while len(chosen) < number:
        nearest[chosen] = -1.0  # two galaxies may have the same features
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (features - features[chosen[-1]]).square().sum(1))
    return torch.tensor(chosen)


def k_means_nearest(features: torch.Tensor, number: int, draws: torch.Generator) -> torch.Tensor:
    """The galaxy nearest to each centre of k-means (Lloyd's rounds, which start from the galaxies of k-centre).

    The centres choose in the random order of ``draws``; one whose nearest galaxy is taken gets its next nearest.
    Other arguments and the result as of :func:`herding`.
    """
    centres = features[k_centre(features, number)]
    for _ in range(KMEANS_ROUNDS):
        cluster = torch.cdist(features, centres).argmin(1)
        means = [features[cluster == i].mean(0) if (cluster == i).any() else centre for i, centre in enumerate(centres)]
        moved = torch.stack(means)
        if torch.equal(moved, centres):
            break
        centres = moved
    distance = torch.cdist(centres, features)
    chosen = torch.empty(number, dtype=torch.int64)
    for i in torch.randperm(number, generator=draws).tolist():
        chosen[i] = distance[i].argmin()
        distance[:, chosen[i]] = torch.inf
    return chosen


def standardised_pixels(galaxies: Galaxies) -> Features:
    """Standardised pixels as features, F = 3 * H * W; only those of one leaf are in memory at a time."""
    return lambda rows: galaxies.standardise(galaxies.train.pixels(rows)).flatten(1)


def hidden_features(model: nn.Module, galaxies: Galaxies) -> Features:
    """The input of a network's last linear layer as features, computed when first asked for.

    Args:
        model: The network, in evaluation mode, on the CPU.
        galaxies: Gives the training galaxies.

    Raises:
        InputError: If the network has no linear layer.
    """
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise InputError(f"{type(model).__name__} has no linear layer whose input could serve as features")

    @functools.cache
    @torch.no_grad()
    def of_all() -> torch.Tensor:
        inputs: list[torch.Tensor] = []
        hook = linear[-1].register_forward_pre_hook(lambda _, args: inputs.append(args[0].flatten(1)))
        try:
            for rows in torch.arange(len(galaxies.train)).split(SCORE_BATCH):
                model(galaxies.standardise(galaxies.train.pixels(rows)))
        finally:
            hook.remove()
        return torch.cat(inputs)

    return lambda rows: of_all()[rows]


CORESETS: dict[str, Coreset] = {
    "random real": random_real,
    "class mean": class_mean,
    "herding": by_features(lambda features, number, draws: herding(features, number)),
    "k-centre": by_features(lambda features, number, draws: k_centre(features, number)),
    "k-means-nearest": by_features(k_means_nearest),
    "most confident": most_confident,
}
"""The coresets by name."""
ALIASES = {"real": "random real", "mean": "class mean"}
"""Names of the published code."""
