"""The command line: a table of commands, and how a command ends.

``fit`` and ``distill`` are LightningCLI commands of one module each: all settings of module, data and Trainer are flags and
YAML keys. The others are plain functions, the same that a notebook calls.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from gz_lightning.errors import InputError
from gz_lightning.interrupts import interrupted, signals_interrupt
from gz_lightning.progress import doing, say
from gz_lightning.version import __version__

HELP = f"""gz-lightning {__version__}: distil Galaxy Zoo 2 galaxies by trajectory matching

usage: gz-lightning COMMAND [--help] [--config FILE.yaml] [--print_config] [settings]

  download   fetch the published votes and images of Galaxy Zoo 2, or a tiny part of them (26 MB)
  prepare    pack galaxies (votes and cut-outs, Parquet, class folders, or simulated) into one file
  fit        train experts and keep their parameters at every epoch
  trajectories  info, check, export, import: list experts, verify them, convert from and to the published format
  distill    learn a few synthetic images per class by matching the experts' trajectories
  evaluate   score a distilled set on test galaxies, beside the baselines
  export     a distilled set with all that is known of it: pictures, TIFF, NumPy, PyTorch, Hugging Face
  report     one page on one run or several: images, accuracy, curves, settings
  demo       prepare, fit, distill and evaluate on simulated (or --real) galaxies, in a few minutes on two cores

'gz-lightning COMMAND --help' lists the settings of a command. Exit status 2: a setting or file cannot be used, in one line
(GZ_DEBUG=1 adds the traceback). Exit status 1: a bug, with its traceback."""
UNWRITABLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOTDIR),
)
"""What the system answers where a file cannot be written."""
TRAINING = ("fit", "distill", "evaluate")
"""Commands that train networks, which is faster with :func:`gz_lightning.memory.keep_freed_memory`."""
COSTLY = ("prepare", "evaluate")
"""Functions that say what they will take before they begin; ``fit`` and ``distill`` do too, and have a setting for it."""
NO_FLAGS = "Without flags, in this order and before all others: {}."
DRY_RUN = "With --dry_run it says what it would take, and ends: nothing is computed or written."
LIGHT = ("download", "demo")
"""Commands that need no PyTorch."""
ON_TRAJECTORIES = {
    "info": "experts.inspection:info",
    "check": "experts.inspection:check",
    "export": "experts.exchange:export_buffers",
    "import": "experts.exchange:import_buffers",
}


def _load(place: str) -> Any:
    """An object of the package by its place, ``module:name``: a command loads only the libraries that it needs."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(f"gz_lightning.{module}"), name)


def _function(name: str, place: str) -> Callable[[Sequence[str]], Any]:
    """A command that is one function. What comes before the first flag are its required settings, in their order."""

    def run(args: Sequence[str]) -> Any:
        from jsonargparse import auto_cli

        from gz_lightning.cli.help import HelpFormatter, by_place
        from gz_lightning.cli.parser import OneLine, by_name, description
        from gz_lightning.cost import dry_run

        function = _late(name, place)
        shown: dict[str, Any] = {"prog": f"gz-lightning {name}", "description": description(function)}
        is_dry, more = False, []
        if places := by_place(function):
            shown["usage"] = f"%(prog)s {' '.join(places)} [--config FILE.yaml] [settings]"
            more.append(NO_FLAGS.format(" ".join(places)))
        if name in COSTLY:
            is_dry, args = _without_dry_run(args)
            more.append(DRY_RUN)
        shown["epilog"] = "\n".join(more)
        args = by_name(function, args)
        with dry_run() if is_dry else contextlib.nullcontext():
            return auto_cli(
                function, args=args, as_positional=False, formatter_class=HelpFormatter, parser_class=OneLine, **shown
            )

    return run


def _without_dry_run(args: Sequence[str]) -> tuple[bool, list[str]]:
    """Whether a dry run is asked for, and the arguments without that."""
    from gz_lightning.cli.parser import bare_true

    parts = [part for arg in args for part in (arg.split("=", 1) if arg.startswith("--dry_run=") else [arg])]
    named = bare_true(parts, ["--dry_run"])
    if "--dry_run" not in named:
        return False, list(args)
    place = named.index("--dry_run")
    value = named[place + 1]
    if value not in ("true", "false"):
        raise InputError(f"--dry_run is true or false, not '{value}'")
    return value == "true", named[:place] + named[place + 2 :]


def _late(name: str, place: str) -> Callable[..., Any]:
    """A function of the package, of which only the declaration is read until it is called with settings of its types."""
    from gz_lightning.cli.declarations import declaration
    from gz_lightning.settings import checked

    declared = checked(declaration(place))  # jsonargparse lets null pass for any type

    @functools.wraps(declared)
    def call(**settings: Any) -> Any:
        declared(**settings)
        return _loaded(name, place)(**settings)

    return call


