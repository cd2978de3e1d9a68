"""``gz-lightning prepare``: galaxies of any origin -> one packed file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from gz_lightning.data.catalog import catalog_from_folders, catalog_from_votes
from gz_lightning.data.packing import BATCH, read_cutouts, write_packed
from gz_lightning.data.selection import SPLITS, select
from gz_lightning.data.simulation import simulate_galaxies
from gz_lightning.data.tree import get_tree
from gz_lightning.errors import InputError
from gz_lightning.progress import say


@dataclass(frozen=True)
class Prepared:
    """What ``prepare`` wrote.

    Args:
        path: The packed file.
        report: One row per leaf, see :class:`gz_lightning.data.selection.Selection`.
    """

    path: Path
    report: pd.DataFrame

    def __str__(self) -> str:
        report = self.report
        lines = [report.to_string(index=False, float_format=lambda x: f"{x:.3f}")]
        short = report[report["lacking"] > 0]
        if len(short):
            asked = int(short["taken"].iloc[0] + short["lacking"].iloc[0])
            each = ", ".join(f"{leaf} ({taken})" for leaf, taken in zip(short["leaf"], short["taken"], strict=True))
            lines.append(f"{len(short)} leaves have fewer than the {asked} galaxies asked for: {each}")
        for split in SPLITS:
            bare = report.loc[report[split] == 0, "leaf"]
            if len(bare):
                lines.append(f"no {split} galaxies in: {', '.join(bare)}")
        return "\n".join([*lines, f"{self.report['taken'].sum()} galaxies in {self.path}"])


def prepare(
    output: Path,
    images: Path | None = None,
    table: Path | None = None,
    mapping: Path | None = None,
    tree: str | None = None,
    votes: str = "weighted_fraction",
    per_class: int = 600,
    min_confidence: float = 0.0,
    resolution: int = 128,
    crop: float = 0.5,
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    max_missing: float = 0.05,
    workers: int = os.cpu_count() or 1,
    seed: int = 0,
    overwrite: bool = False,
) -> Prepared:
    """Pack the most confident galaxies of each leaf into one HDF5 file.

    With a vote table: the galaxies of the table whose cut-outs are in the image folder. With an image folder alone: its
    class folders are the labels. With neither: simulated galaxies.

    Args:
        output: The packed file to write.
        images: Folder of cut-outs (with a table), or of class folders of cut-outs.
        table: Vote table of Hart et al. (2016), such as gz2_hart16.csv.gz, or of Willett et al. (2013).
        mapping: gz2_filename_mapping.csv of the published images; leave it out where images are named by object id.
        tree: simplified (ten leaves), simplified9 (without stars and artifacts) or coarse5 (five). Default: simplified,
            or the tree whose leaves the class folders are named after.
        votes: Which votes of the table: fraction, weighted_fraction or debiased.
        per_class: At most so many galaxies of each leaf, the most confident first. 600 is the published subset; 100
            the first one.
        min_confidence: Only galaxies whose leaf has at least this confidence, 0 to 1.
        resolution: Side of the packed images in pixels. 128 is the published one.
        crop: Side of the central square kept of each cut-out, as a share of it. 0.5 is the published one; 1 keeps all.
        val_fraction: Share of galaxies for validation, by hash of the object id.
        test_fraction: Share of galaxies for testing, by hash of the object id.
        max_missing: Share of the table's galaxies that may be without an image.
        workers: Threads that decode images.
        seed: Seed of the simulated galaxies; real ones need none.
        overwrite: Write over an output that exists.

    Raises:
        InputError: If anything given cannot be used; nothing is written then.
    """
    if output.exists() and not overwrite:
        raise InputError(f"{output} exists; name another --output, or write over it with --overwrite true")
    if resolution < 8 or not 0 < crop <= 1:
        raise InputError(f"--resolution must be at least 8 (it is {resolution}) and --crop in (0, 1] (it is {crop})")
    configuration = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in locals().items()
        if name not in ("output", "overwrite", "workers")  # they leave no trace in the content
    }
    if images is None:
        if table is not None or mapping is not None:
            raise InputError("--table and --mapping need --images, the folder of the cut-outs")
        return _prepare_simulated(output, configuration, tree, per_class, resolution, val_fraction, test_fraction, seed)
    if table is None:
        if mapping is not None:
            raise InputError("--mapping goes with a vote table (--table)")
        catalog = catalog_from_folders(images, tree)
    else:
        catalog = catalog_from_votes(table, images, mapping, tree or "simplified", votes, max_missing)
    say(f"{len(catalog)} galaxies with images")
    selection = select(
        catalog.object_ids,
        catalog.confidences,
        catalog.class_names,
        per_class,
        min_confidence,
        val_fraction,
        test_fraction,
    )
    files = [catalog.files[i] for i in selection.rows]
    write_packed(
        output,
        read_cutouts(files, resolution, crop, workers),
        resolution=resolution,
        labels=selection.labels,
        confidences=catalog.confidences[selection.rows],
        object_ids=[catalog.object_ids[i] for i in selection.rows],
        splits=selection.splits,
        class_names=catalog.class_names,
        tree=catalog.tree,
        configuration=configuration,
    )
    return Prepared(output, selection.report)


def _prepare_simulated(
    output: Path,
    configuration: dict[str, object],
    tree_name: str | None,
    per_class: int,
    resolution: int,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> Prepared:
    """Simulated galaxies on their way through the same selection and the same file as real ones."""
    tree, simplified = get_tree(tree_name or "simplified"), get_tree("simplified")
    # A leaf of a coarser tree is made of those simplified leaves whose paths it has: as many of each.
    parts = [[i for i, leaf in enumerate(simplified.leaves) if set(leaf.paths) <= set(own.paths)] for own in tree.leaves]
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
    write_packed(
        output,
        (simulated.images[rows[start : start + BATCH]].numpy() for start in range(0, len(rows), BATCH)),
        resolution=resolution,
        labels=selection.labels,
        confidences=confidences[selection.rows],
        object_ids=[object_ids[i] for i in selection.rows],
        splits=selection.splits,
        class_names=tree.class_names,
        tree=tree.name,
        configuration=configuration,
    )
    return Prepared(output, selection.report)
