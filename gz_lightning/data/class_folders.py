"""Class folders, ``<root>/<class>/<id>.jpg``: the folder is the label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from gz_lightning.data.archives import HDF5_SUFFIXES, IMAGE_SUFFIXES, TAR_SUFFIXES
from gz_lightning.data.arrow import PARQUET_SUFFIXES
from gz_lightning.data.catalog import Catalog, ordered_classes
from gz_lightning.data.object_ids import some
from gz_lightning.data.selection import SPLITS
from gz_lightning.data.tables import check_packed
from gz_lightning.data.tree import Tree
from gz_lightning.errors import InputError, entries

SHARDS = (*PARQUET_SUFFIXES, *TAR_SUFFIXES, *HDF5_SUFFIXES)
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


def image_files(folder: str | Path) -> dict[str, Path]:
    """Images directly in ``folder``, by file name without suffix.

    Raises:
        InputError: If there is no such folder, no image in it, or two of one name but for the suffix.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no image folder {folder}")
    images = [file for file in entries(folder) if file.suffix.lower() in IMAGE_SUFFIXES]
    files = {file.stem: file for file in images}
    _check_names(folder, files)
    if twice := [file for file in images if files[file.stem] != file]:
        raise InputError(
            f"{folder} holds {twice[0].name} and {files[twice[0].stem].name}, and nobody says which is the image of "
            f"{twice[0].stem}; remove or rename one of them ({len(twice)} such images)"
        )
    if not files:
        folders = [entry.name for entry in entries(folder) if entry.is_dir()]
        hint = f"; it has the folders {some(folders)}: is one of them meant?" if folders else ""
        raise InputError(f"the image folder {folder} holds no image ({', '.join(IMAGE_SUFFIXES)}){hint}")
    return files


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
    check_packed(root)
    if not root.is_dir():
        raise InputError(f"there is no image folder {root}")
    folders = _folders(root)
    if not folders:
        shards = [entry.name for entry in entries(root) if entry.name.lower().endswith(SHARDS)]
        hint = f"; its shards are {some(shards)}: give the folder with --table" if shards else ""
        raise InputError(f"{root} has no class folders; a folder of images needs its vote table (--table){hint}")
    splits = _splits(root, folders)
    first = next((folder for folder, split in splits.items() if split == "train"), "")
    classes = _folders(root / first)
    if len(classes) < 2:
        raise InputError(f"{root / first} has the class folders {some(classes)}; training needs at least two classes")
    name, class_names, order = ordered_classes(root / first, classes, tree)
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
    names = [entry.name for entry in entries(root) if entry.is_dir() and not entry.name.startswith(".")]
    _check_names(root, names)
    return names


def _check_names(folder: Path, names: Iterable[str]) -> None:
    """Names become object ids and leaves, which are text."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{folder} holds {name!r}, whose name is not UTF-8; rename it") from error
