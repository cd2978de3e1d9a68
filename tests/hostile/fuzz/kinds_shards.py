"""Larger files with many images inside: Parquet shards, WebDataset tars, Galaxy10 in HDF5; VOTables and schemas."""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml

from gz_lightning.data.catalog import Catalog
from gz_lightning.data.class_columns import catalog_from_classes
from gz_lightning.data.class_folders import catalog_from_folders
from gz_lightning.data.embedded import containers_of, in_storage_order
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.data.tree import get_tree
from gz_lightning.data.vote_catalog import catalog_from_votes
from gz_lightning.data.votes import read_votes
from tests.hostile.fuzz.case import Trial, WrongError, copy, require
from tests.hostile.fuzz.damage import damage_file, hostile_tree, replace_file
from tests.hostile.fuzz.hostile_hdf5 import change_hdf5
from tests.hostile.fuzz.kinds_tables import SELECTED, change_parquet, check_catalog, check_packed
from tests.hostile.fuzz.kinds_text import hostile_yaml
from tests.hostile.fuzz.originals import NUMBER, TREE, Originals


def _read(images: Path, classes: str | None = None) -> None:
    """What holds of every catalogue of larger files, and that all its images can be asked for."""
    tables = containers_of(images)
    if tables is None:
        catalog_from_folders(images)
        raise WrongError("it is no folder of images, and was taken for one")
    catalog: Catalog = (
        catalog_from_votes(tables, None, tree=TREE, max_missing=1.0)
        if classes is None
        else catalog_from_classes(tables, None, classes, max_missing=1.0)
    )
    check_catalog(catalog)
    require(len(catalog.files) == len(catalog), "an image for each galaxy")
    seen = []
    for places, contents in in_storage_order(list(catalog.files)):
        require(len(places) == len(contents), "a content for each place")
        require(all(isinstance(one, (bytes, Path, np.ndarray)) or one is None for one in contents), "contents")
        seen += places
    require(sorted(seen) == list(range(len(catalog))), "every image once")


def _trial(
    draws: random.Random, folder: Path, changed: str, path: Path, setting: str = "--table", classes: str | None = None
) -> Trial:
    """Read by the library or packed on the command line."""
    if draws.random() < 0.7:
        return Trial(changed, lambda: _read(path, classes))
    output = folder / "packed.h5"
    command = ["prepare", setting, str(path), "--output", str(output), "--resolution", "8", "--workers", "1"]
    command += ["--max_missing", "1", "--max_rejects", draws.choice(("0.05", "1")), "--val_fraction", "0"]
    command += ["--class_column", classes] if classes is not None else ["--tree", "coarse5"]
    named = [str(folder), *SELECTED]
    return Trial(changed, command=command, verify=lambda: check_packed(Galaxies(output)), named=named)


