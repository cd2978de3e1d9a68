"""A schema that extends another: its file states what differs, and takes over the rest.

.. code-block:: yaml

    extends: decals                       # a schema that comes with the package
    infixes: [-mine]
    questions:
      smooth-or-featured: {renamed: {artifact: problem}}           # an answer, also in leaves and in what comes after it
      bulge-size: {answers: [large, small, none]}                  # other answers; asked after the same one as before
      merging: null                                                # not asked
      ring: {answers: ["yes", "no"], after: [disk-edge-on_no]}     # a further question

Questions keep their order, and further ones come last. If there are ``leaves``, they are all the leaves of the tree;
otherwise it has those of the other schema.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gz_lightning.errors import InputError
from gz_lightning.storage.text import short


def extended(content: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The whole content of a schema's file that extends another.

    Args:
        content: What the file states.
        other: The whole content of the other file.

    Raises:
        InputError: If it removes a question or renames an answer that the other does not have. The message names the key.

    Example:
        >>> decals = {"name": "decals", "questions": {"bar": {"answers": ["strong", "no"]}}, "leaves": {"bar": "bar_strong"}}
        >>> mine = extended({"questions": {"bar": {"renamed": {"strong": "yes"}}}}, decals)
        >>> mine["questions"]["bar"]["answers"], mine["leaves"]
        (['yes', 'no'], {'bar': ['bar_yes']})
    """
    name, stated = other["name"], content.get("questions", {})
    if not isinstance(stated, dict):
        raise InputError(f"questions is {short(stated)}; state those that differ from {name}, such as '{{merging: null}}'")
    words = {question: _renamed(question, differs, other) for question, differs in stated.items()}
    renamed = {f"{question}_{old}": f"{question}_{new}" for question in words for old, new in words[question].items()}

    def now(paths: Iterable[str]) -> list[str]:
        return [" ".join(renamed.get(answer, answer) for answer in path.split()) for path in paths]

    questions: dict[str, Any] = {}
    for question, before in other["questions"].items():
        new, answers = words.get(question, {}), before["answers"]
        called = [new.get(word, word) for word in answers]
        answers = dict(zip(called, answers.values(), strict=True)) if isinstance(answers, dict) else called
        questions[question] = {**before, "answers": answers, "after": now(before.get("after", []))}
    for question, differs in stated.items():
        if differs is None:
            del questions[question]
        elif isinstance(differs, dict):
            rest = {key: value for key, value in differs.items() if key != "renamed"}
            questions[question] = questions.get(question, {}) | rest
        else:
            questions[question] = differs  # refused with all that is no question
    leaves = {leaf: now([of] if isinstance(of, str) else of) for leaf, of in other.get("leaves", {}).items()}
    taken_over = other | {"what": f"extends {name}"} | ({"leaves": leaves} if leaves else {})
    return taken_over | {key: value for key, value in content.items() if key != "extends"} | {"questions": questions}


def _renamed(question: Any, differs: Any, other: dict[str, Any]) -> dict[str, str]:
    """Answers of a question -> what they are called now."""
    what = (
        "removes" if differs is None else "renames answers of" if isinstance(differs, dict) and "renamed" in differs else ""
    )
    if not what:
        return {}
    name, questions = other["name"], other["questions"]
    if question not in questions:
        raise InputError(f"questions.{question} {what} a question that {name} does not have; it has {', '.join(questions)}")
    new, known = (differs or {}).get("renamed", {}), list(questions[question]["answers"])
    where = f"questions.{question}.renamed"
    if not isinstance(new, dict) or not all(isinstance(word, str) for word in (*new, *new.values())):
        raise InputError(f"{where} is {short(new)}; give old and new names of answers, such as '{{{known[0]}: new}}'")
    if unknown := [word for word in new if word not in known]:
        raise InputError(f"{where} has {', '.join(unknown)}; {name} has the answers {', '.join(known)}")
    if len({new.get(word, word) for word in known}) < len(known):
        raise InputError(f"{where} gives two answers one name ({', '.join(new.get(word, word) for word in known)})")
    return new
