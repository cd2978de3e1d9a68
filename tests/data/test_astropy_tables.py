"""VOTables: masked cells, long ids, and damage. FITS is in test_tables and test_votes."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gz_lightning.data.astropy_tables import votable_columns
from gz_lightning.data.tables import column_names, read_rows
from gz_lightning.data.votes import read_votes
from gz_lightning.errors import InputError
from tests.data.test_votes import IDS, gz2_table

pytest.importorskip("astropy", reason="VOTables need astropy")


def as_votable(path: Path, table: pd.DataFrame, kind: str = "tabledata", masked: tuple[str, ...] = ()) -> Path:
    """As TOPCAT writes it; the first row of ``masked`` columns is masked."""
    from astropy.io import votable
    from astropy.table import MaskedColumn, Table

    columns = []
    for name in table.columns:
        values: Any = table[name].to_numpy()
        values = (
            values.astype("f4") if values.dtype.kind == "f" else values.astype(str) if values.dtype.kind in "OUT" else values
        )
        columns.append(MaskedColumn(values, name, mask=np.arange(len(values)) == 0 if name in masked else None))
    made = votable.from_table(Table(columns))
    made.to_xml(str(path), tabledata_format=kind)
    return path


@pytest.mark.parametrize("kind", ["tabledata", "binary2"])
def test_the_same_votes_as_in_csv(kind: str, tmp_path: Path) -> None:
    table = gz2_table()
    table.to_csv(tmp_path / "a.csv", index=False)
    path = as_votable(tmp_path / "a.vot", table, kind)
    assert column_names(path) == list(table.columns)
    rows = read_votes(path, "simplified")
    assert rows["object_id"].tolist() == [str(i) for i in IDS]
    pd.testing.assert_frame_equal(rows, read_votes(tmp_path / "a.csv", "simplified"), check_dtype=False)
    packed = tmp_path / "a.vot.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    pd.testing.assert_frame_equal(read_votes(packed, "simplified"), rows)


def test_masked_cells_are_missing(tmp_path: Path) -> None:
    spiral = "t04_spiral_a08_spiral_weighted_fraction"
    path = as_votable(tmp_path / "a.vot", gz2_table(), "binary2", (spiral,))
    assert read_votes(path, "simplified")["a08"].isna().tolist() == [True, False, False]
    path = as_votable(tmp_path / "b.vot", gz2_table(), "binary2", ("dr7objid",))
    with pytest.raises(InputError, match=r"b.vot, row 1: the object id \(dr7objid\) is empty"):
        read_votes(path, "simplified")
    (piece,) = read_rows(path, ["dr7objid"])
    assert piece["dr7objid"].tolist()[1:] == IDS[1:]  # no doubles in between


def test_votables_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.vot").write_text("<VOTABLE><RESOURCE></RESOURCE></VOTABLE>")
    with pytest.raises(InputError, match="a.vot holds no table; give the VOTable with the vote table"):
        votable_columns(tmp_path / "a.vot")
    path = as_votable(tmp_path / "b.vot", gz2_table())
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(InputError, match="b.vot cannot be read as VOTable"):
        read_votes(path, "simplified")
    (tmp_path / "c.vot.gz").write_bytes(b"no gzip")
    with pytest.raises(InputError, match="c.vot.gz cannot be read as VOTable"):
        column_names(tmp_path / "c.vot.gz")


def test_real_table_as_votable(real_data: Path) -> None:
    path = real_data / "catalogs" / "table5.vot.gz"
    if not path.is_file():
        pytest.skip(f"no real catalogues: {path} is absent")
    pd.testing.assert_frame_equal(
        read_votes(path, "simplified"),
        read_votes(real_data / "gz2_stripe82" / "table5.csv.gz", "simplified"),
        check_dtype=False,
    )
