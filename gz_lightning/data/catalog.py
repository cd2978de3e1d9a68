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
from gz_lightning.data.votes import LONG_ID, VoteKind, read_mapping, read_votes, some
from gz_lightning.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Folder, in any case -> its split."""


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
        unlikely: Which galaxies are likelier to be something that the tree leaves out, shape (N,); None: unknown. See
            :meth:`gz_lightning.data.tree.Tree.unlikely`.
        splits: Split of each galaxy (``train``, ``val`` or ``test``) if the folders are split; else None.
        missing: Object ids in the table that have no image.
    """

    tree: str
    class_names: tuple[str, ...]
    object_ids: tuple[str, ...]
    confidences: npt.NDArray[np.float64]
    files: tuple[Path, ...] = ()
    classifications: npt.NDArray[np.float64] | None = None
    unlikely: npt.NDArray[np.bool_] | None = None
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
    keep_unlikely: bool = False,
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
        keep_unlikely: Do not ask whether a galaxy is likelier to be something that the tree leaves out; the table then
            needs no votes for it.

    Raises:
        InputError: As :func:`read_votes`, :func:`read_mapping` and :func:`image_files`; if a galaxy is in two tables; or
            if more than ``max_missing`` of the galaxies have no image (counted, some are listed).
    """
    tree = get_tree(tree)
    paths = [Path(table) for table in ([tables] if isinstance(tables, (str, Path)) else tables)]
    if not paths:
        raise InputError("--table names no vote table")
    needed = tree if keep_unlikely else tree.with_left_out
    rows = pd.concat([read_votes(path, needed, votes) for path in paths], ignore_index=True)
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
        assets = None if mapping is None else read_mapping(mapping)
        if assets is not None:
            _check_digits(where, rows["object_id"], Path(mapping or ""), set(assets.index))
        files = (rows["object_id"] if assets is None else rows["object_id"].map(assets)).map(image_files(images))
    missing = rows.loc[files.isna(), "object_id"].tolist()
    if len(missing) > max_missing * len(rows) or len(missing) == len(rows):
        raise InputError(
            f"{len(missing)} of the {len(rows)} galaxies of {where} have no image in {images} (object ids {some(missing)}); "
            f"check the folder{'' if mapping is None else f' and {mapping}'}, or allow it with --max_missing 1"
        )
    rows, files = rows[files.notna()], files[files.notna()]
    fractions = {answer: rows[answer].to_numpy() for answer in needed.answers}
    return Catalog(
        tree=tree.name,
        class_names=tree.class_names,
        object_ids=tuple(rows["object_id"]),
        confidences=tree.confidences(fractions),
        files=tuple(files),
        classifications=rows["classifications"].to_numpy(np.float64) if "classifications" in rows else None,
        unlikely=None if keep_unlikely else tree.unlikely(fractions),
        missing=tuple(missing),
    )


def _check_digits(tables: str, object_ids: Iterable[str], mapping: Path, mapped: set[str]) -> None:
    """Refuse a mapping that has rounded forms of ids that it lacks: to a double, or to the 15 digits of spreadsheets."""
    lacking = [object_id for object_id in object_ids if object_id not in mapped]
    rounded: dict[str, str] = {}
    for object_id in filter(LONG_ID.fullmatch, lacking):
        for form in (int(float(object_id)), round(int(object_id), 15 - len(object_id))):
            if str(form) in mapped:
                rounded[object_id] = str(form)
    if rounded and 2 * len(rounded) >= len(lacking):
        object_id, digits = next(iter(rounded.items()))
        raise InputError(
            f"{mapping} has lost the last digits of {len(rounded)} object ids: it has {digits} where {tables} has "
            f"{object_id}; export its column objid as text"
        )


def catalog_from_folders(root: str | Path, tree: str | Tree | None = None) -> Catalog:
    """Galaxies in class folders, ``<root>/<class>/<id>.jpg``: the folder is the label, with confidence 1.

    A data set that comes with splits, ``<root>/train/<class>/<id>.jpg`` and so on, keeps them; :data:`SPLIT_FOLDERS` has the
    names of its folders. Object ids are file names without suffix, or paths below the root if the data set is split or two
    classes use the same file name, since such sets number the images of every folder anew.

    Args:
        root: The folder of class folders.
        tree: The tree whose leaves the folders are. Default: the tree whose leaves are named like the folders or, if there
            is none, the folders in alphabetical order.

    Raises:
        InputError: If there are fewer than two class folders, a folder holds no image, a folder is not a leaf of ``tree``,
            the splits have different classes, or two folders are of one split.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"there is no image folder {root}")
    folders = _folders(root)
    if not folders:
        raise InputError(f"{root} has no class folders; a folder of images needs its vote table (--table)")
    splits = _splits(root, folders)
    first = next((folder for folder, split in splits.items() if split == "train"), "")
    classes = _folders(root / first)
    if len(classes) < 2:
        raise InputError(
            f"{root / first} has the class folders {some(classes) or 'none'}; training needs at least two classes"
        )
    name, class_names, order = _classes(root / first, classes, tree)
    images: list[tuple[str, str, int, Path]] = []  # file name without suffix, split, label, file
    for folder, split in splits.items():
        if _folders(root / folder) != classes:
            raise InputError(
                f"{root / folder} has the classes {', '.join(_folders(root / folder)) or 'none'}, but {root / first} "
                f"{', '.join(classes)}; give both the same"
            )
        for label, leaf in enumerate(order):
            images += [(stem, split, label, file) for stem, file in image_files(root / folder / leaf).items()]
    stems, split_names, labels, files = zip(*images, strict=True)
    by_path = bool(first) or len(set(stems)) < len(stems)
    object_ids = tuple(file.relative_to(root).as_posix() for file in files) if by_path else stems
    confidences = np.eye(len(class_names))[list(labels)]
    return Catalog(name, class_names, object_ids, confidences, files, splits=split_names if first else None)


def _splits(root: Path, folders: Sequence[str]) -> dict[str, str]:
    """Folder -> split, if the folders are splits; else the root as the only folder, of no split."""
    splits = {folder: SPLIT_FOLDERS.get(folder.lower(), "") for folder in folders}
    if not all(splits.values()) or "train" not in splits.values():
        return {"": ""}
    for split in SPLITS:
        same = [folder for folder in folders if splits[folder] == split]
        if len(same) > 1:
            raise InputError(f"{root} has the folders {' and '.join(same)}, which are both {split}; join them")
    return splits


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
