"""The layout of a vote table, known by its columns: where the object ids and the votes of which survey are.

==================  =========================================================  ==================================
naming              votes                                                      tables
==================  =========================================================  ==================================
``gz2``             ``t01_smooth_or_features_a01_smooth_fraction``, ...        Willett et al. (2013), Hart et al.
                                                                               (2016), ``zoo2MainSpecz`` of SDSS
``hubble``          ``t01_smooth_or_features_a01_smooth_fraction``,            Willett et al. (2017)
                    ``t12_clumpy_a01_yes_fraction``, ...
``candels``         ``t00_smooth_or_featured_a0_smooth_frac``, ...             Simmons et al. (2017)
``galaxy-datasets`` ``smooth-or-featured-gz2_smooth`` (counts), the same       galaxy-datasets, Galaxy Zoo DECaLS
                    with ``_fraction``; other infixes of other surveys         and DESI, Parquet with pictures
``kaggle``          ``Class1.1`` .. ``Class11.6``, already multiplied down     solutions of the Galaxy Challenge
                    the tree
==================  =========================================================  ==================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from gz_lightning.data.object_ids import ID_COLUMNS, id_column, some
from gz_lightning.data.schema import Naming, Schema, known_schemas
from gz_lightning.data.tables import Table, column_names, tables_of
from gz_lightning.data.tree import GZ2, Tree, get_tree
from gz_lightning.errors import InputError
from gz_lightning.settings import check_name

VoteKind = Literal["weighted_fraction", "fraction", "debiased"]
VOTE_KINDS: tuple[VoteKind, ...] = get_args(VoteKind)
"""Kinds of votes; by default the first that a table has."""
GALAXY_DATASETS = next(naming.counts for naming in GZ2.namings if naming.name.startswith("galaxy-datasets"))
"""Answer of Galaxy Zoo 2 -> column of counts in the naming of galaxy-datasets, which lacks the question on odd features."""
CLASSIFICATIONS = ("total_classifications", "total_count", "num_classifications")
"""Columns with the number of volunteers in the surveys' own tables."""

# The answers to each question in the order of the Kaggle classes, and the class by which their numbers are multiplied.
_KAGGLE_QUESTIONS = (
    ("a01 a02 a03", None),
    ("a04 a05", "Class1.2"),
    ("a06 a07", "Class2.2"),
    ("a08 a09", "Class2.2"),
    ("a10 a11 a12 a13", "Class2.2"),
    ("a14 a15", None),  # asked of every galaxy, and brought back to a sum of 1 in the published revision
    ("a16 a17 a18", "Class1.1"),
    ("a19 a20 a21 a22 a23 a24 a38", "Class6.1"),
    ("a25 a26 a27", "Class2.1"),
    ("a28 a29 a30", "Class4.1"),
    ("a31 a32 a33 a34 a36 a37", "Class4.1"),
)
KAGGLE = {
    answer: (f"Class{question}.{place}", parent)
    for question, (answers, parent) in enumerate(_KAGGLE_QUESTIONS, 1)
    for place, answer in enumerate(answers.split(), 1)
}
"""Answer -> its column in the solutions of the Kaggle Galaxy Challenge, and the column by which that is multiplied."""


class SeveralSurveys(InputError):  # noqa: N818 - what a table holds, as the message says
    """A table has votes of several surveys, and nobody says which are meant."""


@dataclass(frozen=True)
class Layout:
    """The columns of a vote table, spelt as the table spells them.

    Args:
        name: The naming, such as ``galaxy-datasets, gz2``.
        schema: The survey whose votes these are.
        object_id: Column of object ids; None: the table has none, and its rows are numbered.
        columns: Kind of votes -> answer -> column of its vote fraction.
        counts: Answer -> columns of its count and of the counts whose sum it is divided by; fractions are made of these
            where the table has none.
        parents: Answer -> column by which its numbers are multiplied.
        classifications: Column with the number of volunteers who looked at the galaxy; None: the table has none.
        folder: Column with the folder of the image; None: the table has none.
        file: Column with the name of the image; None: the table has none.
    """

    name: str
    schema: Schema
    object_id: str | None
    columns: dict[str, dict[str, str]]
    counts: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    classifications: str | None = None
    folder: str | None = None
    file: str | None = None

    def has(self, kind: str, answer: str) -> bool:
        """Whether the table has an answer's votes of a kind."""
        return answer in self.columns.get(kind, {}) or (kind == "fraction" and answer in self.counts)

    @property
    def tree(self) -> str:
        """The name of the tree that these votes serve: ``simplified`` of Galaxy Zoo 2; empty for a survey of one's own."""
        if self.schema is GZ2:
            return "simplified"
        infix = self.name.rpartition(", ")[2].removeprefix(self.schema.name)
        return next(iter(self.schema.trees), "") + ("" if self.schema.name.endswith(infix) else infix)

    @property
    def serves(self) -> bool:
        """Whether the table has all that the survey's tree needs; of a survey of one's own, any votes."""
        if not self.tree:
            return any(self.columns.values()) or bool(self.counts)
        return self.reaches(get_tree(next(iter(self.schema.trees), self.tree)))

    def reaches(self, tree: Tree) -> bool:
        """Whether the table has all votes of one kind that a tree needs."""
        return any(all(self.has(kind, answer) for answer in tree.answers) for kind in self.columns)

    def kind(self, table: Table, tree: Tree, votes: str | None) -> str:
        """The kind of votes to read, once all its columns are known to be there.

        Raises:
            InputError: If a column is missing; all are named.
        """
        if votes is not None:
            check_name("--votes", votes, VOTE_KINDS)
        missing = {kind: [a for a in tree.answers if not self.has(kind, a)] for kind in self.columns}
        complete = [kind for kind in VOTE_KINDS if missing.get(kind) == []]
        if complete and votes in (None, *complete):
            return votes or complete[0]
        hint = f"; it has all that is needed for --votes {' or '.join(complete)}" if complete else ""
        if votes is not None and votes not in self.columns:
            raise InputError(f"{table} (layout {self.name}) has no votes of the kind {votes}{hint}")
        kind = votes or min(missing, key=lambda kind: len(missing[kind]))
        called = _naming(tree.schema, self.name)
        columns = {} if called is None else called.columns.get(kind, {})
        names = [columns.get(answer, f"a column for {answer}") for answer in missing[kind]]
        raise InputError(
            f"{table} lacks {len(names)} of the {len(tree.answers)} columns that the tree '{tree.name}' needs: "
            f"{', '.join(names)}{hint}"
        )


