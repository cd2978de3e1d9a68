"""Schemas: the questions of every survey, and the columns that follow from them."""

from pathlib import Path

import pytest

from gz_lightning.data.schema import KNOWN, known_schema, known_schemas, schema_from
from gz_lightning.data.tree import GZ2, all_trees, get_tree
from gz_lightning.errors import InputError


@pytest.mark.parametrize("name", KNOWN)
def test_every_path_of_every_tree_can_be_asked(name: str) -> None:
    """Each answer of a path leads to the question of the next, from a question that is asked of every galaxy on."""
    schema = known_schema(name)
    assert schema.name == name
    assert schema.what
    assert not schema.questions[0].after
    for tree in [tree for tree in all_trees().values() if tree.schema.questions == schema.questions]:
        for path in (path for leaf in tree.leaves for path in leaf.paths):
            asked = set()
            for answer in path.split():
                question = schema.answers[answer]
                assert not question.after or any(before in asked for before in question.after), (tree.name, path)
                asked.add(answer)


def test_columns_of_every_naming() -> None:
    gz2, datasets = known_schema("gz2").namings
    assert gz2.columns["debiased"]["a38"] == "t08_odd_feature_a38_dust_lane_debiased"
    assert datasets.counts["a17"] == "how-rounded-gz2_in-between"
    assert datasets.columns["fraction"]["a17"] == "how-rounded-gz2_in-between_fraction"
    assert datasets.totals["how-rounded"] == "how-rounded-gz2_total-votes"
    assert "a38" not in datasets.counts
    assert [naming.counts["bar_weak"] for naming in known_schema("decals").namings] == [
        "bar_weak",
        "bar-dr5_weak",
        "bar-dr8_weak",
    ]
    hubble = known_schema("hubble").namings[0].columns
    assert hubble["weighted_fraction"]["clumpy-appearance_no"] == "t12_clumpy_a02_no_weighted_fraction"
    candels = known_schema("candels").namings[0].columns
    assert candels["fraction"]["how-rounded_in-between"] == "t01_how_rounded_a1_inbetween_frac"
    assert len(GZ2.answers) == 37


def test_the_questions_of_galaxy_datasets() -> None:
    """Those of its galaxy_datasets/shared/label_metadata.py, whose columns hold counts."""
    namings = {name: known_schema(name).namings[-1] for name in ("decals-dr12", "hubble", "candels")}
    asked = {name: {column.rpartition("_")[0] for column in naming.counts.values()} for name, naming in namings.items()}
    common = {"smooth-or-featured", "how-rounded", "disk-edge-on", "bar", "has-spiral-arms"}
    common |= {"spiral-winding", "spiral-arm-count", "bulge-size"}
    clumps = {"clumpy-appearance", "clump-count"}
    hubble = common | clumps | {"bulge-shape", "galaxy-symmetrical", "clumps-embedded-larger-object"}
    wanted = {
        "decals-dr12": common | {"edge-on-bulge", "merging"},
        "hubble": hubble,
        "candels": common | clumps | {"edge-on-bulge", "merging"},
    }
    for name, questions in wanted.items():
        infix = name.removeprefix("decals")
        infix = infix if infix.startswith("-") else f"-{infix}"
        assert asked[name] == {f"{question}{infix}" for question in questions}
    assert [column for column in namings["decals-dr12"].counts.values() if "bulge" in column or "merging" in column] == [
        *("edge-on-bulge-dr12_boxy", "edge-on-bulge-dr12_none", "edge-on-bulge-dr12_rounded"),
        *("bulge-size-dr12_dominant", "bulge-size-dr12_obvious", "bulge-size-dr12_none"),
        *("merging-dr12_neither", "merging-dr12_tidal-debris", "merging-dr12_both", "merging-dr12_merger"),
    ]
    assert len(namings["decals-dr12"].counts) == 30
    assert len(namings["hubble"].counts) == 40
    assert len(namings["candels"].counts) == 38


