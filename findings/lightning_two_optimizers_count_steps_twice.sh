#!/usr/bin/env bash
# With two optimizers Lightning's max_steps ends a run after half as many batches.
#
# Packages: lightning 2.6.6, torch 2.15.0 and numpy 2.4.6, installed into a temporary folder (6 GB, most of it torch's
# CUDA libraries). None of our code is imported. Not part of CI. Fails if the behaviour changes.
#
# Behaviour: under manual optimisation global_step counts calls of optimizer.step(), not batches. A module that steps
# images and step size with an optimizer each (or a GAN) gets 10 batches from max_steps=20, its logger's axis and
# ModelCheckpoint's every_n_train_steps run twice as fast, and a resumed run with another number of optimizers stops
# elsewhere. One optimizer with two parameter groups counts once.
#
# Output seen:
#   one optimizer: 20 batches, global_step 20
#   two optimizers: 10 batches, global_step 20
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet lightning==2.6.6 torch==2.15.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import logging
import warnings
from importlib.metadata import version

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
assert version("lightning") == "2.6.6"
quiet = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Module(pl.LightningModule):
    def __init__(self, together):
        super().__init__()
        self.automatic_optimization = False
        self.together, self.batches = together, 0
        self.images, self.step_size = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))

    def training_step(self, batch, batch_idx):
        self.batches += 1
        self.manual_backward((self.images * self.step_size * batch[0]).sum())
        optimizers = self.optimizers()
        for optimizer in [optimizers] if self.together else optimizers:
            optimizer.step()
            optimizer.zero_grad()

    def configure_optimizers(self):
        groups = [[self.images, self.step_size]] if self.together else [[self.images], [self.step_size]]
        return [torch.optim.SGD(group, lr=1e-3) for group in groups]


for what, together, batches in (("one optimizer", True, 20), ("two optimizers", False, 10)):
    module, trainer = Module(together), pl.Trainer(max_steps=20, **quiet)
    trainer.fit(module, DataLoader(TensorDataset(torch.ones(100, 1))))
    print(f"{what}: {module.batches} batches, global_step {trainer.global_step}")
    assert (module.batches, trainer.global_step) == (batches, 20)
PYTHON
