"""Each image before and after, and the pictures of a run by iteration."""

import io
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gz_lightning.data.tree import get_tree
from gz_lightning.report.learned import MOST_MOMENTS, MOST_SHOWN, learned, moments, way_to
from gz_lightning.report.pictures import Picture
from gz_lightning.report.runs import Run
from gz_lightning.sets.synthetic import SyntheticSet


def colours(picture: Picture) -> torch.Tensor:
    with Image.open(io.BytesIO(picture.png)) as image:
        return torch.from_numpy(np.array(image))


def at(run: Run, iteration: int) -> SyntheticSet:
    return replace(run.synthetic, iteration=iteration)


def test_cards_show_before_after_and_difference(run: Run) -> None:
    found = learned(run)
    assert [card.title for card in found.cards] == list(run.synthetic.class_names)
    assert [[len(card.rows), len(card.rows[0])] for card in found.cards] == [[2, 4]] * 3
    assert [caption for _, caption in found.cards[0].rows[0]] == ["first", "distilled", "difference", "stretched"]
    assert found.bound == 2.0
    brighter = colours(found.cards[0].rows[0][2][0])
    assert int(brighter[6, 6, 0]) > 2 * int(brighter[6, 6, 2])  # red, where two standard deviations were added
    assert brighter[0, 0].min() > 240
    assert colours(found.cards[1].rows[0][2][0]).min() > 240


def test_without_first_images_the_set_alone(run: Run) -> None:
    found = learned(replace(run, first=None))
    assert found.bound == 0
    assert [caption for _, caption in found.cards[0].rows[0]] == ["distilled", "stretched"]


def test_a_leaf_without_images_says_so(run: Run) -> None:
    moved = replace(run.synthetic, labels=torch.tensor([0, 0, 0, 0, 1, 1]))
    cards = learned(replace(run, synthetic=moved)).cards
    assert [len(card.rows) for card in cards] == [min(4, MOST_SHOWN), 2, 0]
    assert cards[2].note == "No image has this label any more."


def test_the_way_to_a_leaf_in_words() -> None:
    tree = get_tree("coarse5")
    assert way_to(tree, 0) == "smooth or features? smooth · rounded? completely round"
    assert way_to(tree, 3).endswith("(or 2 other ways)")
    assert any(way_to(tree, leaf).endswith("(or 1 other way)") for leaf in range(5))
    assert way_to(None, 0) == ""


def test_moments_go_evenly_from_the_first_to_the_last(run: Run, tmp_path: Path) -> None:
    assert [iteration for iteration, _ in moments(run)] == [0, 10, 20]
    (_, first), *_ = moments(run)
    assert first.alt == "Distilled images of all leaves at iteration 0"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    of_first = replace(run, moments=tuple((n, tmp_path / "a.png") for n in range(101)), synthetic=at(run, 0))
    many = [iteration for iteration, _ in moments(of_first)]
    assert (len(many), many[0], many[-1]) == (MOST_MOMENTS, 0, 100)
    assert {later - earlier for earlier, later in itertools.pairwise(many)} <= {4, 5}
    assert 51 not in many
    assert [iteration for iteration, _ in moments(replace(of_first, synthetic=at(run, 51)))] == sorted([*many, 51])
    assert moments(replace(run, moments=run.moments[:1])) == []