def _change_images(draws: random.Random, path: Path) -> str:
    """A shard whose image column, metadata or object ids are others."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    number, place = table.num_rows, table.column_names.index("image")
    cells = table.column("image").to_pylist()
    row = draws.randrange(number)
    paths = ("/home/x/1.jpg", "../../../../etc/passwd", "a\0b.jpg", "x" * 5000, "", "C:\\a\\b.jpg", "votes.csv", ".", "..")
    contents: tuple[Any, ...] = (b"", b"\xff\xd8\xff", draws.randbytes(300), None, b"\x89PNG\r\n\x1a\n" + b"\0" * 50)
    kind = draws.choice(
        ("null", "path", "all paths", "bytes", "plain", "large", "list", "struct", "text", "metadata", "label")
    )
    if kind == "null":
        cells[row] = draws.choice((None, {"bytes": None, "path": None}))
    elif kind == "path":
        cells[row] = {"bytes": None, "path": draws.choice(paths)}
    elif kind == "all paths":
        cells = [{"bytes": None, "path": draws.choice(paths)} for _ in cells]
    elif kind == "bytes":
        cells[row] = {"bytes": draws.choice(contents), "path": draws.choice((None, *paths))}
    types: dict[str, Any] = {
        "plain": pa.array([cell and cell["bytes"] for cell in cells], pa.binary()),
        "large": pa.array([cell and cell["bytes"] for cell in cells], pa.large_binary()),
        "list": pa.array([[1, 2]] * number),
        "struct": pa.array([{"bytes": draws.choice(("text", None)), "path": 3} for _ in cells]),
        "text": pa.array(["/a/b.jpg"] * number),
    }
    if kind in types:
        table = table.set_column(place, "image", types[kind])
    elif kind == "metadata":
        names: Any = draws.choice((3, None, ["a"], [1, 2], "x", [["a"]]))
        described = {"info": {"features": {"label": {"_type": "ClassLabel", "names": names}}}}
        written = draws.choice((b"{", b"[" * 5000, json.dumps(described).encode(), b"\xff", b"null"))
        table = table.replace_schema_metadata({b"huggingface": written})
    elif kind == "label":
        values: tuple[Any, ...] = (2**40, -7, 0.5, "9" * 5000, None, float("nan"), b"\xff", True)
        value = draws.choice(values)
        at = table.column_names.index("label")
        table = table.set_column(at, "label", pa.array([value] * number))
    else:
        table = table.set_column(place, "image", pa.array(cells, table.schema.field("image").type))
    size = draws.choice((1, 4, None))
    pq.write_table(table, path, row_group_size=size, write_statistics=draws.random() < 0.7)
    return f"{path.name}: images {kind}, row groups of {size}"


def shards_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """Two Parquet shards with pictures, of which one is changed."""
    shards = copy(originals / "shards", folder / "shards")
    path = shards / draws.choice(("train-0.parquet", "test-0.parquet"))
    way = draws.random()
    if way < 0.05:
        changed = replace_file(draws, path, originals.files, hole=False)
    elif way < 0.4:
        changed = damage_file(draws, path)
    elif way < 0.65:
        changed = change_parquet(draws, path)
    elif way < 0.95:
        changed = _change_images(draws, path)
    else:
        other = next(one for one in shards.iterdir() if one != path)
        changed = f"{copy(path, shards / 'again.parquet').name}: {path.name} again"
        if draws.random() < 0.5:
            other.unlink()
    return _trial(draws, folder, changed, shards, classes="label" if draws.random() < 0.3 else None)


def tar_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """A WebDataset tar, with members changed, gone, twice, or cut off."""
    path = copy(originals / "galaxies.tar", folder / draws.choice(("galaxies.tar", "größe.TAR")))
    way = draws.random()
    if way < 0.05:
        return _trial(draws, folder, replace_file(draws, path, originals.files, hole=False), path)
    if way < 0.5:
        return _trial(draws, folder, damage_file(draws, path), path, "--images")
    with tarfile.open(path) as archive:
        members = [(member, archive.extractfile(member)) for member in archive]
        content = [(member.name, file.read() if file else b"") for member, file in members]
    at = draws.randrange(len(content))
    labels = (b"{", b"[]", b"null", b'{"a": 1}', b"[" * 50_000, b"\xff", b'{"bar-gz2_yes": "x"}', b'{"bar-gz2_yes": 1e999}')
    names = ("a.jpg", "../a.jpg", "/a.jpg", ".hidden.jpg", "x/y/z.json", "a" * 90 + ".jpg", "no ending", "größe.jpg")
    kind = draws.choice(("labels", "name", "gone", "twice", "link", "order", "class"))
    if kind == "labels":
        content[at] = (content[at][0].partition(".")[0] + ".labels.json", draws.choice(labels))
    elif kind == "name":
        content[at] = (draws.choice(names), content[at][1])
    elif kind == "gone":
        del content[at]
    elif kind == "twice":
        content.insert(draws.randrange(len(content)), content[at])
    elif kind == "order":
        draws.shuffle(content)
    elif kind == "class":
        content.insert(
            at + 1, (content[at][0].partition(".")[0] + ".cls", draws.choice((b"a", b"", b"\xff\xfe", b"x" * 5000)))
        )
    with tarfile.open(path, "w") as archive:
        for place, (name, body) in enumerate(content):
            member = tarfile.TarInfo(name)
            if kind == "link" and place == at:
                member.type, member.linkname = draws.choice((tarfile.SYMTYPE, tarfile.LNKTYPE)), "/etc/passwd"
            else:
                member.size = len(body)
            archive.addfile(member, io.BytesIO(body) if member.size else None)
    return _trial(draws, folder, f"{path.name}: {kind} at {at}", path, "--images")


def galaxy10_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """Galaxy10 as HDF5."""
    path = copy(originals / "Galaxy10.h5", folder / "Galaxy10.h5")
    way = draws.random()
    if way < 0.05:
        changed = replace_file(draws, path, originals.files, hole=False)
    elif way < 0.5:
        changed = damage_file(draws, path)
    elif way < 0.8:
        changed = change_hdf5(draws, path)
    else:
        kind = draws.choice(("fewer", "text", "shape", "type", "group", "negative"))
        with h5py.File(path, "r+") as file:
            name = draws.choice(("images", "ans"))
            del file[name]
            made: dict[str, Callable[[], Any]] = {
                "fewer": lambda: np.zeros((3, 8, 8, 3) if name == "images" else 3, np.uint8),
                "text": lambda: np.array([b"a", b"b"] * 5),
                "shape": lambda: np.zeros((10, 8, 8), np.uint8),
                "type": lambda: np.zeros((10, 8, 8, 3) if name == "images" else 10, np.float64),
                "negative": lambda: np.full((10, 8, 8, 3) if name == "images" else 10, -1, np.int8),
            }
            if kind == "group":
                file.create_group(name)
            else:
                file[name] = made[kind]()
        changed = f"{path.name}: {name} {kind}"
    return _trial(draws, folder, changed, path, "--images", "ans")


def votable_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """A vote table as VOTable."""
    path = copy(originals / "tables/votes.vot", folder / draws.choice(("votes.vot", "a b.votable", "größe.xml")))
    way = draws.random()
    if way < 0.05:
        changed = replace_file(draws, path, originals.files, hole=False)
    elif way < 0.6:
        changed = damage_file(draws, path)
    else:
        text = path.read_text()
        ways = {
            "bomb": ("<VOTABLE", '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]><VOTABLE'),
            "file": ("<VOTABLE", '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><VOTABLE'),
            "type": (
                'datatype="float"',
                f'datatype="{draws.choice(("char", "int", "boolean", "bit", "x", "floatComplex"))}"',
            ),
            "array": ('datatype="float"', 'datatype="float" arraysize="3"'),
            "name": ('name="', f'name="{draws.choice(("", "x" * 3000, "&lt;", "größe"))}'),
            "cell": ("<TD>0.", f"<TD>{draws.choice(('', 'x', '1e999', '-', 'NaN', '9' * 400, '&lt;'))}0."),
            "no data": ("<TABLEDATA>", "<X>"),
        }
        kind = draws.choice(list(ways))
        path.write_text(text.replace(*ways[kind], draws.choice((1, 1, -1))))
        changed = f"{path.name}: {kind}"

    def read() -> None:
        rows = read_votes(path, TREE)
        require(rows["object_id"].is_unique and rows["object_id"].notna().all(), "object ids")
        for answer in TREE.answers:
            require(rows[answer].dropna().between(-2e-6, 1 + 2e-6).all(), f"the fractions of {answer}")

    return Trial(changed, read)


def schema_trial(draws: random.Random, originals: Originals, folder: Path) -> Trial:
    """A tree with questions of one's own."""
    path = copy(originals / draws.choice(("own.yaml", "extending.yaml")), folder / "own.yaml")
    way = draws.random()
    if way < 0.1:
        changed = replace_file(draws, path, originals.files)
    elif way < 0.4:
        changed = damage_file(draws, path)
    elif way < 0.55:
        changed = hostile_yaml(draws, path)
    else:
        value, changed = hostile_tree(draws, yaml.safe_load(path.read_text()))
        path.write_text(yaml.safe_dump(value, allow_unicode=draws.random() < 0.5))

    def read() -> None:
        tree = get_tree(str(path))
        require(len(tree) > 0 and all(isinstance(name, str) and name for name in tree.class_names), "leaves")
        confidences = tree.with_left_out.confidences({answer: np.ones(NUMBER) for answer in tree.schema.answers})
        require(np.isfinite(confidences).all(), "confidences")
        require(all(isinstance(name, str) for naming in tree.schema.namings for name in naming.counts.values()), "columns")

    return Trial(changed, read)
