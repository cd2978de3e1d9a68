"""Schemas: the questions of a Galaxy Zoo, their answers, and which answer leads to which question. Data, not code.

The columns of every naming follow from a schema. Its file is YAML, such as ``schemas/decals.yaml``; one of one's own is a
part of a tree's file (see :func:`gz_lightning.data.tree.read_tree`):

.. code-block:: yaml

    infixes: ["", -mine]              # between question and answer: the column bar-mine_yes holds counts
    questions:
      disk: {answers: ["yes", "no"]}
      bar: {answers: ["yes", "no"], after: [disk_yes]}

A path may leave questions out, but not contradict ``after``: ``disk_no bar_yes`` is refused. With ``extends: decals`` only
what differs from another survey's questions is stated (:mod:`gz_lightning.data.extends`).

An answer is called ``<question>_<answer>``. A table in the naming of galaxy-datasets has the columns
``<question><infix>_<answer>`` (counts), the same with ``_fraction``, and ``<question><infix>_total-votes``. A table that a
survey has published has names of its own, which ``published`` gives.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gz_lightning.data.extends import extended
from gz_lightning.errors import InputError
from gz_lightning.storage.text import naming_file, read_yaml, short

FOLDER = Path(__file__).parent / "schemas"
KNOWN = ("gz2", "decals", "decals-dr12", "hubble", "candels", "ukidss", "rings", "cosmic-dawn", "euclid", "jwst")
"""The schemas that come with the package."""
KEYS = ("answers", "after", "published", "only_published")
"""What a schema says of a question."""
GALAXY_DATASETS = "galaxy-datasets"
"""The naming that the catalogues of galaxy-datasets and its Parquet data sets have in common."""


@dataclass(frozen=True)
class Question:
    """A question to the volunteers.

    Args:
        name: Its name, such as ``disk-edge-on``.
        answers: Answer -> what it is called after the question, such as ``yes``.
        published: Answer -> its column in the survey's own table, without the kind of vote; may be empty.
        after: Answers that lead to it; none: it is asked of every galaxy.
        only_published: Whether the naming of galaxy-datasets lacks it.
    """

    name: str
    answers: dict[str, str]
    published: dict[str, str]
    after: tuple[str, ...] = ()
    only_published: bool = False


@dataclass(frozen=True)
class Naming:
    """The columns of one kind of table.

    Args:
        name: What messages call it, such as ``galaxy-datasets``.
        columns: Kind of votes -> answer -> column of its vote fraction.
        counts: Answer -> column of the number of its votes.
        totals: Question -> column of the number of votes for all its answers.
    """

    name: str
    columns: dict[str, dict[str, str]]
    counts: dict[str, str]
    totals: dict[str, str]


@dataclass(frozen=True, eq=False)
class Schema:
    """The questions of a survey.

    Args:
        name: Its name, such as ``decals``.
        what: One line on it.
        questions: Its questions.
        infixes: What may stand between question and answer in a column.
        published_kinds: Kind of votes -> ending of its columns in the survey's own table.
        trees: Its simplified tree, of the same name: name -> leaf -> paths. Galaxy Zoo 2 has others, see
            :data:`gz_lightning.data.tree.TREES`.
    """

    name: str
    what: str
    questions: tuple[Question, ...]
    infixes: tuple[str, ...] = ("",)
    published_kinds: dict[str, str] = field(default_factory=dict)
    trees: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)

    @functools.cached_property
    def answers(self) -> dict[str, Question]:
        """Every answer -> its question."""
        return {answer: question for question in self.questions for answer in question.answers}

    def asks(self, answer: str) -> str:
        """The name of the question that an answer belongs to."""
        return self.answers[answer].name

    def rules_out(self, answers: Sequence[str]) -> str | None:
        """The first answer of a path whose question is not asked after the others, by ``after``; None: all can be given."""
        given = {self.asks(answer): answer for answer in answers}

        def asked(question: Question) -> bool:
            leading = [answer for answer in question.after if given.get(self.asks(answer), answer) == answer]
            return not question.after or any(asked(self.answers[answer]) for answer in leading)

        return next((answer for answer in answers if not asked(self.answers[answer])), None)

    def siblings(self, answer: str) -> list[str]:
        """All answers to the question of an answer."""
        return list(self.answers[answer].answers)

    @functools.cached_property
    def namings(self) -> list[Naming]:
        """All the ways in which a table may call its columns."""
        found = []
        if self.published_kinds:
            stems = {a: stem for question in self.questions for a, stem in question.published.items()}
            columns = {
                kind: {a: f"{stem}{ending}" for a, stem in stems.items()} for kind, ending in self.published_kinds.items()
            }
            found.append(Naming(self.name, columns, {a: f"{stem}_count" for a, stem in stems.items()}, {}))
        for infix in self.infixes:
            asked = [question for question in self.questions if not question.only_published]
            counts = {a: f"{q.name}{infix}_{word}" for q in asked for a, word in q.answers.items()}
            fractions = {a: f"{column}_fraction" for a, column in counts.items()}
            debiased = {a: f"{column}_debiased" for a, column in counts.items()}
            totals = {q.name: f"{q.name}{infix}_total-votes" for q in asked}
            name = f"{GALAXY_DATASETS}, {self.name}{infix if len(self.infixes) > 1 else ''}"
            found.append(Naming(name, {"fraction": fractions, "debiased": debiased}, counts, totals))
        return found

    def of_infix(self, infix: str) -> Schema:
        """The same questions with columns of one infix alone."""
        return Schema(self.name + infix, self.what, self.questions, (infix,), self.published_kinds, self.trees)


def schema_from(content: Any, where: Any, name: str = "own") -> Schema:
    """A schema from the content of its YAML.

    Args:
        content: The content.
        where: What messages name.
        name: Its name.

    Raises:
        InputError: If it is no schema.
    """
    example = "questions: {bar: {answers: [strong, weak]}}"
    wrong = f"{where}: a schema is made of questions with their answers, such as '{example}'"
    if not isinstance(content, dict) or not isinstance(content.get("questions"), dict) or not content["questions"]:
        raise InputError(f"{wrong}; it holds {short(content)}")
    questions = tuple(
        _question(key, value, bool(content.get("codes")), wrong) for key, value in content["questions"].items()
    )
    infixes = content.get("infixes", [""])
    if not _texts(infixes) or not infixes:
        raise InputError(f"{wrong}; its infixes are {short(infixes)}")
    kinds, leaves = content.get("published_kinds", {}), content.get("leaves", {})
    trees = {name: {leaf: _listed(of) for leaf, of in leaves.items()}} if leaves else {}
    schema = Schema(name, str(content.get("what", "")), questions, tuple(infixes), kinds, trees)
    for question in questions:
        if unknown := [answer for answer in question.after if answer not in schema.answers]:
            raise InputError(f"{wrong}; '{question.name}' comes after {', '.join(unknown)}, which is no answer of it")
    if len(schema.answers) < sum(len(question.answers) for question in questions):
        raise InputError(f"{wrong}; two of its answers are called alike ({', '.join(_twice(questions))})")
    if never := _never_asked(schema):
        raise InputError(f"{wrong}; {', '.join(never)} can never be asked, since 'after' leads in a circle")
    return schema


def _twice(questions: Sequence[Question]) -> list[str]:
    every = [answer for question in questions for answer in question.answers]
    return sorted({answer for answer in every if every.count(answer) > 1})


def _never_asked(schema: Schema) -> list[str]:
    """Questions that no chain of answers leads to from one that is asked of every galaxy."""
    reached: set[str] = set()
    for _ in schema.questions:  # a chain is no longer than there are questions
        reached |= {q.name for q in schema.questions if not q.after or any(schema.asks(a) in reached for a in q.after)}
    return [question.name for question in schema.questions if question.name not in reached]


def _question(name: Any, content: Any, codes: bool, wrong: str) -> Question:
    given = content if isinstance(content, dict) else {}
    if unknown := [key for key in given if key not in KEYS]:
        raise InputError(f"{wrong}; the question {short(name)} has the key {short(unknown[0])}; known are {', '.join(KEYS)}")
    answers, published, after = given.get("answers"), given.get("published", ""), given.get("after", [])
    words: Any = dict.fromkeys(answers or [], "") if _texts(answers) else answers
    texts = [*words, *words.values(), name, published] if isinstance(words, dict) else [None]
    if _texts(answers) and (twice := sorted({word for word in answers or [] if list(answers or []).count(word) > 1})):
        raise InputError(f"{wrong}; the question {short(name)} has the answer {', '.join(twice)} twice")
    if not words or not _texts(texts) or not _texts(after):
        raise InputError(f"{wrong}; the question {short(name)} has {short(content)} (put yes and no into quotes)")
    stems = {word: f"{published}_{column}" for word, column in words.items() if published and column}
    called = {word: words[word].partition("_")[0] if codes and words[word] else f"{name}_{word}" for word in words}
    if any(not answer or len(answer.split()) != 1 for answer in called.values()):
        raise InputError(f"{wrong}; the question {short(name)} has answers with blanks in their names")
    return Question(
        name,
        {called[word]: word for word in words},
        {called[word]: stem for word, stem in stems.items()},
        tuple(after),
        bool(given.get("only_published", False)),
    )


def _texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _listed(paths: Any) -> tuple[str, ...]:
    return (paths,) if isinstance(paths, str) else tuple(paths)


def complete(content: dict[str, Any], path: Path, extending: tuple[str, ...] = ()) -> dict[str, Any]:
    """The content of a schema's file, with all that it takes over from the schema that it extends, if it does.

    Args:
        content: What the file states.
        path: The file.
        extending: The schemas that lead here, one extending the next.

    Raises:
        InputError: If there is no such schema, or what the file states does not go with it.
    """
    if "extends" not in content:
        return content
    name = content["extends"]
    if name not in KNOWN:
        raise InputError(f"{path}: extends is {short(name)}; the schemas to extend are {', '.join(KNOWN)}")
    if name in extending:
        circle = ", ".join((*extending, name))
        raise InputError(f"{path}: extends leads in a circle ({circle}); let one of them state all its questions")
    file = FOLDER / f"{name}.yaml"
    other = complete(read_yaml(file), file, (*extending, name))
    with naming_file(path):
        return extended(content, other)


@functools.cache
def known_schema(name: str) -> Schema:
    """A schema that comes with the package, by its name in :data:`KNOWN`."""
    path = FOLDER / f"{name}.yaml"
    return schema_from(complete(read_yaml(path), path, (name,)), name, name)


def known_schemas() -> Mapping[str, Schema]:
    """All schemas that come with the package, by name."""
    return {name: known_schema(name) for name in KNOWN}
