"""Vote tables and image folders -> one row per galaxy: object id, image file, leaf confidences.

Shapes: N galaxies, K leaves.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from gz_lightning.data.tree import ANSWERS, TREES, Tree, get_tree
from gz_lightning.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
VOTE_KINDS = ("fraction", "weighted_fraction", "debiased")
ID_COLUMNS = ("dr7objid", "objid")
"""Object id column of Hart et al. (2016) and of the Stripe 82 tables of Willett et al. (2013)."""


@dataclass(frozen=True)
class Catalog:
    """Galaxies that have both an image and a place on a tree.

    Args:
        origin: Where the galaxies come from: ``votes`` or ``folders``.
        tree: Name of the tree; empty for class folders that are no known tree's.
        class_names: Names of the K leaves.
        object_ids: N object ids as strings.
        files: N image files.
        confidences: Leaf confidences in [0, 1], shape (N, K), float64.
    """

    origin: str
    tree: str
    class_names: tuple[str, ...]
    object_ids: tuple[str, ...]
    files: tuple[Path, ...]
    confidences: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.object_ids)


def _some(items: list[str], most: int = 5) -> str:
    return ", ".join(items[:most]) + (", ..." if len(items) > most else "")


def image_files(folder: str | Path) -> dict[str, Path]:
    """Images directly in ``folder``, by file name without suffix.

    Raises:
        InputError: If there is no such folder or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no image folder {folder}")
    files = {file.stem: file for file in sorted(folder.iterdir()) if file.suffix.lower() in IMAGE_SUFFIXES}
    if not files:
        inside = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        hint = f"; it has the folders {_some(inside)}: is one of them meant?" if inside else ""
        raise InputError(f"the image folder {folder} holds no image ({', '.join(IMAGE_SUFFIXES)}){hint}")
    return files


def _read_csv(path: Path, **options: object) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"there is no table {path}")
    try:
        return pd.read_csv(path, **options)
    except (
        OSError,
        EOFError,
        zlib.error,
        UnicodeDecodeError,
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
    ) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from error


def read_votes(table: str | Path, tree: str | Tree, votes: str = "weighted_fraction") -> pd.DataFrame:
    """Votes of a Hart et al. (2016) or Willett et al. (2013) table, plain or compressed CSV.

    Args:
        table: The table, such as ``gz2_hart16.csv.gz``.
        tree: The tree whose answers are needed.
        votes: Which votes: ``fraction``, ``weighted_fraction`` or ``debiased``.

    Returns:
        One row per galaxy: the column ``object_id`` (string) and one column per answer (``a01``, ...) in [0, 1]. A
        question that nobody reached is NaN or zero.

    Raises:
        InputError: If the table cannot be read, lacks a column (all are named), holds an object id twice, or a vote
            that is no number between 0 and 1.
    """
    table, tree = Path(table), get_tree(tree)
    if votes not in VOTE_KINDS:
        raise InputError(f"votes are one of {', '.join(VOTE_KINDS)}, not '{votes}'")
    header = list(_read_csv(table, nrows=0).columns)
    id_column = next((column for column in ID_COLUMNS if column in header), None)
    if id_column is None:
        raise InputError(
            f"{table} has no object id column ({' or '.join(ID_COLUMNS)}); its first columns are {_some(header)}"
        )
    wanted = {answer: f"{ANSWERS[answer]}_{votes}" for answer in tree.answers}
    missing = [column for column in wanted.values() if column not in header]
    if missing:
        whole = [kind for kind in VOTE_KINDS if all(f"{ANSWERS[answer]}_{kind}" in header for answer in tree.answers)]
        hint = f"; it has all that is needed for --votes {' or '.join(whole)}" if whole else ""
        raise InputError(
            f"{table} lacks {len(missing)} of the {len(wanted)} columns that the tree '{tree.name}' needs: "
            f"{', '.join(missing)}{hint}"
        )
    rows = _read_csv(table, usecols=[id_column, *wanted.values()], dtype={id_column: "string"})
    rows = rows.rename(columns={column: answer for answer, column in wanted.items()} | {id_column: "object_id"})
    if rows["object_id"].isna().any():
        raise InputError(f"{table}, row {int(rows['object_id'].isna().argmax()) + 2}: the object id ({id_column}) is empty")
    double = rows.loc[rows["object_id"].duplicated(), "object_id"].tolist()
    if double:
        raise InputError(f"{table} holds {len(double)} object ids more than once: {_some(double)}; keep one row of each")
    for answer, column in wanted.items():
        numbers = pd.to_numeric(rows[answer], errors="coerce")
        # Tables are rounded to single precision: a fraction may pass 1 by that much.
        wrong = (numbers.isna() & rows[answer].notna()) | (numbers < -1e-6) | (numbers > 1 + 1e-6)
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(
                f"{table}, row {row + 2}, column {column}: {rows[answer].iloc[row]!r} is not a vote fraction between 0 and 1"
            )
        rows[answer] = numbers
    return rows[["object_id", *wanted]]


