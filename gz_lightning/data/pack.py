"""From a catalogue and a selection to a packed file: images are decoded as they are stored, and put to their places."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from gz_lightning.cost import announce
from gz_lightning.data.catalog import Catalog
from gz_lightning.data.cutouts import Rejects, common_size, decode_cutouts, in_groups, plan_of, refusing_huge
from gz_lightning.data.embedded import Content, Inside, InsideImages, in_storage_order
from gz_lightning.data.packing import PackedWriter
from gz_lightning.data.selection import SPLITS, TIE, Selection
from gz_lightning.errors import InputError
from gz_lightning.progress import say, track
from gz_lightning.storage.whole import atomic_write, require_disk

DECODING = 50 * 2**20
"""Bytes that a thread holds while it decodes a group of cut-outs, about."""


@dataclass(frozen=True)
class Prepared:
    """What ``prepare`` wrote.

    Args:
        path: The packed file.
        selection: The galaxies in it.
        rejects: Galaxies whose image is missing or cannot be used: ``object_id``, ``file`` and ``reason``.
        rejects_path: The file that lists them; None if there are none.
        notes: What else was left out of the tables, counted, a line each.
        sheet: The contact sheet, see :func:`gz_lightning.data.contact_sheet.contact_sheet`; None if there is none.
    """

    path: Path
    selection: Selection
    rejects: pd.DataFrame
    rejects_path: Path | None
    notes: tuple[str, ...] = ()
    sheet: Path | None = None

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
            asked = f"--per_class {self.selection.per_class}"
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
        lines += [f"{number} galaxies not taken: {why}" for why, number in self.selection.left_out.items()]
        if report["tied"].any():
            lines.append(
                f"{report['tied'].sum()} galaxies have two leaves of equal confidence (to within {TIE:g}), and are of the "
                "first of them"
            )
        lines += self.notes
        if self.rejects_path is not None:
            lines.append(f"{len(self.rejects)} galaxies without a usable image: {self.rejects_path}")
        if self.sheet is not None:
            lines.append(f"some of each leaf, with their object ids: {self.sheet}")
        return "\n".join([*lines, f"{report['taken'].sum()} galaxies in {self.path}"])

    def write_report(self, folder: Path) -> None:
        """Write ``leaves.csv`` and ``confidences.png`` into ``folder``."""
        with atomic_write(folder / "leaves.csv") as path:
            self.report.to_csv(path, index=False)
        with atomic_write(folder / "confidences.png") as path:
            self.plot().savefig(path, format="png", dpi=120)


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
        InputError: If more than ``limit`` images are unusable, or the training galaxies are of fewer than two leaves. The
            images decoded by then are kept beside the output for the next run.
    """
    catalog.take(selection).check_training()
    resolution, crop = configuration["resolution"], configuration["crop"]
    rows, training = selection.rows, selection.training
    files = catalog.files.take(rows) if isinstance(catalog.files, InsideImages) else [catalog.files[row] for row in rows]
    size = common_size(files) if cutout_size is None else (cutout_size, cutout_size) if cutout_size else None
    rejects = Rejects(output, catalog.missing, limit, strict)
    unfinished = output.with_name(f"{output.name}.unfinished")
    if not unfinished.exists():
        needed = 3 * resolution**2 * len(files)
        require_disk(needed, output.parent, f"{len(files)} galaxies", "take fewer (--per_class) or a smaller --resolution")
    announce(
        f"{len(files):,} galaxies of {len(catalog.class_names)} leaves to pack at {resolution} px",
        *(workers * DECODING, 3 * resolution**2 * len(files), output),
    )
    used = np.ones(len(files), dtype=bool)
    with PackedWriter(unfinished, len(files), resolution, plan_of(files, resolution, crop, size)) as writer:
        if writer.resumed:
            say(f"resuming {unfinished}: images in it are not decoded again")

        def decode(places: list[int], contents: list[Content]) -> list[str]:
            """Pack a group; for each place the reason why its image cannot be used, or nothing."""
            given = dict(zip(places, contents, strict=True))
            todo = [place for place in places if not (writer.resumed and writer.keeps(place, bool(training[place])))]
            cutouts = dict(zip(todo, decode_cutouts([given[place] for place in todo], resolution, crop, size), strict=True))
            usable = {place: cutout for place, cutout in cutouts.items() if not isinstance(cutout, str)}
            for run in _runs(sorted(usable)):
                writer.put(run[0], np.stack([usable[place] for place in run]), training[run[0] : run[-1] + 1])
            return ["" if place in usable or place not in cutouts else str(cutouts[place]) for place in places]

        # Closed before the file, so that no thread is left to write into it.
        groups = in_groups(decode, in_storage_order(files), workers, writer.sync)
        with contextlib.closing(groups) as reasons:
            for number, (place, reason) in enumerate(track(reasons, "packing galaxies", len(files)), 1):
                if reason:
                    used[place] = False
                    seen = f"the first {number} of {len(files)}"
                    rejects.add(catalog.object_ids[selection.rows[place]], files[place], reason, seen)
        _drop_copies(writer, selection, files, used, rejects, [catalog.object_ids[row] for row in selection.rows])
        selection = selection.keep(used)
        record = {**configuration, "missing": rejects.missing, "rejected": rejects.number}
        writer.finish(output, catalog.take(selection), record, used)
    return Prepared(output, selection, *rejects.write(), catalog.notes)


def _drop_copies(
    writer: PackedWriter,
    selection: Selection,
    files: Sequence[Path | Inside],
    used: npt.NDArray[np.bool_],
    rejects: Rejects,
    object_ids: Sequence[str],
) -> None:
    """Reject pictures that are in another split as well, so that nothing is scored on what was trained on.

    Of several splits the copy in the last one stays: test before val before train.

    Raises:
        InputError: If the same pixels are in two classes.
    """
    digests = writer.digests()
    begins = np.frombuffer(b"".join(digest[:8] for digest in digests), np.uint64)
    _, group, number = np.unique(begins, return_inverse=True, return_counts=True)
    copies: dict[bytes, list[int]] = {}
    for place in np.flatnonzero((number[group] > 1) & used).tolist():
        copies.setdefault(digests[place], []).append(place)
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
