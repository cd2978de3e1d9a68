"""GalaxyZoo2DataModule: batches, statistics, reading by rows, pictures."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F

from gz_lightning.data.datamodule import GalaxyZoo2DataModule
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.errors import InputError


class Recorder(pl.LightningModule):
    """A module that knows nothing of galaxies, and keeps the batches it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3 * 16 * 16, 3)
        self.train_batches: list[torch.Tensor] = []
        self.val_batches: list[torch.Tensor] = []

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        self.train_batches.append(batch[0])
        return F.cross_entropy(self.linear(batch[0].flatten(1)), batch[1])

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> None:
        self.val_batches.append(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(path: Path, options: dict[str, Any], epochs: int = 1, **settings: Any) -> Recorder:
    recorder = Recorder()
    trainer = pl.Trainer(**options, max_epochs=epochs, log_every_n_steps=1)
    trainer.fit(recorder, datamodule=GalaxyZoo2DataModule(str(path), batch_size=16, **settings))
    return recorder


def test_any_module_is_given_standardised_batches(toy_path: Path, trainer_options: dict[str, Any]) -> None:
    recorder = fit(toy_path, trainer_options)
    images = torch.cat(recorder.train_batches)
    assert images.shape == (63, 3, 16, 16)
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(images.std((0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)


def test_augmentation_is_of_training_batches_alone_and_the_same_again(
    toy_path: Path, trainer_options: dict[str, Any]
) -> None:
    plain, one, two = (fit(toy_path, trainer_options, 2, batch_augmentation=a) for a in ("none", "galaxy", "galaxy"))
    assert all(torch.equal(a, b) for a, b in zip(one.train_batches, two.train_batches, strict=True))
    assert not torch.equal(plain.train_batches[0], one.train_batches[0])
    assert all(torch.equal(a, b) for a, b in zip(plain.val_batches, one.val_batches, strict=True))


def test_by_rows_is_as_from_memory(toy_path: Path, trainer_options: dict[str, Any]) -> None:
    whole, by_rows = (fit(toy_path, trainer_options, in_memory=kind) for kind in (True, False))
    assert all(torch.equal(a, b) for a, b in zip(whole.train_batches, by_rows.train_batches, strict=True))
    galaxies = Galaxies(toy_path, in_memory=False)
    image, label = galaxies.train[5]
    assert image.shape == (3, 16, 16)
    assert label == galaxies.train.labels[5]
    assert galaxies.resolution == 16
    assert galaxies.class_weights.shape == (3,)
    assert "images" not in galaxies.__dict__  # nothing read all pixels
    assert "read by rows" in repr(galaxies)
    assert torch.equal(galaxies.train.images, galaxies.images[galaxies.train.rows])


def test_what_it_says_of_itself(toy_path: Path) -> None:
    module = GalaxyZoo2DataModule(toy_path)
    assert repr(module) == f"GalaxyZoo2DataModule({toy_path}, not read yet)"
    assert repr(module.galaxies) in repr(module)


def test_settings_out_of_range(toy_path: Path) -> None:
    with pytest.raises(InputError, match="--data.batch_size must be a whole number >= 1, not 0"):
        GalaxyZoo2DataModule(str(toy_path), batch_size=0)
    with pytest.raises(InputError, match="wobble"):
        GalaxyZoo2DataModule(str(toy_path), batch_augmentation="wobble")
