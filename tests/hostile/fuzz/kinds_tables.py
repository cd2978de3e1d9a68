"""Vote tables of every origin and the mapping of names."""

from __future__ import annotations

import csv
import gzip
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gz_lightning.data.catalog import Catalog
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.data.object_ids import read_mapping
from gz_lightning.data.vote_catalog import catalog_from_votes
from gz_lightning.data.votes import MOST_CONFIDENT, read_votes
from tests.hostile.fuzz.case import Trial, copy, require
from tests.hostile.fuzz.damage import TEXTS, damage_file, replace_file
from tests.hostile.fuzz.originals import NUMBER, TREE, Originals

SELECTED = ("galaxies falls into the training split", "galaxies can be taken: ", "training needs at least two classes")
"""What is said of a selection, whatever its galaxies come from."""
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


def check_packed(packed: Galaxies) -> None:
    """What holds for every packed file."""
    number, leaves = len(packed), len(packed.class_names)
    require(packed.images.shape == (number, *packed.image_shape) and packed.image_shape[0] == 3, "shape of the images")
    require(packed.confidences.shape == (number, leaves), "shape of the confidences")
    require(len(packed.object_ids) == number == len(set(packed.object_ids)), "object ids")
    require(bool(((packed.labels >= 0) & (packed.labels < leaves)).all()), "labels")
    require(bool(((packed.splits >= 0) & (packed.splits < 3)).all()), "splits")
    require(
        bool((packed.confidences.isfinite() & (packed.confidences >= 0) & (packed.confidences <= MOST_CONFIDENT)).all()),
        "confidences",
    )
    for statistic in (packed.mean, packed.std):
        require(statistic.shape == (3,) and bool(((statistic >= 0) & (statistic <= 1)).all()), "statistics")


def check_catalog(catalog: Catalog) -> None:
    """What holds for every catalogue."""
    number = len(catalog)
    require(number > 0 and catalog.confidences.shape == (number, len(catalog.class_names)), "shape of the confidences")
    require(
        bool(
            (np.isfinite(catalog.confidences) & (catalog.confidences >= 0) & (catalog.confidences <= MOST_CONFIDENT)).all()
        ),
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


def change_parquet(draws: random.Random, path: Path) -> str:
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
    "datasets.parquet": change_parquet,
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
        return prepared_trial(draws, folder, changed, images, path, mapping)

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


def prepared_trial(
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
    names = [str(folder), str(images), *SELECTED]
    return Trial(changed, command=command, verify=lambda: check_packed(Galaxies(output)), named=names)


def mapping_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """The mapping from object ids to names."""
    path = copy(originals / "tables/mapping.csv", folder / "mapping.csv")
    way = draws.random()
    if way < 0.07:
        changed = replace_file(draws, path, originals.files, hole=False)
    else:
        changed = damage_file(draws, path) if way < 0.4 else _change_cells(draws, path)
    if draws.random() < 0.1:
        return prepared_trial(draws, folder, changed, originals / "images", originals / "tables/hart16.csv", path)

    def read() -> None:
        found = read_mapping(path)
        require(found.index.is_unique, "object ids")
        check_catalog(catalog_from_votes(originals / "tables/hart16.csv", originals / "images", path, TREE, max_missing=1.0))

    return Trial(changed, read)
