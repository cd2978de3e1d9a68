"""Tables of any size, a piece at a time: CSV (plain or compressed), FITS and Parquet.

Only the columns that are wanted are read, and only ``ROWS`` rows of them are held at once.
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
"""Rows that are read at once."""
FIELDS, MOST_FIELDS = re.compile(rb"TFIELDS = +(\d+)"), 999
"""Columns that a FITS table may have, by its standard; astropy makes room for as many as one claims."""
FITS_SUFFIXES = (".fits", ".fit", ".fits.gz", ".fit.gz")


def first_row(path: Path) -> int:
    """The number of a table's first row, as editors and viewers count: a CSV has its header in row 1."""
    return 1 if _is_fits(path) or _is_parquet(path) else 2


def column_names(path: Path) -> list[str]:
    """The columns of a table.

    Raises:
        InputError: If there is no such file, or it cannot be read.
    """
    if not path.is_file():
        raise InputError(f"there is no table {path}")
    if _is_fits(path):
        with _fits_table(path) as table:
            return [str(name) for name in table.columns.names]
    if _is_parquet(path):
        with _parquet_file(path) as file:
            return [str(name) for name in file.schema_arrow.names]
    with _csv_errors(path):
        return [str(name) for name in pd.read_csv(path, nrows=0).columns]


def read_rows(path: Path, columns: Sequence[str], as_text: Sequence[str] = ()) -> Iterator[pd.DataFrame]:
    """Some columns of a table, ``ROWS`` rows at a time.

    Args:
        path: The table.
        columns: The columns.
        as_text: Those of them that are read as strings, so that no digit of a long object id is lost.

    Raises:
        InputError: If the table cannot be read to its end.
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
def _csv_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, ValueError) as error:  # pandas' own errors are ValueErrors
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as CSV: {' '.join(str(error).split())}") from error


def _csv_rows(path: Path, columns: Sequence[str], as_text: Sequence[str]) -> Iterator[pd.DataFrame]:
    with _csv_errors(path):
        types = dict.fromkeys(as_text, "string")
        with pd.read_csv(path, usecols=list(columns), dtype=types, chunksize=ROWS) as reader:
            pieces = iter(reader)
            while (piece := next(pieces, None)) is not None:
                yield piece


@contextlib.contextmanager
def _fits_table(path: Path) -> Iterator[Any]:
    """The first table of a FITS file, memory-mapped; a compressed file is unpacked beside the system's temporary ones."""
    try:
        from astropy.io import fits
    except ImportError as error:
        raise InputError(f"{path} is a FITS table; its reader is missing: pip install 'gz_lightning[fits]'") from error
    with contextlib.ExitStack() as stack:
        try:
            plain = path
            if path.name.lower().endswith(".gz"):
                plain = Path(stack.enter_context(tempfile.TemporaryDirectory())) / path.stem
                with gzip.open(path) as packed, plain.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
            with plain.open("rb") as file:
                locked = FIELDS.search(file.read(2**20))
            if locked is not None and int(locked[1]) > MOST_FIELDS:
                raise InputError(f"{path} cannot be read as FITS: it claims {int(locked[1]):,} columns")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of oddities in headers that do no harm
                warnings.filterwarnings("error", message="File may have been truncated")  # of which it only warns
                hdus = stack.enter_context(fits.open(plain, memmap=True, lazy_load_hdus=False))
                table = next((hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU)), None)
                _ = None if table is None else table.columns  # read now, while its remarks are not shown
            if table is None:
                raise InputError(f"{path} holds no table; give the FITS file with the vote table")
            yield table
        except InputError:
            raise
        except Exception as error:  # on a damaged file astropy raises whatever it meets
            raise InputError(f"{path} cannot be read as FITS: {' '.join(str(error).split())}") from error


def _fits_rows(path: Path, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    with _fits_table(path) as table:
        _check_once(path, table.columns.names, columns)
        for start in range(0, len(table.data), ROWS):
            rows = table.data[start : start + ROWS]
            values = {name: np.asarray(rows[name]) for name in columns}
            # FITS is big-endian; pandas wants the machine's own order. A copy, so that nothing holds on to the file.
            yield pd.DataFrame({n: v.astype(v.dtype.newbyteorder("=")) for n, v in values.items()})


@contextlib.contextmanager
def _parquet_file(path: Path) -> Iterator[Any]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"{path} is a Parquet table; its reader is missing: pip install 'gz_lightning[parquet]'") from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield file
    except InputError:
        raise
    except Exception as error:  # pyarrow's own, and whatever damaged metadata raise in it
        raise InputError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())}") from error


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    with _parquet_file(path) as file:
        _check_once(path, file.schema_arrow.names, columns)
        for batch in file.iter_batches(batch_size=ROWS, columns=list(columns)):
            yield batch.to_pandas(ignore_metadata=True)
