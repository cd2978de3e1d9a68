"""Vote tables with images, or class folders -> one row per galaxy: object id, image file, leaf confidences.

Shapes: N galaxies, K leaves.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from gz_lightning.data.tree import TREES, Tree, get_tree
from gz_lightning.data.votes import read_mapping, read_votes
from gz_lightning.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
FOLDER_SPLITS = ("train", "val", "test")


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
        classifications: How many volunteers looked at each galaxy, shape (N,), float64; None where nobody says.
        splits: The split of each galaxy where the folders say so (``train``, ``val`` or ``test``); None: they do not.
        missing: Object ids of the galaxies of the table that have no image.
    """

    origin: str
    tree: str
    class_names: tuple[str, ...]
    object_ids: tuple[str, ...]
    files: tuple[Path, ...]
    confidences: npt.NDArray[np.float64]
    classifications: npt.NDArray[np.float64] | None = None
    splits: tuple[str, ...] | None = None
    missing: tuple[str, ...] = ()

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
    _check_names(folder, files)
    if not files:
        inside = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        hint = f"; it has the folders {_some(inside)}: is one of them meant?" if inside else ""
        raise InputError(f"the image folder {folder} holds no image ({', '.join(IMAGE_SUFFIXES)}){hint}")
    return files


def catalog_from_votes(
    tables: str | Path | Sequence[str | Path],
    images: str | Path,
    mapping: str | Path | None = None,
    tree: str | Tree = "simplified",
    votes: str | None = None,
    max_missing: float = 0.05,
) -> Catalog:
    """Galaxies of vote tables whose images are in a folder.

    Args:
        tables: A vote table or several of one layout, see :func:`gz_lightning.data.votes.read_votes`.
        images: Folder of ``<asset_id>.jpg`` (with a mapping), of ``<object id>.jpg``, or of the ``<subfolder>/<filename>``
            that the catalogues of galaxy-datasets name.
        mapping: ``gz2_filename_mapping.csv`` of the published images; None where images are named by object id.
        tree: A tree or its name.
        votes: Which votes: ``weighted_fraction``, ``fraction`` or ``debiased``; None: the first of these that there is.
        max_missing: Share of galaxies, 0 to 1, that may be without an image. The published archive lacks a few.

    Raises:
        InputError: As :func:`read_votes`, :func:`read_mapping` and :func:`image_files`; if a galaxy is in two tables; or
            if more than ``max_missing`` of the galaxies have no image (counted, some are listed).
    """
    tree = get_tree(tree)
    paths = [Path(table) for table in ([tables] if isinstance(tables, (str, Path)) else tables)]
    if not paths:
        raise InputError("--table names no vote table")
    rows = pd.concat([read_votes(path, tree, votes) for path in paths], ignore_index=True)
    where = " and ".join(str(path) for path in paths)
    double = rows.loc[rows["object_id"].duplicated(), "object_id"].tolist()
    if double:
        raise InputError(f"{len(double)} object ids are in more than one of {where}: {_some(double)}; keep one row of each")
    if mapping is None and "file" in rows:
        found = [Path(images) / str(name) for name in rows["file"]]
        file = pd.Series([path if os.path.isfile(path) else None for path in found], dtype="object")
        if not Path(images).is_dir():
            raise InputError(f"there is no image folder {images}")
    else:
        names = rows["object_id"] if mapping is None else rows["object_id"].map(read_mapping(mapping))
        file = names.map(image_files(images))
    lost = rows.loc[file.isna(), "object_id"].tolist()
    if len(lost) > max_missing * len(rows) or len(lost) == len(rows):
        raise InputError(
            f"{len(lost)} of the {len(rows)} galaxies of {where} have no image in {images} (object ids {_some(lost)}); "
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
        classifications=rows["classifications"].to_numpy(np.float64) if "classifications" in rows else None,
        missing=tuple(lost),
    )


def catalog_from_folders(root: str | Path, tree: str | Tree | None = None) -> Catalog:
    """Galaxies in class folders, ``<root>/<class>/<id>.jpg``: the folder is the label, with confidence 1.

    A data set that comes with splits, ``<root>/train/<class>/<id>.jpg`` and ``<root>/test/<class>/<id>.jpg`` (``val`` as
    well, if it likes), keeps them; an object id is then the path below the root, since such sets number their images anew
    in every folder.

    Args:
        root: The folder of class folders.
        tree: The tree whose leaves the folders are; None: the tree whose leaves are named like the folders or, if there
            is none, the folders in alphabetical order.

    Raises:
        InputError: If there is no class folder, a folder holds no image, a folder is no leaf of ``tree``, the splits are
            not of the same classes, or an object is in two classes.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"there is no image folder {root}")
    folders = _folders(root)
    if not folders:
        raise InputError(f"{root} has no class folders; a folder of images needs its vote table (--table)")
    given = folders if "train" in folders and set(folders) <= set(FOLDER_SPLITS) else []
    classes = _folders(root / "train") if given else folders
    name, class_names, order = _classes(root / "train" if given else root, classes, tree)
    if not given:
        owner = _members(root, order)
        return _from_folders(name, class_names, [(stem, *place) for stem, place in owner.items()], None)
    members, splits = [], []
    for split in given:
        if _folders(root / split) != classes:
            raise InputError(
                f"{root / split} has the classes {', '.join(_folders(root / split)) or 'none'}, but {root / 'train'} "
                f"{', '.join(classes)}; give both the same"
            )
        for label, folder in enumerate(order):
            files = image_files(root / split / folder).values()
            members += [(file.relative_to(root).as_posix(), label, file) for file in files]
            splits += [split] * len(files)
    return _from_folders(name, class_names, members, tuple(splits))


def _folders(root: Path) -> list[str]:
    names = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    _check_names(root, names)
    return names


def _check_names(folder: Path, names: Iterable[str]) -> None:
    """Names become object ids and leaves, which are text."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{folder} holds {name!r}, whose name is no UTF-8; rename it") from error


def _classes(root: Path, folders: list[str], tree: str | Tree | None) -> tuple[str, tuple[str, ...], list[str]]:
    """Name of the tree, names of the classes, and their folders, in the order of the labels."""
    if tree is None:
        tree = next((known for known in TREES.values() if {leaf.folder for leaf in known.leaves} == set(folders)), None)
    if tree is None:
        return "", tuple(folders), folders
    tree = get_tree(tree)
    order = [leaf.folder for leaf in tree.leaves]
    if set(order) != set(folders):
        raise InputError(
            f"the folders of {root} ({', '.join(folders)}) are not the leaves of '{tree.name}' ({', '.join(order)})"
        )
    return tree.name, tree.class_names, order


def _members(root: Path, order: list[str]) -> dict[str, tuple[int, Path]]:
    """Object id -> label and image."""
    owner: dict[str, tuple[int, Path]] = {}
    for label, folder in enumerate(order):
        files = image_files(root / folder)
        double = [object_id for object_id in files if object_id in owner]
        if double:
            raise InputError(
                f"{len(double)} galaxies of {root / folder} are in another class as well "
                f"({_some([f'{i} in {order[owner[i][0]]}' for i in double])}); keep each in one"
            )
        owner |= {object_id: (label, file) for object_id, file in files.items()}
    return owner


def _from_folders(
    name: str, class_names: tuple[str, ...], members: Sequence[tuple[str, int, Path]], splits: tuple[str, ...] | None
) -> Catalog:
    object_ids, labels, files = zip(*members, strict=True)
    confidences = np.eye(len(class_names))[list(labels)]
    return Catalog("folders", name, class_names, object_ids, files, confidences, splits=splits)
