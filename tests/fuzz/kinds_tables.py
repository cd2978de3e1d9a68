"""Catalogues of every origin, the mapping of names, class folders, images, trees, and packings that were interrupted."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import os
import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gz_lightning.data.catalog import Catalog, catalog_from_folders, catalog_from_votes
from gz_lightning.data.cutouts import read_cutout
from gz_lightning.data.packing import Packed, read_packed
from gz_lightning.data.prepare import prepare
from gz_lightning.data.tree import ANSWERS, get_tree
from gz_lightning.data.votes import read_mapping, read_votes
from gz_lightning.errors import InputError
from tests.fuzz.case import Trial, copy, require
from tests.fuzz.damage import TEXTS, damage_file, hostile_tree, replace_file
from tests.fuzz.hostile_hdf5 import change_hdf5
from tests.fuzz.originals import NUMBER, TREE, Originals

CELLS = (
    "",
    " ",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "-0.5",
    "1.5",
    "abc",
    "0x1F",
    "\u0661",
    "1,5",
    "9" * 400,
    "x" * 200_000,
    "\x00",
    '"',
    "🌌",
)
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


def check_packed(packed: Packed) -> None:
    """What holds for every packed file."""
    number, leaves = len(packed), len(packed.class_names)
    require(packed.images.shape == (number, *packed.image_shape) and packed.image_shape[0] == 3, "shape of the images")
    require(packed.confidences.shape == (number, leaves), "shape of the confidences")
    require(len(packed.object_ids) == number == len(set(packed.object_ids)), "object ids")
    require(bool(((packed.labels >= 0) & (packed.labels < leaves)).all()), "labels")
    require(bool(((packed.splits >= 0) & (packed.splits < 3)).all()), "splits")
    require(
        bool((packed.confidences.isfinite() & (packed.confidences >= 0) & (packed.confidences <= 1.01)).all()), "confidences"
    )
    for statistic in (packed.mean, packed.std):
        require(statistic.shape == (3,) and bool(((statistic >= 0) & (statistic <= 1)).all()), "statistics")


def check_catalog(catalog: Catalog) -> None:
    """What holds for every catalogue."""
    number = len(catalog)
    require(number > 0 and catalog.confidences.shape == (number, len(catalog.class_names)), "shape of the confidences")
    require(
        bool((np.isfinite(catalog.confidences) & (catalog.confidences >= 0) & (catalog.confidences < 1.1)).all()),
        "confidences",
    )
    require(len(set(catalog.object_ids)) == number and all(catalog.object_ids), "object ids")
    require(all(isinstance(object_id, str) for object_id in catalog.object_ids), "type of the object ids")
    if catalog.classifications is not None:
        counts = catalog.classifications[~np.isnan(catalog.classifications)]
        require(bool((counts >= 0).all() and np.isfinite(counts).all()), "number of volunteers")


def _change_cells(draws: random.Random, path: Path) -> str:
    """A CSV with one thing changed, as an editor would."""
    packed = path.name.endswith(".gz")
    rows = list(csv.reader(io.StringIO((gzip.decompress(path.read_bytes()) if packed else path.read_bytes()).decode())))
    row, column = draws.randrange(len(rows)), draws.randrange(len(rows[0]))
    cell = draws.choice((*CELLS, *TEXTS))
    ways = (
        "cell",
        "cell",
        "cell",
        "column gone",
        "column twice",
        "row twice",
        "no rows",
        "ragged",
        "wide",
        "quote",
        "many",
        "nul",
    )
    way = draws.choice(
        (*ways, "utf-16", "latin-1", "bom", "semicolons", "tabs", "cr", "turned", "name", "text column", "only header")
    )
    encoding = "utf-8"
    options: dict[str, Any] = {}
    if way == "cell":
        rows[row][column] = cell
    elif way == "column gone":
        rows = [line[:column] + line[column + 1 :] for line in rows]
    elif way == "column twice":
        rows = [[*line, line[column]] for line in rows]
    elif way == "row twice":
        rows.insert(row, list(rows[row]))
    elif way == "no rows":
        rows = []
    elif way == "only header":
        rows = rows[:1]
    elif way == "ragged":
        rows[row] = rows[row][: column + 1] + ["1"] * draws.randrange(3)
    elif way == "wide":
        rows = [line + [f"{i} {j}" for j in range(3000)] for i, line in enumerate(rows)]
    elif way == "many":
        rows = rows[:1] + [[*line[:-1], line[-1]] for line in rows[1:] * 200]
    elif way == "turned":
        rows = [list(line) for line in zip(*rows, strict=True)]
    elif way == "name":
        rows[0][column] = cell
    elif way == "text column":
        rows = [rows[0], *([*line[:column], cell, *line[column + 1 :]] for line in rows[1:])]
    elif way in ("semicolons", "tabs", "cr"):
        options = {"semicolons": {"delimiter": ";"}, "tabs": {"delimiter": "\t"}, "cr": {"lineterminator": "\r"}}[way]
    elif way == "utf-16":
        encoding = "utf-16"
    elif way == "latin-1":
        rows[row][column] = "größe"
        encoding = "latin-1"
    elif way == "bom":
        encoding = "utf-8-sig"
    text = io.StringIO(newline="")
    csv.writer(text, **options, escapechar="\\").writerows(rows)
    content = text.getvalue()
    if way == "quote":
        place = draws.randrange(len(content))
        content = content[:place] + '"' + content[place:]
    elif way == "nul":
        place = draws.randrange(len(content))
        content = content[:place] + "\0" * draws.choice((1, 100)) + content[place:]
    binary = content.encode(encoding, errors="replace")
    path.write_bytes(gzip.compress(binary, mtime=0) if packed else binary)
    return f"{path.name}: {way} at row {row}, column {column} ({cell!r:.30})"


def _change_parquet(draws: random.Random, path: Path) -> str:
    """A Parquet table with a column of another type."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    place = draws.randrange(table.num_columns)
    name, number = table.column_names[place], table.num_rows
    columns: dict[str, Any] = {
        "text": pa.array(["x"] * number),
        "lists": pa.array([[0.5]] * number),
        "nulls": pa.nulls(number),
        "structs": pa.array([{"a": 0.5}] * number),
        "booleans": pa.array([True] * number),
        "bytes": pa.array([b"\xff\xfe"] * number),
        "dates": pa.array([0] * number, pa.timestamp("ns")),
        "decimals": pa.array([1] * number, pa.decimal128(10)),
        "categories": pa.array(["0.5"] * number).dictionary_encode(),
        "numbers as text": pa.array([str(0.01 * i) for i in range(number)]),
        "NaN": pa.array([float("nan")] * number),
        "infinity": pa.array([float("inf")] * number),
        "maps": pa.array([[("a", 1)]] * number, pa.map_(pa.string(), pa.int64())),
        "64-bit": pa.array([2**63 + i for i in range(number)], pa.uint64()),
        "durations": pa.array([1] * number, pa.duration("s")),
        "long text": pa.array(["../" * 3000 + str(i) for i in range(number)]),
    }
    kind = draws.choice((*columns, "gone", "twice", "none", "renamed", "row groups"))
    if kind == "gone":
        table = table.remove_column(place)
    elif kind == "twice":
        table = table.append_column(name, table.column(place))
    elif kind == "none":
        table = table.slice(0, 0)
    elif kind == "renamed":
        table = table.rename_columns(["größe" if other == name else other for other in table.column_names])
    elif kind != "row groups":
        table = table.set_column(place, name, columns[kind])
    pq.write_table(table, path, row_group_size=1 if kind == "row groups" else None)
    return f"{path.name}: {name} {kind}"


