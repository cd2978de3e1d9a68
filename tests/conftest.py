"""Small galaxies and small experts that many tests share."""

from __future__ import annotations

import contextlib
import importlib.util
import os

# Shapes in the signatures of these modules are checked at run time, in every test; before they are imported.
CHECKED = (
    "augmentation",
    "distillation.matching",
    "distillation.unroll",
    "networks.convnet_derivatives",
    "networks.derivatives",
    "networks.ensemble",
    "networks.functional",
)
with contextlib.suppress(ImportError):  # the machine with the GPU may lack it
    from jaxtyping import install_import_hook

    from tests import shape_checker

    install_import_hook([f"gz_lightning.{module}" for module in CHECKED], f"{shape_checker.__name__}.check")

from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from gz_lightning.data.datamodule import GalaxyZoo2DataModule
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.data.packing import Contents, write_packed
from gz_lightning.experts.module import ExpertModule

os.environ["WANDB_SILENT"] = "true"
os.environ["WANDB_MODE"] = "offline"
CLASS_NAMES = ("round", "long", "ring")


def pytest_configure(config: pytest.Config) -> None:
    """LightningCLI, and we with it, call jsonargparse by names that work in all its releases since 4.41."""
    if importlib.util.find_spec("jsonargparse"):
        category = "jsonargparse._deprecated.JsonargparseDeprecationWarning"
        config.addinivalue_line("filterwarnings", f"ignore::{category}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu are skipped without CUDA; with it, warnings of libraries that the other tests never see pass."""
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA, and there is none"))
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Two test processes on two cores: more threads only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read from or written into the user's cache."""
    monkeypatch.setenv("GZ_LIGHTNING_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real galaxies, or a skip."""
    folder = Path(os.environ.get("GZ_REAL_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "gz2_sample").is_dir():
        pytest.skip(f"no real galaxies: {folder / 'gz2_sample'} is absent (set GZ_REAL_DATA to their folder)")
    return folder


def toy_galaxies(per_class: int, resolution: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Blobs that are round, long, or rings, uint8, shape (3 * per_class, 3, H, W), sorted by class."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:resolution, :resolution] - (resolution - 1) / 2
    images = []
    for label in range(3):
        for _ in range(per_class):
            angle, size = rng.uniform(0, np.pi), rng.uniform(0.12, 0.2) * resolution
            u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
            r = np.hypot(u, v * (4 if label == 1 else 1)) / size
            light = np.exp(-((r - 1.5) ** 2) * 6) if label == 2 else np.exp(-(r**2))
            colour = rng.uniform(0.6, 1, size=(3, 1, 1))
            noisy = 200 * light * colour + rng.normal(20, 6, size=(3, resolution, resolution))
            images.append(noisy.clip(0, 255).astype(np.uint8))
    return np.stack(images)


def write_toy(path: Path, per_class: int = 30, resolution: int = 16, seed: int = 0) -> Path:
    """A packed file of toy galaxies: of every ten, seven to train on, one to validate with, two to test with."""
    images = toy_galaxies(per_class, resolution, seed)
    number = len(images)
    contents = Contents(
        labels=np.repeat(np.arange(3), per_class),
        confidences=np.eye(3)[np.repeat(np.arange(3), per_class)],
        object_ids=[f"toy-{i}" for i in range(number)],
        splits=np.array([(0, 0, 0, 0, 0, 0, 0, 1, 2, 2)[i % 10] for i in range(number)]),
        class_names=CLASS_NAMES,
        tree="",
    )
    write_packed(path, [images], contents, resolution=resolution, configuration={"toy": seed})
    return path


@pytest.fixture(scope="session")
def toy_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed file of 90 toy galaxies of three classes, 16 px."""
    return write_toy(tmp_path_factory.mktemp("toy") / "toy.h5")


@pytest.fixture(scope="session")
def voted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Toy galaxies about which the volunteers did not quite agree; the confidences do not add up to 1."""
    labels = np.repeat(np.arange(3), 12)
    contents = Contents(
        labels=labels,
        confidences=np.random.default_rng(0).dirichlet(np.ones(3), 36) * 0.3 + np.eye(3)[labels] * 0.5,
        object_ids=[str(i) for i in range(36)],
        splits=np.array([(0, 0, 0, 1)[i % 4] for i in range(36)]),
        class_names=CLASS_NAMES,
        tree="",
    )
    path = tmp_path_factory.mktemp("voted") / "voted.h5"
    write_packed(path, [toy_galaxies(12, 16)], contents, resolution=16, configuration={})
    return path


@pytest.fixture
def toy(toy_path: Path) -> Galaxies:
    """The toy galaxies."""
    return Galaxies(toy_path)


@pytest.fixture(scope="session")
def trainer_options() -> dict[str, object]:
    """A quiet Trainer on the CPU."""
    return {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }


@pytest.fixture(scope="session")
def toy_experts(toy_path: Path, tmp_path_factory: pytest.TempPathFactory, trainer_options: dict[str, object]) -> Path:
    """Two experts of four epochs on the toy galaxies: width 8, depth 2, galaxy augmentation."""
    folder = tmp_path_factory.mktemp("experts")
    experts = ExpertModule(str(folder), num_experts=2, train_epochs=4, lr=0.05, width=8, depth=2, augmentation="galaxy")
    trainer = pl.Trainer(**trainer_options)  # type: ignore[arg-type]
    trainer.fit(experts, datamodule=GalaxyZoo2DataModule(str(toy_path), batch_size=16))
    return folder
