"""GalaxyZoo2DataModule: a packed file as batches.

Shapes: N galaxies, K leaves, H x W pixels.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pooch
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.model_helpers import is_overridden
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from gz_lightning.augmentation import augment, check_strategy
from gz_lightning.data.packing import Packed, read_packed, soft_labels
from gz_lightning.data.prepare import prepare
from gz_lightning.data.selection import SPLITS
from gz_lightning.errors import InputError
from gz_lightning.progress import say
from gz_lightning.randomness import generator

SIMULATED_PER_CLASS, SIMULATED_RESOLUTION = 200, 64
"""The simulated galaxies that stand in where no data is named."""
LABELS = ("hard", "votes")
"""What a network is taught: the leaf, or the volunteers' shares for each leaf."""


class Galaxies(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """The galaxies of one split.

    Args:
        packed: The packed file's content.
        rows: Which of its galaxies, int64, shape (N,).

    Attributes:
        labels: Leaves, int64, shape (N,).
        confidences: Leaf confidences in [0, 1], float32, shape (N, K).
        object_ids: N object ids.
        in_memory: Whether the pixels are in memory; if not, they are read by rows.
    """

    def __init__(self, packed: Packed, rows: torch.Tensor) -> None:
        self.packed = packed
        self.rows = rows
        self.labels = packed.labels[rows]
        self.confidences = packed.confidences[rows]
        self.object_ids = tuple(packed.object_ids[i] for i in rows.tolist())
        self.in_memory = packed.in_memory

    @functools.cached_property
    def images(self) -> torch.Tensor:
        """All pixels of the split, uint8, shape (N, 3, H, W); where they are not in memory, they are read now."""
        if not self.in_memory:
            return self.packed.pixels(self.rows)
        first, number = (int(self.rows[0]), len(self.rows)) if len(self.rows) else (0, 0)
        if torch.equal(self.rows, torch.arange(first, first + number)):
            return self.packed.images[first : first + number]  # a view: packed files are sorted by split
        return self.packed.images[self.rows]

    @property
    def soft_labels(self) -> torch.Tensor:
        """Leaf confidences divided by their sum, float32, shape (N, K)."""
        return soft_labels(self.confidences)

    def pixels(self, index: torch.Tensor) -> torch.Tensor:
        """Pixels of some galaxies of the split, uint8, shape (n, 3, H, W): from memory, or those rows alone."""
        return self.images[index] if self.in_memory else self.packed.pixels(self.rows[index])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int | list[int] | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels (uint8) and label of one galaxy, or of a list of them."""
        places = torch.as_tensor(index)
        pixels = self.pixels(places.reshape(-1))
        return pixels.reshape(*places.shape, *pixels.shape[1:]), self.labels[places]

    def of_class(self, label: int) -> torch.Tensor:
        """Places of the galaxies of one leaf, the most confident first, shape (n,), int64."""
        return torch.nonzero(self.labels == label).flatten()


class GalaxyZoo2DataModule(LightningDataModule):
    """Serves a packed file of galaxies to a LightningModule.

    Pixels stay uint8 until their batch is on its device; there they are standardised with the mean and the standard
    deviation of the training pixels and, in training, augmented. A module that makes its own ``train_dataloader`` (experts
    and distillation do) is left to it. Whatever ``gz-lightning prepare`` can pack is served, galaxies or not: CIFAR-10 as
    class folders, packed with ``resolution`` 32 and ``crop`` 1, is as good.

    Args:
        path: A packed file, as gz-lightning prepare writes it. Default: simulated galaxies, all ten leaves, made
            once and kept in the user's cache folder.
        batch_size: Galaxies in a batch. 256 is the published one.
        batch_augmentation: Of the training batches that this module makes: galaxy, none, or families of DSA joined
            by underscores. Experts and distillation have a setting of their own.
        in_memory: Keep all pixels in memory as uint8; if not, each batch is read from the file, row by row. Default: in
            memory if they take at most half of what the machine has.
        seed: Order and augmentation of the training galaxies in each epoch.

    Raises:
        InputError: If a setting is out of its range; from ``setup``, if the file is no packed file or a split is empty that
            is needed.

    Example:
        >>> galaxies = GalaxyZoo2DataModule("gz2.h5")  # doctest: +SKIP
        >>> galaxies.setup()  # doctest: +SKIP
        >>> galaxies.train.images.shape, galaxies.class_names  # doctest: +SKIP
        >>> galaxies.show()  # doctest: +SKIP
    """

    train: Galaxies
    val: Galaxies
    test: Galaxies

    def __init__(
        self,
        path: str | None = None,
        batch_size: int = 256,
        seed: int = 0,
        batch_augmentation: str = "none",
        in_memory: bool | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}")
        check_strategy(batch_augmentation)
        self.augmentation = batch_augmentation
        self.in_memory = in_memory
        self._augmentation_draws: tuple[int, torch.Generator] | None = None
        self.save_hyperparameters(logger=False)  # its seed is not that of the model, which Lightning would refuse to log
        self.path = Path(path) if path is not None else _simulated_path()
        self.simulated = path is None
        self.batch_size = batch_size
        self.seed = seed
        self._packed: Packed | None = None

    def prepare_data(self) -> None:
        """Make the simulated galaxies where no file was named and they are not there yet."""
        if self.simulated and not self.path.exists():
            say(f"no data named: simulating galaxies into {self.path}")
            prepare(self.path, per_class=SIMULATED_PER_CLASS, resolution=SIMULATED_RESOLUTION)

    def setup(self, stage: str | None = None) -> None:
        """Read the packed file: into memory, or all but its pixels."""
        if self._packed is not None:
            return
        if self.simulated:
            self.prepare_data()  # in a notebook nobody else has called it
        fits = _fits_memory(self.path) if self.in_memory is None else self.in_memory
        packed = self._packed = read_packed(self.path, fits)
        for place, split in enumerate(SPLITS):
            rows = torch.nonzero(packed.splits == place).flatten()
            setattr(self, split, Galaxies(packed, rows))

    @property
    def packed(self) -> Packed:
        """The packed file's content."""
        if self._packed is None:
            self.setup()
        assert self._packed is not None
        return self._packed

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.packed.class_names)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K leaves."""
        return self.packed.class_names

    @property
    def tree(self) -> str:
        """Name of the tree; empty for class folders that are no known tree's."""
        return self.packed.tree

    @property
    def mean(self) -> torch.Tensor:
        """Mean of the training pixels per channel, in [0, 1], shape (3,)."""
        return self.packed.mean

    @property
    def std(self) -> torch.Tensor:
        """Their standard deviation, in [0, 1], shape (3,)."""
        return self.packed.std

    @property
    def resolution(self) -> int:
        """H = W in pixels."""
        return self.packed.image_shape[-1]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the packed content: the same for the same galaxies, pixels, labels and splits."""
        return self.packed.fingerprint

    @property
    def class_weights(self) -> torch.Tensor:
        """Weights that make every leaf count alike in the training loss, shape (K,); 0 for a leaf without galaxies."""
        counts = torch.bincount(self.train.labels, minlength=self.num_classes)
        return torch.where(counts > 0, len(self.train) / (self.num_classes * counts.clamp(min=1)), 0.0)

    def standardise(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 pixels, shape (..., 3, H, W), as float32 of mean 0 and standard deviation 1 over the training split."""
        mean, std = (statistic.to(images.device)[:, None, None] for statistic in (self.packed.mean, self.packed.std))
        return (
            images.to(torch.float32, copy=True).div_(255).sub_(mean).div_(std)
        )  # in place: new memory costs more than the arithmetic

    def denormalise(self, images: torch.Tensor) -> torch.Tensor:
        """Standardised pixels as they are looked at: in [0, 1], what lies outside cut off."""
        return denormalise(images, self.packed.mean, self.packed.std)

    def require(self, *splits: str) -> None:
        """Check that splits hold galaxies.

        Raises:
            InputError: If one is empty.
        """
        for split in splits:
            if not len(getattr(self, split)):
                raise InputError(
                    f"{self.path} has no {split} galaxies; prepare it with more galaxies or a larger --{split}_fraction"
                )

    def train_dataloader(self) -> Iterable[Any]:
        """Shuffled batches of the training galaxies, or the module's own where it makes them."""
        own = self._of_module("train_dataloader")
        if own is not None:
            return own
        order = RandomSampler(self.train, generator=generator(self.seed, "order"))
        return self._batches(self.train, order)

    def val_dataloader(self) -> Iterable[Any]:
        """Batches of the validation galaxies in file order, or the module's own."""
        own = self._of_module("val_dataloader")
        return self._batches(self.val, SequentialSampler(self.val)) if own is None else own

    def test_dataloader(self) -> Iterable[Any]:
        """Batches of the test galaxies in file order."""
        return self._batches(self.test, SequentialSampler(self.test))

    def _of_module(self, name: str) -> Iterable[Any] | None:
        """What the LightningModule brings itself."""
        module = self.trainer.lightning_module if self.trainer is not None else None
        return getattr(module, name)() if module is not None and is_overridden(name, module) else None

    def _batches(self, galaxies: Galaxies, order: RandomSampler | SequentialSampler) -> DataLoader[Any]:
        # A sampler of lists without automatic batching: one indexing of the tensor makes a batch.
        return DataLoader(galaxies, sampler=BatchSampler(order, self.batch_size, drop_last=False), batch_size=None)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Standardise uint8 pixels, and augment those to train on, once they are on the device."""
        if not (isinstance(batch, (tuple, list)) and isinstance(batch[0], torch.Tensor) and batch[0].dtype == torch.uint8):
            return batch
        images = self.standardise(batch[0])
        if self.augmentation != "none" and self.trainer is not None and self.trainer.training:
            epoch = self.trainer.current_epoch
            if self._augmentation_draws is None or self._augmentation_draws[0] != epoch:
                self._augmentation_draws = (epoch, generator(self.seed, "augmentation", epoch))
            images = augment(images, self.augmentation, self._augmentation_draws[1])
        return (images, *batch[1:])

    def show(self, per_class: int = 8, split: str = "train") -> Figure:
        """A page of galaxies for a notebook: a row for each leaf, the most confident first.

        Args:
            per_class: Galaxies of each leaf, at least 1.
            split: ``train``, ``val`` or ``test``.

        Raises:
            InputError: If there is no such split, or ``per_class`` is out of its range.
        """
        if split not in SPLITS:
            raise InputError(f"split is one of {', '.join(SPLITS)}, not '{split}'")
        if per_class < 1:
            raise InputError(f"per_class must be at least 1, not {per_class}")
        self.setup()
        galaxies: Galaxies = getattr(self, split)
        figure = Figure(figsize=(per_class + 0.2, 1.2 * self.num_classes), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(self.num_classes, per_class, squeeze=False)
        for label, name in enumerate(self.class_names):
            axes[label, 0].set_title(name, loc="left", fontsize=8)
            for axis in axes[label]:
                axis.set_axis_off()
            pixels = galaxies.pixels(galaxies.of_class(label)[:per_class])
            for axis, image in zip(axes[label], pixels, strict=False):
                axis.imshow(image.permute(1, 2, 0).numpy())
        return figure

    def __repr__(self) -> str:
        if self._packed is None:
            return f"GalaxyZoo2DataModule({self.path}, not read yet)"
        counts = ", ".join(f"{len(getattr(self, split))} {split}" for split in SPLITS)
        return (
            f"GalaxyZoo2DataModule({self.path}: {counts}; {self.num_classes} leaves of "
            f"'{self.packed.tree or 'class folders'}'; {self.resolution} px"
            f"{'' if self.packed.in_memory else '; read by rows'})"
        )


def denormalise(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Standardised pixels, shape (..., 3, H, W), as pixels in [0, 1]; what lies outside is cut off."""
    mean, std = (statistic.to(images.device)[:, None, None] for statistic in (mean, std))
    return (images * std + mean).clamp(0, 1)


def _fits_memory(path: Path) -> bool:
    """Whether the pixels take at most half of the machine's memory; True where the system does not tell how much it has."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return True
    return not path.exists() or path.stat().st_size <= memory / 2


def _simulated_path() -> Path:
    """Where the simulated galaxies are kept: ``GZ_LIGHTNING_CACHE`` or the platform's cache folder."""
    folder = Path(os.environ.get("GZ_LIGHTNING_CACHE") or pooch.os_cache("gz_lightning"))
    return folder / f"simulated-{SIMULATED_PER_CLASS}x{SIMULATED_RESOLUTION}px.h5"
