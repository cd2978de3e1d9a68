"""A set as a dataset of Hugging Face: its columns, and what ``datasets`` makes of them where it is installed."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gz_lightning.errors import Damaged
from gz_lightning.sets.formats import write_set
from gz_lightning.sets.parquet import PARQUET, read_parquet, write_parquet
from tests.sets.test_pictures import description, made

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.mark.parametrize("soft", [False, True])
def test_columns(tmp_path: Path, soft: bool) -> None:
    synthetic = made(3)
    if soft:
        synthetic.labels = torch.eye(3)[synthetic.labels] * 0.7 + 0.1
    write_parquet(synthetic, synthetic.images, tmp_path)
    table = pq.read_table(tmp_path / PARQUET)
    assert table["label"].to_pylist() == [0, 0, 1, 1, 2, 2]
    np.testing.assert_array_equal(np.array(table["pixels"].to_pylist(), np.float32), synthetic.images.numpy())
    picture = Image.open(io.BytesIO(table["image"][1].as_py()["bytes"]))
    assert np.array_equal(np.asarray(picture).transpose(2, 0, 1), synthetic.pixels[1].numpy())
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["label"]["names"] == list(synthetic.class_names)
    assert ("soft_label" in table.column_names) == ("soft_label" in features) == soft
    pixels, labels = read_parquet(tmp_path, description(synthetic))
    assert torch.equal(pixels, synthetic.images)
    assert torch.equal(labels, synthetic.labels)


def test_columns_that_are_not_those_of_the_set_are_refused(tmp_path: Path) -> None:
    synthetic = made(3)
    write_parquet(synthetic, synthetic.images, tmp_path)
    table = pq.read_table(tmp_path / PARQUET)
    for changed, message in (
        (table.drop_columns("pixels"), "lacks pixels"),
        (table[:5], "has 5 rows, where 6 are described"),
        (table.set_column(2, "pixels", pa.array([[[[1.0] * 8] * 8] * 2] * 6)), "pixels in .* holds no lists of 3"),
        (table.set_column(2, "pixels", pa.array([1.0] * 6)), "pixels in .* holds no lists of 3"),
        (table.set_column(2, "pixels", pa.array([[[[1.0] * 8] * 8] * 3] * 6)), "is of the type double"),
        (table.set_column(1, "label", pa.array([0, 0, 1, 1, 2, None])), "label in .* has nulls"),
    ):
        pq.write_table(changed, tmp_path / PARQUET)
        with pytest.raises(Damaged, match=message):
            read_parquet(tmp_path, description(synthetic))


def test_datasets_loads_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    synthetic = made(3)
    write_set(synthetic, "huggingface", tmp_path / "set")
    found = datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"), split="train")
    assert found.features["label"].names == list(synthetic.class_names)
    assert found["label"] == synthetic.labels.tolist()
    assert found[0]["image"].size == (8, 8)
    np.testing.assert_array_equal(np.array(found["pixels"], np.float32), synthetic.images.numpy())
