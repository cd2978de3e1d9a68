"""VOTables: masked cells, long ids, and damage. FITS: nulls of scaled columns; the rest is in test_tables and test_votes."""

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


@pytest.mark.parametrize("name", ["a.fits", "a.vot"])
def test_the_first_of_several_tables_is_read_and_said(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from astropy.io import fits, votable
    from astropy.table import Table

    for number in (1, 2):
        tables = [Table({"id": [f"{place}"], "a": [place / 4]}) for place in range(number)]
        if name == "a.fits":
            hdus = [fits.PrimaryHDU(), *(fits.BinTableHDU(table) for table in tables)]
            fits.HDUList(hdus).writeto(tmp_path / name, overwrite=True)
        else:
            made = votable.from_table(tables[0])
            made.resources[0].tables.extend(votable.from_table(table).get_first_table() for table in tables[1:])
            made.to_xml(str(tmp_path / name))
        assert column_names(tmp_path / name) == ["id", "a"]
        assert pd.concat(read_rows(tmp_path / name, ["id", "a"], ["id"])).to_numpy().tolist() == [["0", 0.0]]
        told = capsys.readouterr().err
        assert told.count("\n") == (number == 2)
        assert (f"{name} holds 2 tables, of which the first is read; if another is meant" in told) == (number == 2)


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


@pytest.mark.parametrize(
    ("form", "stored", "null", "scale", "zero", "seen"),
    [
        ("K", [999999, 7], 999999, 1, 2**63, [None, 2**63 + 7]),  # unsigned
        ("J", [999999, 44], 999999, 1, 2**31, [None, 2**31 + 44]),
        ("J", [999999, 44], 999999, 1, 10, [None, 54]),
        ("I", [-7, 250], -7, 0.001, 0, [None, 0.25]),
        ("I", [-7, 250], -7, 0.001, 0.5, [None, 0.75]),
        ("B", [200, 3], 200, 1, -128, [None, -125]),  # signed
        ("J", [54, 44], 54, 1, 10, [None, 54]),  # what is stored is null, what it stands for is none
    ],
)
def test_tnull_is_a_number_as_it_is_stored(
    form: str, stored: list[int], null: int, scale: float, zero: float, seen: list[float | None], tmp_path: Path
) -> None:
    fits = pytest.importorskip("astropy.io.fits", reason="FITS tables need astropy")
    table = fits.BinTableHDU.from_columns([fits.Column("x", form, null=null, array=np.array(stored))])
    table.header["TSCAL1"], table.header["TZERO1"] = scale, zero
    table.writeto(tmp_path / "a.fits")
    (piece,) = read_rows(tmp_path / "a.fits", ["x"])
    assert [None if pd.isna(value) else value for value in piece["x"]] == seen


def test_nulls_of_unsigned_and_scaled_columns_of_votes(tmp_path: Path) -> None:
    """No galaxy 999999, no 999,999 volunteers, and no vote of a number that stands for none."""
    fits = pytest.importorskip("astropy.io.fits", reason="FITS tables need astropy")
    table, smooth = gz2_table(), "t01_smooth_or_features_a01_smooth_weighted_fraction"

    def write(ids: list[int]) -> None:
        columns = [
            fits.Column("dr7objid", "K", bzero=2**63, null=999999 - 2**63, array=np.array(ids, np.uint64)),
            fits.Column("total_classifications", "J", null=999999 - 2**31, array=np.array([44, 999999, 7]) - 2**31),
        ]
        for name in (str(name) for name in table if str(name).endswith("_fraction")):
            stored = (table[name].to_numpy() * 1000).round().astype(np.int16)
            stored[0] = -1 if name == smooth else stored[0]
            columns.append(fits.Column(name, "I", null=-1, array=stored))
        made = fits.BinTableHDU.from_columns(columns)
        made.header["TZERO2"] = 2**31
        for place in range(3, len(columns) + 1):
            made.header[f"TSCAL{place}"] = 0.001
        made.writeto(tmp_path / "a.fits", overwrite=True)

    write(IDS)
    rows = read_votes(tmp_path / "a.fits", "simplified")
    assert rows["object_id"].tolist() == [str(i) for i in IDS]
    assert rows["classifications"].isna().tolist() == [False, True, False]
    assert rows["classifications"].dropna().tolist() == [44, 7]
    assert rows["a01"].isna().tolist() == [True, False, False]
    table.to_csv(tmp_path / "a.csv", index=False)
    assert rows["a01"].tolist()[1:] == read_votes(tmp_path / "a.csv", "simplified")["a01"].tolist()[1:]
    write([IDS[0], 999999, IDS[2]])
    with pytest.raises(InputError, match=r"a.fits, row 2: the object id \(dr7objid\) is empty"):
        read_votes(tmp_path / "a.fits", "simplified")


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
