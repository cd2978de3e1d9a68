"""``gz-lightning evaluate``: the worth of a distilled set, beside what it has to beat.

Shapes: M images (``ipc`` of each of K leaves), H x W pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from gz_lightning.data.datamodule import GalaxyZoo2DataModule
from gz_lightning.distillation.start import initial_images
from gz_lightning.distillation.synthetic import SyntheticSet
from gz_lightning.errors import InputError
from gz_lightning.evaluation.figures import confusion_figure, leaf_figure, save_figure
from gz_lightning.evaluation.protocol import Protocol, accuracies, predictions, train_network
from gz_lightning.files import written_whole
from gz_lightning.progress import track
from gz_lightning.randomness import derived_seed, generator

STEP_SIZES = [0.001, 0.003, 0.01, 0.03, 0.1]
"""Step sizes that a baseline's is chosen from on validation galaxies."""
FULL_BATCH = 64


@dataclass(frozen=True)
class Contender:
    """A way to train a network.

    Args:
        name: What the table calls it.
        sets: Draws of (standardised images, labels) to train on; one where nothing is random about them.
        step_sizes: Step sizes to choose from on validation galaxies, each a list as
            :func:`gz_lightning.evaluation.protocol.train_network` takes it; one where nothing is to choose.
        protocol: How the networks are trained.
        networks: Fresh networks for each draw.
    """

    name: str
    sets: list[tuple[torch.Tensor, torch.Tensor]]
    step_sizes: list[list[float]]
    protocol: Protocol
    networks: int

    @property
    def trainings(self) -> int:
        """How many networks are trained."""
        choosing = len(self.step_sizes) * len(self.sets) if len(self.step_sizes) > 1 else 0
        return choosing + self.networks * len(self.sets)


@dataclass(frozen=True)
class Evaluation:
    """The result of :func:`evaluate`.

    Args:
        table: One row per contender: ``set``, ``images``, ``step size``, ``networks``, and validation and test accuracy in
            per cent, ``val``, ``test`` and ``spread`` (population standard deviation over draws and networks).
        files: What was written.
    """

    table: pd.DataFrame
    files: tuple[Path, ...]

    def __str__(self) -> str:
        table = self.table.to_string(index=False, float_format=lambda x: f"{x:.1f}")
        return "\n".join(["accuracy in per cent", table, *(f"written: {path}" for path in self.files)])


