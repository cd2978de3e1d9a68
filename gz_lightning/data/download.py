"""``gz-lightning download``: the published sources of Galaxy Zoo 2, checked, resumed and safely unpacked."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import pooch
import requests

from gz_lightning.errors import InputError
from gz_lightning.progress import say, track
from gz_lightning.settings import checked
from gz_lightning.storage.whole import atomic_write

PIECE = 1 << 16
"""Bytes read at once; a broken transfer loses no more."""
TIMEOUT = 60
"""Seconds to wait for a server's answer."""
SPARE = 100 * 2**20
"""Bytes that a download leaves free on the disk."""


@dataclass(frozen=True)
class Source:
    """A published file.

    Args:
        name: Its name on the command line.
        url: Its address.
        checksum: ``md5:...`` or ``sha256:...``; None if none is published.
        what: One line on it.
        file: Where it is kept below the folder. Default: the last part of its address.
    """

    name: str
    url: str
    checksum: str | None
    what: str
    file: str = ""

    @property
    def kept(self) -> str:
        """Where it is kept below the folder."""
        return self.file or self.url.rsplit("/", 1)[-1]


SourceName = Literal["votes", "mapping", "images", "tiny"]
TINY = "https://huggingface.co/datasets/mwalmsley/gz2/resolve/1936e700ff438e380fff9c8e5be0a15bb95a4f25/tiny"
"""The smallest part of Galaxy Zoo 2 with pictures, at one revision: what it holds cannot change."""
SOURCES = {
    source.name: source
    for source in (
        Source(
            "votes",
            "https://gz2hart.s3.amazonaws.com/gz2_hart16.csv.gz",
            None,
            "votes of 239,695 galaxies, Hart et al. (2016)",
        ),
        Source(
            "mapping",
            "https://zenodo.org/record/3565489/files/gz2_filename_mapping.csv",
            None,
            "object ids of the images",
        ),
        Source(
            "images",
            "https://zenodo.org/record/3565489/files/images_gz2.zip",
            "md5:bc647032d31e50c798770cf4430525c7",
            "243,434 cut-outs of 424 x 424 pixels, 3.4 GB",
        ),
        Source(
            "tiny-train",
            f"{TINY}/train/0000.parquet",
            "sha256:220391808386999e4dcd26eb1cb368bb8b59093d2c97d2d92b36512c06598bbe",
            "votes and cut-outs of some 1,700 galaxies to train on, 23 MB",
            "tiny/train-00000-of-00001.parquet",
        ),
        Source(
            "tiny-test",
            f"{TINY}/test/0000.parquet",
            "sha256:87a0e6618cf004fabff3292c65c179163093d0b0022e0f75d6bbd568e49c71c6",
            "votes and cut-outs of some 190 galaxies to test on, 2.5 MB",
            "tiny/test-00000-of-00001.parquet",
        ),
    )
}
"""The published sources by name."""
WHOLE: tuple[SourceName, ...] = ("votes", "mapping", "images")
PARTS = {"tiny": ("tiny-train", "tiny-test")}
"""Names on the command line that stand for several sources."""

LICENCE = (
    "Images: Zenodo record 3565489 (listed as CC BY 4.0), made from SDSS images. Please cite Willett et al. 2013 (MNRAS "
    "435, 2835) and Hart et al. 2016 (MNRAS 461, 3663), and acknowledge the Galaxy Zoo volunteers and SDSS."
)
TINY_LICENCE = (
    "The tiny part of Galaxy Zoo 2, by M. Walmsley, is licensed CC-BY-NC-SA-4.0 (not for commercial use, share alike). "
    "Please cite Walmsley et al. 2024 (arXiv:2404.02973) and Willett et al. 2013 (MNRAS 435, 2835), and acknowledge the "
    "Galaxy Zoo volunteers and SDSS."
)


@dataclass(frozen=True)
class Downloaded:
    """What ``download`` fetched.

    Args:
        files: Source -> its file.
        checksums: Source -> SHA-256 of the file.
        images: The folder of the unpacked images; None if they were not asked for.
        licence: Licences, and what to cite.
    """

    files: dict[str, Path]
    checksums: dict[str, str]
    images: Path | None
    licence: str = LICENCE

    def __str__(self) -> str:
        lines = [f"{name}: {path} (sha256 {self.checksums[name]})" for name, path in self.files.items()]
        if self.images is not None:
            lines.append(f"images unpacked in {self.images}")
        if tiny := [path for name, path in self.files.items() if name in PARTS["tiny"]]:
            lines.append(f"to pack them: gz-lightning prepare --table {tiny[0].parent} --tree coarse5 --output tiny.h5")
        return "\n".join([*lines, self.licence])


@checked
def download(folder: Path | None = None, source: SourceName | list[SourceName] | None = None) -> Downloaded:
    """Fetch the published votes, images and their names, unpack the images, and say what to cite.

    Complete files are not fetched again; a broken transfer resumes.

    Args:
        folder: Where to. Default: gz2 in the user's cache folder.
        source: Which of votes, mapping and images (3.4 GB, and as much again unpacked); or tiny, 1,900 galaxies with votes
            and pictures in two Parquet files of 26 MB. One or a list. Default: the first three.

    Raises:
        InputError: If a source cannot be reached, breaks off, has another checksum than published, does not fit on the
            disk, or is an archive that would write outside the folder.
    """
    target = Path(folder) if folder is not None else default_folder()
    asked: list[str] = [source] if isinstance(source, str) else list(source or WHOLE)
    licences = [LICENCE] * any(name not in PARTS for name in asked) + [TINY_LICENCE] * ("tiny" in asked)
    licence = "\n".join(licences)
    say(licence)
    names = [part for name in asked for part in PARTS.get(name, (name,))]
    files = {name: fetch(SOURCES[name], target) for name in names}
    archive = files.get("images")
    images = None if archive is None else unpack(archive, target)
    return Downloaded(files, {name: _sha256(path) for name, path in files.items()}, images, licence)


