"""Splits that shards are named by; which image belongs to which galaxy is in test_vote_catalog."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gz_lightning.data.pictures import Rows, find_images, shard_splits, without_repeats
from gz_lightning.data.tables import Table
from gz_lightning.errors import InputError
from tests.data.shards import picture, write_shard


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


def test_of_rows_that_repeat_each_other_the_first_with_an_image_is_kept(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    pictures: list[list[bytes | None]] = [[None, picture(1), picture(2)], [picture(0), picture(1), b""]]
    files: list[Table] = [write_shard(tmp_path / f"{i}.parquet", {"x": [0, 1, 2]}, pictures[i]) for i in (0, 1)]
    rows = Rows(files, pd.Series(list("abcabc"), dtype="string"), np.repeat([0, 1], 3), np.tile([0, 1, 2], 2))
    repeated = np.arange(6) > 2
    assert without_repeats(rows, repeated, None, None).tolist() == [False, True, True, True, False, False]
    assert without_repeats(rows, repeated, files, None).tolist() == (~repeated).tolist()  # the image is of the object id
    write_shard(tmp_path / "1.parquet", {"x": [0, 1, 2]}, [None, picture(7), None])
    assert without_repeats(rows, ~repeated & repeated, None, None).all()
    message = (
        r"^1 rows have the object id and the labels of another but not its image, such as b in .*0.parquet, row 2 and .*1"
    )
    with pytest.raises(InputError, match=message):
        without_repeats(rows, repeated, None, None)
    write_shard(tmp_path / "1.parquet", {"x": [0, 1, 2]}, [None, picture(1), None])
    assert without_repeats(rows, repeated, None, None).tolist() == (~repeated).tolist()  # a has none in either


def test_rows_that_repeat_each_other_but_name_two_images(tmp_path: Path) -> None:
    """As the catalogues of galaxy-datasets name the image of each row."""
    for name in ("1.jpg", "2.jpg", "same.jpg"):
        (tmp_path / name).write_bytes(b"one" if name == "same.jpg" else name.encode())
    (tmp_path / "1.jpg").write_bytes(b"one")
    ids, named = pd.Series(["a"] * 3, dtype="string"), pd.Series(["none.jpg", "1.jpg", "same.jpg"])
    rows = Rows([tmp_path / "a.csv"], ids, np.zeros(3, np.int16), np.arange(3, dtype=np.int32), named)
    repeated = np.array([False, True, True])
    assert without_repeats(rows, repeated, tmp_path, None).tolist() == [False, True, False]
    rows.named = pd.Series(["none.jpg", "1.jpg", "2.jpg"])
    with pytest.raises(InputError, match="not its image, such as a in .*a.csv, row 3 and .*a.csv, row 4; keep one"):
        without_repeats(rows, repeated, tmp_path, None)
