"""Where packed galaxies come from, as far as their file says: licence, and what to cite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gz_lightning.data.download import LICENCE, SOURCES, TINY_LICENCE

GALAXY_ZOO_2 = (
    "Willett et al. 2013, Galaxy Zoo 2: detailed morphological classifications for 304 122 galaxies from the Sloan Digital "
    "Sky Survey, MNRAS 435, 2835",
    "Hart et al. 2016, Galaxy Zoo: comparing the demographics of spiral arm number and a new method for correcting redshift "
    "bias, MNRAS 461, 3663",
)
TINY = (
    "Walmsley et al. 2024, Scaling Laws for Galaxy Images, arXiv:2404.02973",
    GALAXY_ZOO_2[0],
)


@dataclass(frozen=True)
class Origin:
    """What the origin of galaxies asks for.

    Args:
        licence: In words.
        licence_id: As SPDX and the Hub write it, in lower case; empty where it is not known.
        citation: What to cite for the galaxies.
    """

    licence: str
    licence_id: str
    citation: tuple[str, ...]


UNKNOWN = Origin(
    "Unknown: that of the galaxies which the images are made of. Ask for it before you pass them on.",
    "",
    ("the galaxies: the survey and the catalogue that they come from",),
)
"""Of galaxies that somebody has put into folders, and of files that are not at hand."""
SIMULATED = Origin("The galaxies are simulated: nobody holds rights in them.", "", ())


def origin_of(configuration: Mapping[str, Any]) -> Origin:
    """The origin of packed galaxies.

    Args:
        configuration: The settings that they were packed with, see :class:`gz_lightning.data.galaxies.Galaxies`.
    """
    if not {"images", "table"} <= set(configuration):
        return UNKNOWN
    if configuration["images"] is None and configuration["table"] is None:
        return SIMULATED
    checksums = configuration.get("table_sha256")
    published = {(source.checksum or "").removeprefix("sha256:"): name for name, source in SOURCES.items()}
    if isinstance(checksums, list) and checksums and all(published.get(one, "").startswith("tiny") for one in checksums):
        return Origin(TINY_LICENCE, "cc-by-nc-sa-4.0", TINY)
    if configuration.get("mapping") is not None:
        return Origin(f"As they were packed with a mapping of file names, probably: {LICENCE}", "", GALAXY_ZOO_2)
    return UNKNOWN
