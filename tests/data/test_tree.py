"""The simplified trees against galaxies worked out by hand, and on real tables."""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gz_lightning.data.selection import select
from gz_lightning.data.tree import ANSWERS, TREES, Leaf, Tree, get_tree, survey_trees
from gz_lightning.data.vote_catalog import catalog_from_votes
from gz_lightning.data.votes import read_votes
from gz_lightning.errors import InputError

# One galaxy; every fraction another number, so that a wrong answer on a path changes the product.
VOTES = {
    "a01": 0.31, "a02": 0.62, "a03": 0.07,
    "a04": 0.15, "a05": 0.85,
    "a06": 0.38, "a07": 0.62,
    "a08": 0.71, "a09": 0.29,
    "a16": 0.52, "a17": 0.45, "a18": 0.03,
    "a25": 0.55, "a26": 0.11, "a27": 0.34,
}  # fmt: skip
BY_HAND = [
    0.31 * 0.52,
    0.31 * 0.45,
    0.31 * 0.03,
    0.62 * 0.15 * (0.55 + 0.11),
    0.62 * 0.15 * 0.34,
    0.62 * 0.85 * 0.38 * 0.71,
    0.62 * 0.85 * 0.38 * 0.29,
    0.62 * 0.85 * 0.62 * 0.71,
    0.62 * 0.85 * 0.62 * 0.29,
    0.07,
]


def votes_of(galaxy: dict[str, float]) -> dict[str, list[float]]:
    return {answer: [fraction] for answer, fraction in galaxy.items()}


def test_ten_leaves_by_hand() -> None:
    confidences = TREES["simplified"].confidences(votes_of(VOTES))
    np.testing.assert_allclose(confidences, [BY_HAND], rtol=1e-12)
    assert confidences.argmax() == 7


def test_nine_and_five_leaves_by_hand() -> None:
    nine = TREES["simplified9"].confidences(votes_of(VOTES))
    np.testing.assert_allclose(nine, [BY_HAND[:9]], rtol=1e-12)
    five = TREES["coarse5"].confidences(votes_of(VOTES))
    wanted = [BY_HAND[0], BY_HAND[1], BY_HAND[2], BY_HAND[3] + BY_HAND[4], BY_HAND[5] + BY_HAND[7]]
    np.testing.assert_allclose(five, [wanted], rtol=1e-12)


def test_a_question_nobody_reached_counts_as_zero() -> None:
    smooth = dict.fromkeys(ANSWERS, float("nan")) | {"a01": 1.0, "a16": 0.75, "a17": 0.25}
    confidences = TREES["simplified"].confidences(votes_of(smooth))
    np.testing.assert_array_equal(confidences, [[0.75, 0.25, 0, 0, 0, 0, 0, 0, 0, 0]])


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_leaves_of_the_whole_tree_share_out_all_votes(splits: list[float]) -> None:
    """Where each question's fractions sum to one, so do the ten leaves."""
    smooth, star, edge, bar, spiral = splits
    galaxy = {
        "a01": smooth * (1 - star), "a02": (1 - smooth) * (1 - star), "a03": star,
        "a04": edge, "a05": 1 - edge, "a06": bar, "a07": 1 - bar, "a08": spiral, "a09": 1 - spiral,
        "a16": 0.5, "a17": 0.3, "a18": 0.2, "a25": 0.6, "a26": 0.1, "a27": 0.3,
    }  # fmt: skip
    assert TREES["simplified"].confidences(votes_of(galaxy)).sum() == pytest.approx(1)


def test_own_tree_and_its_errors() -> None:
    bars = Tree("bars", (Leaf("bar!", ("a02 a05 a06",)), Leaf("no bar", ("a02 a05 a07",))))
    assert bars.answers == ("a02", "a05", "a06", "a07")
    assert [leaf.folder for leaf in bars.leaves] == ["bar", "no_bar"]
    with pytest.raises(InputError, match="needs votes for a05, a07"):
        bars.confidences({"a02": [1.0], "a06": [1.0]})
    assert get_tree(bars) is bars
    with pytest.raises(InputError, match="no tree 'oak'.*simplified, simplified9, coarse5"):
        get_tree("oak")


