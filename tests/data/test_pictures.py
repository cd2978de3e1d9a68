"""Splits that shards are named by; which image belongs to which galaxy is in test_vote_catalog."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gz_lightning.data.pictures import Rows, find_images, shard_splits
from gz_lightning.errors import InputError


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (
            ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "test-00000-of-00001.parquet"],
            "train train test",
        ),
        (["train/0000.parquet", "test/0000.parquet", "validation/0000.parquet"], "train test val"),
        (["tiny_train.parquet", "tiny_test.parquet"], None),
        (["Train.parquet", "VAL.parquet"], "train val"),
        (["train-0.parquet", "train-1.parquet"], None),
        (["train-0.parquet", "data.parquet"], None),
        (["test-0.parquet", "val-0.parquet"], None),
        (["data.parquet"], None),
    ],
)
def test_splits_that_shards_are_named_by(names: list[str], splits: str | None) -> None:
    assert shard_splits([Path("folder") / name for name in names]) == (None if splits is None else splits.split())


def test_rows_say_where_they_are(tmp_path: Path) -> None:
    files = [tmp_path / "a.csv", tmp_path / "b.parquet"]
    rows = Rows(files, pd.Series(["x", "y", "z"], dtype="string"), np.array([0, 1, 1]), np.array([4, 0, 1]))  # type: ignore[arg-type]
    assert [rows.where(i) for i in range(3)] == [f"{files[0]}, row 6", f"{files[1]}, row 1", f"{files[1]}, row 2"]
    assert str(rows) == f"{files[0]} and {files[1]}"
    assert rows.keep(np.array([False, True, True])).where(1) == f"{files[1]}, row 2"
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "x.jpg").write_bytes(b"x")
    with pytest.raises(
        InputError, match="2 of the 3 galaxies of .* have no image in .*images .*; check the folder, or allow it"
    ):
        find_images(rows, tmp_path / "images", None, 0.5)
    files_found, used, missing = find_images(rows, tmp_path / "images", None, 0.7)
    assert list(files_found) == [tmp_path / "images" / "x.jpg"]
    assert used.tolist() == [True, False, False]
    assert missing == {"y": "has no image", "z": "has no image"}