def read_mapping(mapping: str | Path) -> pd.Series[str]:
    """The published ``gz2_filename_mapping.csv``: object id -> ``asset_id``, the name of the image without suffix.

    Raises:
        InputError: If the table cannot be read or lacks ``objid`` or ``asset_id``.
    """
    mapping = Path(mapping)
    rows = _read_csv(mapping, dtype="string")
    missing = [column for column in ("objid", "asset_id") if column not in rows.columns]
    if missing:
        raise InputError(f"{mapping} lacks the column {' and '.join(missing)}; it has {_some(list(rows.columns))}")
    # The published table lists an object again for each of its images (Stripe 82 coadds): the first is the usual one.
    rows = rows.drop_duplicates("objid")
    return rows.set_index("objid")["asset_id"]


def catalog_from_votes(
    table: str | Path,
    images: str | Path,
    mapping: str | Path | None = None,
    tree: str | Tree = "simplified",
    votes: str = "weighted_fraction",
    max_missing: float = 0.05,
) -> Catalog:
    """Galaxies of a vote table whose images are in a folder.

    Args:
        table: Vote table, see :func:`read_votes`.
        images: Folder of ``<asset_id>.jpg`` (with a mapping) or ``<object id>.jpg``.
        mapping: ``gz2_filename_mapping.csv`` of the published images; None where images are named by object id.
        tree: A tree or its name.
        votes: Which votes: ``fraction``, ``weighted_fraction`` or ``debiased``.
        max_missing: Share of galaxies, 0 to 1, that may be without an image. The published archive lacks a few.

    Raises:
        InputError: As :func:`read_votes`, :func:`read_mapping` and :func:`image_files`; or if more than
            ``max_missing`` of the galaxies have no image (counted, some are listed).
    """
    tree = get_tree(tree)
    rows = read_votes(table, tree, votes)
    if not len(rows):
        raise InputError(f"{table} holds no galaxy")
    files = image_files(images)
    names = rows["object_id"] if mapping is None else rows["object_id"].map(read_mapping(mapping))
    file = names.map(files)
    lost = rows.loc[file.isna(), "object_id"].tolist()
    if len(lost) > max_missing * len(rows):
        raise InputError(
            f"{len(lost)} of the {len(rows)} galaxies of {table} have no image in {images} (object ids {_some(lost)}); "
            f"check the folder{'' if mapping is None else f' and {mapping}'}, or allow it with --max_missing 1"
        )
    rows, file = rows[file.notna()], file[file.notna()]
    return Catalog(
        origin="votes",
        tree=tree.name,
        class_names=tree.class_names,
        object_ids=tuple(rows["object_id"]),
        files=tuple(file),
        confidences=tree.confidences({answer: rows[answer].to_numpy() for answer in tree.answers}),
    )


def catalog_from_folders(root: str | Path, tree: str | Tree | None = None) -> Catalog:
    """Galaxies in class folders, ``<root>/<class>/<id>.jpg``: the folder is the label, with confidence 1.

    Args:
        root: The folder of class folders.
        tree: The tree whose leaves the folders are; None: the tree whose leaves are named like the folders or, if there
            is none, the folders in alphabetical order.

    Raises:
        InputError: If there is no class folder, a folder holds no image, a folder is no leaf of ``tree``, or an object
            is in two classes.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"there is no image folder {root}")
    folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise InputError(f"{root} has no class folders; a folder of images needs its vote table (--table)")
    if tree is None:
        tree = next((known for known in TREES.values() if {leaf.folder for leaf in known.leaves} == set(folders)), None)
    if tree is None:
        name, class_names, order = "", tuple(folders), folders
    else:
        tree = get_tree(tree)
        name, class_names, order = tree.name, tree.class_names, [leaf.folder for leaf in tree.leaves]
        if set(order) != set(folders):
            raise InputError(
                f"the folders of {root} ({', '.join(folders)}) are not the leaves of '{name}' ({', '.join(order)})"
            )
    files = [image_files(root / folder) for folder in order]
    owner: dict[str, int] = {}
    for label, members in enumerate(files):
        double = [object_id for object_id in members if object_id in owner]
        if double:
            raise InputError(
                f"{len(double)} galaxies of {root / order[label]} are in another class as well "
                f"({_some([f'{i} in {order[owner[i]]}' for i in double])}); keep each in one"
            )
        owner |= dict.fromkeys(members, label)
    return Catalog(
        origin="folders",
        tree=name,
        class_names=class_names,
        object_ids=tuple(owner),
        files=tuple(file for members in files for file in members.values()),
        confidences=np.eye(len(order))[list(owner.values())],
    )
