"""The help of the commands. That of ``fit`` and ``distill`` shows the settings that most runs need first, the rest by part.

Both have some fifty settings of their own, and the Trainer forty more. The parser here knows those of the package alone,
from their declarations, so that nobody waits for PyTorch; those of the Trainer are shown by the LightningCLI itself.
"""

from __future__ import annotations

import argparse
import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any

from gz_lightning.cli.declarations import declaration
from gz_lightning.cli.parser import Formatter, OneLine, description, wrapped

MODULES = {"fit": "experts.module:ExpertModule", "distill": "distillation.module:TrajectoryMatching"}
"""The LightningModule of a command."""
DATA = "data.datamodule:GalaxyZoo2DataModule"
FIRST = {
    "fit": (
        *("data.path", "data.batch_size", "model.trajectories", "model.num_experts", "model.train_epochs", "model.lr"),
        *("model.augmentation", "model.rotations", "model.width", "model.depth", "model.seed"),
    ),
    "distill": (
        *("data.path", "model.trajectories", "model.ipc", "model.iterations", "model.finish", "model.syn_steps"),
        *("model.expert_epochs", "model.stage", "model.max_start_epoch", "model.lr_img", "model.lr_teacher"),
        *("model.pix_init", "model.eval_it", "model.seed"),
    ),
}
"""Settings that ``--help`` shows, beside those of :func:`add_run_settings`."""
MORE = (
    "These are the settings that most runs need. More: 'gz-lightning {0} --model.help' (all of the method), --data.help (of "
    "the galaxies), --trainer.help (of Lightning's Trainer: devices, precision, loggers). --print_config prints all of them "
    "as YAML, for --config FILE.yaml; --wandb_name and --wandb_project name a run in Weights & Biases."
)
LATER = ("wandb_name", "wandb_project")
HELP = ("-h", "--help")
PATHS = '\'["PATH1",'
"""How jsonargparse begins the form of a list of paths, which it reads from JSON or a file."""


class HelpFormatter(Formatter):
    """Shows a list of paths as it is typed, and names without the backticks of a docstring."""

    def _expand_help(self, action: argparse.Action) -> str:
        return super()._expand_help(action).replace("``", "")

    def _metavar_formatter(self, action: argparse.Action, default_metavar: str) -> Callable[[int], tuple[str, ...]]:
        if str(action.metavar).startswith(PATHS):
            return lambda number: (f"{default_metavar} ...",) * number
        return super()._metavar_formatter(action, default_metavar)


def by_place(function: Callable[..., Any]) -> list[str]:
    """The settings that need no flags, in their order, as a usage has them: those that are required.

    Example:
        >>> def report(runs: list[str], output: str = "report") -> None: ...
        >>> by_place(report)
        ['RUNS ...']
    """
    hints, parameters = typing.get_type_hints(function), inspect.signature(function).parameters
    required = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    return [name.upper() + " ..." * (typing.get_origin(hints[name]) is list) for name in required]


def add_run_settings(parser: Any, command: str) -> None:
    """The settings of a run: its folder, the checkpoint to resume, what it would take, and Weights & Biases.

    Args:
        parser: A parser, or a group of one.
        command: ``fit`` or ``distill``.
    """
    parser.add_argument("--run_dir", type=str, default=f"runs/{command}", help="Folder that the run writes into.")
    parser.add_argument(
        "--ckpt_path",
        type=str | None,
        default=None,
        help="Checkpoint to resume; 'last' is that of the run folder, or a new start if it has none.",
    )
    parser.add_argument(
        "--dry_run", type=bool, default=False, help="Say what the run would take, and end: nothing is trained or written."
    )
    parser.add_argument(
        "--wandb", type=str, default="offline", help="Weights & Biases: offline (needs no account), online or off."
    )
    parser.add_argument("--wandb_name", type=str | None, default=None, help="Name of the run in Weights & Biases.")
    parser.add_argument("--wandb_project", type=str, default="gz_lightning", help="Project in Weights & Biases.")


def help_of(command: str, args: Sequence[str]) -> str | None:
    """The help that is asked for; None where it is none, or that of the Trainer.

    Args:
        command: ``fit`` or ``distill``.
        args: What was typed after it.
    """
    part = next((part for part in ("model", "data") if f"--{part}.help" in args), None)
    if part is None and not any(flag in args for flag in HELP):
        return None
    module = declaration(MODULES[command])
    parser = OneLine(
        prog=f"gz-lightning {command}",
        usage="%(prog)s [--config FILE.yaml] [settings]",
        description=description(module),
        formatter_class=HelpFormatter,
        epilog=wrapped(MORE.format(command)),
    )
    for name, declared, title in (("data", declaration(DATA), "galaxies"), ("model", module, "method")):
        parser.add_class_arguments(declared, name, fail_untyped=False)
        assert parser.groups is not None
        parser.groups[name].title = title
    add_run_settings(parser.add_argument_group("run"), command)
    for action in parser._actions:
        owner = action.dest.partition(".")[0]
        first = action.dest in FIRST[command] if owner in ("model", "data") else action.dest not in LATER
        if not (first if part is None else owner == part):
            action.help = argparse.SUPPRESS
    return parser.format_help()
