"""Freed memory that is kept, and work that cannot fit, which says so before it begins."""

import platform
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from gz_lightning import memory
from gz_lightning.data.datamodule import GalaxyZoo2DataModule
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.distillation.module import TrajectoryMatching
from gz_lightning.distillation.unroll import UNROLLS
from gz_lightning.errors import InputError
from gz_lightning.evaluation.evaluate import evaluate
from gz_lightning.experts.module import ExpertModule
from gz_lightning.memory import free_memory, keep_freed_memory
from gz_lightning.networks.convnet import ConvNet
from gz_lightning.networks.functional import FunctionalNetwork
from tests.evaluation.conftest import synthetic_set


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a kilobyte."""
    monkeypatch.setattr(memory, "free_memory", lambda device="cpu": 1000)


def test_freed_memory_is_kept_where_there_is_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    assert keep_freed_memory.__wrapped__() == (platform.libc_ver()[0] == "glibc")
    monkeypatch.setenv("GZ_KEEP_MEMORY", "0")
    assert not keep_freed_memory.__wrapped__()
    monkeypatch.delenv("GZ_KEEP_MEMORY")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory.__wrapped__()


def test_free_memory_is_some() -> None:
    free = free_memory()
    assert free is not None
    assert 2**20 < free < 2**50


@pytest.mark.usefixtures("scarce")
def test_experts_that_cannot_fit_say_so(toy: Galaxies, tmp_path: Path, trainer_options: dict[str, object]) -> None:
    experts = ExpertModule(str(tmp_path), num_experts=2, experts_at_once=2, train_epochs=2, width=8, depth=2)
    trainer = pl.Trainer(**trainer_options, default_root_dir=tmp_path / "run")  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=r"2 epochs of 2 experts at once take at least .* GiB .*fewer --model.experts_at_once"
    ):
        trainer.fit(experts, datamodule=GalaxyZoo2DataModule(str(toy.path), batch_size=16))
    assert not list(tmp_path.glob("expert_*"))


@pytest.mark.usefixtures("scarce")
def test_a_distillation_that_cannot_fit_says_so(
    toy_path: Path, toy_experts: Path, tmp_path: Path, trainer_options: dict[str, object]
) -> None:
    for mode, advice in (("full", "--model.unroll adjoint"), ("adjoint", "a smaller --model.batch_syn")):
        distiller = TrajectoryMatching(str(toy_experts), syn_steps=3, iterations=1, unroll=mode)
        trainer = pl.Trainer(**trainer_options, default_root_dir=tmp_path)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=rf"3 steps of 3 images \(unroll {mode}\) take at least .*{advice}"):
            trainer.fit(distiller, datamodule=GalaxyZoo2DataModule(str(toy_path)))


@pytest.mark.usefixtures("scarce")
def test_an_evaluation_that_cannot_fit_says_so(toy: Galaxies, tmp_path: Path) -> None:
    synthetic_set(toy).save(tmp_path / "set.h5")
    with pytest.raises(InputError, match=r"standardised training galaxies take at least .*--full_epochs 0"):
        evaluate(tmp_path / "set.h5", toy.path)


def test_the_least_that_an_unroll_takes_grows_as_its_mode_says() -> None:
    convnet = ConvNet(3, 16, width=8, depth=2)
    network = FunctionalNetwork(convnet)
    theta, images = network.parameters_of(convnet), torch.zeros(6, 3, 16, 16)

    def least(mode: str, steps: int) -> int:
        return UNROLLS[mode](memory_budget=0.0).least_memory(network, theta, images, steps)

    assert least("full", 10) == 10 * least("full", 1)
    assert least("adjoint", 10) < 0.5 * least("full", 10)
