"""What the ways to differentiate through the unroll cost: time, memory and error of each, side by side in one run.

    python benchmarks/unroll.py --json benchmarks/results/unroll.json

Each mode runs in a process of its own. The processes take turns, so that whatever else the machine does falls on all of
them; medians over the turns are reported. ``adjoint_autograd`` is the adjoint for a network without written derivatives,
and ``full_channels_last`` is ``full`` with the layout that the written derivatives choose for themselves.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import torch
from memory import peak_memory
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from gz_lightning.augmentation import augment
from gz_lightning.distillation.matching import matching_loss
from gz_lightning.distillation.unroll import MEMORY_BUDGET, UNROLLS, unroll
from gz_lightning.figures import save_figure
from gz_lightning.networks.convnet import ConvNet
from gz_lightning.networks.functional import FunctionalNetwork
from gz_lightning.randomness import generator

VARIANTS = {"adjoint_autograd": "adjoint", "full_channels_last": "full"}
MODES = ["full", "full_channels_last", "adjoint_autograd", "adjoint", "first_order"]
STEP_SIZE = 0.01


class CountFlops(TorchDispatchMode):
    """Adds up the FLOPs of convolutions and matrix products (FlopCounterMode refuses a gradient within a backward)."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator and count it."""
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=result)
        return result


