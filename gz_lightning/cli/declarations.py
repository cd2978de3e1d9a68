"""What the settings of a command are, read from its source: its module is not imported.

A parser needs names, types, defaults and docstring of a function alone. The module that holds it imports PyTorch, which
takes seconds: too long for a mistyped flag.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import functools
import importlib
import importlib.util
import sys
import typing
from pathlib import Path
from typing import Any

PACKAGE = "gz_lightning"
Bound = dict[str, ast.stmt]
"""Name -> the statement at the top of a module that binds it."""


def declaration(place: str) -> Any:
    """A function or class without what it does: its docstring, and its signature (of a class that of ``__init__``).

    Defaults and types that are more than literals are looked up in the source too: an assignment is evaluated, wherever in
    the package it is imported from. Only where a name is bound by anything else is its module imported.

    Args:
        place: ``module:name`` below the package.

    Example:
        >>> declaration("data.prepare:prepare").__doc__.partition(" of each")[0]
        'Pack the most confident galaxies'
    """
    module, _, name = place.partition(":")
    module = f"{PACKAGE}.{module}"
    statement = _bound(module)[name]
    assert isinstance(statement, (ast.FunctionDef, ast.ClassDef))
    if isinstance(statement, ast.ClassDef):
        (init,) = [one for one in statement.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
        bodiless: ast.stmt = ast.ClassDef(name, [], [], [*_docstring(statement), _bodiless(init)], [])
    else:
        init, bodiless = statement, _bodiless(statement)
    scope = {used: _value(module, used) for used in _names(init.args)}
    scope["__name__"] = "__main__"  # jsonargparse looks for a shorter way to import it, in the packages of its module
    tree = ast.fix_missing_locations(ast.Module([bodiless], []))
    exec(compile(tree, module, "exec", flags=__future__.annotations.compiler_flag), scope)
    declared = scope[name]
    function = declared.__init__ if isinstance(statement, ast.ClassDef) else declared
    function.__annotations__ = typing.get_type_hints(function, include_extras=True)  # as text they would lose their ranges
    return declared


def _bodiless(function: ast.FunctionDef) -> ast.FunctionDef:
    """A function that does nothing."""
    return ast.FunctionDef(function.name, function.args, [*_docstring(function), ast.Pass()], [], None)


def _docstring(statement: ast.FunctionDef | ast.ClassDef) -> list[ast.stmt]:
    return statement.body[: int(ast.get_docstring(statement) is not None)]


def _names(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


@functools.cache
def _bound(module: str) -> Bound:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    bound: Bound = {}
    for statement in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            bound |= dict.fromkeys([alias.asname or alias.name for alias in statement.names], statement)
        elif isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            bound[statement.name] = statement
        elif isinstance(statement, ast.Assign):
            bound |= {target.id: statement for target in statement.targets if isinstance(target, ast.Name)}
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            bound[statement.target.id] = statement
    return bound


def _value(module: str, name: str) -> Any:
    """What a name stands for in a module."""
    statement = _bound(module).get(name)
    if statement is None and hasattr(builtins, name):
        return getattr(builtins, name)
    if module not in sys.modules and isinstance(statement, ast.ImportFrom) and statement.module is not None:
        (original,) = [alias.name for alias in statement.names if (alias.asname or alias.name) == name]
        if statement.module.partition(".")[0] == PACKAGE:
            return _value(statement.module, original)
        return getattr(importlib.import_module(statement.module), original)
    if module not in sys.modules and isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
        scope = {used: _value(module, used) for used in _names(statement.value)}
        return eval(compile(ast.Expression(statement.value), module, "eval"), scope)
    return getattr(importlib.import_module(module), name)
