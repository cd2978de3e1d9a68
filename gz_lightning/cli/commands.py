"""The command line: download, prepare, fit, trajectories, distill, evaluate, report, demo.

``fit`` and ``distill`` are LightningCLI commands, each of its own module: all settings of module, data and Trainer are
flags and YAML keys. The others are plain functions, the same that a notebook calls.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from gz_lightning.errors import InputError
from gz_lightning.interrupts import interrupted, signals_interrupt
from gz_lightning.progress import say
from gz_lightning.version import __version__

HELP = f"""gz-lightning {__version__}: distil Galaxy Zoo 2 galaxies by trajectory matching

usage: gz-lightning COMMAND [--help] [--config FILE.yaml] [--print_config] [settings]

  download   fetch the published votes and images of Galaxy Zoo 2
  prepare    pack galaxies (votes and cut-outs, class folders, or simulated) into one file
  fit        train experts and keep their parameters at every epoch
  trajectories  info, check, export, import: what experts are there, whether they are whole, the published format
  distill    learn a few synthetic images per class by matching the experts' trajectories
  evaluate   score a distilled set on test galaxies, beside the baselines
  report     one page on one run or several: images, accuracy, curves, settings
  demo       all four on simulated galaxies, in a few minutes on two cores

'gz-lightning COMMAND --help' lists the settings of a command. GZ_DEBUG=1 shows the traceback of an error."""


def _plain(name: str) -> Callable[[Sequence[str]], Any]:
    """A command that is one function."""

    def run(args: Sequence[str]) -> Any:
        from jsonargparse import auto_cli

        from gz_lightning.cli.manual import Formatter, description
        from gz_lightning.cli.parser import OneLine

        function = _function(name)
        shown = {"prog": f"gz-lightning {name}", "description": description(function), "formatter_class": Formatter}
        shown["parser_class"] = OneLine
        return auto_cli(function, args=list(args), as_positional=False, **shown)  # type: ignore[arg-type]

    return run


def _function(name: str) -> Callable[..., Any]:
    if name == "prepare":
        from gz_lightning.data.prepare import prepare as function
    elif name == "download":
        from gz_lightning.data.download import download as function  # type: ignore[assignment]
    elif name == "evaluate":
        from gz_lightning.evaluation.evaluate import evaluate as function  # type: ignore[assignment]
    elif name == "report":
        from gz_lightning.report.page import report as function  # type: ignore[assignment]
    else:
        from gz_lightning.cli.demo import demo as function  # type: ignore[assignment]
    return function


def _report(args: Sequence[str]) -> Any:
    """``report RUN_DIR... [settings]``: what stands before the first flag are run folders."""
    flags = next((i for i, arg in enumerate(args) if arg.startswith("-")), len(args))
    runs = ["--runs", json.dumps(list(args[:flags]))] if flags else []
    return _plain("report")([*runs, *args[flags:]])


def _fit(args: Sequence[str]) -> None:
    from gz_lightning.cli.lightning import GalaxyCLI
    from gz_lightning.experts.module import ExpertModule

    GalaxyCLI.run("fit", ExpertModule, args)


def _trajectories(args: Sequence[str]) -> Any:
    """``trajectories info FOLDER`` and so on: what is required stands without a flag."""
    from jsonargparse import auto_cli

    from gz_lightning.cli.parser import OneLine
    from gz_lightning.experts.exchange import export_buffers, import_buffers
    from gz_lightning.experts.inspection import check, info

    commands: dict[str, Any] = {"info": info, "check": check, "export": export_buffers, "import": import_buffers}
    return auto_cli(commands, args=list(args) or ["--help"], prog="gz-lightning trajectories", parser_class=OneLine)


def _distill(args: Sequence[str]) -> None:
    from gz_lightning.cli.lightning import GalaxyCLI
    from gz_lightning.distillation.module import TrajectoryMatching

    GalaxyCLI.run("distill", TrajectoryMatching, args)


UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)
"""What the system says where nothing can be written."""
COMMANDS: dict[str, Callable[[Sequence[str]], Any]] = {
    "download": _plain("download"),
    "prepare": _plain("prepare"),
    "fit": _fit,
    "trajectories": _trajectories,
    "distill": _distill,
    "evaluate": _plain("evaluate"),
    "report": _report,
    "demo": _plain("demo"),
}


def main(args: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        args: The command and its settings; default: those of the process.

    Raises:
        SystemExit: With status 2 if what was given cannot be used (one line on standard error says why), with status 130 if
            it was interrupted (Ctrl-C or SIGTERM), with status 1 if the program itself has failed.
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
                print(result)  # its tables are made now, which takes a while as well
    except (KeyboardInterrupt, Exception) as error:
        _end(command, error)


def _end(command: str, error: BaseException) -> NoReturn:
    """End a command that did not end by itself: say why in one line, by its exit status as well."""
    if isinstance(error, KeyboardInterrupt) or interrupted():
        say(f"gz-lightning {command}: interrupted; what is whole is kept")
        raise SystemExit(130) from None
    if os.environ.get("GZ_DEBUG"):
        raise error
    status, reason = 2, _one_line(error)
    if isinstance(error, OSError) and error.errno in UNWRITABLE:  # of libraries that write for us, such as loggers
        where = error.filename or "a file"
        reason = f"{where} cannot be written: {error.strerror}; make room or allow it, and run again"
    elif not isinstance(error, InputError):
        status, reason = 1, f"unexpected {type(error).__name__}: {reason}; GZ_DEBUG=1 shows where"
    say(f"gz-lightning {command}: {reason}", style="red")
    raise SystemExit(status) from None


def _one_line(error: BaseException) -> str:
    """What an error says; of what a file holds, nothing that moves the cursor or colours a terminal."""
    line = " ".join(str(error).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
