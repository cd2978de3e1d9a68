"""``gz-lightning prepare``: galaxies of any origin -> one packed file."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from gz_lightning.data.catalog import Catalog, catalog_from_folders, catalog_from_votes
from gz_lightning.data.cutouts import common_size, decode_cutouts, in_groups, plan_of, refusing_huge
from gz_lightning.data.packing import BATCH, PackedWriter, check_training, write_packed
from gz_lightning.data.report import plot_selection, write_report
from gz_lightning.data.selection import SPLITS, Selection, select
from gz_lightning.data.simulation import simulate_galaxies
from gz_lightning.data.tree import TREES, get_tree
from gz_lightning.errors import InputError
from gz_lightning.progress import say, track
from gz_lightning.storage.whole import atomic_write, locked, require_disk

NO_TRACE = ("output", "overwrite", "workers", "strict", "max_rejects", "report")
"""Settings that leave no trace in what is packed."""


@dataclass(frozen=True)
class Prepared:
    """What ``prepare`` wrote.

    Args:
        path: The packed file.
        selection: The galaxies that were taken.
        rejects: Galaxies whose image is missing or of no use: ``object_id``, ``file`` and ``reason``.
        rejects_path: The file that lists them; None where there are none.
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
        """Histograms of the confidence of each leaf: what there is, and what was taken."""
        return plot_selection(self.selection)

    def __str__(self) -> str:
        report = self.report
        lines = [report.to_string(index=False, float_format=lambda x: f"{x:.3f}")]
        short = report[report["lacking"] > 0]
        if len(short):
            each = ", ".join(f"{leaf} ({taken})" for leaf, taken in zip(short["leaf"], short["taken"], strict=True))
            asked = f"the {self.selection.per_class} galaxies asked for"
            lines.append(f"{len(short)} leaves have fewer than {asked}: {each}")
        for split in SPLITS:
            bare = report.loc[report[split] == 0, "leaf"]
            if len(bare):
                lines.append(f"no {split} galaxies in: {', '.join(bare)}")
        if self.rejects_path is not None:
            lines.append(f"{len(self.rejects)} galaxies without a usable image: {self.rejects_path}")
        return "\n".join([*lines, f"{report['taken'].sum()} galaxies in {self.path}"])


def prepare(
    output: Path,
    images: Path | None = None,
    table: Path | list[Path] | None = None,
    mapping: Path | None = None,
    tree: str | None = None,
    votes: str | None = None,
    per_class: int | None = 600,
    min_confidence: float = 0.0,
    min_votes: int = 0,
    resolution: int = 128,
    crop: float = 0.5,
    cutout_size: int | None = None,
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    max_missing: float = 0.05,
    max_rejects: float = 0.05,
    strict: bool = False,
    report: Path | None = None,
    workers: int = os.cpu_count() or 1,
    seed: int = 0,
    overwrite: bool = False,
) -> Prepared:
    """Pack the most confident galaxies of each leaf into one HDF5 file.

    With a vote table: the galaxies of the table whose cut-outs are in the image folder. With an image folder alone: its
    class folders are the labels. With neither: simulated galaxies. Interrupted, it goes on where it was when it is run
    again: what is decoded lies beside the output in a file that ends in .unfinished until all is done.

    Args:
        output: The packed file to write.
        images: Folder of cut-outs (with a table), of class folders of cut-outs, or of train and test folders of those.
        table: Vote table, CSV, FITS or Parquet, told apart by its columns: Hart et al. (2016), such as gz2_hart16.csv.gz;
            Willett et al. (2013); zoo2MainSpecz of SDSS; galaxy-datasets; Kaggle's solutions. Or a list of tables.
        mapping: gz2_filename_mapping.csv of the published images; leave it out where images are named by object id.
        tree: simplified (ten leaves), simplified9 (without stars and artifacts), coarse5 (five), or a .yaml file with a
            tree of your own. Default: simplified, or the tree whose leaves the class folders are named after.
        votes: Which votes of the table: weighted_fraction, fraction or debiased. Default: the first of these that it has.
        per_class: At most so many galaxies of each leaf, the most confident first. 600 is the published subset; 100
            the first one; null takes all.
        min_confidence: Only galaxies whose leaf has at least this confidence, 0 to 1.
        min_votes: Only galaxies that at least so many volunteers looked at.
        resolution: Side of the packed images in pixels. 128 is the published one.
        crop: Side of the central square kept of each cut-out, as a share of it. 0.5 is the published one; 1 keeps all.
        cutout_size: Side of the cut-outs in pixels; others are rejected. Default: the size that most of the first hundred
            have; 0 takes any.
        val_fraction: Share of galaxies for validation, by hash of the object id.
        test_fraction: Share of galaxies for testing, by hash of the object id; folders that are split keep their own.
        max_missing: Share of the table's galaxies that may be without an image.
        max_rejects: Share of the selected galaxies, 0 to 1, whose image may be of no use: damaged, greyscale, CMYK or of
            another size. They are skipped and listed in a file beside the output that ends in .rejects.csv.
        strict: Stop at the first image that is of no use.
        report: Folder for the report as a table (leaves.csv) and a figure (confidences.png).
        workers: Threads that decode images.
        seed: Seed of the simulated galaxies; real ones need none.
        overwrite: Write over an output that exists.

    Raises:
        InputError: If anything given cannot be used; no output is written then.

    Example:
        >>> prepared = prepare("gz2.h5", images="gz2/images", table="gz2/gz2_hart16.csv.gz")  # doctest: +SKIP
        >>> prepared.report, prepared.plot()  # doctest: +SKIP
    """
    output = Path(output)
    if output.exists() and not overwrite:
        raise InputError(f"{output} exists; name another --output, or write over it with --overwrite true")
    if resolution < 8 or not 0 < crop <= 1:
        raise InputError(f"--resolution must be at least 8 (it is {resolution}) and --crop in (0, 1] (it is {crop})")
    if workers < 1:
        raise InputError(f"--workers must be at least 1, not {workers}")
    for name, share in (("max_missing", max_missing), ("max_rejects", max_rejects)):
        if not 0 <= share <= 1:
            raise InputError(f"--{name} is a share, 0 to 1, not {share}")
    configuration = {name: _plain(value) for name, value in locals().items() if name not in NO_TRACE}
    with locked(output.with_name(f".{output.name}.lock"), f"{output}; wait for it, or name another --output"):
        if images is None:
            if table is not None or mapping is not None:
                raise InputError("--table and --mapping need --images, the folder of the cut-outs")
            shape = per_class, resolution, val_fraction, test_fraction
            prepared = _prepare_simulated(output, configuration, tree, *shape, seed)
        else:
            catalog = _catalog(images, table, mapping, tree, votes, max_missing, configuration)
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
                given_splits=catalog.splits,
            )
            limit = 0 if strict else int(max_rejects * len(selection.rows))
            prepared = pack(output, catalog, selection, configuration, cutout_size, workers, limit, strict)
    if report is not None:
        write_report(prepared.selection, Path(report))
    return prepared