def _change_fits(draws: random.Random, path: Path) -> str:
    """A FITS table with a column of another format, another kind of extension, or a header that claims much."""
    from astropy.io import fits

    with fits.open(path) as hdus:
        columns = [fits.Column(c.name, c.format, array=np.array(hdus[1].data[c.name])) for c in hdus[1].columns]
    place = draws.randrange(len(columns))
    name = columns[place].name
    made: dict[str, Callable[[], Any]] = {
        "vectors": lambda: fits.Column(name, "3E", array=np.ones((NUMBER, 3))),
        "logical": lambda: fits.Column(name, "L", array=np.ones(NUMBER, bool)),
        "complex": lambda: fits.Column(name, "C", array=np.ones(NUMBER)),
        "text": lambda: fits.Column(name, "8A", array=np.array(["x"] * NUMBER)),
        "bits": lambda: fits.Column(name, "8X", array=np.ones((NUMBER, 8), bool)),
        "variable": lambda: fits.Column(name, "PE()", array=np.array([np.ones(2, ">f4")] * NUMBER, dtype=object)),
        "NaN": lambda: fits.Column(name, "E", array=np.full(NUMBER, np.nan)),
        "scaled": lambda: fits.Column(name, "I", array=np.full(NUMBER, 5000)),
        "null": lambda: fits.Column(name, "J", null=0, array=np.zeros(NUMBER)),
        "double": lambda: fits.Column(name, "D", array=np.full(NUMBER, 0.25)),
        "unnamed": lambda: fits.Column(name, "E", array=np.zeros(NUMBER)),
    }
    kind = draws.choice(
        (*made, "gone", "image alone", "ASCII table", "no rows", "claims rows", "claims width", "claims fields")
    )
    if kind.startswith("claims"):
        key = {"claims rows": b"NAXIS2", "claims width": b"NAXIS1", "claims fields": b"TFIELDS"}[kind]
        content = path.read_bytes()
        start = content.index(key + b" ", 2880)
        number = draws.choice((b"0", b"-1", b"999", b"99999999999", b"9" * 20, b"abc"))
        path.write_bytes(content[: start + 8] + b"= " + number.rjust(20) + content[start + 30 :])
        return f"{path.name} {kind}: {number!r}"
    path.unlink()
    if kind == "image alone":
        fits.PrimaryHDU(np.zeros((4, 4))).writeto(path)
        return f"{path.name}: {kind}"
    if kind in made:
        columns[place] = made[kind]()
    elif kind == "gone":
        del columns[place]
    table = fits.TableHDU if kind == "ASCII table" else fits.BinTableHDU
    if kind == "ASCII table":
        columns = [fits.Column(c.name, "I20" if c.format in "KJ" else "F10.6", array=np.array(c.array)) for c in columns]
    hdu = table.from_columns(columns)
    hdu.header["XSCAL1"] = 1e-4
    hdu.writeto(path)
    # Astropy itself writes no such columns.
    if kind == "scaled":
        path.write_bytes(path.read_bytes().replace(b"XSCAL1  ", f"TSCAL{place + 1}".ljust(8).encode(), 1))
    elif kind == "unnamed":
        path.write_bytes(path.read_bytes().replace(f"TTYPE{place + 1}".ljust(8).encode(), b"XTYPE1  ", 1))
    if kind == "no rows":
        with fits.open(path, mode="update") as hdus:
            hdus[1].data = hdus[1].data[:0]
    return f"{path.name}: {name} {kind}"


