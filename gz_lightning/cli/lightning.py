"""The LightningCLI of ``fit`` and ``distill``."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.trainer.states import TrainerFn

from gz_lightning.cli.help import add_run_settings
from gz_lightning.cli.parser import Formatter, OneLine, bare_true, description
from gz_lightning.cli.ranks import ranks_end_together
from gz_lightning.cost import dry_run, is_dry
from gz_lightning.data import datamodule
from gz_lightning.data.datamodule import GalaxyZoo2DataModule
from gz_lightning.errors import InputError
from gz_lightning.experts.trajectories import TrajectoryStore
from gz_lightning.progress import say
from gz_lightning.settings import check_settings
from gz_lightning.storage.checkpoints import LAST
from gz_lightning.storage.text import short
from gz_lightning.storage.whole import locked, remove_stale
from gz_lightning.training.quiet import quiet
from gz_lightning.training.trainer import refuse_settings

T = TypeVar("T")
TRAINER_DEFAULTS = {
    "enable_checkpointing": False,  # the modules write checkpoints of whole epochs and iterations
    "enable_model_summary": False,
    "log_every_n_steps": 10,
}
WANDB_MODES = ("offline", "online", "off")
MODES_OF_WANDB = ("online", "offline", "disabled", "dryrun", "run", "shared")
"""What the variable WANDB_MODE can be."""
COMPLAINTS = (
    *(MisconfigurationException, ArithmeticError, AssertionError, AttributeError, ImportError, LookupError),
    *(RuntimeError, TypeError, ValueError),
)
"""What constructors of Lightning and of loggers raise about their settings. (Of an OSError main tells what it means.)"""


class LightningOneLine(OneLine, LightningArgumentParser):
    """The parser of the commands of LightningCLI, with errors in one line."""


def _is_first() -> bool:
    """Whether this is the main process, not one that a strategy started for another device."""
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("SLURM_PROCID", "0") == "0"


@contextlib.contextmanager
def _refused_settings() -> Iterator[None]:
    """Turn what constructors of Lightning and its libraries raise into InputError. Never around our constructors."""
    try:
        yield
    except InputError:
        raise
    except COMPLAINTS as error:
        raise InputError(f"the settings cannot be used: {error}") from error


@contextlib.contextmanager
def _refused_by_wandb() -> Iterator[None]:
    """Turn what Weights & Biases raises about its settings and keys into InputError. Never around our code."""
    import wandb

    try:
        yield
    except (wandb.errors.Error, *COMPLAINTS) as error:
        raise _wandb_refusal(error) from error


def _wandb_refusal(error: Exception) -> InputError:
    """What Weights & Biases says in one line; of pydantic's many, those that name the setting."""
    said = " ".join(str(error).split()).rstrip(".")
    if _is_invalid(error):
        said = "; ".join(
            f"WANDB_{'_'.join(map(str, part['loc'])).upper()} is {short(part['input'])}: {part['msg']}"
            for part in error.errors()  # type: ignore[attr-defined]
        )
    return InputError(f"Weights & Biases cannot be used: {said}; mend that, or leave it out with --wandb off")


def _is_invalid(error: Exception) -> bool:
    """Whether it is the ValidationError of pydantic that wandb raises about its Settings, most of which are variables."""
    return type(error).__module__.startswith("pydantic") and getattr(error, "title", "") == "Settings"


def wandb_mode(flag: str) -> str:
    """What ``--wandb`` comes to in this environment: ``WANDB_MODE`` can keep a run off the network or switch W&B off.

    Args:
        flag: offline, online or off.

    Raises:
        InputError: If the run would be sent to an account and there is no key (wandb would ask for it and wait) or a wrong
            one; or if there is no such WANDB_MODE.
    """
    variable = os.environ.get("WANDB_MODE", "").lower()
    if flag != "off" and variable not in ("", *MODES_OF_WANDB):
        raise InputError(f"WANDB_MODE is {short(variable)}, not one of {', '.join(MODES_OF_WANDB)}; mend or unset it")
    mode = {"disabled": "off", "offline": "offline", "dryrun": "offline"}.get(variable, flag)
    mode = "off" if flag == "off" else mode
    if mode != flag and _is_first():
        say(f"WANDB_MODE is {variable}: Weights & Biases is {mode}, not {flag}")
    if mode == "offline":
        os.environ.setdefault("WANDB_SILENT", "true")  # it would remark on accounts
    if mode == "online" and not _has_key():
        raise InputError(
            "--wandb online needs the key of an account: run 'wandb login', set WANDB_API_KEY, "
            "or use --wandb offline (and 'wandb sync' later)"
        )
    return mode


