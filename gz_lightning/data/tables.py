"""Tables of any size, read in pieces: CSV (plain or compressed), FITS, VOTable, Parquet, and datasets of a notebook.

Only the columns asked for are read, ``ROWS`` rows at a time.
"""

from __future__ import annotations

import contextlib
import csv
import glob
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.common import get_handle

from gz_lightning.data.archives import TAR_SUFFIXES, hdf5_columns, hdf5_rows, is_hdf5, is_tar, tar_columns, tar_rows
from gz_lightning.data.arrow import PARQUET_SUFFIXES, DatasetTable, is_dataset, open_arrow
from gz_lightning.data.astropy_tables import (
    FITS_SUFFIXES,
    VOTABLE_SUFFIXES,
    fits_rows,
    fits_table,
    votable_columns,
    votable_rows,
)
from gz_lightning.errors import InputError, reading
from gz_lightning.progress import say
from gz_lightning.storage.text import short

ROWS = 50_000
"""Rows of a piece."""
CSV_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, csv.Error, ImportError, ValueError)
"""What pandas and csv raise on damaged CSV, plain or compressed (of zstandard, if its reader is missing)."""
COMMA, NEWLINE = b",\n"
END = 1000
"""Bytes at the end of a CSV file that its last line is looked for in."""
NO_TABLES = (".md", ".rst", ".html", ".pdf", ".json", ".yaml", ".yml", ".jpg", ".jpeg", ".png", ".sha256", ".lock")
"""Files that a pattern leaves out."""
PACKED_TARS, GZIP = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"), b"\x1f\x8b"
Table = Path | DatasetTable
"""Where rows come from."""


def tables_of(given: Any) -> list[Table]:
    """The tables that a setting names: files, folders of Parquet shards, patterns such as ``data/train-*``, datasets.

    Args:
        given: One of these, or several as a list; a dictionary of datasets, as ``load_dataset`` gives it, is several.

    Raises:
        InputError: If a folder or pattern has no shard, or the list is empty.
    """
    if isinstance(given, dict):
        given = [DatasetTable(dataset, str(name)) for name, dataset in given.items()]
    found: list[Table] = []
    for one in given if isinstance(given, (list, tuple)) else [given]:
        if is_dataset(one):
            found.append(DatasetTable(one))
        elif isinstance(one, DatasetTable):
            found.append(one)
        else:
            found += _files_of(Path(one))
    if not found:
        raise InputError("the list of tables is empty; name one at least")
    return found


def _files_of(path: Path) -> Iterable[Path]:
    if path.is_dir():
        shards = sorted(file for file in path.rglob("*") if (is_parquet(file) or is_tar(file)) and not hidden(file, path))
        if not shards:
            suffixes = ", ".join((*PARQUET_SUFFIXES, *TAR_SUFFIXES))
            raise InputError(f"the folder {path} holds no shards ({suffixes}); name the table itself")
        return shards
    if not path.exists() and glob.has_magic(str(path)):
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
        found = [file for file in found if not file.name.lower().endswith(NO_TABLES)] or found
        if not found:
            raise InputError(f"no file matches {path}")
        return [file for one in found for file in _files_of(one)]
    check_packed(path)
    return [path]


def hidden(file: Path, folder: Path) -> bool:
    """Whether a file below a folder is hidden, or in a hidden folder."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def stems(tables: Sequence[Table]) -> list[str]:
    """A name for each table that no other has, for rows without object ids: that of its file, if it will do."""
    names = [table.name or "row" if isinstance(table, DatasetTable) else table.stem for table in tables]
    if len(set(names)) == len(names):
        return names
    named = zip(tables, names, strict=True)
    names = [f"{table.parent.name}/{name}" if isinstance(table, Path) else name for table, name in named]
    return names if len(set(names)) == len(names) else [f"{place}/{name}" for place, name in enumerate(names)]


def check_packed(path: Path) -> None:
    """Refuse a tar that is compressed, by its name or its first bytes: its members cannot be read one by one.

    Raises:
        InputError: If it is one.
    """
    gzipped = False
    if is_tar(path) and path.is_file():
        with reading(path, "tar", (OSError,)), path.open("rb") as file:
            gzipped = file.read(len(GZIP)) == GZIP
    if gzipped or path.name.lower().endswith(PACKED_TARS):
        raise InputError(f"{path} is a compressed tar; unpack it first, such as with gunzip, and give the tar")


def first_row(table: Table) -> int:
    """The number of a table's first row, as editors count: a CSV has its header in row 1."""
    return 2 if _is_csv(table) else 1


