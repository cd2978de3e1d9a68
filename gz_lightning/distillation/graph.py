"""One launch an iteration: what the device does is recorded once as a CUDA graph, and then replayed.

An iteration at 32 px is tens of thousands of small operators, and to launch each takes longer than to compute it. A
graph of them reads what it is given from fixed places in memory (the buffers) and leaves its results in others; so each
iteration copies what was drawn into the buffers, launches the graph, and copies the results out. Images and step sizes
are where they always are, for updates change them in place.

Written for CUDA, measured on none yet. The tests put a stand-in in the place of the capture.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch

from gz_lightning.distillation.matching import FIXED, Drawn
from gz_lightning.errors import InputError
from gz_lightning.progress import say

Outputs = list[torch.Tensor]
Work = Callable[[Any], Outputs]
"""What the device does with what was drawn. It reads nothing back; what else it uses stays at its place in memory."""
Capture = Callable[[Callable[[], Outputs]], tuple[Callable[[], object], Outputs]]
"""Records a function: what replays it, and the outputs that each replay writes over."""
WARM_UP = 3
"""Runs before the capture, in which libraries are loaded and choose their algorithms."""


def cuda_capture(run: Callable[[], Outputs]) -> tuple[Callable[[], object], Outputs]:
    """Capture a function of tensors on a GPU as a CUDA graph, see ``Capture``."""
    stream, before = torch.cuda.Stream(), torch.cuda.current_stream()
    stream.wait_stream(before)
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            run()
    before.wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = run()
    except BaseException:
        torch.cuda.set_stream(before)  # a capture that fails at its end leaves its own
        raise
    return graph.replay, outputs


class Replayed:
    """Work that is captured once and replayed for everything of the same shapes; as it is, where capture fails.

    Args:
        work: The work.
        device: Where it computes.
        capture: Captures it.
    """

    def __init__(self, work: Work, device: torch.device, capture: Capture = cuda_capture) -> None:
        self.work, self.device, self.capture = work, device, capture
        self.failed = False
        self._shapes: object = None
        self._replay: Callable[[], object] = lambda: None
        self._outputs: Outputs = []
        self._buffers: dict[str, torch.Tensor] = {}

    def __call__(self, drawn: Drawn) -> Outputs:
        """The outputs of the work; copies, which the next call leaves alone."""
        if not self.failed and (shapes := _shapes(drawn)) != self._shapes:
            self._prepare(drawn)
            self._shapes = shapes
        if self.failed:
            return self.work(drawn)
        for name, buffer in self._buffers.items():
            given: torch.Tensor = getattr(drawn, name)
            buffer.copy_(given.pin_memory() if buffer.is_cuda and not given.is_cuda else given, non_blocking=True)
        self._replay()
        return [output.clone() for output in self._outputs]

    def _prepare(self, drawn: Drawn) -> None:
        """Make the buffers and capture; those of other shapes are given back first, for a graph holds all its memory."""
        self._replay, self._outputs = (lambda: None), []
        self._buffers = {name: x.to(self.device, copy=True) for name, x in _tensors(drawn).items()}
        held = drawn._replace(**self._buffers)  # type: ignore[arg-type]
        try:
            self._replay, self._outputs = self.capture(lambda: self.work(held))
        except RuntimeError as error:  # of CUDA, its allocator, or an operator that cannot be captured
            self.failed, self._buffers = True, {}
            reason = str(error).strip().partition("\n")[0]
            say(f"no CUDA graph ({reason}): iterations run operator by operator, as with --model.graph off")


def matching(
    work: Work,
    settings: Mapping[str, Any],
    device: torch.device,
    augmentation: str,
    devices: int = 1,
    parts: Collection[Any] = (),
) -> Work:
    """The work of an iteration, captured where the settings ask for it.

    Args:
        work: The work.
        settings: Settings of the distillation by name.
        device: Where it computes.
        augmentation: Of the minibatches.
        devices: Of the run; ``auto`` captures on a single one only.
        parts: Functions and classes that the work consists of; ``auto`` captures the package's own only, for what others
            do in Python, such as counting iterations, would be done once.

    Raises:
        InputError: If ``graph`` is ``on`` and the work cannot be captured.
    """
    choice, against = {True: "on", False: "off"}.get(settings["graph"], settings["graph"]), ""
    if settings["objective"] == "real":
        against = "is of --model.objective match: windows of a real student begin at other steps each time"
    elif device.type != "cuda":
        against = "needs a GPU (--trainer.accelerator gpu)"
    elif augmentation not in FIXED:
        against = f"needs an augmentation whose operations are always the same, {' or '.join(FIXED)}, not {augmentation}"
    elif settings["step_sizes"] != "global":
        against = "needs one step size for all start epochs: --model.step_sizes global"
    if choice == "on" and against:
        raise InputError(f"--model.graph on {against}; --model.graph auto captures where it can")
    known = devices == 1 and all(part.__module__.startswith("gz_lightning.") for part in parts)
    return Replayed(work, device) if choice == "on" or (choice == "auto" and not against and known) else work


def _tensors(drawn: Drawn) -> dict[str, torch.Tensor]:
    return {name: x for name, x in drawn._asdict().items() if isinstance(x, torch.Tensor)}


def _shapes(drawn: Drawn) -> object:
    return drawn.sizes, {name: (x.shape, x.dtype) for name, x in _tensors(drawn).items()}