def _loaded(name: str, place: str) -> Any:
    """What carries out a command; while PyTorch is loaded, that is said."""
    with contextlib.nullcontext() if "torch" in sys.modules or name in LIGHT else doing("loading PyTorch"):
        if name in TRAINING:
            _load("memory:keep_freed_memory")()
        return _load(place)


def _module(name: str) -> Callable[[Sequence[str]], None]:
    """A command that trains a LightningModule."""

    def run(args: Sequence[str]) -> None:
        from gz_lightning.cli.help import MODULES, help_of

        if text := help_of(name, args):
            print(text, end="")
            raise SystemExit(0)  # as argparse does after a help
        cli = _loaded(name, "cli.lightning:GalaxyCLI")
        cli.run(name, _loaded(name, MODULES[name]), args)

    return run


def _prepare(args: Sequence[str]) -> Any:
    """Pack galaxies, or draw the trees."""
    if "--list_trees" in args:
        rest = [part for arg in args if arg != "--list_trees" for part in arg.split("=", 1)]
        if rest and (rest[0] != "--tree" or len(rest) != 2):
            raise InputError("--list_trees draws all trees, or that of --tree, and nothing else; leave out other settings")
        return _load("data.drawing:list_trees")(*rest[1:])
    return _function("prepare", "data.prepare:prepare")(args)


def _trajectories(args: Sequence[str]) -> Any:
    """``trajectories info FOLDER`` and so on: required settings are positional."""
    from jsonargparse import auto_cli

    from gz_lightning.cli.parser import OneLine

    commands: dict[str, Any] = {word: _late("trajectories", place) for word, place in ON_TRAJECTORIES.items()}
    return auto_cli(commands, args=list(args) or ["--help"], prog="gz-lightning trajectories", parser_class=OneLine)


def _demo(args: Sequence[str]) -> None:
    """Run the commands of the demo."""
    for command in _function("demo", "cli.demo:demo")(args):
        main(command)


COMMANDS: dict[str, Callable[[Sequence[str]], Any]] = {
    "download": _function("download", "data.download:download"),
    "prepare": _prepare,
    "fit": _module("fit"),
    "trajectories": _trajectories,
    "distill": _module("distill"),
    "evaluate": _function("evaluate", "evaluation.evaluate:evaluate"),
    "export": _function("export", "cli.export:export"),
    "report": _function("report", "report.page:report"),
    "demo": _demo,
}


def main(args: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        args: The command and its settings; default: those of the process.

    Raises:
        SystemExit: With status 2 if a setting or file cannot be used (one line on standard error says why), with status 1
            on a bug (its traceback is on standard error), with status 130 if interrupted (Ctrl-C or SIGTERM).
    """
    command, *rest = list(sys.argv[1:] if args is None else args) or ["--help"]
    if command in ("-h", "--help", "help"):
        print(HELP)
        return
    if command == "--version":
        print(__version__)
        return
    if command not in COMMANDS:
        say(f"gz-lightning: there is no command '{command}'; the commands are {', '.join(COMMANDS)}", style="red")
        raise SystemExit(2)
    try:
        with signals_interrupt():
            result = COMMANDS[command](rest)
            if result is not None:
                _print(str(result))  # formats its tables, which takes a while and can be interrupted too
    except (KeyboardInterrupt, Exception) as error:
        _end(command, error)


def _print(text: str) -> None:
    """Print a result; whoever reads it may have enough, as ``head`` has."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more at its end
        raise SystemExit(128 + signal.SIGPIPE) from None


def _end(command: str, error: BaseException) -> NoReturn:
    """End a command that raised: an InputError or an unwritable file in one line, any other error with its traceback."""
    if isinstance(error, KeyboardInterrupt) or interrupted():
        say(f"gz-lightning {command}: interrupted; what is whole is kept")
        raise SystemExit(130) from None
    status, reason = 2, " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in UNWRITABLE:  # from libraries that write for us, such as loggers
        where = error.filename or "a file"
        reason = f"{where} cannot be written: {error.strerror}; make room or allow it, and run again"
    elif not isinstance(error, InputError):
        status, reason = 1, f"this is a bug of gz_lightning, please report it: {type(error).__name__}: {reason}"
    if status == 1 or os.environ.get("GZ_DEBUG"):
        say(_printable("".join(traceback.format_exception(error)).rstrip()))
    say(_printable(f"gz-lightning {command}: {reason}"), style="red")
    raise SystemExit(status) from None


def _printable(text: str) -> str:
    """Text without the control characters that a file's content could bring to the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
