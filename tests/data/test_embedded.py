"""Images inside of larger files: which files are such, and the order in which they are read."""

from pathlib import Path

import numpy as np
import pytest

from gz_lightning.data import embedded
from gz_lightning.data.embedded import Inside, InsideImages, containers_of, has_images, in_storage_order
from gz_lightning.errors import InputError
from tests.data.shards import gz2_rows, picture, write_galaxy10, write_shard, write_tar


def test_what_holds_many_images(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "s" / "a.parquet", gz2_rows(3))
    tar, h5 = write_tar(tmp_path / "a.tar", 2), write_galaxy10(tmp_path / "Galaxy10.h5")
    (tmp_path / "images" / "spiral").mkdir(parents=True)
    (tmp_path / "images" / "spiral" / "1.jpg").write_bytes(picture(1))
    (tmp_path / "s" / "README.md").write_text("x")
    (tmp_path / "s" / ".cache").mkdir()
    (tmp_path / "s" / ".cache" / "b.parquet").write_bytes(b"x")
    assert containers_of(tmp_path / "s") == [shard]
    assert containers_of(tmp_path / "s" / "*.parquet") == [shard]
    assert containers_of([tar, h5]) == [tar, h5]
    assert containers_of(tmp_path / "images") is None
    assert containers_of(tmp_path / "nothing") is None
    assert containers_of(tmp_path / "s" / "README.md") is None
    (tmp_path / "s" / "b.parquet").symlink_to(tmp_path / "gone.parquet")
    assert containers_of(tmp_path / "s") == [shard, tmp_path / "s" / "b.parquet"]
    with pytest.raises(InputError, match="there is no table .*b.parquet"):
        has_images(tmp_path / "s" / "b.parquet")
    with pytest.raises(InputError, match="a list of images is one of Parquet, tar or HDF5 files"):
        containers_of([shard, tmp_path / "images"])
    plain = write_shard(tmp_path / "votes.parquet", gz2_rows(3), column="cutout")
    assert has_images(plain)
    pytest.importorskip("pyarrow.parquet").write_table(
        pytest.importorskip("pyarrow").table({"id_str": ["1"]}), tmp_path / "no.parquet"
    )
    assert [has_images(path) for path in (tmp_path / "no.parquet", tmp_path / "a.csv", tar)] == [False, False, True]


def test_images_are_read_as_they_are_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order of the galaxies, in groups; files of their own first."""
    monkeypatch.setattr(embedded, "GROUP", 3)
    shard, tar = write_shard(tmp_path / "a.parquet", gz2_rows(12)), write_tar(tmp_path / "a.tar", 4)
    own = tmp_path / "1.jpg"
    places = ((shard, 11), (tar, 2), (shard, 0), (shard, 7), (tar, 0), (shard, 3))
    files: list[Inside | Path] = [Inside(*place) for place in places]
    files.insert(2, own)
    groups = list(in_storage_order(files))
    assert [places for places, _ in groups] == [[2], [3, 6, 4], [0], [5, 1]]
    contents = {place: content for places, contents in groups for place, content in zip(places, contents, strict=True)}
    assert contents == {0: picture(11), 1: picture(2), 2: own, 3: picture(0), 4: picture(7), 5: picture(0), 6: picture(3)}


def test_many_images_take_few_bytes(tmp_path: Path) -> None:
    outside = {1: tmp_path / "1.jpg", 3: tmp_path / "3.jpg"}
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    images = InsideImages(files, np.array([0, 0, 1, 1]), np.array([5, 6, 0, 1]), outside)
    assert list(images) == [Inside(files[0], 5), outside[1], Inside(files[1], 0), outside[3]]
    assert list(images.take(np.array([3, 1, 2]))) == [outside[3], outside[1], Inside(files[1], 0)]
    assert images[1:3] == [outside[1], Inside(files[1], 0)]