TABLES: dict[str, Callable[[random.Random, Path], str]] = {
    "hart16.csv": _change_cells,
    "hart16.csv.gz": _change_cells,
    "kaggle.csv": _change_cells,
    "datasets.parquet": _change_parquet,
    "sdss.fits": _change_fits,
}


def table_trial(name: str, draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """A vote table of one origin."""
    suffix = name.partition(".")[2]
    path = copy(originals / "tables" / name, folder / f"{draws.choice(('votes', 'a b', 'größe'))}.{suffix}")
    before = path.read_bytes()
    way = draws.random()
    damaged = False
    if way < 0.07:
        changed = replace_file(draws, path, originals.files, hole=False)
    elif way < 0.5:
        changed, damaged = damage_file(draws, path), True
    else:
        changed = TABLES[name](draws, path)
    if name == "sdss.fits" and draws.random() < 0.15 and path.is_file() and path.stat().st_size < 10**6:
        packed = path.with_name(f"{path.name}.gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
        path, changed = packed, f"{changed}, compressed"
    images = originals / ("images" if name.startswith("hart16") else "by_id")
    images = originals.folder if name == "datasets.parquet" else images
    mapping = originals / "tables/mapping.csv" if name.startswith("hart16") else None
    if draws.random() < 0.08:
        return _prepared(draws, folder, changed, images, path, mapping)

    def read() -> None:
        rows = read_votes(path, TREE)
        for answer in TREE.answers:
            values = rows[answer].dropna()
            require(values.dtype == np.float64 and values.between(-2e-6, 1 + 2e-6).all(), f"the fractions of {answer}")
        require(rows["object_id"].is_unique and rows["object_id"].notna().all(), "object ids")
        if damaged and name.endswith(".gz"):  # it has a checksum
            path.with_name("whole.csv.gz").write_bytes(before)
            whole = read_votes(path.with_name("whole.csv.gz"), TREE)
            pd.testing.assert_frame_equal(rows, whole)
        check_catalog(catalog_from_votes(path, images, mapping, TREE, max_missing=1.0))

    return Trial(changed, read, named=(str(path), str(images)))


def _prepared(
    draws: random.Random, folder: Path, changed: str, images: Path, table: Path | None, mapping: Path | None
) -> Trial:
    """``prepare`` on the command line."""
    output = folder / "packed.h5"
    command = ["prepare", "--images", str(images), "--output", str(output), "--resolution", "8", "--workers", "1"]
    command += ["--max_missing", "1", "--max_rejects", draws.choice(("0.05", "1")), "--val_fraction", "0"]
    if table is not None:
        command += ["--table", str(table), "--tree", "coarse5"]
    if mapping is not None:
        command += ["--mapping", str(mapping)]
    names = [str(folder), str(images), "galaxies falls into the training split", "galaxies reaches a confidence"]
    return Trial(changed, command=command, verify=lambda: check_packed(read_packed(output)), named=names)


def mapping_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """The mapping from object ids to names."""
    path = copy(originals / "tables/mapping.csv", folder / "mapping.csv")
    way = draws.random()
    if way < 0.07:
        changed = replace_file(draws, path, originals.files, hole=False)
    else:
        changed = damage_file(draws, path) if way < 0.4 else _change_cells(draws, path)
    if draws.random() < 0.1:
        return _prepared(draws, folder, changed, originals / "images", originals / "tables/hart16.csv", path)

    def read() -> None:
        found = read_mapping(path)
        require(found.index.is_unique, "object ids")
        check_catalog(catalog_from_votes(originals / "tables/hart16.csv", originals / "images", path, TREE, max_missing=1.0))

    return Trial(changed, read)


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
    return _prepared(draws, folder, changed, images, originals / "tables/hart16.csv", originals / "tables/mapping.csv")


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
        return _prepared(draws, folder, changed, root, None, None)

    def read() -> None:
        check_catalog(catalog_from_folders(root, draws.choice((None, "coarse5"))))

    return Trial(changed, read)


def tree_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """A tree in a YAML file."""
    path = copy(originals / "tree.yaml", folder / draws.choice(("tree.yaml", "a b.yml", "größe.yaml")))
    way = draws.random()
    if way < 0.1:
        changed = replace_file(draws, path, originals.files)
    elif way < 0.4:
        changed = damage_file(draws, path)
    elif way < 0.6:
        changed = hostile_yaml(draws, path)
    else:
        value, changed = hostile_tree(draws, yaml.safe_load(path.read_text()))
        path.write_text(yaml.safe_dump(value, allow_unicode=draws.random() < 0.5))
    if draws.random() < 0.05:
        trial = _prepared(
            draws, folder, changed, originals / "images", originals / "tables/hart16.csv", originals / "tables/mapping.csv"
        )
        command = list(trial.command)
        command[command.index("coarse5")] = str(path)
        return Trial(changed, command=command, verify=trial.verify, named=[str(path), "hart16.csv", *trial.named[2:]])

    def read() -> None:
        tree = get_tree(str(path))
        require(len(tree) > 0 and all(isinstance(name, str) and name for name in tree.class_names), "leaves")
        confidences = tree.confidences({answer: [1.0, 0.0] for answer in ANSWERS})
        require(confidences.shape == (2, len(tree)) and np.isfinite(confidences).all(), "confidences")

    return Trial(changed, read)


def hostile_yaml(draws: random.Random, path: Path) -> str:
    """YAML that is more than plain values."""
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(11)
    )
    texts = {
        "bomb": bomb,
        "bomb in a tree": bomb + "name: x\nleaves: *l\n",
        "python": f"!!python/object/apply:os.system ['touch {path.parent}/canary']\n",
        "python name": f"name: !!python/object/apply:builtins.open ['{path.parent}/canary', 'w']\nleaves: {{a: a01}}\n",
        "itself": "&a [*a]\n",
        "itself in a tree": "name: x\nleaves: &a {b: *a}\n",
        "deep": "[" * 20_000,
        "deep maps": "{a: " * 3000,
        "date": "name: 2023-99-99\nleaves: {a: a01}\n",
        "long number": "name: " + "1" * 5000 + "\nleaves: {a: a01}\n",
        "long name": "name: x\nleaves: {" + "y" * 10**6 + ": a01}\n",
        "documents": path.read_text() + "---\n" + path.read_text(),
        "tabs": "name:\tx\nleaves:\n\ta: a01\n",
        "keys": "? [a, b]\n: 1\n",
        "key twice": path.read_text() + path.read_text(),
        "numbers": "name: 1\nleaves: {1: a01, 2.5: a02, null: a03, true: a04 }\n",
        "binary": "name: !!binary 'x?'\nleaves: {a: a01}\n",
        "set": "!!set {a, b}\n",
        "zeros": "name: x\nleaves: {a: a01" + "\0" + "}\n",
        "surrogate": 'name: "\\ud800"\nleaves: {"\\ud800 a": a01}\n',
        "merge": "<<: [1]\nname: x\n",
        "float": "name: .inf\nleaves: {.nan: a01}\n",
    }
    name = draws.choice(list(texts))
    path.write_text(texts[name])
    return f"{path.name}: {name}"


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
        packed = read_packed(output)
        check_packed(packed)
        require(packed.fingerprint == read_packed(originals / "prepared.h5").fingerprint, "it is another file")

    return Trial(changed, read)
