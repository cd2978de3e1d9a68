"""CSV, FITS and Parquet tables: in pieces, damaged, and with readers missing."""

import bz2
import gzip
import io
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gz_lightning.data import tables
from gz_lightning.data.class_folders import catalog_from_folders
from gz_lightning.data.tree import ANSWERS
from gz_lightning.data.votes import read_votes
from gz_lightning.errors import InputError
from gz_lightning.storage.text import short
from tests.data.shards import write_tar
from tests.data.test_votes import COARSE, IDS, SPIRAL, as_fits, gz2_table


@pytest.mark.parametrize("layout", ["csv", "fits", "parquet"])
def test_tables_are_read_in_pieces(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of two rows: nothing is lost between them, and rows are numbered through."""
    monkeypatch.setattr(tables, "ROWS", 2)
    table = tmp_path / f"t.{layout}"
    wrong = gz2_table()
    wrong.loc[2, "t02_edgeon_a04_yes_fraction"] = 1.5
    if layout == "csv":
        wrong.to_csv(table, index=False)
    elif layout == "fits":
        as_fits(table, wrong, IDS)
    else:
        pytest.importorskip("pyarrow", reason="Parquet tables need pyarrow")
        wrong.to_parquet(table)
    assert read_votes(table, "simplified", "weighted_fraction")["object_id"].tolist() == [str(i) for i in IDS]
    with pytest.raises(InputError, match=rf"row {4 if layout == 'csv' else 3}, column t02_edgeon_a04_yes_fraction: .*1.5"):
        read_votes(table, "simplified", "fraction")


@pytest.mark.parametrize(
    ("name", "module", "extra"), [("a.fits", "astropy.io", "fits"), ("a.parquet", "pyarrow.parquet", "parquet")]
)
def test_a_missing_reader_says_how_to_get_it(
    name: str, module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(b"x")
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(InputError, match=rf"its reader is missing: pip install 'gz_lightning\[{extra}\]'"):
        read_votes(tmp_path / name, "simplified")


@settings(deadline=None, max_examples=20)
@given(st.data())
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.fits", "a.fits.gz", "a.parquet"])
def test_a_damaged_table_is_refused_or_read(
    name: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Bytes changed or cut off: one InputError that names the table, or numbers; never any other error."""
    folder = tmp_path_factory.mktemp("damage")
    table = gz2_table()[["dr7objid", "total_classifications", *(f"{ANSWERS[a]}_fraction" for a in COARSE.answers)]]
    path = folder / name
    if ".fits" in name:
        as_fits(path, table, IDS)
    elif name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="Parquet tables need pyarrow")
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    path.write_bytes(content)
    try:
        rows = read_votes(path, COARSE)
    except InputError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
    else:
        assert rows["a01"].between(-1e-6, 1 + 1e-6).all() | rows["a01"].isna().any()


ROWS_OF_CSV = ["id,a,b", "1,.5,.5", "2,.4,.6", "3,.3,.7"]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.bz2"])
@pytest.mark.parametrize(
    ("place", "text", "cells"),
    [
        (3, "3,.3", 2),
        (2, "2,.4", 2),
        (2, "2,.4,.6,.9", 4),
        (2, "2,.9,.4,.6", 4),
        (1, "1,.5,.5,", 4),
        (3, "3,.3,.7\n4,", 2),
        (2, "2,.4,.6" + "," * 256, 259),
    ],
)
def test_a_csv_row_of_another_length_is_refused(place: int, text: str, cells: int, name: str, tmp_path: Path) -> None:
    """Cut inside of the last row, or with a comma too many: missing cells were questions that nobody was asked."""
    lines = [*ROWS_OF_CSV[:place], text, *ROWS_OF_CSV[place + 1 :]]
    content = "\n".join(lines).encode()
    content = gzip.compress(content) if name.endswith(".gz") else bz2.compress(content) if name.endswith(".bz2") else content
    (tmp_path / name).write_bytes(content)
    row = place + 1 + text.count("\n")
    with pytest.raises(
        InputError, match=rf"{name} cannot be read as CSV: row {row} has {cells} cells, and the header 3 \(cut"
    ):
        list(tables.read_rows(tmp_path / name, ["id", "a"], ["id"]))