def column_names(table: Table) -> list[str]:
    """The columns of a table.

    Raises:
        InputError: If there is no such file or it cannot be read.
    """
    if not isinstance(table, DatasetTable):
        if not table.is_file():
            raise InputError(f"there is no table {table}")
        check_packed(table)
        if _is_fits(table):
            with fits_table(table) as (names, _):
                return names
        if _is_votable(table):
            return votable_columns(table)
        if is_tar(table) or is_hdf5(table):
            return tar_columns(table) if is_tar(table) else hdf5_columns(table)
        if _is_csv(table):
            with reading(table, "CSV", CSV_ERRORS):
                return [str(name) for name in pd.read_csv(table, nrows=0).columns]
    with open_arrow(table) as file:
        return file.names


def read_rows(table: Table, columns: Sequence[str], as_text: Sequence[str] = ()) -> Iterator[pd.DataFrame]:
    """Some columns of a table, ``ROWS`` rows at a time. Nulls of the format (TNULL of FITS, a masked cell) are NA.

    Args:
        table: The table.
        columns: The columns.
        as_text: Columns to read as strings, so that long object ids keep all digits.

    Raises:
        InputError: If the table cannot be read to its end, or a column of ``as_text`` holds floats, truth values, lists or
            bytes that are not text.
    """
    _check_once(table, _header(table), columns)
    for piece in _pieces(table, columns, as_text):
        for column in as_text:
            values = piece[column]
            if values.dtype.kind == "f":
                raise InputError(
                    f"{table}: the column {column} holds floating-point numbers, which lose the last digits of object ids; "
                    "export it as text or 64-bit integers"
                )
            if (wrong := _no_text(values)) is not None:
                raise InputError(f"{table}: the column {column} holds {short(wrong)}; export it as text or 64-bit integers")
            try:
                piece[column] = values.astype("string").str.strip().replace("", pd.NA)
            except UnicodeDecodeError as error:
                raise InputError(f"{table}: the column {column} holds bytes that are no text ({error.reason})") from error
        yield piece[list(columns)]


def _no_text(values: pd.Series[Any]) -> Any:
    """The first value that is neither text nor a number, such as a truth value or a list; None if there is none."""
    if values.dtype.kind not in "bO" or pd.api.types.infer_dtype(values, skipna=True) in (
        "string",
        "bytes",
        "integer",
        "empty",
    ):
        return None
    wrong = (bool, np.bool_, list, tuple, dict, np.ndarray)
    return next((value for value in values if isinstance(value, wrong)), None)


def _header(table: Table) -> list[str]:
    """The columns of a table as they are written; pandas renames those of a CSV that are there twice."""
    if isinstance(table, DatasetTable) or not _is_csv(table):
        return column_names(table)
    with reading(table, "CSV", CSV_ERRORS):
        row = pd.read_csv(table, header=None, nrows=1, dtype=str, keep_default_na=False)
    return [str(name) for name in row.iloc[0]]


def is_parquet(path: Path) -> bool:
    """Whether a file is Parquet by its name."""
    return path.name.lower().endswith(PARQUET_SUFFIXES)


def _is_csv(table: Table) -> bool:
    """Whether a table is text: so is all that no other reader knows by its name."""
    if isinstance(table, DatasetTable):
        return False
    return not any(known(table) for known in (is_parquet, _is_fits, _is_votable, is_tar, is_hdf5))


def _pieces(table: Table, columns: Sequence[str], as_text: Sequence[str]) -> Iterator[pd.DataFrame]:
    if isinstance(table, DatasetTable) or is_parquet(table):
        return _arrow_rows(table, columns)
    if _is_csv(table):
        return _csv_rows(table, columns, as_text)
    readers = {_is_fits: fits_rows, _is_votable: votable_rows, is_tar: tar_rows, is_hdf5: hdf5_rows}
    return next(reader for known, reader in readers.items() if known(table))(table, columns, ROWS)


