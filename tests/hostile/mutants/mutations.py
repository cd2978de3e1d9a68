"""The mutants of a module: what mutmut's operators make of it, one small change each."""

from __future__ import annotations

import ast
import difflib
from collections import Counter

import libcst as cst
from libcst.metadata import ByteSpanPositionProvider, MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

from tests.hostile.mutants.mutant import Mutant, Mutants

UNTOUCHED = ("len", "isinstance")
"""Calls that mutmut leaves alone: without an argument they cannot but fail."""
DATA = ("operator_number", "operator_name", "operator_swap_op")
"""The operators that are used outside functions, where tables and constants stand: numbers, truth values and signs."""


class _Finder(cst.CSTVisitor):  # type: ignore[misc]  # without mutmut, mypy knows no libcst
    """Applies the operators to all but annotations, decorators, docstrings, checks of ourselves and wording.

    Checks of ourselves are ``assert`` and the ``strict`` of a zip whose parts are of one length.
    Wording is text in messages (inside ``raise`` and ``say``), whether such a message is there at all, and text outside
    functions. What stands in the braces of a message is changed.
    """

    METADATA_DEPENDENCIES = (ByteSpanPositionProvider, PositionProvider)

    def __init__(self) -> None:
        self.path: list[str] = []
        self.functions = self.messages = self.wording = 0
        self.found: list[tuple[str, str, range, cst.CSTNode, cst.CSTNode]] = []
        self.body = range(0)

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, (cst.Annotation, cst.Decorator, cst.Import, cst.ImportFrom, cst.Assert)) or _is_docstring(node):
            return False
        if isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value in UNTOUCHED:
            return False
        if _is_strict(node):
            return False
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            self.path.append(node.name.value)
        if isinstance(node, cst.FunctionDef):
            if not self.functions:
                place = self.get_metadata(PositionProvider, node)
                self.body = range(place.start.line, place.end.line + 1)
            self.functions += 1
        self.messages += _is_message(node)
        for kind, operator in mutation_operators:
            if isinstance(node, kind):
                for changed in operator(node):
                    if isinstance(changed, cst.Call) and _strict(changed) != _strict(node):
                        continue
                    self._add(operator.__name__, node, changed)
        return True

    def _add(self, operator: str, node: cst.CSTNode, changed: cst.CSTNode) -> None:
        if not self.functions and operator not in DATA and operator != "operator_string":
            return
        text = operator == "operator_string" and (self.messages or not self.functions)
        if text or (operator == "operator_arg_removal" and _is_raised_or_said(node) and self.messages):
            self.wording += 1
        else:
            function, body = (".".join(self.path), self.body) if self.functions else ("", range(0))
            self.found.append((function, operator, body, node, changed))

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, (cst.FunctionDef, cst.ClassDef)):
            self.path.pop()
        self.functions -= isinstance(original_node, cst.FunctionDef)
        self.messages -= _is_message(original_node)


def _is_strict(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Arg) and node.keyword is not None and node.keyword.value == "strict"


def _strict(node: cst.CSTNode) -> list[cst.CSTNode]:
    """The ``strict`` of a call."""
    return [arg.value for arg in node.args if _is_strict(arg)] if isinstance(node, cst.Call) else []


def _is_docstring(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Expr) and isinstance(node.value, (cst.SimpleString, cst.ConcatenatedString))


def _is_raised_or_said(node: cst.CSTNode) -> bool:
    """A call of say or of an error."""
    named = isinstance(node, cst.Call) and isinstance(node.func, cst.Name)
    return named and (node.func.value == "say" or node.func.value.endswith(("Error", "Damaged")))


def _is_message(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Raise) or (_is_raised_or_said(node))


def mutants_of(source: str) -> Mutants:
    """The mutants of a module's source, in the order of its lines."""
    wrapper, finder = MetadataWrapper(cst.parse_module(source)), _Finder()
    wrapper.visit(finder)
    spans, places = wrapper.resolve(ByteSpanPositionProvider), wrapper.resolve(PositionProvider)
    raw, tree = source.encode(), ast.dump(ast.parse(source))
    kept: list[Mutant] = []
    seen: set[str] = set()
    alike: Counter[tuple[str, str, str]] = Counter()
    for function, operator, body, node, changed in finder.found:
        span = spans[node]
        code = wrapper.module.code_for_node(changed).encode()
        mutated = (raw[: span.start] + code + raw[span.start + span.length :]).decode()
        try:
            new = ast.dump(ast.parse(mutated))
        except SyntaxError:  # such as a call of nothing but keywords with a starred argument dropped
            continue
        if new == tree or new in seen:
            continue
        seen.add(new)
        before, after = _changed_lines(source, mutated)
        kept.append(
            Mutant(
                function,
                operator.removeprefix("operator_"),
                places[node].start.line,
                places[node].end.line,
                body,
                before,
                after,
                mutated,
                alike[function, before, after],
            )
        )
        alike[function, before, after] += 1
    return Mutants(sorted(kept, key=lambda mutant: mutant.first), finder.wording)


def _changed_lines(source: str, mutated: str) -> tuple[str, str]:
    """The lines that differ, each side on one line."""
    before, after = [], []
    for line in difflib.ndiff(source.splitlines(), mutated.splitlines()):
        if line.startswith("- "):
            before.append(line[2:].strip())
        elif line.startswith("+ "):
            after.append(line[2:].strip())
    return " ".join(before), " ".join(after)
