"""Vote tables with images, or class folders -> one row per galaxy: object id, image file, leaf confidences.

Shapes: N galaxies, K leaves, n galaxies taken.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from gz_lightning.data.packing import Contents
from gz_lightning.data.selection import SPLITS, Selection
from gz_lightning.data.tree import TREES, Tree, get_tree
from gz_lightning.data.votes import VoteKind, read_mapping, read_votes, some
from gz_lightning.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Catalog:
    """Galaxies that have both an image and a place on a tree.

    Args:
        tree: Name of the tree; empty for class folders that belong to none.
        class_names: Names of the K leaves.
        object_ids: N object ids.
        confidences: Leaf confidences in [0, 1], float64, shape (N, K).
        files: N image files; none for simulated galaxies.
        classifications: How many volunteers looked at each galaxy, float64, shape (N,); None: unknown.
        splits: Split of each galaxy (``train``, ``val`` or ``test``) if the folders are split; else None.
        missing: Object ids in the table that have no image.
    """

    tree: str
    class_names: tuple[str, ...]
    object_ids: tuple[str, ...]
    confidences: npt.NDArray[np.float64]
    files: tuple[Path, ...] = ()
    classifications: npt.NDArray[np.float64] | None = None
    splits: tuple[str, ...] | None = None
    missing: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.object_ids)

    def take(self, selection: Selection) -> Contents:
        """What a packed file of the selected galaxies holds beside their pixels."""
        return Contents(
            labels=selection.labels,
            confidences=self.confidences[selection.rows],
            object_ids=[self.object_ids[row] for row in selection.rows],
            splits=selection.splits,
            class_names=self.class_names,
            tree=self.tree,
        )


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
        folders = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        hint = f"; it has the folders {some(folders)}: is one of them meant?" if folders else ""
        raise InputError(f"the image folder {folder} holds no image ({', '.join(IMAGE_SUFFIXES)}){hint}")
    return files


def catalog_from_votes(
    tables: str | Path | Sequence[str | Path],
    images: str | Path,
    mapping: str | Path | None = None,
    tree: str | Tree = "simplified",
    votes: VoteKind | None = None,
    max_missing: float = 0.05,
) -> Catalog:
    """Galaxies of vote tables whose images are in a folder.

    Args:
        tables: A vote table or several of one layout, see :func:`gz_lightning.data.votes.read_votes`.
        images: Folder of ``<asset_id>.jpg`` (with a mapping), of ``<object id>.jpg``, or of the ``<subfolder>/<filename>``
            that the catalogues of galaxy-datasets name.
        mapping: ``gz2_filename_mapping.csv`` of the published images; None if images are named by object id.
        tree: A tree or its name.
        votes: Which votes; see :func:`gz_lightning.data.votes.read_votes`.
        max_missing: Share of galaxies, 0 to 1, that may lack an image. The published archive lacks a few.

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
    twice = rows.loc[rows["object_id"].duplicated(), "object_id"].tolist()
    if twice:
        raise InputError(f"{len(twice)} object ids are in more than one of {where}: {some(twice)}; keep one row of each")
    if mapping is None and "file" in rows:
        if not Path(images).is_dir():
            raise InputError(f"there is no image folder {images}")
        named = [Path(images) / str(name) for name in rows["file"]]
        files = pd.Series([path if os.path.isfile(path) else None for path in named], dtype="object")
    else:
        names = rows["object_id"] if mapping is None else rows["object_id"].map(read_mapping(mapping))
        files = names.map(image_files(images))
    missing = rows.loc[files.isna(), "object_id"].tolist()
    if len(missing) > max_missing * len(rows) or len(missing) == len(rows):
        raise InputError(
            f"{len(missing)} of the {len(rows)} galaxies of {where} have no image in {images} (object ids {some(missing)}); "
            f"check the folder{'' if mapping is None else f' and {mapping}'}, or allow it with --max_missing 1"
        )
    rows, files = rows[files.notna()], files[files.notna()]
    return Catalog(
        tree=tree.name,
        class_names=tree.class_names,
        object_ids=tuple(rows["object_id"]),
        confidences=tree.confidences({answer: rows[answer].to_numpy() for answer in tree.answers}),
        files=tuple(files),
        classifications=rows["classifications"].to_numpy(np.float64) if "classifications" in rows else None,
        missing=tuple(missing),
    )


def catalog_from_folders(root: str | Path, tree: str | Tree | None = None) -> Catalog:
    """Galaxies in class folders, ``<root>/<class>/<id>.jpg``: the folder is the label, with confidence 1.

    A data set that comes with splits, ``<root>/train/<class>/<id>.jpg`` and ``<root>/test/<class>/<id>.jpg`` (and ``val``,
    if it has one), keeps them. Its object ids are the paths below the root, since such sets number the images of every
    folder anew.

    Args:
        root: The folder of class folders.
        tree: The tree whose leaves the folders are. Default: the tree whose leaves are named like the folders or, if there
            is none, the folders in alphabetical order.

    Raises:
        InputError: If there is no class folder, a folder holds no image, a folder is not a leaf of ``tree``, the splits
            have different classes, or an object is in two classes.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"there is no image folder {root}")
    folders = _folders(root)
    if not folders:
        raise InputError(f"{root} has no class folders; a folder of images needs its vote table (--table)")
    splits = folders if "train" in folders and set(folders) <= set(SPLITS) else []
    parent = root / "train" if splits else root
    classes = _folders(parent)
    name, class_names, order = _classes(parent, classes, tree)
    members = [] if splits else [(object_id, label, file, "") for object_id, (label, file) in _members(root, order).items()]
    for split in splits:
        if _folders(root / split) != classes:
            raise InputError(
                f"{root / split} has the classes {', '.join(_folders(root / split)) or 'none'}, but {parent} "
                f"{', '.join(classes)}; give both the same"
            )
        for label, folder in enumerate(order):
            files = image_files(root / split / folder).values()
            members += [(file.relative_to(root).as_posix(), label, file, split) for file in files]
    object_ids, labels, image_paths, split_names = zip(*members, strict=True)
    confidences = np.eye(len(class_names))[list(labels)]
    return Catalog(name, class_names, object_ids, confidences, image_paths, splits=split_names if splits else None)


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
            raise InputError(f"{folder} holds {name!r}, whose name is not UTF-8; rename it") from error


def _classes(root: Path, folders: list[str], tree: str | Tree | None) -> tuple[str, tuple[str, ...], list[str]]:
    """Name of the tree, names of the classes, and their folders, in the order of the labels."""
    if tree is None:
        tree = next((tree for tree in TREES.values() if {leaf.folder for leaf in tree.leaves} == set(folders)), None)
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
    members: dict[str, tuple[int, Path]] = {}
    for label, folder in enumerate(order):
        files = image_files(root / folder)
        twice = [object_id for object_id in files if object_id in members]
        if twice:
            raise InputError(
                f"{len(twice)} galaxies of {root / folder} are in another class as well "
                f"({some([f'{object_id} in {order[members[object_id][0]]}' for object_id in twice])}); keep each in one"
            )
        members |= {object_id: (label, file) for object_id, file in files.items()}
    return members
