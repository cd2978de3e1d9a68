"""Processes of one run on several devices: where one is killed, the others end in one line instead of waiting for it.

Lightning starts the other processes from the first. It kills the first without a word when another one dies, and the others
wait for half an hour in a collective when the first one dies.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator

import torch.distributed as dist
from lightning.pytorch import Trainer
from torch.distributed import DistBackendError, DistNetworkError

from gz_lightning.errors import InputError
from gz_lightning.progress import say

KILLED = "another process of this run has ended; run the same command with --ckpt_path last to resume"
FIRST = "GZ_LIGHTNING_FIRST_PROCESS"
"""Environment variable with the number of the process that started the others."""
GRACE = 10.0
"""Seconds that a process may take to end after the first one has."""
POLL = 0.2
"""Seconds between looks at the other processes."""


def _is_lost(error: RuntimeError) -> bool:
    """Whether an error says that the connection to another process broke."""
    return isinstance(error, (DistBackendError, DistNetworkError)) or "gloo/transport" in str(error)


class _Watch(threading.Thread):
    """Ends this process when another process of the run dies."""

    def __init__(self, trainer: Trainer, command: str) -> None:
        super().__init__(daemon=True, name="ranks")
        self.trainer, self.command = trainer, command
        self.over = threading.Event()
        self.telling = threading.Lock()

    def run(self) -> None:
        if os.environ[FIRST] != str(os.getpid()):
            while os.getppid() == int(os.environ[FIRST]):
                if self.over.wait(POLL):
                    return
            if not self.over.wait(GRACE):
                self.end(2)
            return
        while not (processes := getattr(self.trainer.strategy.launcher, "procs", [])):
            if self.over.wait(POLL):
                return
        for process in processes:
            threading.Thread(target=self.follow, args=(process,), daemon=True).start()

    def follow(self, process: object) -> None:
        """Wait for another process; while this thread does, Lightning's does not see that it has ended."""
        status: int = process.wait()  # type: ignore[attr-defined]
        if status < 0 and not self.over.is_set():
            self.end(2)

    def end(self, status: int) -> None:
        """Say why and end; whole files stay, for every write is atomic."""
        if self.telling.acquire(blocking=False):
            say(f"gz-lightning {self.command}: {KILLED}", style="red")
            os._exit(status)


@contextlib.contextmanager
def ranks_end_together(trainer: Trainer, command: str) -> Iterator[None]:
    """End this process in one line and with status 2 if another process of the run dies while the block runs.

    Args:
        trainer: The Trainer that runs in the block.
        command: Name of the command, for the message.

    Raises:
        InputError: If the connection to another process breaks.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if (
        trainer.world_size == 1
        or environment is None
        or (environment.creates_processes_externally and FIRST not in os.environ)
    ):
        yield  # torchrun and SLURM watch over their processes
        return
    is_first = os.environ.setdefault(FIRST, str(os.getpid())) == str(os.getpid())
    watch = _Watch(trainer, command)
    watch.start()
    try:
        yield
    except RuntimeError as error:
        if not _is_lost(error):
            raise
        if not watch.telling.acquire(blocking=False):
            time.sleep(GRACE)  # the watch is telling, and ends the process
        raise InputError(KILLED) from error
    else:
        if dist.is_initialized():  # its threads can abort a process that ends while the first one is still at work
            dist.destroy_process_group()
    finally:
        watch.over.set()
        if is_first:
            del os.environ[FIRST]
