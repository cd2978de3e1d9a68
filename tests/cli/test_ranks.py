"""Processes of one run: a broken connection is told in one line, any other error stays what it is."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch.distributed as dist
from lightning.pytorch import Trainer

from gz_lightning.cli.ranks import FIRST, ranks_end_together
from gz_lightning.errors import InputError

LOST = "[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4242"


def trainer(world_size: int) -> Trainer:
    """A Trainer as the block sees it."""
    environment = SimpleNamespace(creates_processes_externally=False)
    strategy = SimpleNamespace(cluster_environment=environment, launcher=SimpleNamespace(procs=[]))
    return cast(Trainer, SimpleNamespace(world_size=world_size, strategy=strategy))


def test_a_broken_connection_is_told_in_one_line() -> None:
    with pytest.raises(InputError, match="another process of this run has ended"), ranks_end_together(trainer(2), "fit"):
        raise RuntimeError(LOST)


def test_the_other_processes_know_the_first() -> None:
    with ranks_end_together(trainer(2), "fit"):
        assert os.environ[FIRST] == str(os.getpid())
    assert FIRST not in os.environ


@pytest.mark.parametrize(("size", "words"), [(2, "a bug"), (1, LOST)])
def test_other_errors_stay(size: int, words: str) -> None:
    with pytest.raises(RuntimeError, match="a bug|Connection"), ranks_end_together(trainer(size), "fit"):
        raise RuntimeError(words)


def test_the_connection_is_closed_at_the_end(tmp_path: Path) -> None:
    """An open one now and then aborts a process (torch 2.15.0, gloo) that has nothing left to do: the others stop then."""
    with ranks_end_together(trainer(2), "fit"):
        dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    assert not dist.is_initialized()
