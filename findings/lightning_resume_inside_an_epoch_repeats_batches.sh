#!/usr/bin/env bash
# A Lightning run that resumes inside an epoch sees its first batches again, under the numbers of the rest.
#
# Packages: lightning 2.6.6, torch 2.15.0 and numpy 2.4.6, installed into a temporary folder (6 GB, most of it torch's
# CUDA libraries). None of our code is imported. Not part of CI. Fails if the behaviour changes.
#
# Behaviour: a checkpoint written after batch 4 of 8 restores the count of batches but not the place in the data. The
# resumed run trains batch_idx 5, 6, 7 on the items 0, 1, 2 of a new pass: three galaxies are seen twice in the epoch,
# three never, and step, epoch and log look as if nothing had happened. A warning says that the dataloader is "not
# resumable"; it does not say that items are repeated. Whoever wants the same bits needs a loader with state_dict, or
# checkpoints at the ends of epochs.
#
# Output seen:
#   before the checkpoint: batch_idx -> item [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]
#   after it: [(5, 0), (6, 1), (7, 2)]
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
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((batch_idx, int(batch[0])))
        return (self.weight * batch[0]).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


class Save(pl.Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == 4:
            trainer.save_checkpoint("inside.ckpt")
            trainer.should_stop = True


galaxies = DataLoader(TensorDataset(torch.arange(8.0)[:, None]))
before, after = Module(), Module()
pl.Trainer(max_epochs=1, callbacks=[Save()], **quiet).fit(before, galaxies)
pl.Trainer(max_epochs=1, **quiet).fit(after, galaxies, ckpt_path="inside.ckpt")
print(f"before the checkpoint: batch_idx -> item {before.seen[:5]}")
print(f"after it: {after.seen}")
assert before.seen[:5] == [(i, i) for i in range(5)]
assert after.seen == [(5, 0), (6, 1), (7, 2)]
PYTHON
