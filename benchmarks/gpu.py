"""What only a GPU can tell, in one command of a few minutes: the tests, and four measurements.

    python benchmarks/gpu.py --minutes 8 --json benchmarks/results/gpu.json --data galaxies_64px.h5

Parts, in the order of their worth; each is a process with its own share of the time, and what an earlier one left over goes
to the later ones. The record is written after each, and what a part measured before its time was over is kept:

    tests         'pytest -m gpu tests/gpu'
    unroll        an outer iteration: full, adjoint, adjoint captured as a CUDA graph, adjoint compiled; TF32 off and on.
                  Published size (128 px, width 128, ten classes, one image each, 15 and 50 steps), and 32 px, width 32
    experts       ten and a hundred together beside the plain published loop, a piece; 32 px and 128 px
    evaluation    5 and 25 fresh networks together beside a loop, a piece
    distillation  default settings on the galaxies of --data: minutes and validation accuracy

It needs the package beside it, its requirements but jsonargparse, wandb, pooch, rich and beartype, and no network. More can
be brought along as wheels (--wheels). ``--device cpu --tiny`` is a dry run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # where the package is not installed

from gpu_parts import PARTS
from gpu_unroll import Record, Settings
from limited import limited

from gz_lightning.storage.whole import atomic_write

SHARES = {"tests": 0.25, "unroll": 0.3, "experts": 0.15, "evaluation": 0.1, "distillation": 0.2}
"""Of the time, part by part."""
TARGETS = {
    "unroll, published size, adjoint captured": "time .25 x full, memory .10 x full, 40 % of the matrix product rate",
    "unroll, 32 px, width 32, adjoint captured": "time .10 x full",
    "experts, a piece": "32 px, ten together .15 x plain; 128 px .35 x",
    "evaluation, a piece": ".15 x the loop",
}


def run_part(name: str, settings: Settings, path: Path) -> None:
    """A part, in its own process: its records so far are in the file at any time."""
    records: list[Record] = []
    for record in PARTS[name](settings):
        records.append(record)
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(records))


def part(name: str, settings: Settings, environment: dict[str, str]) -> Record:
    """Run a part in a process of its own within its limit."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.json"
        command = [sys.executable, str(Path(__file__).resolve()), "--part", name, "--settings", json.dumps(settings)]
        ended, output = limited([*command, "--json", str(path)], settings["limit"], environment)
        records = json.loads(path.read_text()) if path.exists() else []
    status = {0: "done", None: "stopped by its limit"}.get(ended, f"failed with exit status {ended}")
    result = {"status": status, "seconds": round(time.monotonic() - begin, 1), "limit": round(settings["limit"], 1)}
    return {**result, "records": records, **({} if ended == 0 else {"end_of_output": output[-4000:]})}


def about(commit: str | None, device: str) -> Record:
    """Card, driver, releases and commit."""

    def answer(*command: str) -> str:
        try:
            return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return "unknown"

    on_gpu = device == "cuda"
    return {
        "card": torch.cuda.get_device_name() if on_gpu else "none",
        "driver": answer("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") if on_gpu else "none",
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "none",
        "python": platform.python_version(),
        "commit": commit or answer("git", "rev-parse", "HEAD"),
        "load_before": os.getloadavg()[0],
    }


def bring(wheels: Path | None, folder: str) -> dict[str, str]:
    """The environment of the parts: with what the wheels hold."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    if wheels is not None:
        files = sorted(map(str, wheels.glob("*.whl")))
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", folder, *files]
        if not files or subprocess.run(command, check=False).returncode:
            print(f"no wheel of {wheels} could be installed; going on without", flush=True)
        else:
            paths.insert(0, folder)
    return {**environment, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts")
    parser.add_argument("--json", type=Path, required=True, help="the record, written anew after each part")
    parser.add_argument("--data", type=Path, help="packed galaxies to distil, such as real ones of 64 px")
    parser.add_argument(
        "--wheels", type=Path, help="folder of wheels to bring along, such as jsonargparse's for the commands"
    )
    parser.add_argument("--commit", help="what is measured; default: that of the git checkout, or unknown")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--tiny", action="store_true", help="everything made tiny, for a dry run")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--settings", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.part:
        run_part(given.part, given.settings, given.json)
        return
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA here; '--device cpu --tiny' is a dry run")
    end = time.monotonic() + 60 * given.minutes
    record = {"minutes": given.minutes, "device": given.device, "tiny": given.tiny, **about(given.commit, given.device)}
    record |= {"targets": TARGETS, "parts": {}}
    data = None if given.data is None else str(given.data.resolve())
    with tempfile.TemporaryDirectory() as folder:
        environment = bring(given.wheels, folder)
        for place, name in enumerate(given.parts):
            share = SHARES[name] / sum(SHARES[later] for later in given.parts[place:])
            limit = max((end - time.monotonic()) * share, 1)
            print(f"{name}: at most {limit:.0f} s", flush=True)
            settings = {"device": given.device, "tiny": given.tiny, "data": data, "limit": limit}
            try:
                record["parts"][name] = part(name, settings, environment)
            except Exception:
                record["parts"][name] = {"status": "failed", "end_of_output": traceback.format_exc(), "records": []}
            result = record["parts"][name]
            print(f"{name}: {result['status']}, {len(result['records'])} records", flush=True)
            with atomic_write(given.json) as temporary:
                temporary.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
