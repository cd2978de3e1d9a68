#!/usr/bin/env bash
# A Lightning Trainer that has trained one module trains the next one not at all, and reports success.
#
# Packages: lightning 2.6.6, torch 2.15.0 and numpy 2.4.6, installed into a temporary folder (6 GB, most of it torch's
# CUDA libraries). None of our code is imported. Not part of CI. Fails if the behaviour changes.
#
# Behaviour: Trainer.fit counts its epochs on from the last fit, also for another module. A second module given to the
# same Trainer takes no step: fit returns at once, its status is "finished", and the message is the usual
# "`max_epochs=2` reached". What follows, a test or a comparison of several seeds in a loop, scores networks as they
# were initialised. A new Trainer for each fit is needed.
#
# Output seen:
#   first module: 8 steps, status finished
#   second module: 0 steps, status finished
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
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.steps = 0

    def training_step(self, batch, batch_idx):
        self.steps += 1
        return (self.weight * batch[0]).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


trainer = pl.Trainer(max_epochs=2, **quiet)
for which, steps in (("first", 8), ("second", 0)):
    module = Module()
    trainer.fit(module, DataLoader(TensorDataset(torch.ones(4, 1))))
    print(f"{which} module: {module.steps} steps, status {trainer.state.status.value}")
    assert module.steps == steps and trainer.state.finished
    assert (float(module.weight) == 1.0) is (steps == 0)
PYTHON
