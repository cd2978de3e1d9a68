"""Downloads, from a server on loopback that tells the truth and lies."""

import hashlib
import shutil
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gz_lightning.data import download as module
from gz_lightning.data.download import PARTS, SOURCES, WHOLE, Source, download, fetch, unpack
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.data.prepare import prepare
from gz_lightning.data.tree import GZ2
from gz_lightning.errors import InputError
from tests.data.shards import gz2_rows, picture, write_shard

BODY = bytes(range(256)) * 1600
MD5 = f"md5:{hashlib.md5(BODY).hexdigest()}"


class Server(ThreadingHTTPServer):
    """Serves ``files``; what it promises and keeps is set by the test."""

    files: dict[str, bytes]
    cut_at: int | None = None
    ranges = True
    asked: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        body = self.server.files.get(self.path)
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        if body is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : self.server.cut_at])

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.files, server.asked = {"/data.bin": BODY}, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def source(server: Server, name: str = "data.bin", checksum: str | None = MD5) -> Source:
    return Source(name, f"http://127.0.0.1:{server.server_port}/{name}", checksum, "a file")


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    assert fetch(source(server), tmp_path).read_bytes() == BODY
    assert fetch(source(server), tmp_path).read_bytes() == BODY
    assert len(server.asked) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data.bin"]


def test_a_broken_transfer_goes_on(server: Server, tmp_path: Path) -> None:
    server.cut_at = 300_000
    with pytest.raises(InputError, match=r"(broke off after|cannot be fetched).*run the same again to resume"):
        fetch(source(server), tmp_path)
    assert not (tmp_path / "data.bin").exists()
    have = (tmp_path / "data.bin.part").stat().st_size
    assert 200_000 < have <= 300_000
    server.cut_at = None
    assert fetch(source(server), tmp_path).read_bytes() == BODY
    assert server.asked == [None, f"bytes={have}-"]


def test_a_server_that_cannot_go_on_begins_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(b"x" * 1000)
    server.ranges = False
    assert fetch(source(server), tmp_path).read_bytes() == BODY


