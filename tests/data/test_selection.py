"""Which galaxies are taken, and which split they belong to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gz_lightning.data.selection import SPLITS, select, split_of
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
    with pytest.raises(InputError, match=r"none of the 2 galaxies reaches a confidence of 0.95"):
        select(["a", "b"], confidences, ("x", "y"), min_confidence=0.95)
    with pytest.raises(InputError, match="together they must be below 1"):
        select(["a", "b"], confidences, ("x", "y"), val_fraction=0.5, test_fraction=0.5)


def test_min_votes() -> None:
    confidences, ids, volunteers = np.array([[0.9], [0.8], [0.7]]), ["a", "b", "c"], np.array([5.0, 20.0, np.nan])
    kept = select(ids, confidences, ("x",), classifications=volunteers, min_votes=10, val_fraction=0, test_fraction=0)
    assert kept.rows.tolist() == [1]
    with pytest.raises(InputError, match="none of the 3 galaxies reaches a confidence of 0.0 and 50 volunteers"):
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
    with pytest.raises(InputError, match=r"none of the 4 .* \(--keep_unlikely true\)"):
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
