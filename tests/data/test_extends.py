"""Schemas that extend another: what they take over, and what they may not state."""

from pathlib import Path

import pytest

from gz_lightning.data.schema import known_schema, known_schemas
from gz_lightning.data.tree import Leaf, Tree, get_tree
from gz_lightning.errors import InputError


def test_what_extends_another_states_what_differs() -> None:
    """The answers and leaves of the survey that it extends, in their order, but for those that are renamed."""
    decals, jwst = known_schema("decals"), known_schema("jwst")
    there = [question.name for question in decals.questions]
    assert [question.name for question in jwst.questions] == [*there, "clumps", "problem"]
    leaves = {leaf.name: leaf.paths for leaf in get_tree("decals").leaves}
    leaves["star or artifact"] = ("smooth-or-featured_star-artifact-zoom",)
    assert [(leaf.name, leaf.paths) for leaf in get_tree("jwst").leaves] == list(leaves.items())
    dr12 = known_schema("decals-dr12")
    assert [(q.name, q.after) for q in dr12.questions] == [(q.name, q.after) for q in decals.questions]
    assert dr12.siblings("bar_yes") == ["bar_yes", "bar_no"]
    assert not any(schema.what.startswith("extends") for schema in known_schemas().values())


def _extending(tmp_path: Path, text: str) -> Tree:
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\n{text}")
    return get_tree(str(path))


def test_a_schema_of_ones_own_extends_another(tmp_path: Path) -> None:
    tree = _extending(
        tmp_path,
        "extends: decals\ninfixes: [-mine]\nquestions:\n  smooth-or-featured: {renamed: {artifact: problem}}\n"
        "  bulge-size: {answers: [large, none]}\n  merging: null\n"
        "  ring: {answers: ['yes', 'no'], after: [disk-edge-on_no]}\n",
    )
    decals = known_schema("decals")
    assert [question.name for question in tree.schema.questions] == [
        *(question.name for question in decals.questions if question.name != "merging"),
        "ring",
    ]
    assert tree.schema.answers["bulge-size_none"].after == ("disk-edge-on_no",)
    assert tree.class_names == get_tree("decals").class_names
    assert tree.leaves[-1].paths == ("smooth-or-featured_problem",)
    assert not tree.left_out
    (naming,) = tree.schema.namings
    assert naming.counts["smooth-or-featured_problem"] == "smooth-or-featured-mine_problem"
    assert naming.totals["ring"] == "ring-mine_total-votes"
    assert (tree.schema.name, tree.schema.what) == ("mine", "extends decals")


def test_columns_of_another_and_leaves_of_ones_own(tmp_path: Path) -> None:
    tree = _extending(tmp_path, "extends: jwst\nleaves: {barred: bar_strong}\n")
    assert tree.leaves == (Leaf("barred", ("bar_strong",)),)
    assert tree.schema.namings[0].counts == known_schema("jwst").namings[0].counts
    ring = "extends: gz2\nquestions: {ring: {answers: ['yes', 'no'], after: [a02]}}\nleaves: {ring: ring_yes, smooth: a01}\n"
    published, datasets = _extending(tmp_path, ring).schema.namings
    assert published.columns["debiased"] == known_schema("gz2").namings[0].columns["debiased"]
    assert datasets.counts["ring_yes"] == "ring-gz2_yes"
    bars = "extends: gz2\nquestions: {bar: {renamed: {'yes': bar}}}\nleaves: {bar: a02 a05 a06, other: a02 a05 a07}\n"
    published, datasets = _extending(tmp_path, bars).schema.namings
    assert (published.columns["fraction"]["a06"], datasets.counts["a06"]) == ("t03_bar_a06_bar_fraction", "bar-gz2_bar")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: oak", "mine.yaml: extends is 'oak'; the schemas to extend are gz2, decals, "),
        ("extends: [decals]", r"mine.yaml: extends is \['decals'\]; the schemas to extend are"),
        ("extends: decals\nschema: decals", "mine.yaml: it names a schema and extends one; leave out schema"),
        ("extends: gz2", "mine.yaml is no tree: give its name and its leaves"),
        (
            "extends: decals\nquestions: 3",
            "mine.yaml: questions is 3; state those that differ from decals, such as '{merging: ",
        ),
        (
            "extends: decals\nquestions: {mergers: null}",
            "mine.yaml: questions.mergers removes a question that decals does not have; it has smooth-or-.*, merging$",
        ),
        (
            "extends: decals\nquestions: {bars: {renamed: {a: b}}}",
            "questions.bars renames answers of a question that decals d",
        ),
        (
            "extends: decals\nquestions: {bar: {renamed: {huge: big}}}",
            "mine.yaml: questions.bar.renamed has huge; decals has the answers strong, weak, no",
        ),
        ("extends: decals\nquestions: {bar: {renamed: 3}}", "bar.renamed is 3; .* of answers, such as '{strong: new}'"),
        (
            "extends: decals\nquestions: {bar: {renamed: {weak: no}}}",
            "bar.renamed is {'weak': False}; give old and new names",
        ),
        (
            "extends: decals\nquestions: {bar: {renamed: {weak: strong}}}",
            r"bar.renamed gives two answers one name \(strong, strong, no\)",
        ),
        (
            "extends: decals\nquestions: {disk-edge-on: null}",
            "mine.yaml: its questions: .*'edge-on-bulge' comes after disk-edge-on_yes, which is no answer of it",
        ),
        (
            "extends: decals\nquestions: {bar: null}",
            "mine.yaml, which states no leaves and so has those of decals: the path '.*' to the leaf .* has bar_strong",
        ),
        ("extends: decals\nquestions: {merging: 3}", "mine.yaml: its questions: .* the question 'merging' has 3"),
    ],
)
def test_a_schema_that_cannot_extend_another(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        _extending(tmp_path, text)


def test_schemas_that_extend_each_other_in_a_circle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gz_lightning.data.schema.FOLDER", tmp_path)
    monkeypatch.setattr("gz_lightning.data.schema.KNOWN", ("oak", "elm"))
    (tmp_path / "oak.yaml").write_text("name: oak\nextends: elm\n")
    (tmp_path / "elm.yaml").write_text("name: elm\nextends: oak\n")
    with pytest.raises(
        InputError, match=r"elm.yaml: extends leads in a circle \(oak, elm, oak\); let one of them state all"
    ):
        known_schema.__wrapped__("oak")
