"""The contact sheet: which galaxies are on it, what is written below them, and where it lies."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gz_lightning.data.contact_sheet import LETTERS, Sample, contact_sheet, samples, sheet_path, write_contact_sheet
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.data.prepare import prepare


def test_galaxies_go_evenly_from_the_most_to_the_least_confident(voted: Path) -> None:
    galaxies = Galaxies(voted)
    train = galaxies.train
    for label, sample in enumerate(samples(galaxies, 3)):
        places = train.of_class(label).tolist()
        chosen = [places[0], places[(len(places) - 1) // 2], places[-1]]
        assert sample.leaf == galaxies.class_names[label]
        assert sample.object_ids == tuple(train.object_ids[place] for place in chosen)
        assert torch.equal(sample.pixels, train.images[chosen])
        assert sample.confidences == tuple(train.confidences[chosen, label].tolist())
        assert sample.captions[0] == f"{sample.object_ids[0]}, {100 * sample.confidences[0]:.0f} %"


def test_a_leaf_with_few_galaxies_shows_all_of_them(toy: Galaxies) -> None:
    first, *_ = samples(toy, 100)
    assert len(first.pixels) == len(toy.train.of_class(0))
    assert first.confidences is None
    assert first.captions == list(first.object_ids)


def test_of_a_long_object_id_the_end_is_shown() -> None:
    caption = Sample("a", torch.zeros(1, 3, 4, 4), ("train/a/" + "1234567890" * 3,), None).captions[0]
    assert len(caption) == LETTERS
    assert caption.endswith("1234567890")


def test_every_galaxy_is_drawn_with_its_id(toy: Galaxies) -> None:
    figure = contact_sheet(toy, 4)
    (axis,) = figure.axes
    assert len(axis.images) == 12
    words = {text.get_text() for text in axis.texts}
    assert words == {*toy.class_names, *(name for sample in samples(toy, 4) for name in sample.object_ids)}


def test_galaxies_without_contrast_are_packed_without_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for leaf in ("a", "b"):
        for number in range(20):
            path = tmp_path / "images" / leaf / f"{leaf}{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng([number, ord(leaf)]).integers(0, 255, (16, 16, 3), dtype=np.uint8)
            pixels[..., 2] = 7  # the blue channel is the same everywhere
            Image.fromarray(pixels).save(path)
    prepared = prepare(tmp_path / "flat.h5", images=tmp_path / "images", resolution=8)
    assert prepared.sheet is None
    assert prepared.path.is_file()
    assert "without a contact sheet: " in capsys.readouterr().err


def test_prepare_leaves_it_beside_the_packed_file(tmp_path: Path) -> None:
    output = tmp_path / "galaxies.h5"
    prepared = prepare(output, tree="coarse5", per_class=12, resolution=8)
    assert prepared.sheet == sheet_path(output) == tmp_path / "galaxies.contact_sheet.png"
    assert f"some of each leaf, with their object ids: {prepared.sheet}" in str(prepared)
    with Image.open(prepared.sheet) as picture:
        assert min(picture.size) > 500
    assert write_contact_sheet(output) == prepared.sheet
