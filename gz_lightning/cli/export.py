"""``gz-lightning export``: a distilled set for those who do not have this package.

The work is done by :mod:`gz_lightning.evaluation.export`, which is imported when there is some.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from gz_lightning.settings import AnyPath, checked


@checked
def export(
    run: AnyPath,
    to: Literal["folder", "tiff", "npz", "pt", "huggingface"],
    output: AnyPath | None = None,
    data: AnyPath | None = None,
    licence: str | None = None,
) -> Any:
    """Write a distilled set with all that is known of it: for other programs, other people, or a repository.

    Beside the images go labels, step sizes, mean and standard deviation, augmentation, network, accuracy with its 95 %
    interval (if the run was evaluated), licence and citation of the galaxies: in set.json, and for people in README.md (npz
    has them inside). No path of this machine is among them. evaluate reads all formats back.

    Args:
        run: A run folder, or a set in it such as best.h5. Of a run folder that was evaluated the set that was chosen on
            validation galaxies is taken, else best.h5.
        to: folder (PNGs of 8 bits, one folder for each leaf; what lies outside of 0 to 255 is cut off), tiff (one TIFF in
            single precision for each image, nothing cut off), npz (one file of NumPy arrays), pt (images_best.pt,
            labels_best.pt and lr_best.pt as the published codes write them), or huggingface (Parquet and a card, for
            datasets.load_dataset; needs gz_lightning[parquet]).
        output: A new or an empty folder, or the .npz file. Default: best_folder, best.npz and so on, beside the set.
        data: The packed galaxies that it was distilled from, for their licence and citation. Default: those of the
            evaluation.
        licence: Licence of the galaxies, such as cc-by-4.0. Default: what the packed galaxies say of their origin.

    Returns:
        What was written, :class:`gz_lightning.evaluation.export.Exported`: ``path``, ``description``, ``remarks``.

    Raises:
        InputError: If there is no such set, a file is damaged, or the output is in use.
    """
    from gz_lightning.evaluation.export import export_run

    return export_run(Path(run), to, None if output is None else Path(output), data, licence)
