"""Tables of astronomers through astropy: FITS, memory-mapped, and VOTable."""

from __future__ import annotations

import contextlib
import gzip
import re
import shutil
import tempfile
import warnings
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gz_lightning.errors import InputError, reading
from gz_lightning.progress import say

FIELDS, MOST_FIELDS = re.compile(rb"TFIELDS = +(\d{1,18})"), 999
"""Columns of a FITS table at most, by its standard; astropy allocates memory for any number that a file claims."""
FITS_SUFFIXES = (".fits", ".fit", ".fits.gz", ".fit.gz")
XML_ERRORS = (OSError, EOFError, zlib.error, ElementTree.ParseError, ValueError)
VOTABLE_SUFFIXES = (".vot", ".votable", ".vot.gz", ".votable.gz", ".xml", ".xml.gz")


@contextlib.contextmanager
def fits_table(path: Path, remark: bool = False) -> Iterator[tuple[list[str], Any]]:
    """Columns and HDU of the first table of a FITS file, memory-mapped; a compressed file is unpacked to a temporary one.

    Args:
        path: The file.
        remark: Say it if there are more tables.

    Raises:
        InputError: If it cannot be read, or holds no table.
    """
    try:
        from astropy.io import fits
    except ImportError as error:
        raise InputError(f"{path} is a FITS table; its reader is missing: pip install 'gz_lightning[fits]'") from error
    with contextlib.ExitStack() as stack:
        plain = path
        if path.name.lower().endswith(".gz"):
            plain = Path(stack.enter_context(tempfile.TemporaryDirectory())) / path.stem
            with (
                reading(path, "FITS", (OSError, EOFError, zlib.error)),
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
        with warnings.catch_warnings(), reading(path, "FITS"):
            warnings.simplefilter("ignore")  # about harmless oddities in headers
            warnings.filterwarnings("error", message="File may have been truncated")  # astropy only warns of it
            hdus = stack.enter_context(fits.open(file, memmap=True, lazy_load_hdus=False))
            tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU)]
            table = tables[0] if tables else None
            if table is not None:
                names = [str(name) for name in table.columns.names]  # read here, where its warnings are not shown
        if table is None:
            raise InputError(f"{path} holds no table; give the FITS file with the vote table")
        if remark:
            _say_which(path, len(tables))
        yield names, table


def _say_which(path: Path, number: int) -> None:
    if number > 1:
        say(f"{path} holds {number} tables, of which the first is read; if another is meant, save it to a file of its own")


def fits_rows(path: Path, columns: Sequence[str], rows: int) -> Iterator[pd.DataFrame]:
    """Some columns of a FITS table, so many rows at a time; TNULL is NA.

    Raises:
        InputError: As :func:`fits_table`; if a cell is an array.
    """
    with fits_table(path, remark=True) as (_, table):
        with reading(path, "FITS"):
            number = len(table.data)
        for start in range(0, number, rows):
            with reading(path, "FITS"):
                part = table.data[start : start + rows]
                values = {name: np.asarray(part[name]) for name in columns}
                # TNULL is a number as it is stored, before TSCAL and TZERO.
                stored, nulls = part.view(np.recarray), {name: table.columns[name].null for name in columns}
            if arrays := [name for name in columns if values[name].ndim != 1]:
                raise InputError(f"{path} cannot be read as FITS: the cells of column {', '.join(arrays)} are arrays")
            for name, null in nulls.items():
                if null is not None and stored[name].dtype.kind in "iu":
                    values[name] = np.ma.array(values[name], mask=stored[name] == null)
            # A copy in native byte order, so that nothing refers to the mapped file.
            piece = pd.DataFrame({name: _without_masked(cells) for name, cells in values.items()})
            yield piece


def votable_columns(path: Path) -> list[str]:
    """Columns of the first table of a VOTable, from the lines before its data: the data take long to read.

    Raises:
        InputError: If it cannot be read, or holds no table.
    """
    names: list[str] = []
    with reading(path, "VOTable", XML_ERRORS), _unpacked(path) as file:
        for _, element in ElementTree.iterparse(file, events=("start",)):
            tag = str(element.tag).rpartition("}")[2]
            if tag == "FIELD":
                names.append(str(element.attrib.get("name") or element.attrib.get("ID", "")))
            elif tag == "DATA":
                break
    if not names:
        raise InputError(f"{path} holds no table; give the VOTable with the vote table")
    return names


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[Any]:
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
        yield file


def votable_rows(path: Path, columns: Sequence[str], rows: int) -> Iterator[pd.DataFrame]:
    """Some columns of a VOTable, so many rows at a time; masked cells are NA.

    Raises:
        InputError: If it cannot be read, or a cell is an array.
    """
    try:
        from astropy.io import votable
    except ImportError as error:
        raise InputError(f"{path} is a VOTable; its reader is missing: pip install 'gz_lightning[fits]'") from error
    with warnings.catch_warnings(), reading(path, "VOTable"), _unpacked(path) as file:
        warnings.simplefilter("ignore")  # about harmless oddities, which most VOTables have
        content = votable.parse(file, verify="ignore")
        table, number_of_tables = content.get_first_table(), sum(not one.is_empty() for one in content.iter_tables())
        names = {field.name or field.ID: place for place, field in enumerate(table.fields)}
        values = {name: table.array[table.array.dtype.names[names[name]]] for name in columns}
    _say_which(path, number_of_tables)
    for name, cells in values.items():
        if cells.ndim != 1 or (cells.dtype.kind == "O" and any(isinstance(cell, np.ndarray) for cell in cells.data)):
            raise InputError(f"{path} cannot be read as VOTable: the cells of column {name} are arrays")
    number = len(next(iter(values.values()))) if values else 0
    for start in range(0, number, rows):
        piece = {name: cells[start : start + rows] for name, cells in values.items()}
        yield pd.DataFrame({name: _without_masked(cells) for name, cells in piece.items()})


def _without_masked(cells: Any) -> Any:
    mask, data = np.ma.getmaskarray(cells), np.ma.getdata(cells)
    series = pd.Series(data.astype(data.dtype.newbyteorder("=")))
    if not mask.any():
        return series
    # Whole numbers become objects, since doubles would round long ids.
    return series.astype(object).mask(mask) if data.dtype.kind in "iuO" else series.mask(mask)