def test_the_later_surveys_ask_as_decals_and_more() -> None:
    """The same label_metadata.py, pairs of cosmic_dawn_ortho, euclid_ortho and jwst_ortho: 45, 46 and 39 columns."""
    decals = set(known_schema("decals").answers) - {"smooth-or-featured_artifact"}
    artifacts = {f"artifact_{word}" for word in ("satellite", "scattered", "diffraction", "ray", "saturation", "other")}
    clumps = {"clumps_yes", "clumps_no"}
    problem = {"smooth-or-featured_problem", "problem_star", "problem_artifact", "problem_zoom"}
    cosmic_dawn = decals | clumps | problem | artifacts
    jwst = {"smooth-or-featured_star-artifact-zoom", "problem_star", "problem_artifact", "problem_bad-zoom"}
    for name, infix, answers, number in (
        ("cosmic-dawn", "cd", cosmic_dawn, 45),
        ("euclid", "euclid", cosmic_dawn | {"artifact_ghost"}, 46),
        ("jwst", "jwst", decals | clumps | jwst, 39),
    ):
        schema = known_schema(name)
        assert set(schema.answers) == answers
        (naming,) = schema.namings
        assert len(set(naming.counts.values())) == number
        assert naming.columns["fraction"]["bar_weak"] == f"bar-{infix}_weak_fraction"
    assert known_schema("euclid").answers["artifact_ghost"].after == ("problem_artifact",)
    assert known_schema("cosmic-dawn").answers["clumps_yes"].after == ("disk-edge-on_no",)
    assert len(known_schema("jwst").answers["clumps_yes"].after) == 2  # smooth, or features


@pytest.mark.parametrize(
    ("name", "file", "column", "skip"),
    [
        ("hubble", "gzh_column_descriptions_main.tsv", 0, ()),
        ("candels", "candels_gzc_table2_description.txt", 0, ()),
        ("gz2", "gz2_hart16.txt", 0, ()),
    ],
)
def test_the_published_columns(name: str, file: str, column: int, skip: tuple[str, ...], real_data: Path) -> None:
    """Every column of a survey's own table is in the description that it has published."""
    path = real_data / "catalogs" / "official_columns" / file
    if not path.is_file():
        pytest.skip(f"no descriptions of columns: {path} is absent")
    published = {word.strip() for line in path.read_text(errors="replace").splitlines() for word in line.split()}
    for kind, columns in known_schema(name).namings[0].columns.items():
        missing = [column for column in columns.values() if column not in published]
        assert not missing, (kind, missing)