def _plain(value: Any) -> Any:
    """A setting as JSON can hold it."""
    if isinstance(value, Path):
        return str(value)
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else value


def _catalog(
    images: Path,
    table: Path | list[Path] | None,
    mapping: Path | None,
    tree: str | None,
    votes: str | None,
    max_missing: float,
    configuration: dict[str, Any],
) -> Catalog:
    """The galaxies; notes in ``configuration`` what they came from."""
    if table is None:
        if mapping is not None:
            raise InputError("--mapping goes with a vote table (--table)")
        return catalog_from_folders(images, tree)
    catalog = catalog_from_votes(table, images, mapping, tree or "simplified", votes, max_missing)
    tables = table if isinstance(table, list) else [table]
    configuration["leaves"] = {leaf.name: leaf.paths for leaf in get_tree(tree or "simplified").leaves}
    configuration["table_sha256"] = [_sha256(Path(path)) for path in tables]
    return catalog


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@refusing_huge()
def pack(
    output: Path,
    catalog: Catalog,
    selection: Selection,
    configuration: dict[str, Any],
    cutout_size: int | None,
    workers: int,
    limit: int,
    strict: bool,
) -> Prepared:
    """Decode the selected galaxies' images and write them, without those that are of no use.

    Args:
        output: The packed file.
        catalog: The galaxies.
        selection: Those of them to pack.
        configuration: What made the file; ``resolution`` and ``crop`` are taken from it.
        cutout_size: See :func:`prepare`.
        workers: Threads that decode.
        limit: How many images may be of no use.
        strict: Whether the first of them is named instead of counted.

    Raises:
        InputError: If more than ``limit`` images are of no use, or no galaxy is in the training split. What is decoded by
            then is kept beside the output, for the next time.
    """
    check_training(selection.splits)
    resolution, crop = configuration["resolution"], configuration["crop"]
    files = [catalog.files[row] for row in selection.rows]
    size = common_size(files) if cutout_size is None else (cutout_size, cutout_size) if cutout_size else None
    rejects = [(object_id, "", "has no image in the folder") for object_id in catalog.missing]

    def reject(place: int, reason: str) -> None:
        rejects.append((catalog.object_ids[selection.rows[place]], str(files[place]), reason))
        number = len(rejects) - len(catalog.missing)
        if number > limit:
            listed = _write_rejects(output, rejects)[1]
            if strict:
                raise InputError(f"{files[place]} {reason}; without --strict such images are skipped and listed")
            raise InputError(
                f"{number} of the first {place + 1} of {len(files)} images are of no use, more than --max_rejects allows "
                f"({limit}); all are listed in {listed}; the last is {files[place]}, which {reason}"
            )

    pixels = 3 * resolution**2 * len(files)
    unfinished = output.with_name(f"{output.name}.unfinished")
    if not unfinished.exists():
        require_disk(pixels, output.parent, f"{len(files)} galaxies", "take fewer (--per_class) or a smaller --resolution")
    training = selection.splits == SPLITS.index("train")
    used = np.ones(len(files), dtype=bool)
    with PackedWriter(unfinished, len(files), resolution, plan_of(files, resolution, crop, size)) as writer:
        if writer.resumed:
            say(f"{unfinished} is of an earlier run of this: what it holds is not decoded again")

        def decode(places: range) -> list[str]:
            """Pack a group; of each place why it cannot be used, or nothing."""
            missing = [place for place in places if not (writer.resumed and writer.keeps(place, bool(training[place])))]
            cutouts = decode_cutouts([files[place] for place in missing], resolution, crop, size)
            found = dict(zip(missing, cutouts, strict=True))
            good = {place: cutout for place, cutout in found.items() if not isinstance(cutout, str)}
            for run in _runs(list(good)):
                writer.put(run[0], np.stack([good[place] for place in run]), training[run[0] : run[-1] + 1])
            return ["" if place in good or place not in found else str(found[place]) for place in places]

        # Closed before the file is, so that no thread is left to write into it.
        with contextlib.closing(in_groups(decode, len(files), workers, writer.sync)) as reasons:
            for place, reason in enumerate(track(reasons, "packing galaxies", len(files))):
                if reason:
                    reject(place, reason)
                    used[place] = False
        selection = selection.keep(used)
        configuration |= {"missing": len(catalog.missing), "rejected": len(rejects) - len(catalog.missing)}
        writer.finish(
            output,
            labels=selection.labels,
            confidences=catalog.confidences[selection.rows],
            object_ids=[catalog.object_ids[row] for row in selection.rows],
            splits=selection.splits,
            class_names=selection.class_names,
            tree=catalog.tree,
            configuration=configuration,
            used=used,
        )
    return Prepared(output, selection, *_write_rejects(output, rejects))


