"""The LightningCLI of ``fit`` and ``distill``."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from gz_lightning.cli.manual import Formatter, description
from gz_lightning.cli.parser import LightningOneLine
from gz_lightning.data.datamodule import GalaxyZoo2DataModule
from gz_lightning.errors import InputError
from gz_lightning.storage.checkpoints import LAST
from gz_lightning.storage.whole import locked, remove_stale

TRAINER_DEFAULTS = {
    "enable_checkpointing": False,  # whole experts and distillation keep their own, of whole iterations
    "enable_model_summary": False,
    "log_every_n_steps": 10,
}
QUIET = (
    ".*does not have many workers.*",  # batches are slices of a tensor in memory
    ".*isinstance\\(treespec, LeafSpec\\).*",  # Lightning's own use of torch
    ".*`max_epochs` was not set.*",  # the modules set it
    ".*You passed in a `val_dataloader` but have no `validation_step`.*",  # distillation evaluates in its own way
    ".*is smaller than the logging interval.*",
    ".*when logging on epoch level in distributed setting.*",  # experts are each process's own
)
PARTS = ("model", "data", "trainer")
PARTS_HELP = "--model.help, --data.help and --trainer.help show one part of this alone."


def _is_first() -> bool:
    """Whether this is the process that was started, and not one that a strategy started for another device."""
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("SLURM_PROCID", "0") == "0"


class GalaxyCLI(LightningCLI):
    """One command: a LightningModule, a GalaxyZoo2DataModule, a Trainer, and the run folder.

    It is a LightningCLI without subcommands: each command has a parser of its own with one kind of module, and a
    checkpoint's hyperparameters never override what was asked for (the module compares them itself).
    """

    command = ""
    claims: contextlib.ExitStack

    @classmethod
    def run(cls, command: str, module: type[LightningModule], args: Sequence[str]) -> None:
        """Parse, instantiate and train.

        Args:
            command: Name of the command.
            module: Its LightningModule.
            args: Settings.
        """
        for message in QUIET:
            warnings.filterwarnings("ignore", message)
        logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
        cls.command = command
        with contextlib.ExitStack() as cls.claims:
            cli = cls(
                module,
                GalaxyZoo2DataModule,
                trainer_defaults=dict(TRAINER_DEFAULTS),
                seed_everything_default=False,  # the modules draw from generators of their own seed
                parser_class=LightningOneLine,
                parser_kwargs={
                    "prog": f"gz-lightning {command}",
                    "description": description(module),
                    "formatter_class": Formatter,
                    "epilog": PARTS_HELP,
                },
                args=list(args),
                run=False,
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,  # it would write the parser's own objects into the checkpoint
            )
            try:
                cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=cli.checkpoint(), weights_only=True)
            except SystemExit:
                if cli.trainer.interrupted:  # Lightning ends the process where it was interrupted
                    raise KeyboardInterrupt from None
                raise

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """LightningCLI wants ``--seed_everything``; it stays hidden, for seeds are settings of the modules."""
        parser.add_argument("--seed_everything", type=bool, default=False, help=argparse.SUPPRESS)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The run folder, where to go on from, and Weights & Biases."""
        parser.add_argument("--run_dir", type=str, default=f"runs/{self.command}", help="Folder of all that the run writes.")
        parser.link_arguments("run_dir", "trainer.default_root_dir")
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            default=None,
            help="Checkpoint to go on from; 'last' is that of the run folder, or a new start where there is none.",
        )
        parser.add_argument(
            "--wandb", type=str, default="offline", help="Weights & Biases: offline (needs no account), online or off."
        )
        parser.add_argument("--wandb_name", type=str | None, default=None, help="Name of the run in Weights & Biases.")
        parser.add_argument("--wandb_project", type=str, default="gz_lightning", help="Project in Weights & Biases.")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse ``args`` alone, whatever ``sys.argv`` is; ``--model.help`` shows the settings of the module alone."""
        for part in PARTS:
            if f"--{part}.help" in args:
                sections = parser.format_help().split("\n\n")
                print(next(section for section in sections if f"\n  --{part} CONFIG" in section))
                raise SystemExit(0)
        self.config = parser.parse_args(args)

    def before_instantiate_classes(self) -> None:
        """Claim the run folder. CSV and, unless it is off or not installed, Weights & Biases, where no logger is named."""
        config = self.config
        for part, setting in (("model", "trajectories"), ("data", "path"), ("trainer", "logger")):
            if not isinstance(config[part], Namespace) or setting not in config[part]:
                raise InputError(f"--{part} should hold settings by name")
        if _is_first():
            lock = Path(config.run_dir) / ".lock"
            self.claims.enter_context(locked(lock, f"into {config.run_dir}; wait for it, or name another --run_dir"))
            remove_stale(Path(config.run_dir))
        if config.wandb not in ("offline", "online", "off"):
            raise InputError(f"--wandb is offline, online or off, not '{config.wandb}'")
        if config.trainer.logger in (None, True):
            # CSV first: the configuration is saved into the first logger's folder, a new one each time.
            loggers = [Namespace(class_path="lightning.pytorch.loggers.CSVLogger", init_args=Namespace())]
            loggers[0].init_args = Namespace(save_dir=config.run_dir, name="logs", flush_logs_every_n_steps=10)
            if config.wandb != "off" and find_spec("wandb") is not None:
                Path(config.run_dir).mkdir(parents=True, exist_ok=True)
                if config.wandb == "offline":
                    os.environ.setdefault("WANDB_SILENT", "true")  # its remarks are about accounts
                settings = Namespace(
                    save_dir=config.run_dir,
                    name=config.wandb_name or Path(config.run_dir).name,
                    project=config.wandb_project,
                    offline=config.wandb == "offline",
                )
                loggers.append(Namespace(class_path="lightning.pytorch.loggers.WandbLogger", init_args=settings))
            config.trainer.logger = loggers

    def instantiate_classes(self) -> None:
        """Make module, data and Trainer.

        Raises:
            InputError: If one does not take its settings.
        """
        try:
            super().instantiate_classes()
        except (InputError, ImportError, OSError):
            raise
        except Exception as error:  # whatever Lightning and what it calls say of a setting
            raise InputError(f"the settings cannot be used: {error}") from error

    def checkpoint(self) -> str | None:
        """The checkpoint to go on from.

        Raises:
            InputError: If one is named that is not there.
        """
        asked: str | None = self.config.ckpt_path
        if asked == "last":
            path = Path(self.config.run_dir) / LAST
            return str(path) if path.exists() else None
        if asked is not None and not Path(asked).is_file():
            raise InputError(f"there is no checkpoint {asked}")
        return asked
