"""Images, class folders of them, and packings that were interrupted."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gz_lightning.data.class_folders import catalog_from_folders
from gz_lightning.data.cutouts import read_cutout
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.data.prepare import prepare
from gz_lightning.errors import InputError
from tests.hostile.fuzz.case import Trial, copy, require
from tests.hostile.fuzz.damage import damage_file, replace_file
from tests.hostile.fuzz.hostile_hdf5 import change_hdf5
from tests.hostile.fuzz.kinds_tables import check_catalog, check_packed, prepared_trial
from tests.hostile.fuzz.originals import TREE, Originals

NAMES = (
    "a b.jpg",
    "größe.jpg",
    "星系.png",
    "UPPER.JPG",
    "a.b.c.jpeg",
    ".hidden.jpg",
    "-flag.jpg",
    "x" * 240 + ".jpg",
    "a\nb.jpg",
    "%s{0}.png",
)


def _other_image(draws: random.Random, path: Path) -> str:
    """An image of another kind or size in the place of one."""
    modes = (
        "L",
        "LA",
        "RGBA",
        "P",
        "1",
        "CMYK",
        "I;16",
        "F",
        "PA",
        "tiny",
        "wide",
        "high",
        "large",
        "claims",
        "animated",
        "eps",
    )
    way = draws.choice((*modes, "gif", "webp", "bmp", "tiff", "transparent", "text chunk", "exif"))
    formats = {"gif": "GIF", "webp": "WEBP", "bmp": "BMP", "tiff": "TIFF"}
    sizes = {"tiny": (1, 1), "wide": (100, 8), "high": (3, 90), "large": (3000, 3000)}
    if way == "claims":
        content = bytearray(_png(Image.new("RGB", (16, 16))))
        side = draws.choice((10_000, 13_000, 60_000, 2**31 - 1, 0)).to_bytes(4, "big")
        content[16:24] = side + side
        path.write_bytes(_with_checksum(content))
    elif way == "eps":
        path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n(canary) (w) file closefile\nshowpage\n")
    elif way == "animated":
        frames = [Image.new("RGB", (16, 16), (i, 0, 0)) for i in range(3)]
        frames[0].save(path, format=draws.choice(("PNG", "GIF", "WEBP")), save_all=True, append_images=frames[1:])
    elif way == "transparent":
        Image.new("P", (16, 16)).save(path, format="PNG", transparency=b"\0\1\2")
    elif way == "text chunk":
        chunk = PngInfo()
        chunk.add_itxt("a", "x" * 100_000_000 if draws.random() < 0.1 else "x" * 10**6, zip=True)
        Image.new("RGB", (16, 16)).save(path, format="PNG", pnginfo=chunk)
    elif way == "exif":
        Image.new("RGB", (16, 16)).save(path, format="JPEG", exif=b"Exif\0\0" + draws.randbytes(50))
    elif way in formats:
        Image.new("RGB", (16, 16)).save(path, format=formats[way])
    elif way in sizes:
        Image.new("RGB", sizes[way]).save(path, format="PNG" if path.suffix == ".png" else "JPEG")
    else:
        known = {"CMYK": "TIFF", "F": "TIFF", "PA": "TIFF", "LA": "PNG", "RGBA": "PNG", "I;16": "PNG"}
        image = Image.new("RGB", (16, 16)).convert(way) if way in ("P", "CMYK", "F", "RGBA") else Image.new(way, (16, 16))
        try:
            image.save(path, format="JPEG" if way == "CMYK" else known.get(way, "PNG"))
        except OSError:
            Image.new("L", (16, 16)).save(path, format="PNG")
    return f"{path.name}: {way}"


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _with_checksum(content: bytearray) -> bytes:
    """The header of a PNG with its checksum made right."""
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def change_image(draws: random.Random, path: Path, originals: Originals) -> str:
    way = draws.random()
    if way < 0.12:
        return replace_file(draws, path, originals.files)
    if way < 0.6:
        return damage_file(draws, path)
    return _other_image(draws, path)


def image_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """A cut-out, by itself or in the folder of a catalogue."""
    if draws.random() < 0.75:
        source = originals / draws.choice(("images/100.jpg", "folders/spiral/4.png"))
        path = copy(source, folder / draws.choice(("a.jpg", "a.png", *NAMES)))
        changed = change_image(draws, path, originals)

        def read() -> None:
            pixels = read_cutout(path, 8, draws.choice((0.5, 1.0)))
            require(pixels.shape == (3, 8, 8) and pixels.dtype == np.uint8, "pixels")

        return Trial(changed, read)
    images = copy(originals / "images", folder / "images")
    changed = change_image(draws, images / "103.jpg", originals)
    return prepared_trial(draws, folder, changed, images, originals / "tables/hart16.csv", originals / "tables/mapping.csv")


def folders_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """Class folders, with odd names, links, folders in place of files and what else lies about on a disk."""
    root = copy(originals / "folders", folder / "classes")
    leaf = root / draws.choice([leaf.folder for leaf in TREE.leaves])
    file = sorted(leaf.iterdir())[0]
    ways = (
        "image",
        "image",
        "image name",
        "folder name",
        "empty",
        "gone",
        "loop",
        "file beside",
        "twice",
        "split",
        "undecodable",
    )
    way = draws.choice((*ways, "bare", "link to a leaf", "hidden", "nested", "unreadable", "image is a folder", "upper"))
    if way == "image":
        changed = change_image(draws, file, originals)
    elif way == "image name":
        changed = str(file.rename(file.with_name(draws.choice(NAMES))).name)
    elif way == "folder name":
        changed = leaf.rename(
            leaf.with_name(draws.choice(("größe", "a b", "...", "x" * 250, "a\nb", "train", "TRAIN", "-", "_")))
        ).name
    elif way == "undecodable":
        os.rename(os.fsencode(file), os.fsencode(leaf) + b"/\xff\xfe.png")
        changed = way
    elif way == "empty":
        shutil.rmtree(leaf)
        leaf.mkdir()
        changed = way
    elif way == "gone":
        shutil.rmtree(leaf)
        changed = way
    elif way == "loop":
        draws.choice((leaf, root)).joinpath("round.png").symlink_to("round.png")
        (root / "again").symlink_to(root)
        changed = way
    elif way == "file beside":
        (root / draws.choice(("Thumbs.db", ".DS_Store", "a.png"))).write_bytes(b"x")
        changed = way
    elif way == "twice":
        other = next(other for other in sorted(root.iterdir()) if other != leaf)
        copy(file, other / file.name)
        changed = way
    elif way == "split":
        for split in ("train", "test", *(["other"] if draws.random() < 0.5 else [])):
            copy(originals / "folders", folder / "again" / split)
        shutil.rmtree(root)
        shutil.move(folder / "again", root)
        changed = way
    elif way == "bare":
        shutil.rmtree(root)
        changed = replace_file(
            draws, copy(file if file.exists() else originals / "tree.yaml", root), originals.files, hole=False
        )
    elif way == "link to a leaf":
        (root / "other").symlink_to(leaf)
        changed = way
    elif way == "hidden":
        leaf.rename(root / f".{leaf.name}")
        changed = way
    elif way == "nested":
        copy(originals / "folders", leaf / "deeper")
        changed = way
    elif way == "unreadable":
        leaf.chmod(0)
        changed = way
    elif way == "upper":
        leaf.rename(root / leaf.name.upper())
        changed = way
    else:
        file.unlink()
        file.mkdir()
        changed = way
    if draws.random() < 0.4:
        return prepared_trial(draws, folder, changed, root, None, None)

    def read() -> None:
        check_catalog(catalog_from_folders(root, draws.choice((None, "coarse5"))))

    return Trial(changed, read)


def unfinished_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """A packing that was stopped, and damaged while it lay there: the same file in the end."""
    output = folder / "prepared.h5"
    given: dict[str, Any] = {
        "images": copy(originals / "images", folder / "images"),
        "table": originals / "tables/hart16.csv",
    }
    given |= {"mapping": originals / "tables/mapping.csv", "tree": "coarse5", "resolution": 8, "workers": 1}
    bad = given["images"] / "104.jpg"
    whole = bad.read_bytes()
    Image.new("L", (16, 16)).save(bad)
    with contextlib.suppress(InputError):
        prepare(output, **given, strict=True)
    unfinished = output.with_name("prepared.h5.unfinished")
    bad.write_bytes(whole)
    if draws.random() < 0.15:
        changed = replace_file(draws, unfinished, originals.files)
    elif draws.random() < 0.5:
        changed = damage_file(draws, unfinished)
    else:
        changed = change_hdf5(draws, unfinished)

    def read() -> None:
        prepare(output, **given)
        packed = Galaxies(output)
        check_packed(packed)
        require(packed.fingerprint == Galaxies(originals / "prepared.h5").fingerprint, "it is another file")

    return Trial(changed, read)