@pytest.mark.parametrize(
    ("leaves", "message"),
    [
        ((), "needs leaves, each with a name of its own; it has none"),
        ((Leaf("Bar", ("a06",)), Leaf("bar!", ("a07",))), "needs leaves, each with a name of its own; it has Bar, bar!"),
        ((Leaf("bar", ()),), "the leaf 'bar' of the tree 'own' has no path of answers"),
        ((Leaf("bar", ("a02 a06 a99",)),), "the path 'a02 a06 a99' .* has a99; .* the answers a01 to a38"),
        ((Leaf("bar", (" ",)),), "the path ' ' .* has nothing"),
        ((Leaf("bar", ("a06 a07",)),), "the path 'a06 a07' .* has two answers to one question"),
    ],
)
def test_a_tree_that_is_none(leaves: tuple[Leaf, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Tree("own", leaves)


def test_a_name_fits_on_a_line() -> None:
    bar = (Leaf("bar", ("a06",)),)
    assert len(Tree("b" * 100, bar)) == 1
    for name in ("b" * 101, "two\nlines"):
        with pytest.raises(InputError, match=f"a name of a tree or of a leaf is '{name[:3]}.*; it should fit on a line"):
            Tree(name, bar)
        with pytest.raises(InputError, match=f"a name of a tree or of a leaf is '{name[:3]}.*; it should fit on a line"):
            Tree("own", (Leaf(name, ("a06",)),))


def test_every_answer_of_the_published_tables_is_known() -> None:
    assert len(ANSWERS) == 37
    assert all(answer in stem for answer, stem in ANSWERS.items())


def test_a_tree_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "edges.yaml"
    path.write_text("name: edges\nleaves:\n  edge-on: [a02  a04 a25, a02 a04 a26]\n  face-on: a02 a05\n")
    assert get_tree(str(path)) == Tree(
        "edges", (Leaf("edge-on", ("a02 a04 a25", "a02 a04 a26")), Leaf("face-on", ("a02 a05",)))
    )


@given(
    st.one_of(
        st.text(max_size=30), st.sampled_from(["name: x\nleaves: {a: %s}", "leaves: {%s: a01}", "name: %s\nleaves: 3"])
    ),
    st.text(max_size=8),
)
def test_any_text_is_a_tree_or_is_refused(tmp_path_factory: pytest.TempPathFactory, text: str, part: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text.replace("%s", part), encoding="utf-8", errors="replace")
    try:
        assert isinstance(get_tree(str(path)), Tree)
    except InputError as error:
        assert "\n" not in str(error) or "\n" in part


def test_real_sample_has_the_leaves_it_is_known_to_have(real_data: Path) -> None:
    sample = real_data / "gz2_sample"
    catalog = catalog_from_votes(
        sample / "gz2_hart16.csv.gz", sample / "images", sample / "gz2_filename_mapping.csv", "simplified"
    )
    taken = select(catalog.object_ids, catalog.confidences, catalog.class_names)
    assert np.bincount(taken.labels).tolist() == [239, 350, 208, 72, 23, 26, 4, 58, 15, 5]
    assert sum(taken.tied) == 9


def test_real_full_table_is_read_by_every_kind_of_vote(real_data: Path) -> None:
    table = real_data / "gz2_stripe82" / "table5.csv.gz"
    tree = TREES["simplified"]
    for kind in ("fraction", "weighted_fraction"):
        votes = read_votes(table, tree, kind)
        assert len(votes) == 19_761
        total = tree.confidences({answer: votes[answer] for answer in tree.answers}).sum(1)
        # Somebody answered every question on the way of some leaf: nearly all votes arrive.
        assert 0.95 < np.median(total) <= 1.01


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 5000, "it holds brackets within brackets"),
        ("a: &a [x, x]\n" + "".join(f"{b}: &{b} [{f'*{a}, ' * 9}]\n" for a, b in pairwise("abcdefgh")), "without end"),
        ("&a [*a]", "without end"),
        ("name: 2023-99-99", "month must be in 1..12"),
        ('name: "\\ud800"\nleaves: {a: a01}', "half of a surrogate pair"),
        ("name: x\nleaves: {a: a02 26}", "the path 'a02 26' to the leaf 'a' of the tree 'x' has 26"),
        ("name: x\nleaves: {" + "y" * 200 + ": a01}", "it should fit on a line"),
    ],
)
def test_a_file_of_yaml_that_goes_wrong(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"own.yaml.*{message}"):
        get_tree(str(path))


def test_what_never_ends_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    with (tmp_path / "hole.yaml").open("wb") as file:
        file.truncate(2**36)
    with pytest.raises(InputError, match="there is no file .*zero.yaml"):
        get_tree(str(tmp_path / "zero.yaml"))
    with pytest.raises(InputError, match="hole.yaml has 68719476736 bytes, more than such a file ever has"):
        get_tree(str(tmp_path / "hole.yaml"))


