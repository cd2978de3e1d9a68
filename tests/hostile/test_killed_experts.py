"""A fit that is killed at any moment leaves a readable store, and goes on to the same experts."""

import multiprocessing
import random
import signal
import time
from pathlib import Path

import pytest

from gz_lightning.errors import InputError
from gz_lightning.experts.trajectories import TrajectoryStore


def run(folder: str, data: str, settings: list[str], go_on: bool) -> None:
    """What the killed process does: the command itself."""
    import torch

    from gz_lightning.cli import main

    torch.set_num_threads(1)
    command = ["fit", "--data.path", data, "--data.batch_size", "16", "--model.trajectories", f"{folder}/experts", *settings]
    main([*command, "--run_dir", f"{folder}/run", *(["--ckpt_path", "last"] if go_on else [])])


@pytest.mark.parametrize(("at_once", "kills"), [(2, 10), (1, 3)])
def test_killed_at_random_moments(tmp_path: Path, toy_path: Path, at_once: int, kills: int) -> None:
    settings = [
        *["--model.num_experts", "3", "--model.train_epochs", "4", "--model.width", "4", "--model.depth", "2"],
        *["--model.momentum", "0.9", "--model.lr_schedule", "cosine", "--model.experts_at_once", str(at_once)],
        *["--model.checkpoint_minutes", "0", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"],
        *["--wandb", "off"],
    ]
    context = multiprocessing.get_context("forkserver")  # forks of a process that has only imported things
    context.set_forkserver_preload(["gz_lightning.experts.module", "gz_lightning.cli.lightning", __name__])

    def process(folder: str, go_on: bool) -> multiprocessing.process.BaseProcess:
        (tmp_path / folder).mkdir(exist_ok=True)
        started = context.Process(target=run, args=(str(tmp_path / folder), str(toy_path), settings, go_on))
        started.start()
        return started

    for folder in ("warm", "whole"):  # the first also waits for the imports
        begin = time.monotonic()
        first = process(folder, go_on=False)
        first.join()
        assert first.exitcode == 0
        duration = time.monotonic() - begin
    wanted = TrajectoryStore(tmp_path / "whole" / "experts")
    draws, killed, inside, attempt = random.Random(at_once), 0, 0, 0
    last = tmp_path / "cut" / "run" / "checkpoints" / "last.ckpt"
    while killed < kills:
        attempt += 1
        assert attempt < 5 * kills
        victim = process("cut", go_on=attempt % 3 < 2)  # every third time it begins without the checkpoint
        victim.join(draws.uniform(0.2, 0.7) * duration)
        if victim.is_alive():
            victim.kill()
            victim.join()
        killed += victim.exitcode == -signal.SIGKILL
        inside += last.exists()
        assert victim.exitcode in (0, -signal.SIGKILL)
        try:
            found = TrajectoryStore(tmp_path / "cut" / "experts")
        except InputError as error:
            assert "there are no experts" in str(error)
            continue
        for expert in found.experts:
            assert found.trajectory(expert).equal(wanted.trajectory(expert))
        if len(found) == 3:  # all done: take some away, so that there is more to kill
            for expert in (1, 2):
                (tmp_path / "cut" / "experts" / f"expert_{expert:04d}.h5").unlink()
            last.unlink(missing_ok=True)
    final = process("cut", go_on=True)
    final.join()
    assert final.exitcode == 0
    assert inside or kills < 10
    found = TrajectoryStore(tmp_path / "cut" / "experts")
    assert (found.experts, found.fingerprint) == (wanted.experts, wanted.fingerprint)
