"""Downloads, from a server on loopback that tells the truth and lies."""

import hashlib
import shutil
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gz_lightning.data import download as module
from gz_lightning.data.download import SOURCES, Source, download, fetch, unpack
from gz_lightning.errors import InputError

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
    with pytest.raises(InputError, match="--sources must be .* one of votes, mapping, images .*not .*pictures"):
        download(tmp_path, ["pictures"])  # type: ignore[list-item]


def test_the_published_sources() -> None:
    assert SOURCES["images"].checksum == "md5:bc647032d31e50c798770cf4430525c7"
    assert all(source.url.startswith("https://") for source in SOURCES.values())
