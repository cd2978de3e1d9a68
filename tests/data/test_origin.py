"""Licence and citation of packed galaxies."""

from pathlib import Path
from typing import Any

import pytest

from gz_lightning.data.download import LICENCE, SOURCES, TINY_LICENCE
from gz_lightning.data.galaxies import Galaxies
from gz_lightning.data.origin import GALAXY_ZOO_2, SIMULATED, UNKNOWN, origin_of
from gz_lightning.data.prepare import prepare

TINY = [str(SOURCES[name].checksum).removeprefix("sha256:") for name in ("tiny-train", "tiny-test")]


def test_simulated_galaxies_are_nobodys(tmp_path: Path) -> None:
    prepare(tmp_path / "a.h5", tree="coarse5", per_class=5, resolution=16)
    assert origin_of(Galaxies(tmp_path / "a.h5").configuration) is SIMULATED


@pytest.mark.parametrize(
    ("configuration", "licence", "licence_id"),
    [
        ({"images": None, "table": "a", "table_sha256": TINY}, TINY_LICENCE, "cc-by-nc-sa-4.0"),
        ({"images": None, "table": "a", "table_sha256": [TINY[0], "0" * 64]}, UNKNOWN.licence, ""),
        ({"images": None, "table": "a", "table_sha256": ["0" * 64]}, UNKNOWN.licence, ""),
        ({"images": "folders", "table": None}, UNKNOWN.licence, ""),
        ({"toy": 0}, UNKNOWN.licence, ""),
    ],
)
def test_what_the_file_says(configuration: dict[str, Any], licence: str, licence_id: str) -> None:
    origin = origin_of({"mapping": None, **configuration})
    assert (origin.licence, origin.licence_id) == (licence, licence_id)


def test_the_published_names_of_images() -> None:
    """They are probable, not certain: any table may be given as a mapping."""
    origin = origin_of({"images": "images", "table": "votes.csv", "mapping": "gz2_filename_mapping.csv"})
    assert origin.licence.endswith(f"probably: {LICENCE}")
    assert origin.licence_id == ""
    assert origin.citation == GALAXY_ZOO_2
