"""Tables of any size, read in pieces: CSV (plain or compressed), FITS and Parquet.

Only the columns asked for are read, ``ROWS`` rows at a time.
"""

from __future__ import annotations

import contextlib
import gzip
import re
import shutil
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gz_lightning.errors import InputError

ROWS = 20_000
"""Rows of a piece."""
FIELDS, MOST_FIELDS = re.compile(rb"TFIELDS = +(\d{1,18})"), 999
"""Columns of a FITS table at most, by its standard; astropy allocates memory for any number that a file claims."""
FITS_SUFFIXES = (".fits", ".fit", ".fits.gz", ".fit.gz")
CSV_ERRORS = (OSError, EOFError, zlib.error, ValueError)
"""What pandas raises on damaged CSV; its own errors are ValueErrors."""


def first_row(path: Path) -> int:
    """The number of a table's first row, as editors count: a CSV has its header in row 1."""
    return 1 if _is_fits(path) or _is_parquet(path) else 2


def column_names(path: Path) -> list[str]:
    """The columns of a table.

    Raises:
        InputError: If there is no such file or it cannot be read.
    """
    if not path.is_file():
        raise InputError(f"there is no table {path}")
    if _is_fits(path):
        with _fits_table(path) as (names, _):
            return names
    if _is_parquet(path):
        with _parquet_file(path) as (names, _):
            return names
    with _reading(path, "CSV", CSV_ERRORS):
        return [str(name) for name in pd.read_csv(path, nrows=0).columns]


def read_rows(path: Path, columns: Sequence[str], as_text: Sequence[str] = ()) -> Iterator[pd.DataFrame]:
    """Some columns of a table, ``ROWS`` rows at a time. Nulls of the format (TNULL of FITS, null of Parquet) are NA.

    Args:
        path: The table.
        columns: The columns.
        as_text: Columns to read as strings, so that long object ids keep all digits.

    Raises:
        InputError: If the table cannot be read to its end, or a column of ``as_text`` holds floats or bytes that are not
            text.
    """
    if _is_fits(path):
        pieces = _fits_rows(path, columns)
    elif _is_parquet(path):
        pieces = _parquet_rows(path, columns)
    else:
        pieces = _csv_rows(path, columns, as_text)
    for piece in pieces:
        for column in as_text:
            values = piece[column]
            if values.dtype.kind == "f":
                raise InputError(
                    f"{path}: the column {column} holds floating-point numbers, which lose the last digits of object ids; "
                    "export it as text or 64-bit integers"
                )
            try:
                piece[column] = values.astype("string").str.strip().replace("", pd.NA)
            except UnicodeDecodeError as error:
                raise InputError(f"{path}: the column {column} holds bytes that are no text ({error.reason})") from error
        yield piece[list(columns)]


def _is_fits(path: Path) -> bool:
    return path.name.lower().endswith(FITS_SUFFIXES)


def _is_parquet(path: Path) -> bool:
    return path.name.lower().endswith((".parquet", ".pq"))