def test_all_trees_by_name() -> None:
    names = [
        "simplified",
        "simplified9",
        "coarse5",
        "decals",
        "decals-dr5",
        "decals-dr8",
        "decals-dr12",
        "hubble",
        "candels",
        "ukidss",
        "rings",
        "cosmic-dawn",
        "euclid",
        "jwst",
    ]
    assert list(all_trees()) == names
    assert get_tree("decals-dr5").schema.infixes == ("-dr5",)
    assert get_tree("decals-dr5").leaves == get_tree("decals").leaves
    assert [leaf.name for leaf in get_tree("rings").leaves] == ["ring", "no ring"]
    assert [len(get_tree(name)) for name in names[3:]] == [12, 12, 12, 10, 11, 11, 10, 2, 12, 12, 12]
    assert all(not get_tree(name).left_out for name in names[3:])
    assert len(known_schemas()) == 10


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (3, "own: a schema is made of questions with their answers, .*it holds 3"),
        ({"questions": {}}, "a schema is made of questions"),
        ({"questions": {"bar": {}}}, "the question 'bar' has "),
        ({"questions": {"bar": {"answers": [True, False]}}}, "put yes and no into quotes"),
        ({"questions": {"bar": {"answers": {"yes": True}}}}, "put yes and no into quotes"),
        ({"questions": {"bar": {"answers": ["a b"]}}}, "answers with blanks in their names"),
        ({"questions": {"bar": {"answers": ["a"], "after": ["b"]}}}, "'bar' comes after b, which is no answer of it"),
        ({"questions": {"bar": {"answers": ["a"], "after": "bar_a"}}}, "the question 'bar' has "),
        ({"questions": {"bar": {"answers": ["a"]}}, "infixes": "x"}, "its infixes are 'x'"),
        ({"questions": {"bar": {"answers": ["a"]}}, "infixes": []}, "its infixes are "),
        (
            {"questions": {"bar": {"answers": ["a"], "afetr": ["b"]}}},
            "'bar' has the key 'afetr'; known are answers, after, ",
        ),
        ({"questions": {"bar": {"answers": ["a", "b", "a"]}}}, "the question 'bar' has the answer a twice"),
        (
            {"questions": {"d": {"answers": ["e_f", "g"]}, "d_e": {"answers": ["f", "g"]}}},
            r"two of its answers are called alike \(d_e_f\)",
        ),
        (
            {"questions": {"bar": {"answers": ["a"], "after": ["bar_a"]}}},
            "bar can never be asked, since 'after' leads in a c",
        ),
        (
            {
                "questions": {
                    "a": {"answers": ["1"]},
                    **{q: {"answers": ["1"], "after": [f"{w}_1"]} for q, w in ("bc", "cb")},
                }
            },
            "; b, c can never be asked",
        ),
        ({"questions": {3: {"answers": ["a"]}}}, "the question 3 has "),
    ],
)
def test_a_schema_that_is_none(content: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        schema_from(content, "own")


CHAIN = (
    "questions:\n  bar: {answers: [x, z], after: [disk_x, odd_x]}\n  disk: {answers: [x, z], after: [any_x]}\n"
    "  odd: {answers: [x, z]}\n  any: {answers: [x, z]}\n"
)


@pytest.mark.parametrize(
    ("bar", "ruled_out"),
    [
        ("disk_x bar_x", ""),
        ("bar_x", ""),
        ("bar_x disk_x", ""),
        ("any_z", ""),
        ("disk_z bar_x", ""),
        ("disk_z odd_x bar_x", ""),
        ("any_z odd_x bar_x", ""),
        ("disk_z odd_z bar_x", "bar_x"),
        ("bar_x odd_z disk_z", "bar_x"),
        ("any_z odd_z bar_x", "bar_x"),
        ("any_z disk_z", "disk_z"),
    ],
)
def test_a_path_may_skip_questions_but_not_contradict_what_they_come_after(bar: str, ruled_out: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(f"name: own\nleaves: {{bar: {bar}, other: disk_x bar_z}}\n{CHAIN}")
    if not ruled_out:
        assert get_tree(str(tmp_path / "own.yaml")).leaves[0].paths == (bar,)
        return
    with pytest.raises(
        InputError, match=rf"own.yaml: the path '{bar}' .* has {ruled_out}, which is asked after \w+_x( or \w+_\w+)* alone"
    ):
        get_tree(str(tmp_path / "own.yaml"))


def test_a_tree_of_another_survey_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "bars.yaml"
    path.write_text("name: bars\nschema: decals\nleaves: {bar: [bar_strong, bar_weak], none: bar_no}\n")
    assert get_tree(str(path)).schema is known_schema("decals")
    path.write_text("name: bars\nschema: oak\nleaves: {bar: bar_strong}\n")
    with pytest.raises(InputError, match="bars.yaml: its schema is 'oak'; the schemas are gz2, decals, decals-dr12, hubble"):
        get_tree(str(path))
    path.write_text("name: bars\nschema: decals\nquestions: {bar: {answers: [a]}}\nleaves: {bar: bar_a}\n")
    with pytest.raises(InputError, match="bars.yaml: it names a schema and has questions of its own"):
        get_tree(str(path))
    path.write_text("name: bars\nschema: decals\nquestions: {bar: {answers: [a]}}\ninfixes: ['']\nleaves: {bar: bar_a}\n")
    with pytest.raises(InputError, match="bars.yaml: it names a schema and has questions of its own"):
        get_tree(str(path))
    path.write_text("name: bars\nquestions: {bar: {answers: [a]}}\nleaves: {bar: bar_b}\n")
    with pytest.raises(InputError, match="has bar_b; a path is made of the answers bar_a"):
        get_tree(str(path))
