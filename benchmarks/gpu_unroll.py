"""An outer iteration in its modes on a GPU: time, memory, share of the rate of a matrix product, and a profile."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

MODES = ("full", "adjoint", "adjoint, captured", "adjoint, compiled")
Settings = dict[str, Any]
"""``device``, ``tiny``, ``data`` (a path or None), and ``limit`` in seconds."""
Record = dict[str, Any]


def wait(device: str) -> None:
    """Wait until the device has done all that it was told."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_of(run: Callable[[], Any], device: str) -> float:
    wait(device)
    begin = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - begin


def set_tf32(on: bool) -> None:
    torch.set_float32_matmul_precision("high" if on else "highest")
    torch.backends.cudnn.allow_tf32 = on


class Iteration:
    """An outer iteration at fixed images and parameters, as a distillation has it: draws of the host, and work on them."""

    def __init__(self, case: Settings, way: str) -> None:
        from unroll import Problem

        from gz_lightning.distillation.matching import Drawn, Segments

        self.problem, self.case, self.way = Problem(case, torch.float32), case, way
        self.images = self.problem.images.clone().requires_grad_()
        self.log_alpha = torch.full((), 0.01, device=self.images.device).log_().requires_grad_()
        self.segments = Segments(None, 1, case["syn_steps"], None, "galaxy")  # type: ignore[arg-type]
        self.number = 0
        ends = self.problem.start.cpu(), self.problem.target.cpu()
        rows = torch.arange(len(self.images)).repeat(case["syn_steps"])
        self.drawn = Drawn(0, 0, (len(self.images),) * case["syn_steps"], *ends, rows)

    def work(self, drawn: Any) -> list[torch.Tensor]:
        """Loss and gradients."""
        from gz_lightning.distillation.matching import matching_loss
        from gz_lightning.distillation.unroll import unroll

        segment = self.segments.made(drawn, self.images, self.problem.labels)
        student = unroll(
            self.problem.network, segment.start, segment.batches, segment.labels, self.log_alpha.exp(), self.way
        )
        loss = matching_loss(student, segment.start, segment.target)
        return [loss.detach(), *torch.autograd.grad(loss, [self.images, self.log_alpha])]

    def draw(self) -> Any:
        """What the next iteration is given."""
        from gz_lightning.augmentation import galaxy_draws
        from gz_lightning.randomness import generator

        self.number += 1
        return self.drawn._replace(numbers=galaxy_draws(len(self.drawn.rows), generator("gpu benchmark", self.number)))


def runner(case: Settings, mode: str) -> tuple[Iteration, Callable[[], Any]]:
    """An iteration, and what runs it in a mode."""
    from gz_lightning.distillation.graph import Replayed, cuda_capture

    iteration = Iteration(case, mode.partition(",")[0])
    if mode == "adjoint, compiled":
        iteration.problem.network.derivatives.compile()
    if mode != "adjoint, captured":
        return iteration, lambda: iteration.work(iteration.draw())
    device = torch.device(case["device"])
    replayed = Replayed(iteration.work, device, cuda_capture if device.type == "cuda" else again)

    def run() -> None:
        replayed(iteration.draw())
        if replayed.failed:
            raise RuntimeError("the capture failed")

    return iteration, run


def again(run: Callable[[], list[torch.Tensor]]) -> tuple[Callable[[], object], list[torch.Tensor]]:
    """Stands in for a capture on a CPU."""
    outputs = run()
    return lambda: [output.copy_(new) for output, new in zip(outputs, run(), strict=True)], outputs


def unrolls(settings: Settings) -> Iterator[Record]:
    """A record for each size, number of steps, precision and mode; then what a profile shows."""
    from unroll import CountFlops, matrix_product_rate

    from gz_lightning.distillation.unroll import MEMORY_BUDGET

    device, tiny = settings["device"], settings["tiny"]
    common = {"device": device, "depth": 3, "classes": 10, "ipc": 1, "memory_budget": MEMORY_BUDGET, "threads": 1}
    sizes = [("published", 128, 128, 50), ("small", 32, 32, 50), ("published", 128, 128, 15), ("small", 32, 32, 15)]
    if tiny:
        sizes, common["classes"] = [("tiny", 16, 4, 3)], 2
    rates = {}
    for tf32 in (False, True):
        set_tf32(tf32)
        rates[tf32] = matrix_product_rate(common, 128 if tiny else 8192)
        yield {"what": "matrix product", "tf32": tf32, "tflop_per_second": rates[tf32] / 1e12}
    modes = [mode for mode in MODES if mode != "adjoint, compiled"]
    plans = [(size, tf32, modes) for size in sizes for tf32 in (False, True)]
    if not tiny:  # compiling takes a minute each time, so it comes last
        plans += [(size, True, ["full", "adjoint, compiled"]) for size in sizes[:2]]
    for (name, resolution, width, steps), tf32, chosen in plans:
        set_tf32(tf32)
        case = {**common, "resolution": resolution, "width": width, "syn_steps": steps}
        runs, records = {}, {}
        for mode in chosen:
            records[mode] = {"size": name, "mode": mode, "tf32": tf32, **case}
            try:
                iteration, run = runner(case, mode)
                if device == "cuda":
                    torch.cuda.empty_cache()
                    idle, held = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
                    torch.cuda.reset_peak_memory_stats()
                run()
                if device == "cuda":
                    records[mode]["peak_mib"] = (torch.cuda.max_memory_allocated() - idle) / 2**20
                    records[mode]["reserved_mib"] = (torch.cuda.memory_reserved() - held) / 2**20  # a graph keeps it
                if mode != "adjoint, compiled":
                    with CountFlops() as counter:
                        iteration.work(iteration.draw())
                    records[mode]["gflop"] = counter.total / 1e9
                runs[mode] = run
            except RuntimeError as error:
                records[mode]["failed"] = str(error).partition("\n")[0]
        turns: dict[str, list[float]] = {mode: [] for mode in runs}
        until = time.monotonic() + (0.1 if tiny else 4)
        while time.monotonic() < until or not all(map(len, turns.values())):
            for mode, run in runs.items():
                turns[mode].append(seconds_of(run, device))
        for mode, record in records.items():
            if mode in turns:
                record["seconds"], record["turns"] = statistics.median(turns[mode]), len(turns[mode])
                if "full" in turns:
                    pairs = zip(turns[mode], turns["full"], strict=True)
                    record["ratio_to_full"] = statistics.median(ours / full for ours, full in pairs)
                if "peak_mib" in records["full"] and "peak_mib" in record:
                    record["memory_ratio_to_full"] = record["peak_mib"] / records["full"]["peak_mib"]
                if "gflop" in record:
                    record["share_of_matrix_product_rate"] = 1e9 * record["gflop"] / record["seconds"] / rates[tf32]
            yield record
        if name != "small" and "adjoint" in runs and tf32:
            yield {
                "what": "profile",
                "size": name,
                "syn_steps": steps,
                "tf32": tf32,
                "name, milliseconds, calls": profile(runs["adjoint"], device),
            }
        del runs


def profile(run: Callable[[], Any], device: str) -> list[list[Any]]:
    """The ten dearest kernels (on a CPU operators) of a run: name, milliseconds, calls."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    activity = ProfilerActivity.CUDA if device == "cuda" else ProfilerActivity.CPU
    with profiled(activities=[activity]) as found:
        run()
        wait(device)
    of = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    rows = sorted(found.key_averages(), key=lambda row: -getattr(row, of))
    return [[row.key[:120], getattr(row, of) / 1000, row.count] for row in rows[:10]]