def _finish_wandb() -> None:
    """End the run of Weights & Biases: the next one of this process would be added to it."""
    import wandb

    if wandb.run is not None:
        wandb.finish()


def _late_refusal(error: Exception) -> InputError | None:
    """What to say of an error if callbacks and loggers raise it on settings that they cannot use, once training begins."""
    if isinstance(error, MisconfigurationException):
        return InputError(f"the settings cannot be used: {error}")
    if "wandb" not in sys.modules:
        return None
    import wandb

    return _wandb_refusal(error) if isinstance(error, wandb.errors.Error) or _is_invalid(error) else None


def _has_key() -> bool:
    """Whether wandb has the key of an account."""
    import wandb

    with _refused_by_wandb():
        if "prompt" in inspect.signature(wandb.login).parameters:
            return wandb.login(prompt=False, verify=False)
        return bool(wandb.api.api_key)  # earlier releases


class GalaxyCLI(LightningCLI):
    """One command: a LightningModule, a GalaxyZoo2DataModule, a Trainer, and the run folder.

    A LightningCLI without subcommands: every command has its own parser for one module. The hyperparameters of a checkpoint
    never override the settings; the module compares them itself.
    """

    command = ""
    at_end: contextlib.ExitStack
    refusal: InputError | None = None

    @classmethod
    def run(cls, command: str, module: type[LightningModule], args: Sequence[str]) -> None:
        """Parse, instantiate and train.

        Args:
            command: Name of the command.
            module: Its LightningModule.
            args: The settings.
        """
        quiet()
        logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
        cls.command = command
        with contextlib.ExitStack() as cls.at_end:
            cli = cls(
                module,
                GalaxyZoo2DataModule,
                trainer_defaults=dict(TRAINER_DEFAULTS),
                seed_everything_default=False,  # the modules draw from generators with their own seed
                parser_class=LightningOneLine,
                parser_kwargs={
                    "prog": f"gz-lightning {command}",
                    "description": description(module),
                    "formatter_class": Formatter,
                },
                args=list(args),
                run=False,
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,  # it would write the parser's own objects into the checkpoint
                save_config_kwargs={"overwrite": True},  # a logger of the user's may have the same folder again
            )
            if is_dry():
                cli.announce()
            try:
                with ranks_end_together(cli.trainer, command):
                    cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=cli.checkpoint(), weights_only=True)
            except Exception as error:
                if (refusal := _late_refusal(error)) is None:
                    raise
                raise refusal from error
            except SystemExit:
                if cli.trainer.interrupted:  # Lightning turns a KeyboardInterrupt into SystemExit
                    raise KeyboardInterrupt from None
                raise

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Hide ``--seed_everything``, which LightningCLI needs: seeds are settings of the modules."""
        parser.add_argument("--seed_everything", type=int | bool | None, default=False, help=argparse.SUPPRESS)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run folder, the checkpoint to resume, and Weights & Biases."""
        add_run_settings(parser, self.command)
        parser.link_arguments("run_dir", "trainer.default_root_dir")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse ``args``, never ``sys.argv``; ``--trainer.help`` shows the settings of the Trainer only."""
        if "--trainer.help" in args:
            sections = parser.format_help().split("\n\n")
            print(next(section for section in sections if "\n  --trainer CONFIG" in section))
            raise SystemExit(0)
        self.config = parser.parse_args(bare_true(args, ["--dry_run"]))

    def before_instantiate_classes(self) -> None:
        """Check what no constructor does, and lock the run folder. Leaves the configuration as it is: it will be saved."""
        config = self.config
        for part, setting in (("model", "trajectories"), ("data", "path"), ("trainer", "logger")):
            if not isinstance(config[part], Namespace) or setting not in config[part]:
                raise InputError(f"--{part} should hold settings by name")
        refuse_settings(config.trainer.as_dict(), self.command)  # as they were typed: a Trainer derives some from others
        if config.wandb not in WANDB_MODES:
            raise InputError(f"--wandb is offline, online or off, not '{config.wandb}'")
        if config.dry_run:
            self.at_end.enter_context(dry_run())
        elif _is_first():
            lock = Path(config.run_dir) / ".lock"
            self.at_end.enter_context(locked(lock, f"into {config.run_dir}; wait for it, or name another --run_dir"))
            remove_stale(Path(config.run_dir))
        self.parser.add_instantiator(self.construct, object)

    def construct(self, class_type: type[T], *args: Any, **kwargs: Any) -> T:
        """Make module, data module, or a logger, callback ... that the settings name."""
        if class_type.__module__.startswith("gz_lightning."):
            part = "data" if issubclass(class_type, LightningDataModule) else "model"
            check_settings(class_type.__init__, kwargs, f"--{part}.")  # jsonargparse lets null pass for any type
            return class_type(*args, **kwargs)
        try:
            with _refused_settings():
                return class_type(*args, **kwargs)
        except InputError as error:
            self.refusal = error
            raise

    def instantiate_classes(self) -> None:
        """Make module, data module and Trainer.

        Raises:
            InputError: If a setting cannot be used.
        """
        try:
            super().instantiate_classes()
        except ValueError as error:  # where a setting has several types, jsonargparse raises one that quotes ours
            raise error if self.refusal is None else self.refusal from None

    def _set_seed(self) -> None:
        """Refuse ``seed_everything``, which LightningCLI would use here: it would seed nothing that a module draws."""
        seed = self.config.seed_everything
        if seed not in (None, False):
            number = f" {seed}" if seed is not True else ""
            raise InputError(f"--seed_everything{number} seeds nothing here: use --model.seed{number} instead")

    def after_instantiate_classes(self) -> None:
        """Refuse to work on simulated galaxies beside experts of others: the user forgot ``--data.path``."""
        folder = Path(self.config.model.trajectories)
        if not (self.datamodule.simulated and _is_first() and any(folder.glob("expert_*.h5"))):
            return
        recipe = TrajectoryStore(folder).recipe
        is_size = recipe.network["resolution"] == datamodule.SIMULATED_RESOLUTION
        if not (is_size and recipe.data == self.datamodule.galaxies.fingerprint):
            raise InputError(
                f"--data.path was not given, and the experts in {folder} were not trained on the simulated galaxies that "
                "stand in for it: name the packed file they were trained on"
            )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the Trainer, with the default loggers unless the user names others.

        Raises:
            InputError: If it refuses its settings.
        """
        if is_dry():
            kwargs["logger"] = False
        elif self.config.trainer.logger in (None, True):
            kwargs["logger"] = self.loggers()
        with _refused_settings():
            return super().instantiate_trainer(**kwargs)

    def announce(self) -> None:
        """Say what the run would take, as it does when it begins, without a run: a Trainer would write logs.

        Raises:
            DryRunEnds: When all is said.
        """
        self.trainer.state.fn = TrainerFn.FITTING
        self.trainer.datamodule = self.datamodule  # type: ignore[attr-defined]
        self.model.trainer = self.datamodule.trainer = self.trainer
        self.model.configure_callbacks()  # refuses settings of the Trainer
        with tempfile.TemporaryDirectory() as folder:
            if self.datamodule.simulated and not self.datamodule.path.exists():
                self.datamodule.path = Path(folder, self.datamodule.path.name)
                with dry_run(False):
                    self.datamodule.prepare_data()
            self.model.setup("fit")
            self.model.announce()

    def loggers(self) -> list[Logger]:
        """The default loggers: CSV and, unless it is off or not installed, Weights & Biases."""
        config = self.config
        # CSV first: Lightning saves the configuration into the first logger's folder, a new one for every start.
        loggers: list[Logger] = [CSVLogger(config.run_dir, name="logs", flush_logs_every_n_steps=10)]
        mode = wandb_mode(config.wandb) if find_spec("wandb") is not None else "off"
        if mode != "off":
            Path(config.run_dir).mkdir(parents=True, exist_ok=True)
            name = config.wandb_name or Path(config.run_dir).resolve().name
            place = {"name": name, "save_dir": config.run_dir, "project": config.wandb_project}
            with _refused_by_wandb():
                logger = WandbLogger(**place, offline=mode == "offline")
            logger._wandb_init.pop("anonymous", None)  # Lightning always gives it, and wandb remarks that it does nothing
            loggers.append(logger)
            self.at_end.callback(_finish_wandb)
        return loggers

    def checkpoint(self) -> str | None:
        """The checkpoint to resume.

        Raises:
            InputError: If the file is absent.
        """
        name: str | None = self.config.ckpt_path
        if name == "last":
            path = Path(self.config.run_dir) / LAST
            return str(path) if path.exists() else None
        if name is not None and not Path(name).is_file():
            raise InputError(f"there is no checkpoint {name}")
        return name
