"""What Lightning and its like remark on at every start, and nobody can do anything about, is not shown."""

import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from gz_lightning.training.quiet import quiet

NOISE = (
    *("anonymous", "LeafSpec", "litlogger", "litmodels", "max_epochs", "many workers", "logging interval", "Warning"),
    *("Tip:", "warnings.warn", "Epoch 0", "v_num", "Traceback"),
)
PROGRAM = """
import sys
from gz_lightning.cli import main

data, experts = sys.argv[1:]
of_trainer = ["--trainer.accelerator", "cpu"]
fit = ["--model.num_experts", "2", "--model.train_epochs", "2", "--model.width", "4", "--model.depth", "2"]
distill = ["--model.iterations", "3", "--model.eval_it", "2", "--model.num_eval", "1", "--model.epoch_eval_train", "2"]
distill += ["--model.syn_steps", "2", "--model.expert_epochs", "1", "--model.max_start_epoch", "2"]
main(["fit", "--data.path", data, *fit, *of_trainer])
main(["distill", "--data.path", data, "--model.trajectories", experts, *distill, *of_trainer, "--run_dir", "run"])
evaluate = ["--num_eval", "1", "--epochs", "2", "--draws", "1", "--full_epochs", "1", "--step_sizes", "[0.01]"]
main(["evaluate", "run", data, *evaluate])

print("a notebook", file=sys.stderr)
from lightning.pytorch import Trainer
from gz_lightning import ExpertModule, GalaxyZoo2DataModule, TrajectoryMatching

galaxies = GalaxyZoo2DataModule(data)
Trainer(accelerator="cpu", default_root_dir="a").fit(ExpertModule("mine", num_experts=1, train_epochs=1, width=4), galaxies)
quick = dict(iterations=2, eval_it=2, num_eval=1, epoch_eval_train=2, syn_steps=2, expert_epochs=1)
Trainer(accelerator="cpu", default_root_dir="b").fit(TrajectoryMatching(experts, **quick), GalaxyZoo2DataModule(data))
"""


def test_commands_and_notebooks_show_no_remark_that_helps_nobody(toy_path: Path, toy_experts: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(toy_path), str(toy_experts)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    lines = run.stderr.splitlines()
    assert not [line for line in lines if any(word in line for word in NOISE)]
    assert lines[0] == "loading PyTorch ..."
    for said in (
        "2 experts x 2 epochs x 1 step (4 in all)",
        "expert 2 of 2, epoch 2 of 2, validation ",
        "3 iterations at most x 2 steps on 3 images",
        "first step size ",
        "iteration 3 of 3, start epochs below 1, loss ",
        "fresh networks: ",
    ):
        assert [line for line in lines if line.startswith(said)], said


def test_other_warnings_and_lines_of_the_log_stay(caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        quiet()
        warnings.warn("the 'val_dataloader' does not have many workers which may be a bottleneck", stacklevel=1)
        warnings.warn("the disk is full", stacklevel=1)
    assert [str(one.message) for one in caught] == ["the disk is full"]
    log = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    with caplog.at_level(logging.INFO, log.name):
        log.propagate, before = True, log.propagate
        log.info("Tip: try installing [litlogger]")
        log.info("GPU available: False")
        log.propagate = before
    assert [record.getMessage() for record in caplog.records] == ["GPU available: False"]
