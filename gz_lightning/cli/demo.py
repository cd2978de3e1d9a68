"""``gz-lightning demo``: prepare, fit, distill, evaluate and report on simulated galaxies."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from gz_lightning.data.download import PARTS, SOURCES, default_folder
from gz_lightning.progress import say

REAL = "--tree coarse5 --per_class 300 --resolution 32 --val_fraction 0.15"
"""How the real galaxies of the demo are packed: the published shards name the split."""


def demo_commands(output: Path, real: bool = False) -> list[list[str]]:
    """The commands of the demo, as typed after ``gz-lightning``.

    Small galaxies, a narrow network and few iterations: each step takes about a minute on two cores.
    """
    galaxies, experts, run = (str(output / name) for name in ("galaxies.h5", "experts", "distilled"))
    prepare = "--tree coarse5 --per_class 300 --resolution 32 --val_fraction 0.15 --test_fraction 0.35"
    fit = "--data.batch_size 64 --model.num_experts 6 --model.train_epochs 12 --model.width 32 --model.augmentation galaxy"
    distill = "--model.ipc 1 --model.iterations 30 --model.finish 30 --model.window 20 --model.eval_it 30"
    scoring = "--model.num_eval 2 --model.epoch_eval_train 200"
    evaluate = "--num_eval 3 --epochs 200 --draws 3 --full_epochs 15 --step_sizes [0.003,0.01,0.03]"
    fetched = default_folder()
    tables = [str(fetched / SOURCES[name].kept) for name in PARTS["tiny"]]
    origin = [
        ["download", "--source", "tiny", "--folder", str(fetched)],
        ["prepare", "--output", galaxies, "--table", f"[{', '.join(tables)}]", *REAL.split()],
    ]
    return [
        *(origin if real else [["prepare", "--output", galaxies, *prepare.split()]]),
        [
            *["fit", "--data.path", galaxies, "--model.trajectories", experts, *fit.split()],
            *["--run_dir", str(output / "fit"), "--wandb", "off"],
        ],
        [
            *["distill", "--data.path", galaxies, "--model.trajectories", experts],
            *[*distill.split(), *scoring.split()],
            *["--run_dir", run, "--ckpt_path", "last", "--wandb", "off"],
        ],
        [
            *["evaluate", "--synthetic", f"{run}/best.h5", "--data", galaxies],
            *[*evaluate.split(), "--baselines", "[class mean, random real, full data]"],
        ],
        ["report", run, "--output", str(output / "report")],
    ]


def demo(output: Path = Path("demo"), real: bool = False) -> Iterator[list[str]]:
    """Simulate galaxies, train experts, distil one image per class, score it beside the baselines, and report on it.

    The commands are shown as they run. Existing results are kept: an interrupted demo resumes.

    Args:
        output: Folder that the demo writes into.
        real: Take real galaxies: 1,900 of Galaxy Zoo 2, which are fetched once (26 MB, CC-BY-NC-SA-4.0).

    Yields:
        The commands that remain to be run, one by one.
    """
    for command in demo_commands(output, real):
        say(f"\n$ gz-lightning {shlex.join(command)}")
        if command[0] == "prepare" and (output / "galaxies.h5").exists():
            say(f"{output / 'galaxies.h5'} exists already")
        else:
            yield command
