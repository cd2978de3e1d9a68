"""Networks trained on a set once more, to see what they look at and what they mistake.

Shapes: n networks, N test galaxies, K leaves, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError
from gz_lightning.evaluation.occlusion import corners, occlusion_maps, patch_of
from gz_lightning.evaluation.scores import confusion
from gz_lightning.networks.registry import build_network, check_network
from gz_lightning.progress import say, ticking, track
from gz_lightning.randomness import derived_seed
from gz_lightning.report.learned import Card
from gz_lightning.report.opening import counted
from gz_lightning.report.pictures import pixel_picture, rounded_bound, signed_colours
from gz_lightning.report.runs import Run
from gz_lightning.storage.text import naming_file
from gz_lightning.training.fresh import Training, logits, train_networks
from gz_lightning.training.protocol import Protocol

LOOKED_AT = 3
"""Test galaxies of each leaf that get an occlusion map."""
MISTAKEN = 4
"""Galaxies shown of those that are taken for another leaf."""
EPOCHS = 1000
"""Epochs where neither an evaluation nor the run says how many; the published number."""
MOST_EPOCHS, MOST_STEPS = 10**5, 10**6
"""A file that asks for more is damaged."""


@dataclass(frozen=True)
class Students:
    """What networks trained on the set see in test galaxies.

    Args:
        maps: A card of galaxies and their occlusion maps for each leaf.
        bound: Of the maps, a fall of the log-odds.
        mistaken: A card for each leaf of galaxies that are taken for another.
        counts: Test galaxies by true and predicted leaf, int64, shape (K, K): those of the evaluation, where there is one.
        trained: How the networks were trained, in words.
    """

    maps: list[Card]
    bound: float
    mistaken: list[Card]
    counts: torch.Tensor
    trained: str


def students(run: Run, networks: int, remarks: list[str]) -> Students | None:
    """Train networks on the set as its evaluation did, and let them look at test galaxies.

    Args:
        run: The run.
        networks: n; 0 trains none.
        remarks: Gets the reason, where the networks cannot be trained.

    Returns:
        None if none are trained.

    Raises:
        InputError: If the evaluation or the set holds settings that cannot be right.
    """
    galaxies = run.galaxies
    without = "Without occlusion maps and mistaken galaxies"
    if not networks:
        remarks.append(f"{without}: --networks is 0")
        return None
    if galaxies is None or not len(galaxies.test):
        remarks.append(f"{without}: {'there are no galaxies' if galaxies is None else 'there are no test galaxies'}")
        return None
    description, protocol, alphas, syn_steps = _recipe(run)
    try:
        check_network(build_network(description, seed=0), galaxies.num_classes, galaxies.image_shape)
    except InputError as error:
        remarks.append(f"{without}: {error}")
        return None
    if not alphas:
        remarks.append(f"{without}: the set has no step size")
        return None
    test = galaxies.test
    patch = patch_of(galaxies.resolution)
    say(
        f"{run.name}: training {counted(networks)} for {protocol.epochs:,} epochs on {len(run.synthetic)} images, then "
        f"covering {LOOKED_AT} galaxies of each leaf at {len(corners(galaxies.resolution, patch))} places (--networks 0 "
        "leaves this out)"
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    models = _trained(run, networks, description, protocol, alphas, syn_steps, device)
    answers = torch.stack([logits(model, test, galaxies, device) for model in models])
    if not torch.isfinite(answers).all():
        remarks.append(f"{without}: networks diverged at the step size {alphas[-1]:.3g}")
        return None
    shares = answers.softmax(2).mean(0)
    maps, bound = _maps(models, galaxies, _looked_at(shares, galaxies), patch)
    counts = confusion(answers, test.labels)
    if run.evaluation is not None:
        counts = torch.tensor(run.evaluation.confusion.to_numpy())
    trained = f"{counted(networks)} trained for {protocol.epochs:,} epochs on the distilled images alone"
    return Students(maps, bound, _mistaken(shares, counts, galaxies), counts, trained)


def _recipe(run: Run) -> tuple[dict[str, Any], Protocol, list[float], int]:
    """Network, protocol, step sizes, and least steps at each of them.

    As in the first row of the evaluation or, without one, as the run measured its images.
    """
    synthetic, file = run.synthetic, run.folder / run.file
    settings: Mapping[str, Any] = {} if run.evaluation is None else run.evaluation.settings
    epochs = settings.get("epochs", synthetic.configuration.get("epoch_eval_train", EPOCHS))
    steps = synthetic.configuration.get("syn_steps", 0)
    for name, value, least, most in (("epochs", epochs, 1, MOST_EPOCHS), ("syn_steps", steps, 0, MOST_STEPS)):
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise InputError(f"{file} or its evaluation is damaged: its {name} are {value!r:.40}; evaluate again")
    trained = settings.get("trained")
    described = dict(trained) if isinstance(trained, dict) else dict(synthetic.network)
    augmentation = described.pop("augmentation", synthetic.augmentation)
    seed, symmetries = settings.get("seed", 0), settings.get("symmetries", 1)
    if not isinstance(augmentation, str) or not isinstance(seed, int) or not isinstance(symmetries, int):
        raise InputError(f"{file} or its evaluation is damaged: augmentation, seed or symmetries are none; evaluate again")
    with naming_file(file):
        protocol = Protocol(epochs=epochs, augmentation=augmentation, seed=seed, symmetries=symmetries)
    alphas = synthetic.step_sizes.tolist()
    if not alphas and run.evaluation is not None:
        text = run.evaluation.table["step size"].iloc[0]
        try:
            alphas = [float(text)]
        except ValueError as error:
            raise InputError(f"the evaluation of {file} is damaged: a step size is {text!r:.40}; evaluate again") from error
    return described, protocol, alphas, steps


def _trained(
    run: Run,
    networks: int,
    description: Mapping[str, Any],
    protocol: Protocol,
    alphas: list[float],
    syn_steps: int,
    device: torch.device,
) -> list[nn.Module]:
    images, labels = run.synthetic.images.to(device), run.synthetic.hard_labels.to(device)
    seeds = [derived_seed(protocol.seed, "draw", 0, i) for i in range(networks)]  # those of the evaluation
    trainings = [Training(images, labels, alphas, seed) for seed in seeds]
    with ticking("training fresh networks", networks) as tick:
        return train_networks(trainings, description, protocol, syn_steps, tick)


def _looked_at(shares: torch.Tensor, galaxies: Galaxies) -> torch.Tensor:
    """Places of the first test galaxies of each leaf that the networks recognise, and of others where these are too few.

    Args:
        shares: Mean probabilities of the networks, shape (N, K).
        galaxies: Gives the N test galaxies.
    """
    right = shares.argmax(1) == galaxies.test.labels
    chosen = []
    for leaf in range(galaxies.num_classes):
        places = galaxies.test.of_class(leaf)
        chosen.append(torch.cat([places[right[places]], places[~right[places]]])[:LOOKED_AT])
    return torch.cat(chosen)


def _maps(models: list[nn.Module], galaxies: Galaxies, shown: torch.Tensor, patch: int) -> tuple[list[Card], float]:
    """Galaxies and their occlusion maps by leaf, and the bound of the colours, a fall of the log-odds."""
    test = galaxies.test
    pixels, labels = test.pixels(shown), test.labels[shown]
    drawn = occlusion_maps(models, galaxies.standardise(pixels), labels, patch)
    found = list(track(drawn, "covering galaxies", len(shown)))
    bound = rounded_bound(torch.stack([map_ for _, map_ in found]), share=0.98)
    rows: list[list[Any]] = [[] for _ in galaxies.class_names]
    for (whole, map_), image, label, place in zip(found, pixels, labels.tolist(), shown.tolist(), strict=True):
        leaf, object_id = galaxies.class_names[label], test.object_ids[place]
        grey = image.float().mean(0, keepdim=True).expand(3, -1, -1) / 255
        weight = 0.9 * (map_.abs() / bound).clamp(max=1).sqrt().float()
        overlay = (1 - weight) * grey + weight * signed_colours(map_, bound).float()
        rows[label].append(
            [
                (pixel_picture(image, f"Test galaxy {object_id} of the leaf {leaf}"), object_id),
                (pixel_picture(overlay, f"Occlusion map of the test galaxy {object_id}"), f"{leaf} {100 * whole:.0f} %"),
            ]
        )
    cards = [Card(leaf, "", own) for leaf, own in zip(galaxies.class_names, rows, strict=True) if own]
    return cards, bound


def _mistaken(shares: torch.Tensor, counts: torch.Tensor, galaxies: Galaxies) -> list[Card]:
    """For each leaf the one that its galaxies are most often taken for, and those that are most surely.

    Args:
        shares: Mean probabilities of the networks, shape (N, K).
        counts: Galaxies by true and predicted leaf, shape (K, K).
        galaxies: Gives the N test galaxies.
    """
    test, names, cards = galaxies.test, galaxies.class_names, []
    wrong = counts.clone().fill_diagonal_(0)
    for leaf, name in enumerate(names):
        other = int(wrong[leaf].argmax())
        if not wrong[leaf, other]:
            continue
        places = torch.nonzero((test.labels == leaf) & (shares.argmax(1) == other)).flatten()
        places = places[shares[places, other].argsort(descending=True)[:MISTAKEN]]
        row = []
        for place, pixels in zip(places.tolist(), test.pixels(places), strict=True):
            alt = f"Test galaxy {test.object_ids[place]} of the leaf {name}, taken for {names[other]}"
            row.append((pixel_picture(pixels, alt), f"{test.object_ids[place]}: {100 * float(shares[place, other]):.0f} %"))
        often = f"{100 * int(wrong[leaf, other]) / int(counts[leaf].sum()):.0f} % of its test galaxies"
        note = often if row else f"{often}; of the networks trained here most do so for none"
        cards.append(Card(f"{name}, taken for {names[other]}", note, [row] if row else []))
    return cards