@pytest.mark.parametrize("ending", ["", "\n", "\n\n"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["1", '"1,2"', '"1\n2"', '1"', '"1""2"'])
@pytest.mark.parametrize("more", [0, 400])
def test_commas_and_line_ends_in_quotes_are_no_cells(
    name: str, newline: str, ending: str, more: int, tmp_path: Path
) -> None:
    header = ",".join(ROWS_OF_CSV[:1] + [f"c{i}" for i in range(more)])
    rows = [row + ",7" * more for row in (name + ROWS_OF_CSV[1][1:], *ROWS_OF_CSV[2:])]
    (tmp_path / "a.csv").write_bytes((newline.join([header, *rows]) + ending).encode())
    rows = pd.concat(tables.read_rows(tmp_path / "a.csv", ["id", "b"], ["id"]))
    assert rows["b"].tolist() == [0.5, 0.6, 0.7]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 40), min_size=1), st.integers(0, 3), st.sampled_from([-1, 0, 1, 256, 65536]))
def test_rows_of_odd_lengths_are_found_wherever_a_file_is_read_in_two(sizes: list[int], row: int, more: int) -> None:
    lines = [b"a," * (3 + (more if place == row else 0)) for place in range(4)]
    counted, at = tables._Counted(io.BytesIO(b"\n".join(lines))), 0
    while counted.read(sizes[at % len(sizes)]):
        at += 1
    assert counted.odd == (more != 0)
    assert counted.end == b"\n".join(lines)[-tables.END :]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["3,.3,.7", "3,.3,", '3,.3,"0,7"', "3,.3," + "7" * 2000])
