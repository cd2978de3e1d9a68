"""``gz-lightning prepare``: galaxies of any origin -> one packed file."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from matplotlib.figure import Figure

from gz_lightning.data.catalog import Catalog, catalog_from_folders, catalog_from_votes
from gz_lightning.data.cutouts import Rejects, common_size, decode_cutouts, in_groups, plan_of, refusing_huge
from gz_lightning.data.packing import BATCH, PackedWriter, write_packed
from gz_lightning.data.selection import SPLITS, Selection, select
from gz_lightning.data.simulation import simulate_galaxies
from gz_lightning.data.tree import TREES, Leaf, get_tree
from gz_lightning.data.votes import VoteKind
from gz_lightning.errors import InputError
from gz_lightning.progress import say, track
from gz_lightning.settings import NonNegativeInt, PositiveInt, Range, Share, checked
from gz_lightning.storage.whole import atomic_write, locked, require_disk


@dataclass(frozen=True)
class Prepared:
    """What ``prepare`` wrote.

    Args:
        path: The packed file.
        selection: The galaxies in it.
        rejects: Galaxies whose image is missing or cannot be used: ``object_id``, ``file`` and ``reason``.
        rejects_path: The file that lists them; None if there are none.
    """

    path: Path
    selection: Selection
    rejects: pd.DataFrame
    rejects_path: Path | None

    @property
    def report(self) -> pd.DataFrame:
        """One row per leaf, see :attr:`gz_lightning.data.selection.Selection.report`."""
        return self.selection.report

    def plot(self) -> Figure:
        """Histograms of the confidence of each leaf, see :meth:`gz_lightning.data.selection.Selection.plot`."""
        return self.selection.plot()

    def __str__(self) -> str:
        report = self.report
        lines = [report.to_string(index=False, float_format=lambda x: f"{x:.3f}")]
        short = report[report["lacking"] > 0]
        if len(short):
            counts = ", ".join(f"{leaf} ({taken})" for leaf, taken in zip(short["leaf"], short["taken"], strict=True))
            asked = f"the {self.selection.per_class} galaxies asked for"
            lines.append(f"{len(short)} leaves have fewer than {asked}: {counts}")
        for split in SPLITS:
            empty = report.loc[report[split] == 0, "leaf"]
            if len(empty):
                lines.append(f"no {split} galaxies in: {', '.join(empty)}")
        if report["unlikely"].any():
            lines.append(
                f"{report['unlikely'].sum()} galaxies left out, likelier to be something that the tree has no leaf for "
                "(--keep_unlikely true keeps them)"
            )
        if self.rejects_path is not None:
            lines.append(f"{len(self.rejects)} galaxies without a usable image: {self.rejects_path}")
        return "\n".join([*lines, f"{report['taken'].sum()} galaxies in {self.path}"])

    def write_report(self, folder: Path) -> None:
        """Write ``leaves.csv`` and ``confidences.png`` into ``folder``."""
        with atomic_write(folder / "leaves.csv") as path:
            self.report.to_csv(path, index=False)
        with atomic_write(folder / "confidences.png") as path:
            self.plot().savefig(path, format="png", dpi=120)


@checked
def prepare(
    output: Path,
    images: Path | None = None,
    table: Path | list[Path] | None = None,
    mapping: Path | None = None,
    tree: str | None = None,
    votes: VoteKind | None = None,
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

    With a vote table: the galaxies of the table whose cut-outs are in the image folder. With an image folder alone: its
    class folders are the labels. With neither: simulated galaxies. An interrupted run resumes when it is run again: decoded
    images are kept beside the output, in a file that ends in .unfinished.

    Args:
        output: The packed file to write.
        images: Folder of cut-outs (with a table), of class folders of cut-outs, or of train and test folders of those.
        table: Vote table, CSV, FITS or Parquet, recognised by its columns: Hart et al. (2016), such as gz2_hart16.csv.gz;
            Willett et al. (2013); zoo2MainSpecz of SDSS; galaxy-datasets; Kaggle's solutions. Or a list of tables.
        mapping: gz2_filename_mapping.csv of the published images; leave it out if images are named by object id.
        tree: simplified (ten leaves), simplified9 (without stars and artifacts), coarse5 (five), or a .yaml file with a
            tree of your own. Default: simplified, or the tree whose leaves the class folders are named after.
        votes: Which votes of the table. Default: the first of weighted_fraction, fraction and debiased that it has. Debiased
            votes put 41 % of 1,000 galaxies on another leaf of simplified than weighted ones.
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
    if images is None and (table is not None or mapping is not None):
        raise InputError("--table and --mapping need --images, the folder of the cut-outs")
    if table is None and mapping is not None:
        raise InputError("--mapping goes with a vote table (--table)")
    if images is None and per_class is None:
        raise InputError("--per_class null takes all galaxies there are; of simulated ones say how many")
    if (images is None or table is not None) and len(get_tree(tree or "simplified")) < 2:
        raise InputError(f"--tree {tree} has a single leaf; training needs at least two classes")
    configuration: dict[str, Any] = {  # all settings that the content of the file depends on
        "images": images,
        "table": table,
        "mapping": mapping,
        "tree": tree,
        "votes": votes,
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
        if images is None:
            assert per_class is not None
            prepared = _simulate(output, configuration, tree, per_class, resolution, val_fraction, test_fraction, seed)
        else:
            if table is None:
                catalog = catalog_from_folders(images, tree)
            else:
                source = table, images, mapping, tree or "simplified", votes
                catalog = catalog_from_votes(*source, max_missing, keep_unlikely)
                configuration["leaves"] = {leaf.name: leaf.paths for leaf in get_tree(tree or "simplified").leaves}
                configuration["table_sha256"] = [_sha256(path) for path in (table if isinstance(table, list) else [table])]
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
    return prepared


def _sha256(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@refusing_huge()
def pack(
    output: Path,
    catalog: Catalog,
    selection: Selection,
    configuration: Mapping[str, Any],
    cutout_size: int | None = None,
    workers: int = 1,
    limit: int = 0,
    strict: bool = False,
) -> Prepared:
    """Decode the images of the selected galaxies and write them, without the unusable ones.

    Args:
        output: The packed file.
        catalog: The galaxies.
        selection: Those of them to pack.
        configuration: The settings to record; ``resolution`` and ``crop`` are taken from it.
        cutout_size: See :func:`prepare`.
        workers: Threads that decode.
        limit: Most unusable images.
        strict: Whether to name the first unusable image instead of counting.

    Raises:
        InputError: If more than ``limit`` images are unusable, or no galaxy is in the training split. The images decoded by
            then are kept beside the output for the next run.
    """
    catalog.take(selection).check_training()
    resolution, crop = configuration["resolution"], configuration["crop"]
    files, training = [catalog.files[row] for row in selection.rows], selection.training
    size = common_size(files) if cutout_size is None else (cutout_size, cutout_size) if cutout_size else None
    rejects = Rejects(output, catalog.missing, limit, strict)
    unfinished = output.with_name(f"{output.name}.unfinished")
    if not unfinished.exists():
        needed = 3 * resolution**2 * len(files)
        require_disk(needed, output.parent, f"{len(files)} galaxies", "take fewer (--per_class) or a smaller --resolution")
    used = np.ones(len(files), dtype=bool)
    with PackedWriter(unfinished, len(files), resolution, plan_of(files, resolution, crop, size)) as writer:
        if writer.resumed:
            say(f"resuming {unfinished}: images in it are not decoded again")

        def decode(places: range) -> list[str]:
            """Pack a group; for each place the reason why its image cannot be used, or nothing."""
            todo = [place for place in places if not (writer.resumed and writer.keeps(place, bool(training[place])))]
            cutouts = dict(zip(todo, decode_cutouts([files[place] for place in todo], resolution, crop, size), strict=True))
            usable = {place: cutout for place, cutout in cutouts.items() if not isinstance(cutout, str)}
            for run in _runs(list(usable)):
                writer.put(run[0], np.stack([usable[place] for place in run]), training[run[0] : run[-1] + 1])
            return ["" if place in usable or place not in cutouts else str(cutouts[place]) for place in places]

        # Closed before the file, so that no thread is left to write into it.
        with contextlib.closing(in_groups(decode, len(files), workers, writer.sync)) as reasons:
            for place, reason in enumerate(track(reasons, "packing galaxies", len(files))):
                if reason:
                    used[place] = False
                    seen = f"the first {place + 1} of {len(files)}"
                    rejects.add(catalog.object_ids[selection.rows[place]], files[place], reason, seen)
        _drop_copies(writer, selection, files, used, rejects, [catalog.object_ids[row] for row in selection.rows])
        selection = selection.keep(used)
        record = {**configuration, "missing": rejects.missing, "rejected": rejects.number}
        writer.finish(output, catalog.take(selection), record, used)
    return Prepared(output, selection, *rejects.write())


def _drop_copies(
    writer: PackedWriter,
    selection: Selection,
    files: Sequence[Path],
    used: npt.NDArray[np.bool_],
    rejects: Rejects,
    object_ids: Sequence[str],
) -> None:
    """Reject pictures that are in another split as well, so that nothing is scored on what was trained on.

    Of several splits the copy in the last one stays: test before val before train.

    Raises:
        InputError: If the same pixels are in two classes.
    """
    copies: dict[bytes, list[int]] = {}
    for place, digest in enumerate(writer.digests()):
        if used[place]:
            copies.setdefault(digest, []).append(place)
    for places in copies.values():
        last = places[-1]  # places are sorted by split
        for place in places[:-1]:
            if selection.labels[place] != selection.labels[last]:
                one, other = (selection.class_names[selection.labels[i]] for i in (place, last))
                raise InputError(
                    f"{files[place]} ({one}) and {files[last]} ({other}) have the same pixels but are in different classes; "
                    "remove one of them"
                )
            if selection.splits[place] != selection.splits[last]:
                used[place] = False
                if selection.training[place]:
                    writer.drop_training(place)
                reason = f"has the same pixels as {files[last]}, which is in the split {SPLITS[selection.splits[last]]}"
                rejects.add(object_ids[place], files[place], reason, f"all {len(files)}")


def _runs(places: Sequence[int]) -> list[list[int]]:
    """Split rising places wherever one is not the next."""
    cuts = [i for i, place in enumerate(places) if i == 0 or place != places[i - 1] + 1]
    return [list(places[start:end]) for start, end in itertools.pairwise([*cuts, len(places)])]


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
    made = torch.tensor([part[n % len(part)] for part in parts for n in range(per_class)])
    simulated = simulate_galaxies(made, resolution=resolution, seed=seed)
    object_ids = tuple(f"simulated-{seed}-{i:06d}" for i in range(len(made)))
    catalog = Catalog(tree.name, tree.class_names, object_ids, tree.confidences(simulated.votes))
    selection = select(object_ids, catalog.confidences, tree.class_names, None, 0.0, val_fraction, test_fraction)
    rows = torch.from_numpy(selection.rows)
    batches = (simulated.images[rows[start : start + BATCH]].numpy() for start in range(0, len(rows), BATCH))
    write_packed(output, batches, catalog.take(selection), resolution=resolution, configuration=configuration)
    return Prepared(output, selection, *Rejects(output, (), 0, False).write())