class Problem:
    """An outer iteration at fixed random images, parameters and augmentation; the same in every process."""

    def __init__(self, settings: dict[str, Any], dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        self.settings = settings
        classes, side = settings["classes"], settings["resolution"]
        convnet = ConvNet(classes, side, width=settings["width"], depth=settings["depth"])
        self.network = FunctionalNetwork(convnet)
        device = settings["device"]
        self.start = FunctionalNetwork.parameters_of(convnet).to(device, dtype)
        self.target = self.start + 0.01 * torch.randn(len(self.start)).to(device, dtype)
        self.images = torch.randn(classes * settings["ipc"], 3, side, side).to(device, dtype)
        self.labels = torch.arange(classes, device=device).repeat_interleave(settings["ipc"])

    def run(self, mode: str, syn_steps: int) -> tuple[float, float, torch.Tensor]:
        """Seconds of the forward and of the backward phase, and the gradient of the images."""
        images = self.images.clone().requires_grad_()
        log_alpha = torch.full((), STEP_SIZE, device=images.device, dtype=images.dtype).log_().requires_grad_()
        draws = generator("unroll benchmark")
        network = (lambda theta, x: self.network(theta, x)) if mode == "adjoint_autograd" else self.network
        self._wait()
        begin = time.perf_counter()
        batches = [augment(images, "galaxy", draws) for _ in range(syn_steps)]
        if mode == "full_channels_last":
            batches = [batch.contiguous(memory_format=torch.channels_last) for batch in batches]
        way = UNROLLS[VARIANTS.get(mode, mode)](memory_budget=self.settings["memory_budget"])
        end = unroll(network, self.start, batches, [self.labels] * syn_steps, log_alpha.exp(), way)
        loss = matching_loss(end, self.start, self.target)
        self._wait()
        middle = time.perf_counter()
        loss.backward()
        self._wait()
        assert images.grad is not None
        return middle - begin, time.perf_counter() - middle, images.grad

    def _wait(self) -> None:
        if self.settings["device"] == "cuda":
            torch.cuda.synchronize()


def serve(pipe: Connection, settings: dict[str, Any], mode: str, syn_steps: int) -> None:
    """One process: memory of the first run, then a timed run for every message, FLOPs at the end."""
    torch.set_num_threads(settings["threads"])
    tiny = Problem({**settings, "resolution": 2 ** (settings["depth"] + 1), "width": 8}, torch.float32)
    tiny.run(mode, 1)  # loads the libraries
    problem = Problem(settings, torch.float32)
    if settings["device"] == "cuda":
        torch.cuda.reset_peak_memory_stats()
        idle = torch.cuda.memory_allocated()
        problem.run(mode, syn_steps)
        peak = torch.cuda.max_memory_allocated() - idle
    else:
        idle = psutil.Process().memory_info().rss
        problem.run(mode, syn_steps)
        peak = peak_memory() - idle
    pipe.send(peak / 2**20)
    while pipe.recv():
        pipe.send(problem.run(mode, syn_steps)[:2])
    with CountFlops() as counter:
        problem.run(mode, syn_steps)
    pipe.send(counter.total)


def image_gradient(settings: dict[str, Any], mode: str, syn_steps: int) -> torch.Tensor:
    """Gradient of the images in float64; in a process of its own, so that its memory is given back."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return torch.from_numpy(pool.apply(_image_gradient, (settings, mode, syn_steps)))


def _image_gradient(settings: dict[str, Any], mode: str, syn_steps: int) -> Any:
    torch.set_num_threads(settings["threads"])
    return Problem(settings, torch.float64).run(mode, syn_steps)[2].cpu().numpy()


def matrix_product_rate(settings: dict[str, Any], size: int = 2048) -> float:
    """FLOPs a second of a float32 matrix product, median of nine."""
    torch.set_num_threads(settings["threads"])
    matrix = torch.randn(size, size, device=settings["device"])
    seconds = []
    for _ in range(9):
        if settings["device"] == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        matrix @ matrix
        if settings["device"] == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return 2 * size**3 / statistics.median(seconds)


def measure(settings: dict[str, Any], modes: list[str], syn_steps: int, repeats: int) -> list[dict[str, Any]]:
    """One record for each mode."""
    context = multiprocessing.get_context("spawn")
    pipes, processes, memory = {}, [], {}
    for mode in modes:
        pipes[mode], other = context.Pipe()
        processes.append(context.Process(target=serve, args=(other, settings, mode, syn_steps), daemon=True))
        processes[-1].start()
        memory[mode] = pipes[mode].recv()
    turns: dict[str, list[tuple[float, float]]] = {mode: [] for mode in modes}
    for turn in range(repeats):
        for mode in modes if turn % 2 == 0 else reversed(modes):
            pipes[mode].send(True)
            turns[mode].append(pipes[mode].recv())
    flops = {}
    for mode in modes:
        pipes[mode].send(False)
        flops[mode] = pipes[mode].recv()
    for process in processes:
        process.join()
    rate = matrix_product_rate(settings)
    exact = image_gradient(settings, "full", syn_steps)
    records = []
    for mode in modes:
        seconds = [sum(turn) for turn in turns[mode]]
        ratios = [ours / sum(full) for ours, full in zip(seconds, turns["full"], strict=True)]
        result = image_gradient(settings, mode, syn_steps)
        records.append(
            {
                "mode": mode,
                "syn_steps": syn_steps,
                "seconds": statistics.median(seconds),
                "seconds_forward": statistics.median(turn[0] for turn in turns[mode]),
                "seconds_gradient": statistics.median(turn[1] for turn in turns[mode]),
                "ratio_to_full": statistics.median(ratios),
                "peak_mib": memory[mode],
                "relative_error": float((result - exact).norm() / exact.norm()),
                "cosine": float((result * exact).sum() / result.norm() / exact.norm()),
                "gflop": flops[mode] / 1e9,
                "share_of_matrix_product_rate": flops[mode] / statistics.median(seconds) / rate,
                **settings,
            }
        )
    return records


def figure(table: pd.DataFrame) -> Any:
    """Time and memory against syn_steps."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(9, 3.6), layout="constrained", dpi=120)
    for axis, column, label in zip(
        drawn.subplots(1, 2),
        ("seconds", "peak_mib"),
        ("seconds per outer iteration", "peak memory above idle, MiB"),
        strict=True,
    ):
        for mode, rows in table.groupby("mode", sort=False):
            axis.plot(rows["syn_steps"], rows[column], marker="o", label=mode, linewidth=1)
        axis.set(xlabel="syn_steps", ylabel=label, yscale="log")
        axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
    return drawn


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, and write JSON and plot if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("resolution", 64), ("width", 64), ("depth", 3), ("ipc", 1), ("classes", 10), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--memory_budget", type=float, default=MEMORY_BUDGET, help="GiB, of adjoint and first_order")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="on the CPU")
    parser.add_argument("--syn_steps", type=int, nargs="+", default=[5, 20, 50])
    parser.add_argument(
        "--modes", nargs="+", default=MODES, choices=sorted({*UNROLLS, *MODES}), help="full is always among them"
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--json", type=Path, help="write the records here, and the plot beside it as PNG")
    settings = vars(parser.parse_args(arguments))
    path, repeats, steps = settings.pop("json"), settings.pop("repeats"), settings.pop("syn_steps")
    modes = list(dict.fromkeys(["full", *settings.pop("modes")]))
    records = []
    for syn_steps in steps:
        records += measure(settings, modes, syn_steps, repeats)
        columns = ["mode", "syn_steps", "seconds", "ratio_to_full", "peak_mib", "relative_error", "gflop"]
        columns += ["share_of_matrix_product_rate", "cosine"]
        print(pd.DataFrame(records[-len(modes) :])[columns].to_string(index=False, float_format="{:.4g}".format), flush=True)
        if path is not None:
            path.write_text(json.dumps(records, indent=1) + "\n")
            save_figure(figure(pd.DataFrame(records)), path.with_suffix(".png"))


if __name__ == "__main__":
    main()