def test_a_last_row_without_a_line_break_may_have_been_cut(
    last: str, newline: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is read, for many programs write it so, and said: digits of the last cell may be lost, and rows behind it."""
    content, cell = newline.join([*ROWS_OF_CSV[:3], last]), last.rpartition(",")[2]
    for ending, heard in ((newline, False), (newline * 2, False), (f"{newline}  ", False), ("", True)):
        written = (content + ending).encode()
        (tmp_path / name).write_bytes(gzip.compress(written) if name.endswith(".gz") else written)
        rows = pd.concat(tables.read_rows(tmp_path / name, ["id", "a"], ["id"]))
        assert rows["a"].tolist() == [0.5, 0.4, 0.3]
        told = capsys.readouterr().err
        assert (
            f"{name}: row 4, the last, has no line break behind its b, {short(cell[-tables.END :])}; some" in told
        ) == heard
        assert told.count("\n") == heard


def test_a_header_without_a_line_break_is_no_row_that_may_have_been_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text(ROWS_OF_CSV[0])
    assert not len(pd.concat(tables.read_rows(tmp_path / "a.csv", ["id"], ["id"])))
    assert not capsys.readouterr().err


@pytest.mark.parametrize("name", ["a.csv.zip", "a.csv.xz", "a.csv.bz2", "a.csv.gz"])
def test_csv_that_is_not_compressed_as_its_name_says(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"id,a,b")
    with pytest.raises(InputError, match=rf"{name} cannot be read as CSV"):
        tables.column_names(tmp_path / name)


def test_compressed_fits_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_fits(tmp_path / "a.fits", gz2_table(), IDS)
    (tmp_path / "b.fits.gz").write_bytes(gzip.compress((tmp_path / "a.fits").read_bytes()))
    (tmp_path / "own").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "own"))
    read_votes(tmp_path / "b.fits.gz", "simplified")
    assert not list((tmp_path / "own").iterdir())


@pytest.mark.parametrize("column", [SPIRAL, "dr7objid"])
def test_a_column_that_is_there_twice_is_refused(column: str, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="Parquet tables need pyarrow")
    table = pa.Table.from_pandas(gz2_table())
    pa.parquet.write_table(table.append_column(column, table.column(column)), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=f"a.parquet has the column {column} more than once"):
        read_votes(tmp_path / "a.parquet", COARSE)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize("column", [SPIRAL, "dr7objid"])
def test_a_column_of_csv_that_is_there_twice_is_refused(column: str, name: str, tmp_path: Path) -> None:
    """Pandas renames the second; one that is not read may be there as often as it likes."""
    table = gz2_table()
    pd.concat([table, table[[column]]], axis=1).to_csv(tmp_path / name, index=False, encoding="utf-8-sig")
    with pytest.raises(InputError, match=f"{name} has the column {column} more than once"):
        read_votes(tmp_path / name, COARSE)
    pd.concat([table, table[["ra", "dec"]]], axis=1).to_csv(tmp_path / name, index=False)
    assert len(read_votes(tmp_path / name, COARSE)) == 3


def test_object_ids_that_are_no_text(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="Parquet tables need pyarrow")
    gz2_table().assign(dr7objid=[b"\xff\xfe"] * 3).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="a.parquet: the column dr7objid holds bytes that are no text"):
        read_votes(tmp_path / "a.parquet", COARSE)


def test_a_fits_table_that_claims_columns_without_end(tmp_path: Path) -> None:
    path = as_fits(tmp_path / "a.fits", gz2_table(), IDS)
    content = path.read_bytes()
    start = content.index(b"TFIELDS ")
    path.write_bytes(content[:start] + b"TFIELDS = " + b"99999999999".rjust(20) + content[start + 30 :])
    with pytest.raises(InputError, match="a.fits cannot be read as FITS: it claims 99,999,999,999 columns"):
        read_votes(path, COARSE)


def test_a_fits_table_that_claims_a_few_columns_more_is_read_without_a_warning(tmp_path: Path) -> None:
    path = as_fits(tmp_path / "a.fits", gz2_table(), IDS)
    content = path.read_bytes()
    start = content.index(b"TFIELDS ")
    path.write_bytes(content[:start] + b"TFIELDS = " + b"999".rjust(20) + content[start + 30 :])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            assert len(read_votes(path, COARSE)) == 3
        except InputError as error:
            assert "a.fits" in str(error)


def test_a_fits_column_of_arrays_is_refused(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits", reason="FITS tables need astropy")
    columns = [fits.Column("flat", "E", array=[1.0, 2.0]), fits.Column("deep", "2E", array=[[1.0, 2.0], [3.0, 4.0]])]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "a.fits")
    with pytest.raises(InputError, match=r"a.fits cannot be read as FITS: the cells of column deep are arrays"):
        list(tables.read_rows(tmp_path / "a.fits", ["flat", "deep"]))


def with_nulls(path: Path) -> Path:
    """Three galaxies, one of them without an id, and the last without a number of volunteers."""
    ids, counts, fractions = [*IDS[:1], None, IDS[2]], [44, 20, None], [0.1, None, 0.3]
    if path.suffix == ".csv":
        pd.DataFrame({"id": pd.array(ids, "Int64"), "count": pd.array(counts, "Int64"), "f": fractions}).to_csv(
            path, index=False
        )
    elif path.suffix == ".parquet":
        pa = pytest.importorskip("pyarrow", reason="Parquet tables need pyarrow")
        pa.parquet.write_table(pa.table({"id": ids, "count": counts, "f": fractions}), path)
    else:
        fits = pytest.importorskip("astropy.io.fits", reason="FITS tables need astropy")
        columns = [
            fits.Column("id", "K", null=999999, array=np.array([i or 999999 for i in ids])),
            fits.Column("count", "J", null=999999, array=np.array([i or 999999 for i in counts])),
            fits.Column("f", "E", array=np.array([np.nan if f is None else f for f in fractions])),
        ]
        fits.BinTableHDU.from_columns(columns).writeto(path)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.fits"])
def test_a_null_is_a_missing_value_in_every_format(name: str, tmp_path: Path) -> None:
    rows = pd.concat(tables.read_rows(with_nulls(tmp_path / name), ["id", "count", "f"], ["id"]))
    assert rows["id"].isna().tolist() == [False, True, False]
    assert rows["id"].dropna().tolist() == [str(IDS[0]), str(IDS[2])]
    assert pd.to_numeric(rows["count"]).tolist()[:2] == [44, 20]
    assert rows["count"].isna().tolist() == [False, False, True]
    assert rows["f"].isna().tolist() == [False, True, False]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.fits"])
def test_null_ids_and_counts_of_votes(name: str, tmp_path: Path) -> None:
    """No galaxy 999999, and no 999,999 volunteers."""
    table = gz2_table()
    nulls = pd.array([44, None, 7], "Int64")
    path = tmp_path / name

    def write(ids: list[int | None]) -> None:
        path.unlink(missing_ok=True)
        if name == "a.fits":
            fits = pytest.importorskip("astropy.io.fits", reason="FITS tables need astropy")
            columns = [
                fits.Column("dr7objid", "K", null=999999, array=np.array([i or 999999 for i in ids])),
                fits.Column("total_classifications", "J", null=999999, array=np.array([44, 999999, 7])),
            ]
            columns += [fits.Column(c, "E", array=table[c].to_numpy()) for c in table if str(c).endswith("_fraction")]
            fits.BinTableHDU.from_columns(columns).writeto(path)
            return
        rows = table.assign(dr7objid=pd.array(ids, "Int64"), total_classifications=nulls)
        rows.to_csv(path, index=False) if name == "a.csv" else rows.to_parquet(path, index=False)

    write([IDS[0], IDS[1], IDS[2]])
    rows = read_votes(path, COARSE)
    assert rows["object_id"].tolist() == [str(i) for i in IDS]
    assert rows["classifications"].isna().tolist() == [False, True, False]
    write([IDS[0], None, IDS[2]])
    with pytest.raises(InputError, match=rf"row {3 if name == 'a.csv' else 2}: the object id \(dr7objid\) is empty"):
        read_votes(path, COARSE)


def test_a_pattern_leaves_out_what_is_no_table(tmp_path: Path) -> None:
    for name in ("train-0.csv", "train-1.parquet", "train-README.md", "train-preview.PNG"):
        (tmp_path / name).touch()
    assert [Path(str(table)).name for table in tables.tables_of(tmp_path / "train-*")] == ["train-0.csv", "train-1.parquet"]


@pytest.mark.parametrize("name", ["a.tar.gz", "a.TGZ", "a.tar"])
def test_a_compressed_tar_is_to_be_unpacked(name: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "b.tar", 3)
    (tmp_path / name).write_bytes(gzip.compress((tmp_path / "b.tar").read_bytes()))
    for read in (tables.tables_of, tables.column_names, catalog_from_folders):
        with pytest.raises(InputError, match=f"{name} is a compressed tar; unpack it first"):
            read(tmp_path / name)
    assert tables.column_names(tmp_path / "b.tar")


def test_an_empty_list_of_tables_is_refused() -> None:
    with pytest.raises(InputError, match="the list of tables is empty; name one at least"):
        tables.tables_of([])


@pytest.mark.parametrize(
    ("ids", "found"), [([True, False], "True"), ([[1, 2], [3, 4]], r"\[1, 2\]"), ([True, None], "True")]
)
def test_truth_values_and_lists_are_no_object_ids(ids: list[object], found: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pd.DataFrame({"id_str": ids}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(
        InputError, match=f"a.parquet: the column id_str holds {found}; export it as text or 64-bit integers"
    ):
        next(tables.read_rows(tmp_path / "a.parquet", ["id_str"], ["id_str"]))