def _check_once(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    if twice := [column for column in columns if list(header).count(column) > 1]:
        raise InputError(f"{path} has the column {', '.join(twice)} more than once; keep the right one")


@contextlib.contextmanager
def _reading(path: Path, kind: str, errors: tuple[type[Exception], ...] = (Exception,)) -> Iterator[None]:
    """Turn what a reader's library raises on damaged files into InputError. For its calls alone, never around our code.

    astropy and pyarrow name no errors of theirs: on damaged bytes they raise whatever their own code runs into.
    """
    try:
        yield
    except errors as error:
        raise InputError(f"{path} cannot be read as {kind}: {' '.join(str(error).split())}") from error


def _csv_rows(path: Path, columns: Sequence[str], as_text: Sequence[str]) -> Iterator[pd.DataFrame]:
    types = dict.fromkeys(as_text, "string")
    with _reading(path, "CSV", CSV_ERRORS):
        reader = pd.read_csv(path, usecols=list(columns), dtype=types, chunksize=ROWS)
    with reader:
        while True:
            with _reading(path, "CSV", CSV_ERRORS):
                piece = next(reader, None)
            if piece is None:
                return
            yield piece


@contextlib.contextmanager
def _fits_table(path: Path) -> Iterator[tuple[list[str], Any]]:
    """Columns and HDU of the first table of a FITS file, memory-mapped; a compressed file is unpacked to a temporary one."""
    try:
        from astropy.io import fits
    except ImportError as error:
        raise InputError(f"{path} is a FITS table; its reader is missing: pip install 'gz_lightning[fits]'") from error
    with contextlib.ExitStack() as stack:
        plain = path
        if path.name.lower().endswith(".gz"):
            plain = Path(stack.enter_context(tempfile.TemporaryDirectory())) / path.stem
            with (
                _reading(path, "FITS", (OSError, EOFError, zlib.error)),
                gzip.open(path) as packed,
                plain.open("wb") as unpacked,
            ):
                shutil.copyfileobj(packed, unpacked)
        file = stack.enter_context(plain.open("rb"))  # astropy leaves open what it cannot read
        claimed = FIELDS.search(file.read(2**20))
        file.seek(0)
        if claimed is not None and int(claimed[1]) > MOST_FIELDS:
            raise InputError(f"{path} cannot be read as FITS: it claims {int(claimed[1]):,} columns")
        names: list[str] = []
        with warnings.catch_warnings(), _reading(path, "FITS"):
            warnings.simplefilter("ignore")  # about harmless oddities in headers
            warnings.filterwarnings("error", message="File may have been truncated")  # astropy only warns of it
            hdus = stack.enter_context(fits.open(file, memmap=True, lazy_load_hdus=False))
            table = next((hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU)), None)
            if table is not None:
                names = [str(name) for name in table.columns.names]  # read here, where its warnings are not shown
        if table is None:
            raise InputError(f"{path} holds no table; give the FITS file with the vote table")
        yield names, table


def _fits_rows(path: Path, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    with _fits_table(path) as (names, table):
        _check_once(path, names, columns)
        with _reading(path, "FITS"):
            number = len(table.data)
        for start in range(0, number, ROWS):
            with _reading(path, "FITS"):
                values = {name: np.asarray(table.data[start : start + ROWS][name]) for name in columns}
                nulls = {name: table.columns[name].null for name in columns}
            if arrays := [name for name in columns if values[name].ndim != 1]:
                raise InputError(f"{path} cannot be read as FITS: the cells of column {', '.join(arrays)} are arrays")
            # FITS is big-endian, pandas needs native byte order. A copy, so that nothing refers to the mapped file.
            piece = pd.DataFrame({n: v.astype(v.dtype.newbyteorder("=")) for n, v in values.items()})
            for name in columns:
                if nulls[name] is not None and piece[name].dtype.kind in "iu":
                    piece[name] = piece[name].astype(object).mask(piece[name] == nulls[name])
            yield piece


@contextlib.contextmanager
def _parquet_file(path: Path) -> Iterator[tuple[list[str], Any]]:
    """Columns and reader of a Parquet file."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"{path} is a Parquet table; its reader is missing: pip install 'gz_lightning[parquet]'") from error
    with _reading(path, "Parquet"):
        file = pyarrow.parquet.ParquetFile(path)
        names = [str(name) for name in file.schema_arrow.names]
    with file:
        yield names, file


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    with _parquet_file(path) as (names, file):
        _check_once(path, names, columns)
        batches = file.iter_batches(batch_size=ROWS, columns=list(columns))
        while True:
            with _reading(path, "Parquet"):
                batch = next(batches, None)
                # Whole numbers with nulls become objects, since doubles would round long ids.
                piece = None if batch is None else batch.to_pandas(ignore_metadata=True, integer_object_nulls=True)
            if piece is None:
                return
            yield piece