def evaluate(
    synthetic: Path,
    data: Path,
    output: Path | None = None,
    num_eval: int = 5,
    epochs: int = 1000,
    draws: int = 5,
    step_sizes: list[float] = STEP_SIZES,
    full_epochs: int = 50,
    augmentation: str | None = None,
    device: str = "auto",
    seed: int = 0,
) -> Evaluation:
    """Score a distilled set on test galaxies, beside random real galaxies, class means and the full data.

    Fresh networks are trained on each by the published protocol: SGD with momentum 0.9 and weight decay 5e-4, the step
    size falling to a tenth after half of the epochs. The distilled set is trained on with its learned step size; that of
    every other is the best on validation galaxies of those in step_sizes. Full data is the same network trained on all
    training galaxies with a cosine schedule. Test galaxies are scored once, at the end, and nothing is chosen on them.

    Args:
        synthetic: The distilled set, such as best.h5 of a run folder.
        data: The packed galaxies that it was distilled from, or others of the same leaves, size and normalisation.
        output: Folder for the table (CSV) and the pictures. Default: evaluation, beside the set.
        num_eval: Fresh networks for each set. Published: 5.
        epochs: Epochs on a small set. Published: 1000.
        draws: Draws of the random real galaxies.
        step_sizes: Step sizes that each baseline's is chosen from.
        full_epochs: Epochs on the full data, with batches of 64. 0 leaves it out.
        augmentation: galaxy, none, or families of DSA joined by underscores. Default: that of the distillation.
        device: auto, cpu or cuda.
        seed: Seed of the networks and draws.

    Raises:
        InputError: If the set does not fit the galaxies, or a number is out of its range.
    """
    for name, number in (("num_eval", num_eval), ("epochs", epochs), ("draws", draws), ("step_sizes", len(step_sizes))):
        if number < 1:
            raise InputError(f"{name} must be at least 1, not {number}")
    if not all(alpha > 0 for alpha in step_sizes):
        raise InputError(f"step_sizes must be positive, not {step_sizes}")
    distilled = SyntheticSet.load(synthetic)
    galaxies = GalaxyZoo2DataModule(str(data))
    galaxies.setup()
    distilled.check_fits(galaxies, synthetic)
    galaxies.require("train", "val", "test")
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    output = synthetic.parent / "evaluation" if output is None else output
    ipc = len(distilled) // galaxies.num_classes
    protocol = Protocol(epochs=epochs, augmentation=augmentation or distilled.augmentation, seed=seed)
    choices = [[alpha] for alpha in step_sizes]
    real = [initial_images("real", galaxies, ipc, generator(seed, "random real", draw)) for draw in range(draws)]
    mean = initial_images("mean", galaxies, ipc, generator(seed, "class mean"))
    own = (distilled.images, distilled.labels)
    contenders = [
        Contender("distilled", [own], [distilled.step_sizes.tolist()], protocol, num_eval),
        Contender("class mean", [mean], choices, protocol, num_eval),
        Contender("random real", real, choices, protocol, num_eval),
    ]
    if full_epochs:
        everything = (galaxies.standardise(galaxies.train.images), galaxies.train.labels)
        full = replace(protocol, epochs=full_epochs, batch_size=FULL_BATCH, schedule="cosine")
        contenders.append(Contender("full data", [everything], choices, full, num_eval))
    syn_steps = int(distilled.configuration.get("syn_steps", 0))
    table = _table(contenders, distilled.network, galaxies, where, syn_steps)
    with written_whole(output / "accuracy.csv") as temporary:
        table.to_csv(temporary, index=False)
    pictures = {
        "distilled": distilled.denormalised(),
        "class mean": galaxies.denormalise(mean[0]),
        "random real": galaxies.denormalise(real[0][0]),
    }
    test = table.set_index("set")["test"]
    title = ", ".join(f"{name} {test[name]:.1f} %" for name in test.index)
    leaves = save_figure(leaf_figure(pictures, galaxies.class_names, title), output / "leaves.png")
    model = train_network(own[0].to(where), own[1], distilled.network, distilled.step_sizes.tolist(), protocol, syn_steps)
    counts = MulticlassConfusionMatrix(num_classes=galaxies.num_classes)(
        predictions(model, galaxies.test, galaxies, where), galaxies.test.labels
    )
    confusion = save_figure(
        confusion_figure(counts, galaxies.class_names, "one network trained on the distilled set, test galaxies"),
        output / "confusion.png",
    )
    return Evaluation(table, (output / "accuracy.csv", leaves, confusion))


def _table(
    contenders: Sequence[Contender],
    network: Mapping[str, Any],
    galaxies: GalaxyZoo2DataModule,
    device: torch.device,
    syn_steps: int,
) -> pd.DataFrame:
    """Train and score all contenders, with one progress bar."""
    total = sum(contender.trainings for contender in contenders)
    progress = iter(track(range(total), "training fresh networks", total))
    rows = []
    for contender in contenders:
        tick = functools.partial(next, progress, None)
        rows.append(_row(contender, network, galaxies, device, syn_steps, tick))
    next(progress, None)
    return pd.DataFrame(rows)


def _row(
    contender: Contender,
    network: Mapping[str, Any],
    galaxies: GalaxyZoo2DataModule,
    device: torch.device,
    syn_steps: int,
    tick: Callable[[], Any],
) -> dict[str, Any]:
    def scores(alphas: list[float], splits: list[str], networks: int) -> Iterator[dict[str, float]]:
        for draw, (images, labels) in enumerate(contender.sets):
            for i in range(networks):
                tick()
                own = replace(contender.protocol, seed=derived_seed(contender.protocol.seed, "draw", draw, i))
                one = accuracies(images.to(device), labels, network, alphas, own, galaxies, splits, 1, syn_steps)
                yield {split: values[0] for split, values in one.items()}

    best = contender.step_sizes[0]
    if len(contender.step_sizes) > 1:
        chosen = [pd.DataFrame(scores(alphas, ["val"], 1))["val"].mean() for alphas in contender.step_sizes]
        best = contender.step_sizes[chosen.index(max(chosen))]
    final = 100 * pd.DataFrame(scores(best, ["val", "test"], contender.networks))
    return {
        "set": contender.name,
        "images": len(contender.sets[0][0]),
        "step size": f"{best[0]:.3g}" + (f" .. {best[-1]:.3g}" if len(best) > 1 else ""),
        "networks": len(final),
        "val": final["val"].mean(),
        "test": final["test"].mean(),
        "spread": final["test"].std(ddof=0),
    }
