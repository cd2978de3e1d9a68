"""``gz-lightning prepare``: galaxies of any origin -> one packed file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch

from gz_lightning.cost import announce
from gz_lightning.data.arrow import DatasetTable
from gz_lightning.data.catalog import Catalog
from gz_lightning.data.class_columns import catalog_from_classes, class_column
from gz_lightning.data.class_folders import catalog_from_folders
from gz_lightning.data.contact_sheet import write_contact_sheet
from gz_lightning.data.cutouts import Rejects
from gz_lightning.data.embedded import containers_of, has_images
from gz_lightning.data.layouts import SeveralSurveys, VoteKind, layout_of
from gz_lightning.data.pack import Prepared, pack
from gz_lightning.data.packing import BATCH, write_packed
from gz_lightning.data.selection import select
from gz_lightning.data.simulation import simulate_galaxies
from gz_lightning.data.tables import Table, tables_of
from gz_lightning.data.tree import TREES, Leaf, get_tree
from gz_lightning.data.vote_catalog import catalog_from_votes, tree_of
from gz_lightning.errors import InputError
from gz_lightning.progress import doing, say
from gz_lightning.settings import AnyTable, NonNegativeInt, PositiveInt, Range, Share, checked
from gz_lightning.storage.whole import locked


@checked
def prepare(
    output: Path,
    images: AnyTable | list[AnyTable] | None = None,
    table: AnyTable | list[AnyTable] | None = None,
    mapping: Path | None = None,
    tree: str | None = None,
    votes: VoteKind | None = None,
    class_column: str | None = None,
    per_class: PositiveInt | None = 600,
    min_confidence: Share = 0.0,
    min_votes: NonNegativeInt = 0,
    resolution: Annotated[int, Range(least=8)] = 128,
    crop: Annotated[float, Range(above=0, most=1)] = 0.5,
    cutout_size: NonNegativeInt | None = None,
    val_fraction: Annotated[float, Range(least=0, below=1)] = 0.1,
    test_fraction: Annotated[float, Range(least=0, below=1)] = 0.2,
    keep_unlikely: bool = False,
    max_missing: Share = 0.05,
    max_rejects: Share = 0.05,
    strict: bool = False,
    report: Path | None = None,
    workers: PositiveInt | None = None,
    seed: NonNegativeInt = 0,
    overwrite: bool = False,
) -> Prepared:
    """Pack the most confident galaxies of each leaf into one HDF5 file.

    With a vote table: the galaxies of the table whose cut-outs are in the image folder or, if the table is Parquet with
    the pictures inside, in the table itself. With an image folder alone: its class folders are the labels. With neither:
    simulated galaxies. A contact sheet of six galaxies of each leaf lies beside the output, in a file that ends in
    .contact_sheet.png. An interrupted run resumes when it is run again: decoded images are kept beside the output, in a
    file that ends in .unfinished. --list_trees draws all trees, or that of --tree alone, and does nothing else.

    Args:
        output: The packed file to write.
        images: Folder of cut-outs (with a table), of class folders of cut-outs, or of train and test folders of those; or
            files that hold many: Parquet, WebDataset tar, HDF5, a folder or a pattern (train-*) of them, in a notebook
            also a datasets.Dataset. Default: the images are inside the table.
        table: Vote table: CSV, FITS, VOTable or Parquet, recognised by its columns: Hart et al. (2016), such as
            gz2_hart16.csv.gz; Willett et al. (2013); zoo2MainSpecz of SDSS; galaxy-datasets, DECaLS, DESI, Hubble, CANDELS,
            UKIDSS, rings, Cosmic Dawn, Euclid and JWST; Kaggle's solutions. Or a folder of Parquet shards, a pattern, a
            list, a datasets.Dataset.
        mapping: gz2_filename_mapping.csv of the published images; leave it out if images are named by object id.
        tree: simplified (ten leaves), simplified9 (without stars and artifacts), coarse5 (five), that of another survey
            (see --list_trees), or a .yaml file with a tree of your own. Default: simplified or that of the table's survey,
            or the tree whose leaves the classes are named after.
        votes: Which votes of the table. Default: the first of weighted_fraction, fraction and debiased that it has. Debiased
            votes put 41 % of 1,000 galaxies on another leaf of simplified than weighted ones.
        class_column: Column of the table that holds classes, as the folders of class folders do. Default: votes, or if
            the table has none a column of classes by its name (label, summary, ...).
        per_class: Most galaxies of each leaf, the most confident first. 600 is the published subset, 100 the first one;
            null takes all.
        min_confidence: Only galaxies whose leaf has at least this confidence.
        min_votes: Only galaxies that at least so many volunteers looked at.
        resolution: Side of the packed images in pixels. 128 is the published one.
        crop: Side of the central square kept of each cut-out, as a share of it. 0.5 is the published one; 1 keeps all.
        cutout_size: Side of the cut-outs in pixels; others are rejected. Default: the size of most of the first hundred; 0
            takes any.
        val_fraction: Share of galaxies for validation, by hash of the object id.
        test_fraction: Share of galaxies for testing, by hash of the object id; folders that are split keep their splits.
        keep_unlikely: Keep galaxies that are likelier to be something the tree has no leaf for than any of its leaves, such
            as stars with simplified9. By default they are left out and counted.
        max_missing: Share of the table's galaxies that may be without an image.
        max_rejects: Share of the selected galaxies whose image may be unusable: damaged, greyscale, CMYK or of another
            size, without contrast, with transparent
            pixels, or in two splits. They are skipped and listed in a file beside the output that ends in .rejects.csv.
        strict: Stop at the first unusable image.
        report: Folder for the report as a table (leaves.csv) and a figure (confidences.png).
        workers: Threads that decode images. Default: one per core.
        seed: Seed of the simulated galaxies; real ones need none.
        overwrite: Write over an existing output.

    Raises:
        InputError: If a setting, file or table cannot be used; no output is written then.

    Example:
        >>> prepared = prepare("gz2.h5", images="gz2/images", table="gz2/gz2_hart16.csv.gz")  # doctest: +SKIP
        >>> prepared.report, prepared.plot()  # doctest: +SKIP
    """
    output = Path(output)
    if output.exists() and not overwrite:
        raise InputError(f"{output} exists; name another --output, or write over it with --overwrite true")
    if mapping is not None and (table is None or images is None):
        raise InputError("--mapping goes with a vote table (--table) and the folder of its cut-outs (--images)")
    simulated = images is None and table is None
    if simulated and per_class is None:
        raise InputError("--per_class null takes all galaxies there are; of simulated ones say how many")
    if simulated and class_column is not None:
        raise InputError("--class_column goes with a table (--table)")
    if (simulated or table is not None) and tree is not None and len(get_tree(tree)) < 2:
        raise InputError(f"--tree {tree} has a single leaf; training needs at least two classes")
    configuration: dict[str, Any] = {  # all settings that the content of the file depends on
        "images": images,
        "table": table,
        "mapping": mapping,
        "tree": tree,
        "votes": votes,
        "class_column": class_column,
        "per_class": per_class,
        "min_confidence": min_confidence,
        "min_votes": min_votes,
        "resolution": resolution,
        "crop": crop,
        "cutout_size": cutout_size,
        "val_fraction": val_fraction,
        "test_fraction": test_fraction,
        "keep_unlikely": keep_unlikely,
        "max_missing": max_missing,
        "seed": seed,
    }
    with locked(output.with_name(f".{output.name}.lock"), f"{output}; wait for it, or name another --output"):
        if simulated:
            assert per_class is not None
            prepared = _simulate(output, configuration, tree, per_class, resolution, val_fraction, test_fraction, seed)
        else:
            origin = images, table, mapping, tree, votes, class_column
            with doing("reading the galaxies' labels and looking for their images"):
                catalog = _catalog(configuration, *origin, max_missing, keep_unlikely)
            say(f"{len(catalog)} galaxies with images")
            selection = select(
                catalog.object_ids,
                catalog.confidences,
                catalog.class_names,
                per_class,
                min_confidence,
                val_fraction,
                test_fraction,
                classifications=catalog.classifications,
                min_votes=min_votes,
                unlikely=catalog.unlikely,
                given_splits=catalog.splits,
            )
            limit = 0 if strict else int(max_rejects * len(selection.rows))
            prepared = pack(
                output, catalog, selection, configuration, cutout_size, workers or os.cpu_count() or 1, limit, strict
            )
    if report is not None:
        prepared.write_report(Path(report))
    try:
        return replace(prepared, sheet=write_contact_sheet(output))
    except InputError as error:  # a channel without contrast: the file is whole, and no network can train on it
        say(f"without a contact sheet: {error}")
        return prepared


def _catalog(
    configuration: dict[str, Any],
    images: Any,
    table: Any,
    mapping: Path | None,
    tree: str | None,
    votes: VoteKind | None,
    classes: str | None,
    max_missing: float,
    keep_unlikely: bool,
) -> Catalog:
    """The galaxies of whatever is given; ``configuration`` is told what they are made of."""
    inside = None if images is None else containers_of(images)
    if table is None and inside is None:
        if classes is not None:
            raise InputError(f"--class_column goes with a table, and {images} is none; class folders are their own")
        return catalog_from_folders(images, tree)
    tables = tables_of(table) if table is not None else inside
    assert tables is not None
    apart = table is not None and images is not None
    if not apart and (lacking := next((one for one in tables if not has_images(one)), None)) is not None:
        raise InputError(f"--table {lacking} has no images inside; give the folder of its cut-outs with --images")
    pictures = (inside or images) if apart else None
    configuration["images"], configuration["table"] = (_shown(given) for given in (images, table))
    column = classes or class_column(tables)
    if classes is not None or (column is not None and not _has_votes(tables[0], tree, not apart)):
        if votes is not None:
            raise InputError(f"--votes {votes} goes with votes; the label is the column {column}")
        catalog = catalog_from_classes(tables, pictures, column, tree, mapping, max_missing)
    else:
        chosen = tree_of(tables, tree, not apart)
        configuration["leaves"] = {leaf.name: leaf.paths for leaf in chosen.leaves}
        catalog = catalog_from_votes(tables, pictures, mapping, chosen, votes, max_missing, keep_unlikely)
    configuration["table_sha256"] = [_sha256(one) for one in tables]  # read: a file that is none may have no end
    return catalog


def _has_votes(table: Table, tree: str | None, images_inside: bool) -> bool:
    """Whether a table, which has a column of classes, has all votes that the tree needs."""
    wanted = None if tree is None else get_tree(tree)
    try:
        layout = layout_of(table, None if wanted is None else wanted.schema, images_inside)
    except SeveralSurveys as error:
        raise InputError(f"{error}, or take the classes with --class_column") from error
    except InputError:
        return False
    return layout.serves if wanted is None else layout.reaches(wanted)


def _shown(given: Any) -> Any:
    """A setting as the file records it: a dataset in memory by its name alone."""
    if isinstance(given, (list, tuple)):
        return [_shown(one) for one in given]
    return given if given is None or isinstance(given, (str, os.PathLike)) else ", ".join(map(str, tables_of(given)))


def _sha256(table: Table) -> str:
    if isinstance(table, DatasetTable):
        return table.fingerprint
    try:
        with table.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{table} cannot be read: {error.strerror}") from error


def _simulate(
    output: Path,
    configuration: Mapping[str, Any],
    tree_name: str | None,
    per_class: int,
    resolution: int,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> Prepared:
    """Simulate as many galaxies of each leaf, and select and pack them like real ones."""
    tree, simplified = get_tree(tree_name or "simplified"), TREES["simplified"]

    def within(part: Leaf, leaf: Leaf) -> bool:
        """Whether each path of one leaf gives all answers of some path of the other."""
        return all(any(set(path.split()) >= set(other.split()) for other in leaf.paths) for path in part.paths)

    parts = [[label for label, part in enumerate(simplified.leaves) if within(part, leaf)] for leaf in tree.leaves]
    if not all(parts):
        raise InputError(
            f"the leaves of the tree '{tree.name}' are not made of simulated ones; use a tree of {simplified.name}"
        )
    announce(
        f"{len(parts) * per_class:,} simulated galaxies of {len(parts)} leaves at {resolution} px",
        *(2 * 4 * 3 * resolution**2 * len(parts) * per_class, 3 * resolution**2 * len(parts) * per_class, output),
    )
    made = torch.tensor([part[n % len(part)] for part in parts for n in range(per_class)])
    with doing("simulating galaxies"):
        simulated = simulate_galaxies(made, resolution=resolution, seed=seed)
    object_ids = tuple(f"simulated-{seed}-{i:06d}" for i in range(len(made)))
    catalog = Catalog(tree.name, tree.class_names, object_ids, tree.confidences(simulated.votes))
    selection = select(object_ids, catalog.confidences, tree.class_names, None, 0.0, val_fraction, test_fraction)
    rows = torch.from_numpy(selection.rows)
    batches = (simulated.images[rows[start : start + BATCH]].numpy() for start in range(0, len(rows), BATCH))
    write_packed(output, batches, catalog.take(selection), resolution=resolution, configuration=configuration)
    return Prepared(output, selection, *Rejects(output, {}, 0, False).write())