def _is_fits(path: Path) -> bool:
    return path.name.lower().endswith(FITS_SUFFIXES)


def _is_votable(path: Path) -> bool:
    return path.name.lower().endswith(VOTABLE_SUFFIXES)


def _check_once(table: Table, header: Sequence[str], columns: Sequence[str]) -> None:
    if twice := [column for column in columns if list(header).count(column) > 1]:
        raise InputError(f"{table} has the column {', '.join(twice)} more than once; keep the right one")


class _Counted:
    """A CSV file that looks for rows of odd lengths while pandas reads it, which fills up short rows and cuts long ones.

    It counts separators, also those in quotes; see :func:`_check_cells`.

    Attributes:
        odd: Whether some line has more or fewer separators than the first.
        end: The last bytes that were read.
    """

    def __init__(self, file: Any) -> None:
        self.file, self.odd, self.ended, self.end = file, False, True, b""
        self.found = np.zeros(0, np.bool_)  # kept: fresh memory would take longer than to count
        self.first = self.begun = np.zeros(0, np.uint32)  # separators of the first line and of that begun

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        chunk: bytes = self.file.read(size)
        if not chunk:
            self.odd |= not self.ended and not np.array_equal(self.begun, self.first)
            return chunk
        if len(chunk) > len(self.found):
            self.found = np.zeros(len(chunk), np.bool_)
        self.end = (self.end + chunk[-END:])[-END:]
        text, found = np.frombuffer(chunk, np.uint8), self.found[: len(chunk)]
        ends = np.flatnonzero(np.equal(text, NEWLINE, out=found))
        commas = np.equal(text, COMMA, out=found).view(np.uint8)
        counts = np.add.reduceat(commas, np.append(0, ends), dtype=np.uint32)  # np.intp takes half as long again
        if len(self.begun):
            counts[:1] += self.begun
        lines, self.begun, self.ended = counts[:-1], counts[-1:], chunk[-1] == NEWLINE
        if not len(self.first):
            self.first = lines[:1]
        self.odd |= bool((lines != self.first).any())
        return chunk

    def __iter__(self) -> Iterator[bytes]:  # pandas takes nothing without it for a file
        return iter(self.file)


def _csv_rows(path: Path, columns: Sequence[str], as_text: Sequence[str]) -> Iterator[pd.DataFrame]:
    types, checked, rows = dict.fromkeys(as_text, "string"), False, 0
    with contextlib.ExitStack() as stack:
        with reading(path, "CSV", CSV_ERRORS):
            opened = stack.enter_context(get_handle(path, "rb", compression="infer", is_text=False))
            counted = _Counted(opened.handle)
            reader = stack.enter_context(pd.read_csv(counted, usecols=list(columns), dtype=types, chunksize=ROWS))
        while True:
            with reading(path, "CSV", CSV_ERRORS):
                piece = next(reader, None)
            if counted.odd and not checked:
                _check_cells(path)
                checked = True
            if piece is None:
                break
            rows += len(piece)
            yield piece
    last = re.split(rb"[\r\n]", counted.end)[-1].decode(errors="replace")
    if rows and last.strip():
        say(
            f"{path}: row {rows + 1}, the last, has no line break behind its {column_names(path)[-1]}, "
            f"{short(last.rpartition(',')[2])}; some programs write it so, but a file that was cut off there looks alike: "
            "if it should go on, download or export it again"
        )


def _check_cells(path: Path) -> None:
    """Refuse a CSV file in which a row has more or fewer cells than the header."""
    # Separators are the same in UTF-8.
    with reading(path, "CSV", CSV_ERRORS), get_handle(path, "r", encoding="latin-1", compression="infer") as opened:
        row, header = 0, 0
        for cells in csv.reader(opened.handle):
            if not "".join(cells[:2]).strip() and len(cells) < 2:
                continue  # pandas leaves out empty lines, too
            row, header = row + 1, header or len(cells)
            if len(cells) != header:
                raise ValueError(
                    f"row {row} has {len(cells)} cells, and the header {header} (cut off, or a comma too many or too few); "
                    "mend the row, or export or download the table again"
                )


def _arrow_rows(table: Table, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    with open_arrow(table) as file:
        yield from file.frames(columns, ROWS)
