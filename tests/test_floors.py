"""The plan of the house: each floor imports only what stands below it, and no modules import each other in a circle."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gz_lightning"
FLOORS = (
    ("version", "errors", "randomness", "interrupts", "progress", "cost", "memory", "settings", "shapes", "augmentation"),
    ("storage",),
    ("figures",),
    ("networks",),
    ("data",),
    ("training",),
    ("sets",),
    ("experts",),
    ("evaluation", "distillation"),
    ("report",),
    ("cli",),
)
"""From the ground up. Rooms of one floor do not import each other, but for the modules of the ground."""
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
LAZY = ("cli",)
"""Rooms that may import inside functions: a command starts before the libraries of another are loaded."""


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(name: str, at_start: bool = False) -> set[str]:
    """Modules of the package that a module imports; ``at_start``: without what is inside functions or for types alone."""
    found = set()
    waiting: list[ast.AST] = [ast.parse(MODULES[name].read_text())]
    while waiting:
        node = waiting.pop()
        if at_start and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if at_start and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == "gz_lightning":
            module = (node.module or "").partition(".")[2]
            for alias in node.names:
                inner = f"{module}.{alias.name}".strip(".")
                found.add(inner if inner in MODULES else module)
        elif isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[2] for alias in node.names if alias.name.split(".")[0] == "gz_lightning"}
        waiting += ast.iter_child_nodes(node)
    return found - {name}


def room_of(module: str) -> str:
    return module.split(".")[0]


@pytest.mark.parametrize("name", [name for name in MODULES if name not in ("", "__main__")])
def test_no_arrow_goes_up(name: str) -> None:
    room = room_of(name)
    assert room in LEVEL, f"{name} stands on no floor"
    for other in imports(name):
        assert other, f"{name} imports the public names of the package, which stand above everything"
        if room_of(other) != room:
            higher = LEVEL[room_of(other)] > LEVEL[room] or (LEVEL[room_of(other)] == LEVEL[room] and LEVEL[room] > 0)
            assert not higher, f"{name} imports {other}, which does not stand below it"


def test_no_circle() -> None:
    """Of all imports, those inside functions too, but for the rooms that are allowed them."""
    graph = {name: imports(name, at_start=room_of(name) in LAZY) for name in MODULES if name}
    list(graphlib.TopologicalSorter(graph).static_order())


def test_imports_inside_functions_are_of_the_command_line_alone() -> None:
    inside = {name: imports(name) - imports(name, at_start=True) for name in MODULES if room_of(name) not in LAZY}
    assert {name: found for name, found in inside.items() if found} == {"": imports("") - {"version"}}


@pytest.mark.parametrize("module", ["data.galaxies", "sets.coresets", "training.fresh", "distillation.unroll"])
def test_plain_modules_need_no_lightning(module: str) -> None:
    program = (
        f"import sys, gz_lightning.{module}; sys.exit('lightning' in sys.modules or 'pytorch_lightning' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


UNTESTED = ("errors", "version", "__main__", "cli.lightning")
"""Modules without a test file of their name: nothing but names, or (the LightningCLI) tested through its commands."""


def test_tests_mirror_the_package() -> None:
    tests = Path(__file__).parent
    modules = [path for name, path in MODULES.items() if path.name != "__init__.py" and name not in UNTESTED]
    missing = [
        str(path.relative_to(PACKAGE))
        for path in modules
        if not (tests / path.parent.relative_to(PACKAGE) / f"test_{path.name}").exists()
    ]
    assert not missing
