"""GalaxyZoo2DataModule: the Lightning skin of a packed file of galaxies."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

from gz_lightning.augmentation import augment, check_strategy
from gz_lightning.data.galaxies import Galaxies, Split
from gz_lightning.data.prepare import prepare
from gz_lightning.errors import InputError
from gz_lightning.progress import say
from gz_lightning.randomness import generator
from gz_lightning.settings import PositiveInt, check_settings

SIMULATED_PER_CLASS, SIMULATED_RESOLUTION = 200, 64
"""The simulated galaxies that are used if no data is named."""


class GalaxyZoo2DataModule(LightningDataModule):
    """Serves a packed file of galaxies to a LightningModule.

    Pixels stay uint8 until their batch is on its device; there they are standardised with the mean and the standard
    deviation of the training pixels and, in training, augmented. A module with its own ``train_dataloader`` (experts and
    distillation have one) uses that. Any file of ``gz-lightning prepare`` will do, galaxies or not: CIFAR-10 as class
    folders, packed with ``resolution`` 32 and ``crop`` 1, works as well.

    Args:
        path: A packed file, as gz-lightning prepare writes it. Default: simulated galaxies, all ten leaves, made
            once and kept in the user's cache folder.
        batch_size: Galaxies in a batch. 256 is the published one.
        batch_augmentation: Of the training batches that this module makes: galaxy, none, or families of DSA joined
            by underscores. Experts and distillation have a setting of their own.
        in_memory: Keep all pixels in memory as uint8; if not, each batch is read from the file, row by row. Default: in
            memory if they take at most half of the machine's.
        seed: Seed of the order and the augmentation of the training galaxies.

    Raises:
        InputError: If a setting is out of its range; from ``setup``, if the file is not a packed file.

    Example:
        >>> data = GalaxyZoo2DataModule("gz2.h5", batch_size=64)  # doctest: +SKIP
        >>> Trainer().fit(ExpertModule("experts"), datamodule=data)  # doctest: +SKIP
        >>> data.galaxies.show()  # doctest: +SKIP
    """

    def __init__(
        self,
        path: str | Path | None = None,
        batch_size: PositiveInt = 256,
        seed: int = 0,
        batch_augmentation: str = "none",
        in_memory: bool | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)  # its seed is not that of the model, which Lightning would refuse to log
        check_settings(type(self).__init__, self.hparams, "--data.")
        check_strategy(batch_augmentation)
        self.augmentation = batch_augmentation
        self.in_memory = in_memory
        self._augmentation_draws: tuple[int, torch.Generator] | None = None
        self.path = Path(path) if path is not None else _simulated_path()
        self.simulated = path is None
        self.batch_size = batch_size
        self.seed = seed
        self._galaxies: Galaxies | None = None

    def prepare_data(self) -> None:
        """Simulate the galaxies if no file was named and none were simulated before."""
        if self.simulated and not self.path.exists():
            say(f"no data named: simulating galaxies into {self.path}")
            prepare(self.path, per_class=SIMULATED_PER_CLASS, resolution=SIMULATED_RESOLUTION)

    def setup(self, stage: str | None = None) -> None:
        """Read the packed file, with or without its pixels."""
        if self._galaxies is None:
            if self.simulated:
                self.prepare_data()  # in a notebook nobody else has called it
            self._galaxies = Galaxies(self.path, self.in_memory)

    @property
    def galaxies(self) -> Galaxies:
        """The galaxies, read on first use."""
        self.setup()
        assert self._galaxies is not None
        return self._galaxies

    def train_dataloader(self) -> Iterable[Any]:
        """Shuffled batches of the training galaxies, or the module's own loader."""
        if (loader := self._of_module("train_dataloader")) is not None:
            return loader
        train = self.galaxies.train
        return self._batches(train, RandomSampler(train, generator=generator(self.seed, "order")))

    def val_dataloader(self) -> Iterable[Any]:
        """Batches of the validation galaxies in file order, or the module's own loader."""
        if (loader := self._of_module("val_dataloader")) is not None:
            return loader
        return self._batches(self.galaxies.val, SequentialSampler(self.galaxies.val))

    def test_dataloader(self) -> Iterable[Any]:
        """Batches of the test galaxies in file order."""
        return self._batches(self.galaxies.test, SequentialSampler(self.galaxies.test))

    def _of_module(self, name: str) -> Iterable[Any] | None:
        """The loader that the LightningModule makes itself, if it does."""
        module = self.trainer.lightning_module if self.trainer is not None else None
        return getattr(module, name)() if module is not None and is_overridden(name, module) else None

    def _batches(self, galaxies: Split, order: RandomSampler | SequentialSampler) -> DataLoader[Any]:
        # A sampler of lists without automatic batching: one indexing of the tensor makes a batch.
        return DataLoader(galaxies, sampler=BatchSampler(order, self.batch_size, drop_last=False), batch_size=None)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Standardise uint8 pixels on their device, and augment the training ones."""
        if not (isinstance(batch, (tuple, list)) and isinstance(batch[0], torch.Tensor) and batch[0].dtype == torch.uint8):
            return batch
        images = self.galaxies.standardise(batch[0])
        if self.augmentation != "none" and self.trainer is not None and self.trainer.training:
            epoch = self.trainer.current_epoch
            if self._augmentation_draws is None or self._augmentation_draws[0] != epoch:
                self._augmentation_draws = (epoch, generator(self.seed, "augmentation", epoch))
            images = augment(images, self.augmentation, self._augmentation_draws[1])
        return (images, *batch[1:])

    def __repr__(self) -> str:
        if self._galaxies is None:
            return f"GalaxyZoo2DataModule({self.path}, not read yet)"
        return f"GalaxyZoo2DataModule({self._galaxies!r})"


def datamodule_of(trainer: Trainer) -> GalaxyZoo2DataModule:
    """The data module of a running Trainer.

    Raises:
        InputError: If it has none, or one of another kind.
    """
    module = getattr(trainer, "datamodule", None)
    if not isinstance(module, GalaxyZoo2DataModule):
        raise InputError(
            "the Trainer has no GalaxyZoo2DataModule: trainer.fit(module, datamodule=GalaxyZoo2DataModule(...))"
        )
    return module


def _simulated_path() -> Path:
    """Where the simulated galaxies are kept: ``GZ_LIGHTNING_CACHE`` or the platform's cache folder."""
    named = os.environ.get("GZ_LIGHTNING_CACHE")
    if not named:
        import pooch  # it may be absent where galaxies and cache are named

        named = pooch.os_cache("gz_lightning")
    return Path(named) / f"simulated-{SIMULATED_PER_CLASS}x{SIMULATED_RESOLUTION}px.h5"