def _runs(places: Sequence[int]) -> list[list[int]]:
    """Rising places, cut where one is not the next."""
    cuts = [i for i, place in enumerate(places) if i == 0 or place != places[i - 1] + 1]
    return [list(places[start:end]) for start, end in itertools.pairwise([*cuts, len(places)])]


def _write_rejects(output: Path, rejects: list[tuple[str, str, str]]) -> tuple[pd.DataFrame, Path | None]:
    table = pd.DataFrame(rejects, columns=["object_id", "file", "reason"], dtype="string")
    path = output.with_suffix(".rejects.csv")
    if not rejects:
        path.unlink(missing_ok=True)  # of an earlier output of that name
        return table, None
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False)
    return table, path


def _prepare_simulated(
    output: Path,
    configuration: dict[str, Any],
    tree_name: str | None,
    per_class: int | None,
    resolution: int,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> Prepared:
    """Simulated galaxies on their way through the same selection and the same file as real ones."""
    if per_class is None:
        raise InputError("--per_class null takes all galaxies there are; of simulated ones say how many")
    tree, simplified = get_tree(tree_name or "simplified"), TREES["simplified"]

    def belongs(paths: tuple[str, ...], to: tuple[str, ...]) -> bool:
        """Whether each path answers at least what some path of the other leaf does."""
        return all(any(set(path.split()) >= set(other.split()) for other in to) for path in paths)

    # A leaf is made of those simplified leaves that lie on its paths: as many of each.
    parts = [[i for i, leaf in enumerate(simplified.leaves) if belongs(leaf.paths, own.paths)] for own in tree.leaves]
    if not all(parts):
        raise InputError(
            f"the leaves of the tree '{tree.name}' are not made of simulated ones; use a tree of {simplified.name}"
        )
    made = torch.tensor([part[n % len(part)] for part in parts for n in range(per_class)])
    simulated = simulate_galaxies(made, resolution=resolution, seed=seed)
    object_ids = [f"simulated-{seed}-{i:06d}" for i in range(len(made))]
    confidences = tree.confidences(simulated.votes)
    selection = select(object_ids, confidences, tree.class_names, None, 0.0, val_fraction, test_fraction)
    rows = torch.from_numpy(selection.rows)
    batches = (simulated.images[rows[start : start + BATCH]].numpy() for start in range(0, len(rows), BATCH))
    write_packed(
        output,
        batches,
        resolution=resolution,
        labels=selection.labels,
        confidences=confidences[selection.rows],
        object_ids=[object_ids[row] for row in selection.rows],
        splits=selection.splits,
        class_names=selection.class_names,
        tree=tree.name,
        configuration=configuration,
    )
    return Prepared(output, selection, *_write_rejects(output, []))
