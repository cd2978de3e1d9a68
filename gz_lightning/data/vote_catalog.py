"""Vote tables with images -> one row per galaxy: object id, image, leaf confidences.

Shapes: N galaxies, K leaves.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gz_lightning.data.catalog import Catalog
from gz_lightning.data.layouts import VoteKind, layout_of
from gz_lightning.data.object_ids import repeats
from gz_lightning.data.pictures import Rows, check_all_rounded, find_images, shard_splits
from gz_lightning.data.tables import tables_of
from gz_lightning.data.tree import Tree, get_tree
from gz_lightning.data.votes import vote_pieces
from gz_lightning.errors import InputError
from gz_lightning.settings import AnyTable


def tree_of(tables: Any, tree: str | Tree | None = None, images_inside: bool = False) -> Tree:
    """The tree that is asked for, or the one that the votes of the tables serve."""
    return get_tree(layout_of(tables_of(tables)[0], images_inside=images_inside).tree if tree is None else tree)


def catalog_from_votes(
    tables: Any,
    images: AnyTable | list[Any] | None = None,
    mapping: str | Path | None = None,
    tree: str | Tree | None = None,
    votes: VoteKind | None = None,
    max_missing: float = 0.05,
    keep_unlikely: bool = False,
) -> Catalog:
    """Galaxies of vote tables that have an image.

    Args:
        tables: A vote table or several of one layout, see :func:`gz_lightning.data.tables.tables_of`.
        images: Folder of ``<asset_id>.jpg`` (with a mapping), of ``<object id>.jpg``, or of the ``<subfolder>/<filename>``
            that the catalogues of galaxy-datasets name; or larger files with images and object ids, as a list. Default:
            the images are inside the tables.
        mapping: ``gz2_filename_mapping.csv`` of the published images; None if images are named by object id.
        tree: A tree or its name. Default: the one that the votes serve, see :func:`tree_of`.
        votes: Which votes; see :func:`gz_lightning.data.votes.read_votes`.
        max_missing: Share of galaxies, 0 to 1, that may lack an image. The published archive lacks a few.
        keep_unlikely: Do not ask whether a galaxy is likelier to be something that the tree leaves out; the table then
            needs no votes for it.

    Raises:
        InputError: As :func:`gz_lightning.data.votes.read_votes`; if a galaxy has different rows; if the tables have
            different kinds of votes; or if more than ``max_missing`` of the galaxies have no image.
    """
    inside = images is None
    sources = tables_of(tables)
    if not sources:
        raise InputError("--table names no vote table")
    tree = tree_of(sources[0], tree, inside)
    needed = tree if keep_unlikely else tree.with_left_out
    layouts = [layout_of(source, tree.schema, inside) for source in sources]
    kinds = [layout.kind(source, needed, votes) for source, layout in zip(sources, layouts, strict=True)]
    if len(set(kinds)) > 1:
        other = next(place for place, kind in enumerate(kinds) if kind != kinds[0])
        raise InputError(
            f"{sources[0]} would be read by its {kinds[0]} votes, {sources[other]} by its {kinds[other]}; name one with "
            "--votes"
        )
    found: dict[str, list[Any]] = {}
    for place, (source, layout, kind) in enumerate(zip(sources, layouts, kinds, strict=True)):
        row = 0
        for piece in vote_pieces(source, needed, layout, kind):
            fractions = {answer: piece[answer].to_numpy() for answer in needed.answers}
            columns = {
                "ids": piece["object_id"],
                "confidences": tree.confidences(fractions).astype(np.float32),
                "unlikely": None if keep_unlikely else tree.unlikely(fractions),
                "classifications": piece["classifications"].to_numpy() if "classifications" in piece else None,
                "named": piece.get("file"),
                "places": np.full(len(piece), place, dtype=np.int16),
                "rows": np.arange(row, row + len(piece), dtype=np.int32),
            }
            for name, values in columns.items():
                found.setdefault(name, []).append(values)
            row += len(piece)
    if not found:
        raise InputError(f"{sources[0]} holds no galaxy")

    def joined(name: str, lacking: Any = None) -> Any:
        """All pieces of a column, which are let go; None if no table has it."""
        pieces = found.pop(name)
        if all(piece is None for piece in pieces):
            return None
        sizes = [len(piece) for piece in found["rows"]] if "rows" in found else []
        filled = [np.full(size, lacking) if piece is None else piece for piece, size in zip(pieces, sizes, strict=True)]
        return np.concatenate(filled)

    ids = pd.concat(found.pop("ids"), ignore_index=True)
    named = None if any(piece is None for piece in found["named"]) else pd.concat(found["named"], ignore_index=True)
    confidences, unlikely = joined("confidences"), joined("unlikely")
    classifications, places = joined("classifications", np.nan), joined("places")
    galaxies = Rows(sources, ids, places, np.concatenate(found["rows"]), named)
    check_all_rounded(galaxies, [layout.object_id for layout in layouts])
    read = [confidences] if classifications is None else [confidences, classifications]
    repeated = repeats(galaxies.ids, read, [*tree.class_names, "classifications"], galaxies.where)
    notes = [f"{int(repeated.sum())} rows repeat another of the same object id, and count once"] if repeated.any() else []
    if repeated.any():
        galaxies, confidences = galaxies.keep(~repeated), confidences[~repeated]
        unlikely = None if unlikely is None else unlikely[~repeated]
        classifications = None if classifications is None else classifications[~repeated]
    files, used = find_images(galaxies, images, mapping, max_missing)
    splits = shard_splits(sources) if inside else None
    missing = tuple(galaxies.ids[~used])
    if missing:
        galaxies, confidences = galaxies.keep(used), confidences[used]
    return Catalog(
        tree=tree.name,
        class_names=tree.class_names,
        object_ids=galaxies.ids.array,  # compact, and indexed like a sequence
        confidences=confidences,
        files=files,
        classifications=classifications if classifications is None or not missing else classifications[used],
        unlikely=unlikely if unlikely is None or not missing else unlikely[used],
        splits=None if splits is None else [splits[place] for place in galaxies.places],
        missing=missing,
        notes=tuple(notes),
    )
