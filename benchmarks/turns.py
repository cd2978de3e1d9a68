"""Variants measured in turn, each in a process of its own: what one leaves behind in memory or caches is not another's."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

from memory import peak_memory

Job = Callable[[str, Any], Any]
"""A function of a module: (name of the variant, what it is given) -> what is reported of it."""


def _serve(link: Connection, job: Job, name: str, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    while (given := link.recv()) is not None:
        begin = time.perf_counter()
        result = job(name, given[0])
        link.send((time.perf_counter() - begin, result, peak_memory()))


class Turns:
    """Processes that wait for their turn.

    Args:
        job: What each does when it is asked to.
        variants: Name -> environment variables of its process.
    """

    def __init__(self, job: Job, variants: Mapping[str, Mapping[str, str]]) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.links: dict[str, Connection] = {}
        self.processes = []
        for name, environment in variants.items():
            self.links[name], other = spawn.Pipe()
            self.processes.append(spawn.Process(target=_serve, args=(other, job, name, dict(environment)), daemon=True))
            self.processes[-1].start()

    def run(self, name: str, given: Any) -> tuple[float, Any, int]:
        """Let one do it now: seconds, its result, and the peak memory of its process so far in bytes."""
        self.links[name].send((given,))
        answer: tuple[float, Any, int] = self.links[name].recv()
        return answer

    def end(self) -> None:
        """Let all go."""
        for link in self.links.values():
            link.send(None)
        for process in self.processes:
            process.join()