def default_folder() -> Path:
    """``gz2`` in ``GZ_LIGHTNING_CACHE`` or in the platform's cache folder."""
    return Path(os.environ.get("GZ_LIGHTNING_CACHE") or pooch.os_cache("gz_lightning")) / "gz2"


def fetch(source: Source, folder: Path) -> Path:
    """Fetch one source into ``folder`` and check it; a file there with the published checksum is kept.

    Raises:
        InputError: As :func:`download`.
    """
    path = folder / source.kept
    part = path.with_name(f"{path.name}.part")

    def resuming(url: str, output_file: str, caller: object) -> None:
        _transfer(url, part, source.what)
        part.replace(output_file)

    try:
        pooch.utils.get_logger().setLevel("ERROR")  # we report progress ourselves
        pooch.retrieve(source.url, known_hash=source.checksum, fname=path.name, path=path.parent, downloader=resuming)
    except InputError:
        raise
    except ValueError as error:  # pooch's word for another checksum
        raise InputError(
            f"{source.url} has another checksum than the published {source.checksum}; it was deleted: fetch it again and, "
            "if that does not help, look whether a new version was published"
        ) from error
    except OSError as error:
        raise InputError(f"{source.url} cannot be written to {path}: {error}") from error
    return path


def _transfer(url: str, part: Path, what: str) -> None:
    """Fetch ``url`` into ``part``, resuming a broken transfer."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {"Accept-Encoding": "identity"}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                _check_complete(answer, url, part, have)
                return
            if not answer.ok:
                raise InputError(f"{url} cannot be fetched: the server answers {answer.status_code} {answer.reason}")
            resumes = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            if answer.status_code != requests.codes.partial_content or not resumes:
                have = 0  # the server sends all of it again
            total = _number(answer.headers.get("Content-Length"))
            _room(part.parent, total or 0, url)
            if have:
                say(f"{part} has {have / 1e6:,.1f} MB: resuming")
            got = have
            with part.open("ab" if have else "wb") as file:
                pieces = track(answer.iter_content(PIECE), f"{part.stem} ({what})", -(-(total or 0) // PIECE))
                for piece in pieces:
                    file.write(piece)
                    got += len(piece)
    except requests.RequestException as error:
        raise InputError(f"{url} cannot be fetched: {' '.join(str(error).split())}; run the same again to resume") from error
    if total is not None and got != have + total:
        raise InputError(f"{url} broke off after {got:,} of {have + total:,} bytes; run the same again to resume")


def _check_complete(answer: requests.Response, url: str, part: Path, have: int) -> None:
    """The server has nothing beyond the part: it is complete if the server's size says so, else of another file."""
    if _number(answer.headers.get("Content-Range", "").rpartition("/")[2]) != have:
        part.unlink()
        raise InputError(f"{url} is shorter than what was fetched before, which was deleted: run the same again")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _room(folder: Path, needed: int, what: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed + SPARE > free:
        raise InputError(
            f"{what} needs {needed / 1e9:.2f} GB in {folder}, which has {free / 1e9:.2f} GB free; make room or name another "
            "--folder"
        )


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a zip archive into ``folder``; existing files of the right size are kept.

    Every name in the archive is checked before the first file is written.

    Returns:
        The folder that holds the images: ``folder``, or the only folder that the archive makes in it.

    Raises:
        InputError: If it is not a zip archive or is damaged, a path in it would leave the folder, a member is a link, or
            there is no room on the disk.
    """
    with _unpacking(archive):
        content = zipfile.ZipFile(archive)
    with content:
        members = [member for member in content.infolist() if not member.is_dir()]
        for member in members:
            _check_member(archive, folder, member)
        todo = [member for member in members if _size(folder / member.filename) != member.file_size]
        _room(folder, sum(member.file_size for member in todo), f"unpacking {archive}")
        for member in track(todo, f"unpacking {archive.name}", len(todo)):
            with (
                atomic_write(folder / member.filename) as path,
                path.open("wb") as file,
                _unpacking(archive),
                content.open(member) as packed,
            ):
                shutil.copyfileobj(packed, file)
    return folder / _only_folder([member.filename for member in members])


@contextlib.contextmanager
def _unpacking(archive: Path) -> Iterator[None]:
    """Turn what zipfile raises on damaged archives into InputError. For its calls alone, never around our code."""
    try:
        yield
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, zlib.error) as error:
        raise InputError(f"{archive} cannot be unpacked: {error}; delete it and fetch it again") from error


def _check_member(archive: Path, folder: Path, member: zipfile.ZipInfo) -> None:
    parts = PurePosixPath(member.filename.replace("\\", "/")).parts
    outside = not parts or ".." in parts or parts[0].startswith("/") or ":" in parts[0]
    if outside or not (folder / member.filename).resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{archive} holds the path {member.filename!r}, which leaves {folder}; nothing was unpacked")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise InputError(f"{archive} holds the link {member.filename!r}; nothing was unpacked")


def _only_folder(names: Sequence[str]) -> str:
    parents = {PurePosixPath(name).parent.as_posix() for name in names if not name.startswith("__MACOSX")}
    return parents.pop() if len(parents) == 1 else ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
