"""Vote tables with images -> one row per galaxy: object id, image, leaf confidences.

Shapes: N galaxies, K leaves.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from gz_lightning.data.catalog import Catalog
from gz_lightning.data.layouts import VoteKind, layout_of
from gz_lightning.data.object_ids import check_all_have_ids, repeats
from gz_lightning.data.pictures import Rows, check_all_rounded, find_images, shard_splits, without_repeats
from gz_lightning.data.tables import stems, tables_of
from gz_lightning.data.tree import Tree, get_tree
from gz_lightning.data.votes import vote_pieces
from gz_lightning.errors import InputError
from gz_lightning.progress import track
from gz_lightning.settings import AnyTable


class Column:
    """Values of galaxies that arrive piece by piece, and are kept once: their memory grows in its place."""

    def __init__(self) -> None:
        self.values: Any = None
        self.number = 0

    def add(self, piece: npt.NDArray[Any]) -> None:
        """Add values, shape (n, ...)."""
        end = self.number + len(piece)
        if self.values is None:
            self.values = np.empty((end, *piece.shape[1:]), piece.dtype)
        elif end > len(self.values):
            self.values.resize((end + end // 8, *piece.shape[1:]), refcheck=False)
        self.values[self.number : end] = piece
        self.number = end

    def whole(self) -> Any:
        """All values."""
        if self.values is not None:
            self.values.resize((self.number, *self.values.shape[1:]), refcheck=False)
        return self.values


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
        InputError: As :func:`gz_lightning.data.votes.read_votes`; if a galaxy has different rows or images; if the tables
            have different kinds of votes, or only some have object ids; or if more than ``max_missing`` of the galaxies
            have no image.
    """
    inside = images is None
    sources = tables_of(tables)
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
    check_all_have_ids(sources, [layout.object_id for layout in layouts])
    ids, named = list[Any](), list[Any]()
    columns = {name: Column() for name in ("confidences", "unlikely", "classifications", "places", "rows")}
    known = list(zip(sources, layouts, kinds, stems(sources), strict=True))
    shards = track(known, "reading votes", len(known)) if len(known) > 1 else known
    for place, (source, layout, kind, stem) in enumerate(shards):
        row = 0
        for piece, found in vote_pieces(source, needed, layout, kind, stem):
            number = len(piece)
            ids.append(piece["object_id"])
            named.append(piece.get("file"))
            ours, others = found[:, : len(tree)], found[:, len(tree) :]
            columns["confidences"].add(ours.astype(np.float32))
            columns["unlikely"].add(ours.max(axis=1) < others.max(axis=1, initial=0))
            asked = piece["classifications"].to_numpy() if "classifications" in piece else np.full(number, np.nan)
            columns["classifications"].add(asked)
            columns["places"].add(np.full(number, place, dtype=np.int16))
            columns["rows"].add(np.arange(row, row + number, dtype=np.int32))
            row += number
    if not any(map(len, ids)):
        raise InputError(f"{sources[0]} holds no galaxy")
    confidences, unlikely, counted, places, rows = (column.whole() for column in columns.values())
    classifications = counted if any(layout.classifications is not None for layout in layouts) else None
    files_named = None if any(one is None for one in named) else pd.concat(named, ignore_index=True)
    galaxies = Rows(sources, pd.concat(ids, ignore_index=True), places, rows, files_named)
    check_all_rounded(galaxies, [layout.object_id for layout in layouts])
    notes = []
    if (unknown := np.isnan(confidences[:, 0])).any():
        which = f"the {kinds[0]} votes of {int(unknown.sum())} galaxies have nulls that leave open what they are, such as"
        first = int(unknown.argmax())
        which += f" {galaxies.ids[first]} in {galaxies.where(first)}"
        if unknown.all():
            raise InputError(f"{which}, which is all; are these the right columns? (name others with --votes)")
        notes.append(f"{which}; they are left out")
        galaxies, confidences, unlikely = galaxies.keep(~unknown), confidences[~unknown], unlikely[~unknown]
        classifications = None if classifications is None else classifications[~unknown]
    read = [confidences] if classifications is None else [confidences, classifications]
    repeated = repeats(galaxies.ids, read, [*tree.class_names, "classifications"], galaxies.where)
    if repeated.any():
        notes.append(f"{int(repeated.sum())} rows repeat another of the same object id, and count once")
        kept = without_repeats(galaxies, repeated, images, mapping)
        galaxies, confidences, unlikely = galaxies.keep(kept), confidences[kept], unlikely[kept]
        classifications = None if classifications is None else classifications[kept]
    files, used, missing = find_images(galaxies, images, mapping, max_missing)
    splits = shard_splits(sources) if inside else None
    if missing:
        galaxies, confidences = galaxies.keep(used), confidences[used]
    return Catalog(
        tree=tree.name,
        class_names=tree.class_names,
        object_ids=galaxies.ids.array,  # compact, and indexed like a sequence
        confidences=confidences,
        files=files,
        classifications=classifications if classifications is None or not missing else classifications[used],
        unlikely=None if keep_unlikely else unlikely[used] if missing else unlikely,
        splits=None if splits is None else [splits[place] for place in galaxies.places],
        missing=missing,
        notes=tuple(notes),
    )