def _naming(schema: Schema, name: str) -> Naming | None:
    return next((naming for naming in schema.namings if naming.name == name), None)


def layout_of(table: str | Path | Table, schema: Schema | None = None, images_inside: bool = False) -> Layout:
    """The layout of a vote table, from its columns, in any case.

    Args:
        table: The table.
        schema: The survey whose votes are wanted. Default: that of which the table has all that its tree needs.
        images_inside: Whether the table holds the images, so that it needs no object ids.

    Raises:
        InputError: If the table cannot be read, its layout is unknown, or several surveys could be meant.
    """
    source = tables_of(table)[0]
    header = column_names(source)
    own = id_column(header)
    if "GalaxyID" in header and "Class1.1" in header and schema in (None, GZ2):
        there = {answer: column for answer, (column, _) in KAGGLE.items() if column in header}
        parents = {answer: parent for answer, (_, parent) in KAGGLE.items() if parent is not None}
        return Layout("kaggle", GZ2, "GalaxyID", {"weighted_fraction": there}, parents=parents)
    schemas = list(known_schemas().values()) if schema is None else [schema]
    found = [_read_header(header, one, naming, own) for one in schemas for naming in one.namings]
    enough = [layout for layout in found if layout.serves]
    if len({layout.tree for layout in enough}) > 1:
        trees = list(dict.fromkeys(layout.tree for layout in enough))
        plain = [layout for layout in enough if schema is not None and layout.tree in schema.trees]
        if not plain:
            raise SeveralSurveys(f"{source} has votes of several surveys: say which with --tree {' or '.join(trees)}")
        enough = plain
    best = max(enough or found, key=lambda layout: len(layout.columns["fraction"]) + len(layout.counts))
    covered = sum(map(len, best.columns.values())) + len(best.counts)
    if own is None and not (images_inside and covered):
        raise InputError(
            f"{source} has no object id column ({', '.join(ID_COLUMNS)}); its first columns are {some(header)}; call the "
            f"one with the ids {ID_COLUMNS[0]}"
        )
    if not covered:
        which, hint = ("a known survey", "") if schema is None else (f"the survey '{schema.name}'", _other(header))
        raise InputError(
            f"{source} has object ids ({own}), but no votes of {which}{hint}; its columns are {some(header, 8)}"
        )
    return best


def _other(header: Sequence[str]) -> str:
    """What votes a table has instead."""
    found = [_read_header(header, schema, naming, None) for schema in known_schemas().values() for naming in schema.namings]
    return next((f", but those of another (--tree {layout.tree})" for layout in found if layout.serves), "")


def _read_header(header: Sequence[str], schema: Schema, naming: Naming, own: str | None) -> Layout:
    """What a table has of a naming."""
    spelt = {name.lower(): name for name in reversed(header)} | {name: name for name in header}

    def there(column: str) -> str | None:
        return spelt.get(column) or spelt.get(column.lower())

    columns: dict[str, dict[str, str]] = {}
    for kind, wanted in naming.columns.items():
        columns[kind] = {answer: name for answer, column in wanted.items() if (name := there(column))}
    counted = {answer: name for answer, column in naming.counts.items() if (name := there(column))}
    counts: dict[str, tuple[str, tuple[str, ...]]] = {}
    for answer, column in counted.items():
        total = there(naming.totals.get(schema.asks(answer), ""))
        siblings = [counted.get(other) for other in schema.siblings(answer)]
        if total is not None:
            counts[answer] = (column, (total,))
        elif all(siblings):
            counts[answer] = (column, tuple(name for name in siblings if name))
    first = there(naming.totals.get(schema.questions[0].name, ""))
    classifications = next((name for name in map(there, CLASSIFICATIONS) if name), None) if not naming.totals else first
    return Layout(
        naming.name,
        schema,
        own,
        {kind: found for kind, found in columns.items() if found or kind == "fraction" or not naming.totals},
        counts,
        classifications=classifications,
        folder=there("subfolder") if naming.totals else None,
        file=there("filename") if naming.totals else None,
    )
