"""Parquet files with pictures inside: row group by row group, bytes or paths, names of classes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gz_lightning.data import arrow
from gz_lightning.data.arrow import ArrowTable, DatasetTable, beside, is_dataset, open_arrow
from gz_lightning.errors import InputError
from tests.data.shards import Dataset, gz2_rows, picture, write_shard

pq = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow")


def test_only_the_row_groups_that_are_needed_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_shard(tmp_path / "a.parquet", gz2_rows(23))
    read: list[Any] = []
    true_batches = ArrowTable.batches

    def counting(self: ArrowTable, columns: Any, size: int, groups: Any = None) -> Any:
        read.append((list(columns), groups))
        return true_batches(self, columns, size, groups)

    monkeypatch.setattr(ArrowTable, "batches", counting)
    with open_arrow(path) as table:
        assert table.groups == [5, 5, 5, 5, 3]
        assert table.image_column == "image"
        got = dict(table.pictures(np.array([3, 4, 16, 22])))
    assert got == {row: picture(row) for row in (3, 4, 16, 22)}
    columns = ["image.bytes", "image.path"]
    assert read == [(columns, [0]), (columns, [3]), (columns, [4])]


def test_one_large_row_group_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_shard(tmp_path / "a.parquet", gz2_rows(23), row_group_size=None)
    monkeypatch.setattr(arrow, "PICTURES", 4)
    with open_arrow(path) as table:
        assert dict(table.pictures(np.arange(23))) == {row: picture(row) for row in range(23)}
        assert dict(table.pictures(np.array([7, 8]))) == {row: picture(row) for row in (7, 8)}


def test_rows_without_bytes_are_found_by_the_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [None if row in (6, 8) else picture(row) for row in range(15)]
    paths = [f"/elsewhere/{row}.jpg" for row in range(15)]
    path = write_shard(tmp_path / "a.parquet", gz2_rows(15), pictures, paths)
    asked: list[list[int]] = []
    true_pictures = ArrowTable.pictures

    def counting(self: ArrowTable, rows: Any) -> Any:
        asked.append(rows.tolist())
        return true_pictures(self, rows)

    monkeypatch.setattr(ArrowTable, "pictures", counting)
    with open_arrow(path) as table:
        assert table.without_bytes().tolist() == [6, 8]
        assert dict(table.pictures(np.array([5, 6]))) == {5: picture(5), 6: "/elsewhere/6.jpg"}
    assert asked == [[5, 6, 7, 8, 9], [5, 6]]


def test_bytes_and_other_structs_are_images_too(tmp_path: Path) -> None:
    import pyarrow as pa

    some = [picture(0), picture(1)]
    pq.write_table(pa.table({"id": ["a", "b"], "rgb_image": pa.array(some, pa.large_binary())}), tmp_path / "a.parquet")
    with open_arrow(tmp_path / "a.parquet") as table:
        assert table.image_column == "rgb_image"
        assert dict(table.pictures(np.array([1]))) == {1: picture(1)}
        assert table.without_bytes().tolist() == []
    cells = pa.array([{"bytes": b} for b in some])
    pq.write_table(pa.table({"cutout": cells, "thumb": cells}), tmp_path / "b.parquet")
    with open_arrow(tmp_path / "b.parquet") as table, pytest.raises(InputError, match="images in the columns cutout, thumb"):
        _ = table.image_column
    pq.write_table(pa.table({"cutout": cells, "other": pa.array([{"x": 1}, {"x": 2}])}), tmp_path / "c.parquet")
    with open_arrow(tmp_path / "c.parquet") as table:
        assert table.image_column == "cutout"
    pq.write_table(pa.table({"key": pa.array(some, pa.binary())}), tmp_path / "d.parquet")
    with open_arrow(tmp_path / "d.parquet") as table:
        assert table.image_column is None


def test_names_of_classes_stand_in_the_metadata(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.parquet", {"label": [0, 1, 2]}, labels={"label": ["smooth", "disk", "star"]})
    with open_arrow(path) as table:
        assert table.class_labels == {"label": ["smooth", "disk", "star"]}
    import pyarrow as pa

    for written in (b"no json", b"[]", b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": 3}}}}', b"\xff"):
        plain = pa.table({"label": [0, 1]}).replace_schema_metadata({b"huggingface": written})
        pq.write_table(plain, tmp_path / "b.parquet")
        with open_arrow(tmp_path / "b.parquet") as table:
            assert table.class_labels == {}


def test_a_cut_off_shard_is_named(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.parquet", gz2_rows(10))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"a.parquet cannot be read as Parquet: ") as error, open_arrow(path):
        pass
    assert "\n" not in str(error.value)


def test_an_image_is_taken_from_beside_its_shard_alone(tmp_path: Path) -> None:
    shard = tmp_path / "data" / "a.parquet"
    (shard.parent / "images").mkdir(parents=True)
    for place in ("data/1.jpg", "data/images/2.jpg", "3.jpg"):
        (tmp_path / place).write_bytes(b"x")
    assert beside(shard, "/home/someone/1.jpg") == shard.parent / "1.jpg"
    assert beside(shard, "C:\\Users\\someone\\1.jpg") == shard.parent / "1.jpg"
    assert beside(shard, "images/2.jpg") == shard.parent / "images" / "2.jpg"
    assert beside(shard, "images/../../3.jpg") is None
    assert beside(shard, str(tmp_path / "3.jpg")) is None
    assert beside(shard, "x" * 5000) is None
    assert beside(shard, "") is None
    assert beside(shard, "a\0.jpg") is None


def test_a_dataset_is_known_by_its_methods(tmp_path: Path) -> None:
    rows = pq.read_table(write_shard(tmp_path / "a.parquet", {"label": [0, 1, 0]}))
    dataset = Dataset(rows, {"image": SimpleNamespace(), "label": SimpleNamespace(names=["a", "b"])})
    assert is_dataset(dataset)
    assert not is_dataset(tmp_path)
    with open_arrow(DatasetTable(dataset)) as table:
        assert (table.names, table.rows, table.image_column) == (["image", "label"], 3, "image")
        assert table.class_labels == {"label": ["a", "b"]}
        assert dict(table.pictures(np.array([0, 2]))) == {row: picture(row) for row in (0, 2)}
        assert [len(batch) for batch in table.batches(["label"], 2)] == [2, 1]


def test_what_astropy_masked_is_missing(tmp_path: Path) -> None:
    """astropy 8.0.2 writes no nulls but the number below the mask, and columns ``<name>.mask``."""
    tables = pytest.importorskip("astropy.table", reason="masked tables need astropy")
    sdss, masked = 587722981742084145, [False, True]
    columns = {
        "objid": tables.MaskedColumn([sdss, sdss + 1], mask=masked),
        "votes": tables.MaskedColumn([5, 99], mask=masked),
        "fraction": tables.MaskedColumn([0.5, 0.9], mask=masked),
        "name": tables.MaskedColumn(["a", "b"], mask=masked),
        "barred": tables.MaskedColumn([True, True], mask=masked),
        "whole": [1, 2],
    }
    tables.Table(columns).write(tmp_path / "votes.parquet")
    assert pq.read_table(tmp_path / "votes.parquet")["votes"].to_pylist() == [5, 99]
    with open_arrow(tmp_path / "votes.parquet") as table:
        (frame,) = table.frames(list(columns), 10)
    assert list(frame) == list(columns)
    assert frame.isna().sum().to_dict() == dict.fromkeys(columns, 1) | {"whole": 0}
    assert frame.iloc[0].tolist() == [sdss, 5, 0.5, "a", True, 1]
    assert isinstance(frame["objid"][0], int)


def test_a_mask_is_of_booleans(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq.write_table(pa.table({"votes": [5, 99], "votes.mask": [0, 1]}), tmp_path / "votes.parquet")
    with open_arrow(tmp_path / "votes.parquet") as table:
        (frame,) = table.frames(["votes", "votes.mask"], 10)
    assert frame["votes"].tolist() == [5, 99]
    assert frame["votes.mask"].tolist() == [0, 1]