def test_a_part_that_is_whole_or_too_long(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(BODY)
    assert fetch(source(server), tmp_path).read_bytes() == BODY
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.bin.part").write_bytes(BODY + b"x")
    with pytest.raises(InputError, match="is shorter than what was fetched before, .* run the same again"):
        fetch(source(server), tmp_path / "other")
    assert fetch(source(server), tmp_path / "other").read_bytes() == BODY


def test_a_wrong_checksum_is_thrown_away(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data.bin has another checksum than the published md5:0+; it was deleted"):
        fetch(source(server, checksum="md5:" + "0" * 32), tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_such_file_and_no_such_server(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none.bin cannot be fetched: the server answers 404 Not Found"):
        fetch(source(server, "none.bin"), tmp_path)
    dead = Source("dead", "http://127.0.0.1:9/dead.bin", None, "nothing")
    with pytest.raises(InputError, match=r"dead.bin cannot be fetched: .*; run the same again") as error:
        fetch(dead, tmp_path)
    assert "\n" not in str(error.value)


def test_no_room_on_the_disk(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPARE", 10**18)
    with pytest.raises(InputError, match=r"data.bin needs 0.00 GB in .*, which has \S+ GB free; make room or name another"):
        fetch(source(server), tmp_path)
    assert not list(tmp_path.iterdir())


def archive(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as content:
        for name in names:
            content.writestr(name, BODY)
    return path


def test_unpacking_goes_on_and_finds_the_images(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", "images/1.jpg", "images/2.jpg")
    assert unpack(path, tmp_path) == tmp_path / "images"
    first = (tmp_path / "images" / "1.jpg").stat()
    (tmp_path / "images" / "2.jpg").write_bytes(b"half")
    unpack(path, tmp_path)
    assert (tmp_path / "images" / "1.jpg").stat().st_mtime_ns == first.st_mtime_ns
    assert (tmp_path / "images" / "2.jpg").read_bytes() == BODY


@pytest.mark.parametrize("name", ["../out.jpg", "images/../../out.jpg", "/out.jpg", "a/..\\..\\out.jpg", "C:/out.jpg"])
def test_no_path_leaves_the_folder(name: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", "good.jpg", name)
    with pytest.raises(InputError, match="holds the path .* which leaves .*; nothing was unpacked"):
        unpack(path, tmp_path / "in" / "here")
    assert [file.name for file in tmp_path.rglob("*.jpg")] == []


def test_links_and_damage_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as content:
        content.writestr(link, "/etc")
    with pytest.raises(InputError, match="holds the link 'link'; nothing was unpacked"):
        unpack(tmp_path / "a.zip", tmp_path / "in")
    (tmp_path / "b.zip").write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"b.zip cannot be unpacked: .*; delete it and fetch it again"):
        unpack(tmp_path / "b.zip", tmp_path / "in")
    whole = archive(tmp_path / "c.zip", "1.jpg").read_bytes()
    (tmp_path / "c.zip").write_bytes(whole[:60] + bytes([whole[60] ^ 1]) + whole[61:])
    with pytest.raises(InputError, match=r"c.zip cannot be unpacked"):
        unpack(tmp_path / "c.zip", tmp_path / "in")
    shutil.rmtree(tmp_path / "in", ignore_errors=True)


def test_download_says_the_licence_and_what_to_cite(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = archive(tmp_path / "images_gz2.zip", "images/1.jpg").read_bytes()
    server.files = {"/votes.csv": b"v", "/mapping.csv": b"m", "/images.zip": images}
    at = f"http://127.0.0.1:{server.server_port}"
    for name, file in (("votes", "votes.csv"), ("mapping", "mapping.csv"), ("images", "images.zip")):
        monkeypatch.setitem(SOURCES, name, Source(name, f"{at}/{file}", None, name))
    got = download(tmp_path / "gz2")
    assert got.images == tmp_path / "gz2" / "images"
    assert (got.images / "1.jpg").read_bytes() == BODY
    assert f"votes: {tmp_path / 'gz2' / 'votes.csv'} (sha256 {hashlib.sha256(b'v').hexdigest()})" in str(got)
    assert "CC BY 4.0" in str(got)
    assert "Willett et al. 2013" in str(got)
    assert "Hart et al. 2016" in str(got)
    with pytest.raises(InputError, match="--source must be one of votes, mapping, images, tiny or a list .*not .*pictures"):
        download(tmp_path, ["pictures"])  # type: ignore[list-item]


def test_the_published_sources() -> None:
    assert SOURCES["images"].checksum == "md5:bc647032d31e50c798770cf4430525c7"
    assert all(source.url.startswith("https://") for source in SOURCES.values())
    assert all(SOURCES[name].checksum for name in PARTS["tiny"])
    assert set(WHOLE) == set(SOURCES) - {part for parts in PARTS.values() for part in parts}


def test_the_tiny_part_is_fetched_checked_and_packed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two shards of the published layout, whose names say the split."""
    for name, number in (("tiny-train", 30), ("tiny-test", 10)):
        pictures = [picture(i + 100 * (name == "tiny-test")) for i in range(number)]
        body = write_shard(tmp_path / f"{name}.parquet", gz2_rows(number, ids=False), pictures).read_bytes()
        server.files[f"/{name}.parquet"] = body
        checksum, url = f"sha256:{hashlib.sha256(body).hexdigest()}", f"http://127.0.0.1:{server.server_port}/{name}.parquet"
        monkeypatch.setitem(SOURCES, name, replace(SOURCES[name], url=url, checksum=checksum))
    got = download(tmp_path / "gz2", "tiny")
    assert list(got.files.values()) == [tmp_path / "gz2" / SOURCES[name].kept for name in PARTS["tiny"]]
    for said in (capsys.readouterr().err, str(got)):
        assert "CC-BY-NC-SA-4.0" in said
        assert "arXiv:2404.02973" in said
        assert "Zenodo" not in said
    assert f"gz-lightning prepare --table {tmp_path / 'gz2' / 'tiny'} --tree coarse5" in str(got)
    download(tmp_path / "gz2", ["tiny"])
    assert len(server.asked) == 2
    prepared = prepare(tmp_path / "a.h5", table=tmp_path / "gz2" / "tiny", tree="coarse5", resolution=8, val_fraction=0.15)
    packed = Galaxies(prepared.path)
    assert sorted(packed.test.object_ids)[0] == "test-00000-of-00001:1"
    assert (len(packed.test), len(packed)) == (10, 40)


def test_real_galaxies_in_the_layout_of_the_tiny_part(server: Server, tmp_path: Path, real_data: Path) -> None:
    """Galaxies of gz2_sample as two shards: fetched, checked and packed with the leaves that their table gives them."""
    sample = real_data / "gz2_sample"
    votes = pd.read_csv(sample / "gz2_hart16.csv.gz", dtype={"dr7objid": str})[:120]
    assets = (
        pd.read_csv(sample / "gz2_filename_mapping.csv", dtype=str).drop_duplicates("objid").set_index("objid")["asset_id"]
    )
    naming = GZ2.namings[0].columns["weighted_fraction"]
    rows = {"id_str": votes["dr7objid"].tolist()}
    for answer, column in GZ2.namings[1].counts.items():
        if naming[answer] in votes:
            rows[column] = (votes[naming[answer]].fillna(0) * 1000).round().astype("int32").tolist()
            total = f"{column.partition('_')[0]}_total-votes"
            rows[total] = [1000] * len(votes)
    pictures = [(sample / "images" / f"{assets[i]}.jpg").read_bytes() for i in votes["dr7objid"]]
    body = write_shard(tmp_path / "real.parquet", rows, pictures, row_group_size=50).read_bytes()
    server.files = {"/real.parquet": body}
    checksum = f"sha256:{hashlib.sha256(body).hexdigest()}"
    path = fetch(
        replace(source(server, "real.parquet", checksum), file="tiny/train-00000-of-00001.parquet"), tmp_path / "gz2"
    )
    inside = prepare(tmp_path / "a.h5", table=path, tree="simplified", resolution=16)
    images, mapping = sample / "images", sample / "gz2_filename_mapping.csv"
    votes.to_csv(tmp_path / "votes.csv", index=False)
    plain = prepare(tmp_path / "b.h5", images, tmp_path / "votes.csv", mapping, "simplified", resolution=16)
    assert inside.report["available"].tolist() == plain.report["available"].tolist()
    one, other = (dict(zip(g.object_ids, g.labels.tolist(), strict=True)) for g in map(Galaxies, (inside.path, plain.path)))
    assert one == other
