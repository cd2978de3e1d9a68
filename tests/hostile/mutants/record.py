"""The record of what was tried: RECORD.md, from the results and from the judgements of judged.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from tests.hostile.mutants.modules import MODULES
from tests.hostile.mutants.mutant import Mutant, Mutants

FOLDER = Path(__file__).parent
ENOUGH = 0.95
"""The share of mutants that must be killed."""
NOBODY = "Nobody has judged these."
TOP = """# Mutants

What this page is for: how many small changes of the code the tests notice, and why those that they do not notice are no
faults. `make mutants` writes it.

A mutant is a module with one change, made by the operators of mutmut {version}: another number, operator, truth value or
string, a dropped argument, `None` for a value, one arm of a conditional expression. It is killed when a test of the module
fails, hangs or dies. Each module has only the tests named here, less a few slow ones (`modules.py`) and those on real
galaxies: a mutant that another test would notice is a survivor. What was killed once is not tried again, and a module of
which nothing was tried this time keeps its row, as long as it has as many mutants, its survivors among them, and the same
tests.

Not changed, and not counted: annotations, decorators, docstrings, imports; `assert`, `strict=` of a zip and the arguments of
`len` and `isinstance`, which are checks of ourselves or can only fail; outside functions all but numbers, truth values and
signs. {wording} changes of *wording* were left out: the text of messages (inside `raise` and `say`; what stands in their
braces is changed) and strings in tables outside functions, such as the columns of vote tables.

| module | tests | mutants | killed | killed, % | survivors |
|---|---|---|---|---|---|
"""


Judgements = Mapping[tuple[str, str, str, str], str]
"""(module, function or nothing for any, line before, line after) -> why this mutant is no fault."""


def judgements() -> Judgements:
    """What judged.yaml says."""
    found = {}
    for module, judged in yaml.safe_load((FOLDER / "judged.yaml").read_text()).items():
        for entry in judged:
            for before, afters in entry["mutants"].items():
                for after in afters:
                    found[module, entry.get("function", ""), before, after] = " ".join(entry["why"].split())
    return found


def write_record(mutants: Mapping[str, Mutants], killed: Mapping[str, Mapping[str, bool]], version: str) -> list[str]:
    """Write RECORD.md of all modules, and give what is wrong with it.

    Args:
        mutants: Module -> its mutants.
        killed: Module -> name of a mutant -> whether it was killed; one that was not tried is missing.
        version: That of mutmut.

    Returns:
        A line for each module that was not tried whole or whose mutants live, and for each survivor without a judgement.
    """
    why, wrong, rows, chapters = judgements(), [], [], []
    before = _parts_of(FOLDER / "RECORD.md")
    totals = [0, 0]
    for module in MODULES:
        kept, row, chapter = mutants[module].kept, "", ""
        tests = ", ".join(f"`{test.removeprefix('tests/')}`" for test in MODULES[module])
        if not killed[module] and module in before:
            row, chapter = before[module]
        if not _is_of(row, chapter, tests, kept):
            untried = sum(mutant.name not in killed[module] for mutant in kept)
            if untried:
                wrong.append(f"{module}: {untried} mutants were not tried")
            living = [mutant for mutant in kept if not killed[module].get(mutant.name)]
            dead = len(kept) - len(living)
            row = f"| `{module}` | {tests} | {len(kept)} | {dead} | {100 * dead / len(kept):.1f} | {len(living)} |"
            chapter = _chapter(module, living, why) if living else ""
        dead = int(_cells(row)[3])
        totals[0] += len(kept)
        totals[1] += dead
        if dead < ENOUGH * len(kept):
            wrong.append(f"{module}: {dead} of {len(kept)} mutants were killed")
        if NOBODY in chapter:
            wrong.append(f"{module}: nobody judged\n{_changes(chapter.partition(NOBODY)[2])[0]}")
        rows.append(row)
        chapters.append(chapter)
    rows.append(f"| all | | {totals[0]} | {totals[1]} | {100 * totals[1] / totals[0]:.1f} | {totals[0] - totals[1]} |")
    wording = sum(found.wording for found in mutants.values())
    top = TOP.format(version=version, wording=wording)
    (FOLDER / "RECORD.md").write_text(top + "\n".join(rows) + "\n" + "".join(chapters))
    return wrong


def _parts_of(path: Path) -> dict[str, tuple[str, str]]:
    """Module -> its row and its chapter in a record, or nothing where it has none."""
    text = path.read_text() if path.exists() else ""
    top, *chapters = re.split(r"^(?=\n## )", text, flags=re.MULTILINE)
    by_module = {chapter.split()[1]: chapter for chapter in chapters}
    rows = {_cells(line)[0].strip("`"): line for line in top.splitlines() if line.startswith("| `")}
    return {module: (row, by_module.get(module, "")) for module, row in rows.items()}


def _is_of(row: str, chapter: str, tests: str, kept: Sequence[Mutant]) -> bool:
    """Whether a row and a chapter of an earlier record can be of these tests and mutants."""
    if not row or _cells(row)[1:3] != [tests, str(len(kept))]:
        return False
    lines = {f"- {mutant.before}" for mutant in kept} | {f"+ {mutant.after}" for mutant in kept}
    survivors = "\n".join(_changes(chapter)).splitlines()
    return set(survivors) <= lines and sum(line.startswith("+ ") for line in survivors) == int(_cells(row)[5])


def _changes(chapter: str) -> list[str]:
    """The lines of survivors, those of one reason together."""
    return re.findall("```diff\n(.*?)\n```", chapter, flags=re.DOTALL)


def _cells(row: str) -> list[str]:
    """What stands in a row of a table."""
    return [cell.strip() for cell in row.strip("|").split("|")]


def judgement(why: Judgements, module: str, mutant: Mutant) -> str:
    """Why a mutant is no fault, or nothing."""
    of_any = why.get((module, "", mutant.before, mutant.after), "")
    return why.get((module, mutant.function, mutant.before, mutant.after), of_any)


def _chapter(module: str, living: list[Mutant], why: Judgements) -> str:
    """The survivors of a module, those of one reason together."""
    by_reason: dict[str, list[Mutant]] = {}
    for mutant in living:
        by_reason.setdefault(judgement(why, module, mutant) or NOBODY, []).append(mutant)
    parts = [f"\n## {module}\n"]
    for reason, alike in by_reason.items():
        lines: list[str] = []
        for mutant in alike:
            if f"- {mutant.before}" not in lines:
                lines.append(f"- {mutant.before}")
            lines.append(f"+ {mutant.after}")
        parts.append(f"\n{reason}\n\n```diff\n" + "\n".join(lines) + "\n```\n")
    return "".join(parts)