@pytest.mark.parametrize(
    ("tree", "left_out"),
    [
        (TREES["simplified"], []),
        (TREES["simplified9"], ["a03"]),
        (TREES["coarse5"], ["a02 a05 a06 a09", "a02 a05 a07 a09", "a03"]),  # edge-on is both of its leaves: none is left out
        (Tree("smooth", (Leaf("smooth", ("a01",)), Leaf("disk", ("a02",)))), ["a03"]),
        (
            Tree("bars", (Leaf("bar", ("a02 a05 a06",)), Leaf("none", ("a02 a05 a07",)))),
            ["a01 a16", "a01 a17", "a01 a18", "a02 a04 a25", "a02 a04 a26", "a02 a04 a27", "a03"],
        ),
        (Tree("bars of any galaxy", (Leaf("bar", ("a06",)), Leaf("none", ("a07",)))), []),
        (Tree("odd", (Leaf("odd", ("a14",)), Leaf("not", ("a15",)))), []),
        (
            Tree("rings", (Leaf("ring", ("a14 a19",)), Leaf("merger", ("a14 a24",)))),
            ["a15", "a14 a20", "a14 a21", "a14 a22", "a14 a23", "a14 a38"],
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Tree) else "",
)
def test_what_a_tree_leaves_out(tree: Tree, left_out: list[str]) -> None:
    assert [path for leaf in tree.left_out for path in leaf.paths] == left_out


def test_what_a_tree_leaves_out_has_names() -> None:
    assert TREES["simplified9"].left_out == (Leaf("left out: star or artifact", ("a03",)),)
    rings = Tree("rings", (Leaf("ring", ("a14 a19",)), Leaf("merger", ("a14 a24",))))
    lens = rings.left_out[1]
    assert lens == Leaf("left out: t08_odd_feature_a20_lens_or_arc", ("a14 a20",))
    both = rings.with_left_out
    assert both.name == "rings, with what it leaves out unless --keep_unlikely true"
    assert both.leaves == rings.leaves + rings.left_out
    assert Tree("r" * 100, rings.leaves).with_left_out.name.startswith("r" * 40 + ", with what")


def test_what_a_tree_of_another_survey_leaves_out() -> None:
    whole = get_tree("decals")
    part = Tree("part", whole.leaves[:3], whole.schema)
    assert part.left_out == tuple(Leaf(f"left out: {leaf.name}", leaf.paths) for leaf in whole.leaves[3:])
    assert part.with_left_out.schema is whole.schema
    mergers = Tree("mergers", (Leaf("merger", ("merging_merger",)),), whole.schema)
    asked_besides = [leaf for leaf in mergers.left_out if "merging" in leaf.name]
    others = [answer for answer in whole.schema.siblings("merging_merger") if answer != "merging_merger"]
    assert asked_besides == [Leaf(f"left out: {answer}", (answer,)) for answer in others]


def test_the_answers_of_another_survey_are_named() -> None:
    schema = get_tree("rings").schema
    with pytest.raises(InputError, match=re.escape(f"a path is made of the answers {', '.join(schema.answers)}") + "$"):
        Tree("rings", (Leaf("ring", ("a14",)),), schema)


def test_the_trees_of_other_surveys() -> None:
    trees = survey_trees()
    assert set(trees) == {"decals", "decals-dr5", "decals-dr8", "decals-dr12", "hubble", "candels", "ukidss", "rings"} | {
        *("cosmic-dawn", "euclid", "jwst"),
    }
    assert all(tree.name == name and tree.schema.name == name for name, tree in trees.items())
    assert trees["decals-dr8"].leaves == trees["decals"].leaves


def test_a_galaxy_as_likely_to_be_left_out_stays() -> None:
    votes = votes_of(dict.fromkeys(ANSWERS, 0.0) | {"a01": 0.5, "a03": 0.25, "a16": 0.5, "a17": 0.5})
    assert not TREES["simplified9"].unlikely(votes)
    none = votes_of(dict.fromkeys(ANSWERS, 0.0))
    assert not TREES["simplified9"].unlikely(none)
    assert not TREES["simplified"].unlikely(none)  # which leaves nothing out


def test_galaxies_are_judged_one_by_one() -> None:
    smooth, star = ({"a01": 0.6, "a03": 0.1, "a16": 0.9}, {"a01": 0.3, "a03": 0.7, "a16": 0.8})  # .54 is less than .7
    sure = {"a01": 0.9, "a03": 0.1, "a16": 0.9}  # .81 is more
    galaxies = [dict.fromkeys(ANSWERS, 0.0) | galaxy for galaxy in (smooth, star, sure)]
    votes = {answer: np.array([galaxy[answer] for galaxy in galaxies], dtype=np.float32) for answer in ANSWERS}
    assert TREES["simplified9"].unlikely(votes).tolist() == [False, True, False]
    confidences = TREES["simplified9"].confidences(votes)
    assert confidences.shape == (3, 9)
    assert confidences.dtype == np.float64  # of single precision as well
    assert confidences[0, 0] == pytest.approx(0.54)  # of itself alone, not beside another's star


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", r"is no tree: give its name .*; it holds \[1, 2\]"),
        ("leaves: {a: a01}", "is no tree: .*; it holds a dict of 1"),
        ("name: x\nleaves: {a: a01}\nmore: 1", "is no tree: .*; it holds a dict of 3"),
        ("name: x\nleaves: [a01]", "is no tree: .*; it holds a dict of 2"),
        ("name: x\nleaves: {a: 3}", "is no tree: .*; the leaf 'a' has 3"),
        ("name: x\nleaves: {a: [a01, 3]}", r"is no tree: .*; the leaf 'a' has \['a01', 3\]"),
        ("name: [x]\nleaves: {a: a01}", r"is no tree: .*; its name is \['x'\]"),
        ("name: {x: y}\nleaves: {a: a01}", "is no tree: .*; its name is {'x': 'y'}"),
        ("name: x\nleaves: {a: a01 a02}", "any.yml: the path 'a01 a02' to the leaf 'a' of the tree 'x' has two answers"),
    ],
)
def test_a_file_that_is_no_tree(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "any.yml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        get_tree(str(path))


def test_names_in_a_file_may_be_numbers(tmp_path: Path) -> None:
    path = tmp_path / "numbers.yaml"
    path.write_text("name: 5\nleaves: {1: a01, 2: a02}\n")
    assert get_tree(str(path)) == Tree("5", (Leaf("1", ("a01",)), Leaf("2", ("a02",))))


def test_galaxies_likelier_to_be_left_out() -> None:
    star = {"a01": 0.444, "a02": 0.0, "a03": 0.556, "a16": 0.5, "a17": 0.5, "a18": 0.0}
    votes = votes_of(dict.fromkeys(ANSWERS, 0.0) | star)
    assert [TREES[name].unlikely(votes).tolist() for name in ("simplified", "simplified9", "coarse5")] == [
        [False],
        [True],
        [True],
    ]
    disk = {"a02": 1.0, "a05": 1.0, "a06": 0.5, "a07": 0.5, "a08": 0.55, "a09": 0.45}
    assert not TREES["coarse5"].unlikely(votes_of(dict.fromkeys(ANSWERS, 0.0) | disk))  # a spiral, barred or not
    assert TREES["coarse5"].unlikely(votes_of(dict.fromkeys(ANSWERS, 0.0) | disk | {"a08": 0.2, "a09": 0.8}))


def test_real_galaxies_that_a_tree_leaves_out(real_data: Path) -> None:
    """The figures of docs/data.md."""
    sample = real_data / "gz2_sample"
    where = sample / "gz2_hart16.csv.gz", sample / "images", sample / "gz2_filename_mapping.csv"
    full, nine, five = (catalog_from_votes(*where, tree) for tree in ("simplified", "simplified9", "coarse5"))
    assert nine.unlikely is not None
    assert five.unlikely is not None
    assert nine.unlikely.tolist() == (full.confidences.argmax(1) == 9).tolist()
    assert five.unlikely.sum() == 21
    bars = catalog_from_votes(*where, Tree("bars", (Leaf("barred", ("a02 a05 a06",)), Leaf("not barred", ("a02 a05 a07",)))))
    assert bars.unlikely is not None
    assert bars.unlikely.sum() == 879


def test_a_file_with_questions_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = "name: mine\nquestions: {bar: {answers: ['yes', 'no']}}\nleaves: {barred: bar_yes}\n"
    path.write_text(text + "infixes: ['', -x]\n")
    tree = get_tree(str(path))
    assert (tree.schema.name, tuple(tree.schema.infixes)) == ("mine", ("", "-x"))
    assert tree.left_out == (Leaf("left out: bar_no", ("bar_no",)),)  # it has no whole tree
    path.write_text(text.replace("['yes', 'no']", "[]"))
    with pytest.raises(InputError, match=r"mine.yaml: its questions: "):
        get_tree(str(path))
    path.write_text("name: mine\ninfixes: ['', -x]\nleaves: {smooth: a01}\n")
    with pytest.raises(InputError, match="its schema is 'gz2'; the schemas are .*, or give questions of your own"):
        get_tree(str(path))


def test_a_leaf_without_letters_has_no_folder() -> None:
    with pytest.raises(InputError, match="needs leaves, each with a name of its own"):
        Tree("signs", (Leaf("smooth", ("a01",)), Leaf("!?", ("a02",))))
