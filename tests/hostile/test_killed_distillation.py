"""A distillation that is killed at any moment resumes to the same bits, with stages, momentum and all."""

import multiprocessing
import random
import signal
import time
from pathlib import Path

import torch

from gz_lightning.sets.synthetic import SyntheticSet
from gz_lightning.storage.checkpoints import LAST

KILLS = 5


def run(folder: str, data: str, experts: str, resume: bool) -> None:
    """What the killed process does: the command itself, with a checkpoint every few iterations."""
    from gz_lightning.cli import main

    torch.set_num_threads(1)
    settings = [
        *["--model.ipc", "1", "--model.syn_steps", "3", "--model.iterations", "150", "--model.lr_teacher", "0.05"],
        *[
            "--model.eval_it",
            "7",
            "--model.num_eval",
            "1",
            "--model.epoch_eval_train",
            "1",
            "--model.sigma_threshold",
            "0.01",
        ],
        *["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--wandb", "off"],
    ]
    command = ["distill", "--data.path", data, "--model.trajectories", experts, *settings]
    main([*command, "--run_dir", folder, *(["--ckpt_path", "last"] if resume else [])])


def test_killed_at_random_moments(tmp_path: Path, toy_path: Path, toy_experts: Path) -> None:
    context = multiprocessing.get_context("forkserver")  # forks of a process that has only imported things
    context.set_forkserver_preload(["gz_lightning.distillation.module", "gz_lightning.cli.lightning", __name__])

    def process(folder: str, resume: bool) -> multiprocessing.process.BaseProcess:
        arguments = (str(tmp_path / folder), str(toy_path), str(toy_experts), resume)
        started = context.Process(target=run, args=arguments)
        started.start()
        return started

    begin = time.monotonic()
    whole = process("whole", resume=False)
    whole.join()
    duration = time.monotonic() - begin
    assert whole.exitcode == 0
    expected = torch.load(tmp_path / "whole" / LAST, weights_only=True)
    assert expected["distillation"]["iteration"] == 150
    assert expected["distillation"]["stages"]["cap"] > 1
    draws, at = random.Random(0), []
    for _ in range(KILLS):
        victim = process("cut", resume=True)
        victim.join(draws.uniform(0.15, 0.5) * duration)
        victim.kill()
        victim.join()
        if victim.exitcode == 0:
            break
        assert victim.exitcode == -signal.SIGKILL
        if (tmp_path / "cut" / LAST).exists():  # always readable
            at.append(torch.load(tmp_path / "cut" / LAST, weights_only=True)["distillation"]["iteration"])
    assert any(0 < iteration < 150 for iteration in at)  # it was killed on its way
    final = process("cut", resume=True)
    final.join()
    assert final.exitcode == 0
    found = torch.load(tmp_path / "cut" / LAST, weights_only=True)
    assert found["distillation"] == expected["distillation"]
    for name, value in expected["state_dict"].items():
        assert torch.equal(found["state_dict"][name], value), name
    momentum, expected_momentum = (kept["optimizer_states"][0]["state"] for kept in (found, expected))
    assert all(
        torch.equal(momentum[i]["momentum_buffer"], expected_momentum[i]["momentum_buffer"]) for i in expected_momentum
    )
    for name in ("best.h5", "last.h5"):
        one, two = (SyntheticSet.load(tmp_path / folder / name) for folder in ("whole", "cut"))
        assert torch.equal(one.images, two.images)
        assert (one.iteration, one.results) == (two.iteration, two.results)
