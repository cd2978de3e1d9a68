"""GalaxyZoo2DataModule: a packed file as batches.

Shapes: N galaxies, K leaves, H x W pixels.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from gz_lightning.data.packing import Packed, read_packed
from gz_lightning.data.prepare import prepare
from gz_lightning.data.selection import SPLITS
from gz_lightning.errors import InputError
from gz_lightning.progress import say
from gz_lightning.randomness import generator

SIMULATED_PER_CLASS, SIMULATED_RESOLUTION = 200, 64
"""The simulated galaxies that stand in where no data is named."""


@dataclass(frozen=True)
class Galaxies(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """The galaxies of one split, in memory.

    Args:
        images: Pixels, uint8, shape (N, 3, H, W).
        labels: Leaves, int64, shape (N,).
        confidences: Leaf confidences in [0, 1], float32, shape (N, K).
        object_ids: N object ids.
    """

    images: torch.Tensor
    labels: torch.Tensor
    confidences: torch.Tensor
    object_ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int | list[int] | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels (uint8) and label of one galaxy, or of a list of them."""
        return self.images[index], self.labels[index]

    def of_class(self, label: int) -> torch.Tensor:
        """Places of the galaxies of one leaf, the most confident first, shape (n,), int64."""
        return torch.nonzero(self.labels == label).flatten()


class GalaxyZoo2DataModule(LightningDataModule):
    """Serves a packed file of galaxies to a LightningModule.

    Pixels stay uint8 until their batch is on its device; there they are standardised with the mean and the standard
    deviation of the training pixels. A module that makes its own ``train_dataloader`` (experts and distillation do) is
    left to it.

    Args:
        path: A packed file, as ``gz-lightning prepare`` writes it. Default: simulated galaxies, all ten leaves, made
            once and kept in the user's cache folder.
        batch_size: Galaxies in a batch. 256 is the published one.
        seed: Order of the training galaxies in each epoch.

    Raises:
        InputError: From ``setup``, if the file is no packed file or a split is empty that is needed.

    Example:
        >>> galaxies = GalaxyZoo2DataModule("gz2.h5")  # doctest: +SKIP
        >>> galaxies.setup()  # doctest: +SKIP
        >>> galaxies.train.images.shape, galaxies.class_names  # doctest: +SKIP
    """

    train: Galaxies
    val: Galaxies
    test: Galaxies

    def __init__(self, path: str | None = None, batch_size: int = 256, seed: int = 0) -> None:
        super().__init__()
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}")
        self.save_hyperparameters()
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
        """Read the packed file into memory."""
        if self._packed is not None:
            return
        if self.simulated:
            self.prepare_data()  # in a notebook nobody else has called it
        packed = self._packed = read_packed(self.path)
        for place, split in enumerate(SPLITS):
            rows = torch.nonzero(packed.splits == place).flatten()
            ids = tuple(packed.object_ids[i] for i in rows.tolist())
            galaxies = Galaxies(packed.images[rows], packed.labels[rows], packed.confidences[rows], ids)
            setattr(self, split, galaxies)

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
    def resolution(self) -> int:
        """H = W in pixels."""
        return self.packed.images.shape[-1]

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
        return (images.float() / 255 - mean) / std

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
        module = self.trainer.lightning_module if self.trainer is not None else None
        if module is not None and is_overridden("train_dataloader", module):
            return module.train_dataloader()  # type: ignore[no-any-return]
        order = RandomSampler(self.train, generator=generator(self.seed, "order"))
        return self._batches(self.train, order)

    def val_dataloader(self) -> Iterable[Any]:
        """Batches of the validation galaxies in file order."""
        return self._batches(self.val, SequentialSampler(self.val))

    def test_dataloader(self) -> Iterable[Any]:
        """Batches of the test galaxies in file order."""
        return self._batches(self.test, SequentialSampler(self.test))

    def _batches(self, galaxies: Galaxies, order: RandomSampler | SequentialSampler) -> DataLoader[Any]:
        # A sampler of lists without automatic batching: one indexing of the tensor makes a batch.
        return DataLoader(galaxies, sampler=BatchSampler(order, self.batch_size, drop_last=False), batch_size=None)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Standardise uint8 pixels once they are on the device."""
        if isinstance(batch, (tuple, list)) and isinstance(batch[0], torch.Tensor) and batch[0].dtype == torch.uint8:
            return (self.standardise(batch[0]), *batch[1:])
        return batch

    def __repr__(self) -> str:
        if self._packed is None:
            return f"GalaxyZoo2DataModule({self.path}, not read yet)"
        counts = ", ".join(f"{len(getattr(self, split))} {split}" for split in SPLITS)
        return (
            f"GalaxyZoo2DataModule({self.path}: {counts}; {self.num_classes} leaves of "
            f"'{self.packed.tree or 'class folders'}'; {self.resolution} px)"
        )


def denormalise(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Standardised pixels, shape (..., 3, H, W), as pixels in [0, 1]; what lies outside is cut off."""
    mean, std = (statistic.to(images.device)[:, None, None] for statistic in (mean, std))
    return (images * std + mean).clamp(0, 1)


def _simulated_path() -> Path:
    """Where the simulated galaxies are kept: ``GZ_LIGHTNING_CACHE`` or the platform's cache folder."""
    folder = Path(os.environ.get("GZ_LIGHTNING_CACHE") or pooch.os_cache("gz_lightning"))
    return folder / f"simulated-{SIMULATED_PER_CLASS}x{SIMULATED_RESOLUTION}px.h5"
