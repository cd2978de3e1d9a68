"""Settings read from the source are those of the function, and nothing of PyTorch is imported for them."""

import importlib
import inspect
import subprocess
import sys
import typing

import pytest

from gz_lightning.cli.commands import ON_TRAJECTORIES
from gz_lightning.cli.declarations import declaration
from gz_lightning.cli.help import DATA, MODULES

FUNCTIONS = (
    *(
        "data.download:download",
        "data.prepare:prepare",
        "evaluation.evaluate:evaluate",
        "report.page:report",
        "cli.demo:demo",
    ),
    *ON_TRAJECTORIES.values(),
)


@pytest.mark.parametrize("place", [*FUNCTIONS, *MODULES.values(), DATA])
def test_a_declaration_is_the_signature(place: str) -> None:
    module, _, name = place.partition(":")
    real = getattr(importlib.import_module(f"gz_lightning.{module}"), name)
    declared = declaration(place)
    assert declared.__name__ == real.__name__
    assert inspect.getdoc(declared) == inspect.getdoc(real)
    if inspect.isclass(real):
        real, declared = real.__init__, declared.__init__
    theirs, ours = inspect.signature(real).parameters, inspect.signature(declared).parameters
    assert [(one.name, one.default, one.kind) for one in ours.values()] == [
        (one.name, one.default, one.kind) for one in theirs.values()
    ]
    hints = typing.get_type_hints(inspect.unwrap(real), include_extras=True)
    assert {name: str(hint) for name, hint in typing.get_type_hints(declared, include_extras=True).items()} == {
        name: str(hint) for name, hint in hints.items() if name in ours
    }


HEAVY = ("torch", "lightning", "pandas", "h5py", "matplotlib")
PROGRAM = """
import sys
from gz_lightning.cli import main
for args in {commands}:
    try:
        main(args)
    except SystemExit as end:
        print(args, "ended with", end.code)
print("imported:", [name for name in {heavy} if name in sys.modules])
"""


def test_help_and_mistyped_flags_import_no_pytorch() -> None:
    names = ("prepare", "download", "evaluate", "report", "demo", "fit", "distill", "trajectories")
    commands = [[name, "--help"] for name in names]
    commands += [[name, "--mistyped", "1"] for name in ("prepare", "download", "evaluate", "report")]
    commands += [["trajectories", "check", "--mistyped", "1"], ["evaluate", "a.h5", "b.h5", "--epochs", "0"]]
    commands += [["fit", "--model.help"], ["distill", "--data.help"]]
    program = PROGRAM.format(commands=commands, heavy=HEAVY)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "imported: []"
    assert [line for line in run.stdout.splitlines() if "ended with 2" in line] == [
        f"{args} ended with 2" for args in commands if "--help" not in args and not any(".help" in arg for arg in args)
    ]
    assert "evaluate: --epochs must be a whole number >= 1, not 0" in run.stderr
