"""Tables as people save them: CSV in UTF-8 or cp949, with commas, semicolons or tabs, and Excel workbooks.

A CSV is decoded strictly. An encoding is never guessed from statistics: UTF-8 (with or without a byte order mark) is
tried first, then UTF-16 with its mark, then cp949, the default of Korean Excel; anything else is refused.
"""

import csv
import io
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import pandas as pd

from core.cli import UserError

EXCEL_SUFFIX = ".xlsx"
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
MOST_BYTES, MOST_CELLS = 1 << 28, 1 << 24
_DAMAGED = (BadZipFile, zlib.error, OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, SyntaxError)
"""Errors that unpacking and XML raise for damaged workbooks."""


@dataclass(frozen=True)
class Spreadsheet:
    """Rows of a table as strings, empty where empty. `lines` are their line numbers; `form` says how it was read."""

    frame: pd.DataFrame
    lines: tuple[int, ...]
    form: str


def read_spreadsheet(path: Path) -> Spreadsheet:
    """Read a CSV or .xlsx. Names of columns are stripped; rows without any value are left out.

    UserError for a file that is missing or neither UTF-8 nor cp949, for rows longer than the header, and for a column
    that stands twice.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.stat().st_size > MOST_BYTES:
        raise UserError(f"{path}: larger than {MOST_BYTES >> 20} MB")
    rows, form = _excel_rows(path) if path.suffix.lower() == EXCEL_SUFFIX else _csv_rows(path)
    if not rows:
        raise UserError(f"{path}: no header in it")
    header = [name.strip() for name in rows[0]]
    while header and not header[-1]:
        header.pop()
    _refuse_header(path, header)
    _refuse_control_characters(path, 1, header)
    kept = [(line, row) for line, row in enumerate(rows[1:], start=2) if any(cell.strip() for cell in row)]
    for line, row in kept:
        if any(cell.strip() for cell in row[len(header) :]):
            raise UserError(f"{path}: line {line}: has more cells than the header's {len(header)}")
    for line, row in kept:
        _refuse_control_characters(path, line, row)
    padded = [[*(cell.strip() for cell in row[: len(header)]), *[""] * (len(header) - len(row))] for _, row in kept]
    return Spreadsheet(pd.DataFrame(padded, columns=header, dtype=str), tuple(line for line, _ in kept), form)


def _refuse_control_characters(path: Path, line: int, row: list[str]) -> None:
    """UserError for letters that would act on a terminal or break a table."""
    for cell in row:
        if any(unicodedata.category(letter) == "Cc" and letter not in "\t\n\r" for letter in cell):
            raise UserError(f"{path}: line {line}: cell {cell!a:.60} has control characters; remove them")


def _refuse_header(path: Path, header: list[str]) -> None:
    if "" in header:
        raise UserError(f"{path}: column {header.index('') + 1} has no name")
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if repeated:
        raise UserError(f"{path}: column {repeated[0]!r} stands twice in its header")


def _csv_rows(path: Path) -> tuple[list[list[str]], str]:
    text, encoding = decode(path, path.read_bytes())
    first = text.split("\n", 1)[0]
    delimiter = max(DELIMITERS, key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise UserError(f"{path}: not a readable CSV ({error})") from None
    return rows, f"{encoding}, {DELIMITERS[delimiter]}"


def decode(path: Path, content: bytes) -> tuple[str, str]:
    """The text of a file and the name of its encoding; UserError if it is none of those in this file's docstring."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _strictly(path, content, "utf-16"), "UTF-16"
    try:
        return content.decode("utf-8-sig"), "UTF-8"
    except UnicodeDecodeError:
        refusal = f"{path}: neither UTF-8 nor cp949 (Korean Excel); save it as UTF-8, in Excel as 'CSV UTF-8'"
    try:
        text = content.decode("cp949")
    except UnicodeDecodeError:
        raise UserError(refusal) from None
    # Western encodings decode as cp949 too, to syllables outside of KS X 1001 that Korean text hardly has.
    foreign = [letter for letter in text if ord(letter) > 127]
    common = sum(_is_in_ksx1001(letter) for letter in foreign)
    if 2 * common < len(foreign):
        raise UserError(refusal)
    return text, "cp949"


def _strictly(path: Path, content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid {encoding} ({error.reason} at byte {error.start})") from None


def _is_in_ksx1001(letter: str) -> bool:
    try:
        letter.encode("euc_kr")
    except UnicodeEncodeError:
        return False
    return True


def _excel_rows(path: Path) -> tuple[list[list[str]], str]:
    """The first sheet's cells as text; whole numbers without a decimal point."""
    try:
        import openpyxl
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError:
        raise UserError(f"{path}: reading Excel files needs a further package: pip install openpyxl") from None
    try:
        with ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > MOST_BYTES:
            raise UserError(f"{path}: larger than {MOST_BYTES >> 20} MB when it is unpacked")
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheet = book.worksheets[0]
        # Else every row is as wide as the sheet says it is: as a formatted cell far outside of the table makes it.
        sheet.reset_dimensions()
        rows = _limited(path, ([_cell_text(cell) for cell in row] for row in sheet.iter_rows(values_only=True)))
        book.close()
    except (InvalidFileException, *_DAMAGED) as error:
        raise UserError(f"{path}: not a readable Excel workbook ({' '.join(str(error).split())})") from None
    return rows, f"Excel, sheet {sheet.title!r}"


def _limited(path: Path, rows: Iterable[list[str]]) -> list[list[str]]:
    """The rows; UserError as soon as they have more cells than a table of photos: a small file may name any number."""
    kept, cells = [], 0
    for row in rows:
        cells += 1 + len(row)
        if cells > MOST_CELLS:
            raise UserError(f"{path}: more than {MOST_CELLS} cells; copy the table alone into a new workbook")
        kept.append(row)
    return kept


def _cell_text(cell: object) -> str:
    if cell is None:
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)
