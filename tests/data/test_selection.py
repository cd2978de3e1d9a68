"""Which galaxies are taken, and which split they belong to."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gz_lightning.data import selection
from gz_lightning.data.selection import SPLITS, TIE, Selection, leaves_of, select, split_of
from gz_lightning.errors import InputError


def test_the_most_confident_are_taken_and_ties_ordered_by_id() -> None:
    confidences = np.array([[0.9, 0.1], [0.5, 0.4], [0.9, 0.05], [0.2, 0.7], [0.0, 0.0], [0.6, 0.3]])
    ids = ["e", "d", "c", "b", "a", "f"]
    selection = select(ids, confidences, ("one", "two"), per_class=2, val_fraction=0, test_fraction=0)
    assert [ids[i] for i in selection.rows] == ["c", "e", "b"]
    assert selection.labels.tolist() == [0, 0, 1]
    report = selection.report.set_index("leaf")
    assert report.loc["one", ["available", "taken", "lacking", "train"]].tolist() == [4, 2, 0, 2]
    assert report.loc["two", ["available", "taken", "lacking"]].tolist() == [1, 1, 1]
    assert report.loc["two", "lowest confidence"] == 0.7


def test_min_confidence_and_what_is_out_of_range() -> None:
    confidences = np.array([[0.9, 0.1], [0.5, 0.4]])
    assert select(["a", "b"], confidences, ("x", "y"), min_confidence=0.8).rows.tolist() == [0]
    with pytest.raises(InputError, match=r"none of the 2 galaxies can be taken: 2 are below --min_confidence 0.95 \(the h"):
        select(["a", "b"], confidences, ("x", "y"), min_confidence=0.95)
    with pytest.raises(InputError, match="together they must be below 1"):
        select(["a", "b"], confidences, ("x", "y"), val_fraction=0.5, test_fraction=0.5)


def test_min_votes() -> None:
    confidences, ids, volunteers = np.array([[0.9], [0.8], [0.7]]), ["a", "b", "c"], np.array([5.0, 20.0, np.nan])
    kept = select(ids, confidences, ("x",), classifications=volunteers, min_votes=10, val_fraction=0, test_fraction=0)
    assert kept.rows.tolist() == [1]
    with pytest.raises(InputError, match="none of the 3 galaxies can be taken: 3 are below --min_votes 50$"):
        select(ids, confidences, ("x",), classifications=volunteers, min_votes=50)
    with pytest.raises(InputError, match="--min_votes 10: nobody says how many volunteers looked at these galaxies"):
        select(ids, confidences, ("x",), min_votes=10)


def test_unlikely_galaxies_are_left_out_and_counted() -> None:
    confidences = np.array([[0.9, 0], [0.8, 0], [0, 0.7], [0.1, 0]])
    unlikely = np.array([True, False, False, True])
    selection = select(list("abcd"), confidences, ("x", "y"), None, 0.5, 0, 0, unlikely=unlikely)
    assert selection.rows.tolist() == [1, 2]
    assert selection.report["unlikely"].tolist() == [1, 0]  # d is left out for its confidence
    assert selection.report["available"].tolist() == [1, 1]
    with pytest.raises(InputError, match=r"none of the 4 .* \(--keep_unlikely true keeps them\)"):
        select(list("abcd"), confidences, ("x", "y"), None, 0.9, 0, 0, unlikely=unlikely)


def test_unusable_galaxies_are_lacking() -> None:
    confidences = np.array([[0.9, 0], [0.8, 0], [0, 0.7]])
    selection = select(["a", "b", "c"], confidences, ("x", "y"), 2, val_fraction=0, test_fraction=0)
    kept = selection.keep(np.array([False, True, True]))
    assert kept.rows.tolist() == [1, 2]
    report = kept.report
    assert report["available"].tolist() == [2, 1]
    assert report["taken"].tolist() == [1, 1]
    assert report["lacking"].tolist() == [1, 1]
    assert report["highest confidence"].tolist() == [0.8, 0.7]


def test_given_splits_are_kept_and_validation_comes_out_of_training() -> None:
    number = 4000
    ids = [f"{'train' if i % 4 else 'test'}/{i}" for i in range(number)]
    given = [i.split("/")[0] for i in ids]
    selection = select(ids, np.ones((number, 1)), ("x",), val_fraction=0.1, test_fraction=0.5, given_splits=given)
    test = selection.splits == SPLITS.index("test")
    assert all(t == (given[row] == "test") for t, row in zip(test, selection.rows, strict=True))
    assert (selection.splits == SPLITS.index("val")).sum() / 3000 == pytest.approx(0.1, abs=0.02)
    few = select(ids, np.ones((number, 1)), ("x",), per_class=50, given_splits=given)
    assert (few.splits == SPLITS.index("test")).sum() == 50
    assert len(few.rows) == 100


def test_every_leaf_has_its_share_of_each_split() -> None:
    """The hash knows nothing of leaves, so each is split alike, within what chance allows (four sigma)."""
    labels = np.arange(9000) % 9
    selection = select([str(i) for i in range(9000)], np.eye(9)[labels], [str(i) for i in range(9)], None)
    report = selection.report
    assert (abs(report["test"] - 200) < 4 * np.sqrt(1000 * 0.2 * 0.8)).all()
    assert (abs(report["val"] - 100) < 4 * np.sqrt(1000 * 0.1 * 0.9)).all()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 10**18), min_size=1, max_size=60, unique=True), st.randoms())
def test_splits_depend_on_the_id_alone(numbers: list[int], random: object) -> None:
    ids = [str(n) for n in numbers]
    confidences = np.ones((len(ids), 1))
    selection = select(ids, confidences, ("x",))
    split = {ids[i]: SPLITS[s] for i, s in zip(selection.rows, selection.splits, strict=True)}
    shuffled = list(ids)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    fewer = shuffled[: max(1, len(shuffled) // 2)]
    again = select(fewer, confidences[: len(fewer)], ("x",))
    assert {fewer[i]: SPLITS[s] for i, s in zip(again.rows, again.splits, strict=True)}.items() <= split.items()
    assert list(selection.splits) == sorted(selection.splits)


def test_split_shares_and_known_ids() -> None:
    splits = [split_of(str(i), 0.1, 0.2) for i in range(20_000)]
    assert splits.count("test") / 20_000 == pytest.approx(0.2, abs=0.01)
    assert splits.count("val") / 20_000 == pytest.approx(0.1, abs=0.01)
    # A test galaxy stays one whatever share is for validation.
    assert [s == "test" for s in splits] == [split_of(str(i), 0.3, 0.2) == "test" for i in range(20_000)]
    # Written down: a change of the hash would mix training and test galaxies of files made before.
    # SHA-256 of "0", "8" and the long one begin with 5fec (.37), 2c62 (.17) and 487b (.28).
    assert [split_of(i, 0.1, 0.2) for i in ("0", "8", "587722981736120347")] == ["train", "test", "val"]


def two_leaves(**settings: object) -> Selection:
    """Four galaxies of one leaf and two of the other, of which one and none are training galaxies."""
    confidences = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.3], [0.2, 0.7], [0.1, 0.5]])
    given = ["test", "train", "val", "test", "val", "test"]
    return select(list("abcdef"), confidences, ("one", "two"), given_splits=given, **settings)  # type: ignore[arg-type]


def test_the_order_is_split_then_leaf_then_falling_confidence() -> None:
    selection = two_leaves()
    assert selection.rows.tolist() == [1, 2, 4, 0, 3, 5]
    assert selection.splits.tolist() == [0, 1, 1, 2, 2, 2]
    assert selection.labels.tolist() == [0, 0, 1, 0, 0, 1]
    assert selection.confidences.tolist() == [0.8, 0.7, 0.7, 0.9, 0.6, 0.5]
    assert [leaf.tolist() for leaf in selection.available] == [[0.9, 0.8, 0.7, 0.6], [0.7, 0.5]]
    assert selection.training.tolist() == [True] + [False] * 5
    assert {str(numbers.dtype) for numbers in (selection.rows, selection.labels, selection.splits)} == {"int64"}


def test_equal_confidences_stay_in_the_order_of_their_ids_within_a_split() -> None:
    ids = [f"{i * 7 % 60:02}" for i in range(60)]
    selection = select(ids, np.ones((60, 1)), ("x",), val_fraction=0.3, test_fraction=0.3)
    for place in range(3):
        taken = [ids[row] for row in selection.rows[selection.splits == place]]
        assert taken == sorted(taken)
        assert len(taken) > 5


def test_the_report_of_every_leaf() -> None:
    selection = select(
        list("abcd"),
        np.array([[0.9, 0, 0], [0.8, 0, 0], [0, 0.7, 0], [0.6, 0, 0]]),
        ("x", "y", "z"),
        per_class=2,
        val_fraction=0,
        test_fraction=0,
    )
    report = selection.report
    assert report.columns.tolist() == [
        *("leaf", "unlikely", "available", "taken", "lacking", "lowest confidence", "highest confidence", "tied"),
        *SPLITS,
    ]
    assert report["tied"].tolist() == [0, 0, 0]
    assert report.drop(columns=["lowest confidence", "highest confidence", "tied"]).to_numpy().tolist() == [
        ["x", 0, 3, 2, 0, 2, 0, 0],
        ["y", 0, 1, 1, 1, 1, 0, 0],
        ["z", 0, 0, 0, 2, 0, 0, 0],
    ]
    np.testing.assert_array_equal(report["lowest confidence"], [0.8, 0.7, np.nan])
    np.testing.assert_array_equal(report["highest confidence"], [0.9, 0.7, np.nan])
    assert select(["a"], np.ones((1, 1)), ("x",)).report["lacking"].tolist() == [0]  # all were asked for
    assert two_leaves().report[list(SPLITS)].to_numpy().tolist() == [[1, 1, 2], [0, 1, 1]]


def test_a_selection_without_some_galaxies() -> None:
    kept = two_leaves().keep(np.array([False, True, False, True, False, True]))
    assert (kept.rows.tolist(), kept.labels.tolist()) == ([2, 0, 5], [0, 0, 1])
    assert (kept.splits.tolist(), kept.confidences.tolist()) == ([1, 2, 2], [0.7, 0.9, 0.5])


def test_limits_are_met_by_what_equals_them() -> None:
    confidences, volunteers = np.array([[0.5], [0.4], [0.6]]), np.array([10.0, 10.0, 9.0])
    kept = select(["a", "b", "c"], confidences, ("x",), min_confidence=0.5, classifications=volunteers, min_votes=10)
    assert kept.rows.tolist() == [0]
    one = select(["a", "b"], np.array([[0.5], [0.4]]), ("x",), classifications=np.array([0.0, 1.0]), min_votes=1)
    assert one.rows.tolist() == [1]
    unknown = np.array([np.nan, np.nan])
    assert len(select(["a", "b"], np.array([[0.5], [0.4]]), ("x",), classifications=unknown).rows) == 2  # nobody asked
    assert len(select(["a"], np.array([[0.5]]), ("x",), val_fraction=0.5, test_fraction=0.49).rows) == 1


def test_the_defaults_are_a_tenth_to_validate_with_and_a_fifth_to_test_with() -> None:
    ids = [str(i) for i in range(3000)]
    selection = select(ids, np.ones((3000, 1)), ("x",))
    wanted = [split_of(i, 0.1, 0.2) for i in ids]
    assert [SPLITS[split] for split in selection.splits] == [wanted[row] for row in selection.rows]
    assert len(select(["a", "b"], np.array([[1e-9], [0.0]]), ("x",)).rows) == 1  # any confidence but none


def test_validation_galaxies_that_a_data_set_comes_with_are_all() -> None:
    ids = [str(i) for i in range(400)]
    given = ["val" if i % 10 == 0 else "train" for i in range(400)]
    selection = select(ids, np.ones((400, 1)), ("x",), val_fraction=0.5, given_splits=given)
    assert [SPLITS[split] for split in selection.splits] == [given[row] for row in selection.rows]
    own = select(ids, np.ones((400, 1)), ("x",), val_fraction=0.5, test_fraction=0.4, given_splits=["train"] * 400)
    assert {SPLITS[split] for split in own.splits} == {"train", "val"}  # the share of test galaxies plays no part
    per_class = two_leaves(per_class=1)
    assert per_class.rows.tolist() == [1, 2, 4, 0, 5]  # one of each leaf and split


def test_a_hint_names_what_left_galaxies_out_only_if_it_did() -> None:
    confidences = np.array([[0.5], [0.4]])
    with pytest.raises(InputError, match=r"2 are below --min_confidence 0.9 \(the highest confidence is 0.5\)$"):
        select(["a", "b"], confidences, ("x",), min_confidence=0.9, unlikely=np.array([True, True]))


@pytest.mark.parametrize(
    ("confidences", "unlikely", "told"),
    [
        ([[0, 0], [0, 0]], [], r"2 reach no leaf, since every path has an answer without votes \(are these the right .*\)$"),
        (
            [[0.25, 0.25]] * 2,
            [0, 1],
            r"2 are likelier what the tree leaves out \(.* keeps them\); all have the same votes, ",
        ),
        (
            [[0.25, 0.5]] * 2,
            [0, 1],
            r"keeps them\); all have the same votes, as those of no survey: look at the columns .*$",
        ),
        ([[0.25, 0.5], [0.25, 0.5], [0.25, 0.6]], [0, 1, 2], r"3 are likelier [^;]* keeps them\)$"),
        ([[0.0, 0.5], [TIE, 0.5]], [0, 1], "; all have the same votes, "),  # as near as the leaves of a tie
        (
            [[0.25, 0.5], [0.25, 0.6]],
            [0, 1],
            r"2 are likelier what the tree leaves out \(--keep_unlikely true keeps them\)$",
        ),
        ([[0.25, 0.5], [0, 0]], [0], "1 reach no leaf, .*; 1 are likelier what the tree leaves out .*them.$"),
        ([[0.25, 0.5]], [0], "1 are likelier what the tree leaves out .*them.$"),
    ],
)
def test_why_no_galaxy_is_left(confidences: list[list[float]], unlikely: list[int], told: str) -> None:
    """By reason; once it was 'none of the galaxies reaches a confidence of 0.0'."""
    number = len(confidences)
    left_out = np.isin(np.arange(number), unlikely)
    with pytest.raises(InputError, match=f"none of the {number} galaxies can be taken: .*{told}"):
        select([str(i) for i in range(number)], np.array(confidences, float), ("x", "y"), unlikely=left_out)


def test_of_no_galaxies_none_is_taken() -> None:
    with pytest.raises(InputError, match="none of the 0 galaxies can be taken"):
        select([], np.empty((0, 2)), ("x", "y"))


def test_the_figure_of_the_leaves() -> None:
    confidences = np.vstack([np.eye(7)[i % 6] * (0.31 + 0.1 * (i % 7)) for i in range(84)])
    names = [f"leaf {i}" for i in range(7)]
    selection = select([str(i) for i in range(84)], confidences, names, per_class=6, val_fraction=0, test_fraction=0)
    figure = selection.plot()
    axes = figure.axes
    assert [axis.get_title() for axis in axes[:7]] == [*(f"leaf {i}\n6 of 14" for i in range(6)), "leaf 6\n0 of 0"]
    assert [axis.axison for axis in axes] == [True] * 7 + [False] * 3  # five in a row
    places = [axis.get_subplotspec().rowspan.start for axis in axes]  # type: ignore[union-attr]
    assert places == [0] * 5 + [1] * 5
    for label, axis in enumerate(axes[:7]):
        available, taken = axis.containers
        of_leaf = selection.confidences[selection.labels == label]
        for bars, values in ((available, selection.available[label]), (taken, of_leaf)):
            assert [bar.get_x() for bar in bars] == pytest.approx(np.arange(40) / 40)
            counts = [bar.get_height() for bar in bars]
            assert sum(counts) == len(values)
            assert [place for place, count in enumerate(counts) if count] == sorted({int(40 * v) for v in values})
        assert axis.get_yscale() == "log"
        assert axis.get_xlim() == axes[0].get_xlim()
        assert axis.get_ylim() == axes[0].get_ylim()
    legend = axes[0].get_legend()
    assert legend is not None
    assert not legend.get_frame_on()  # it hides no bar
    assert [text.get_text() for text in legend.get_texts()] == ["available", "taken"]
    assert len({bars[0].get_facecolor() for axis in axes[:7] for bars in axis.containers}) == 2
    light, dark = (sum(bars[0].get_facecolor()[:3]) for bars in axes[0].containers)
    assert light > dark  # those taken stand out
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("confidence of the leaf", "galaxies")
    texts = (legend.get_texts()[0], axes[0].yaxis.get_ticklabels()[0], axes[0].title, *figure.texts)
    of_legend, of_ticks, of_title, *of_figure = (float(text.get_fontsize()) for text in texts)
    assert of_legend <= of_ticks < of_title < min(of_figure)
    assert [bool(axis.xaxis.get_tick_params()["labelbottom"]) for axis in axes[:10:5]] == [
        False,
        True,
    ]  # once below a column
    assert figure.get_layout_engine() is not None  # titles of two lines need room
    wide, high = figure.get_size_inches()
    assert (wide, high) == pytest.approx((13, 4.5))
    few = two_leaves().plot()
    assert few.get_size_inches()[0] / wide == pytest.approx(2 / 5)  # every panel is as large as in other figures
    assert high - few.get_size_inches()[1] == pytest.approx(2.0)
    assert len(few.axes) == 2
    assert hasattr(figure.canvas, "print_png")  # a notebook then shows it
    figure.canvas.draw()
    passing = select(["a", "b"], np.array([[1.5], [0.2]]), ("x",))  # debiased votes may pass 1
    assert [sum(bar.get_height() for bar in bars) for bars in passing.plot().axes[0].containers] == [2, 2]


def test_leaves_within_the_tie_are_equal_and_the_first_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    confidences = np.array(
        [[0.3, 0.1 + 0.2, 0.1], [1 - TIE, 1.0, 0.0], [1 - 2 * TIE, 1.0, 0.0], [0.3, 0.3, 0.3], [0.1, 0.2, 0.7]]
    )
    for at_once in (2, 100):  # galaxies are looked at some at a time
        monkeypatch.setattr(selection, "AT_ONCE", at_once)
        labels, best, tied = leaves_of(confidences)
        assert labels.tolist() == [0, 0, 1, 0, 2]
        assert best.tolist() == confidences.max(axis=1).tolist()
        assert tied.tolist() == [True, True, False, True, False]


def test_a_tie_in_single_precision_is_one_in_single_precision() -> None:
    most = np.linspace(0.5, 0.6, 1000, dtype=np.float32)
    least = (most.astype(np.float64) - TIE).astype(np.float32)
    assert (least < most.astype(np.float64) - TIE).any()  # rounded down
    assert leaves_of(np.stack([least, most], axis=1))[2].all()


def test_ties_and_what_is_left_out_are_counted() -> None:
    confidences = np.array(
        [[0.6, 0.6], [0.5 - TIE, 0.1], [0.4, 0.1], [0, 0], [0, 0], [0, 0], [0.7, 0.2], [0.7, 0.1], [0.9, 0.1]]
    )
    volunteers = np.array([9, 9, 9, 9, 9, 9, 2, 2, 9])
    names = ("x", "y")
    taken = select(list("abcdefghi"), confidences, names, None, 0.5, 0, 0, classifications=volunteers, min_votes=5)
    assert taken.rows.tolist() == [8, 0, 1]
    assert taken.left_out == {"their votes reach no leaf": 3, "below --min_confidence": 1, "below --min_votes": 2}
    assert taken.report["tied"].tolist() == [1, 0]
    assert dataclasses.replace(taken, tied=()).report["tied"].tolist() == [0, 0]
    assert select(["a"], confidences[:1], names, None, 0, 0, 0).left_out == {}


def test_of_equal_ones_at_the_limit_the_first_by_id_are_taken() -> None:
    confidences = np.array([[0.8], [0.9], [0.8], [0.1]])
    assert select(["c", "d", "a", "b"], confidences, ("x",), 2, 0, 0, 0).rows.tolist() == [1, 2]
