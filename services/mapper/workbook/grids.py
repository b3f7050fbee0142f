"""Uploaded files as plain grids of text, after every check that keeps a hostile one from doing harm."""

import csv
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from openpyxl import load_workbook
from openpyxl.utils.exceptions import InvalidFileException

from services.mapper.errors import WorkbookRefusedError

MAX_BYTES = 20 * 2**20
MAX_ENTRIES = 2_000
MAX_UNPACKED_BYTES = 100 * 2**20
MAX_RATIO = 200  # of a part of more than a megabyte; real workbooks stay below 50
SMALL_PART = 2**20
PIECE = 2**16
MAX_ROWS = 50_000  # of all sheets together, blank ones included
MAX_WIDTH = 64
ZIP, OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
GUARDED = ("=", "+", "-", "@", "'", "\t", "\r")


@dataclass
class Grid:
    """A sheet's cells as text, from the top left one; `formulas` are the indexes of cells that hold one."""

    name: str = ""
    rows: list[list[str]] = field(default_factory=list)
    formulas: list[tuple[int, int]] = field(default_factory=list)

    @property
    def prefix(self) -> str:
        """What stands before a cell's address: the sheet's name."""
        return f"{self.name}!" if self.name else ""

    @property
    def blank(self) -> bool:
        """Whether no cell holds anything."""
        return not any(text.strip() for row in self.rows for text in row)

    def text(self, row: int, column: int) -> str:
        """A cell's text; empty outside the grid."""
        if row >= len(self.rows) or column >= len(self.rows[row]):
            return ""
        return self.rows[row][column]


def csv_grid(content: bytes) -> Grid:
    """The cells of a CSV file in UTF-8."""
    _check_size(content)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WorkbookRefusedError(
            f"the CSV file is not in UTF-8: byte {error.start} fits no character"
        ) from error
    if "\0" in text:
        raise WorkbookRefusedError("the file is no CSV file: it holds the character NUL")
    grid = Grid()
    try:
        for row in csv.reader(io.StringIO(text, newline=""), strict=True):
            if len(grid.rows) == MAX_ROWS or len(row) > MAX_WIDTH:
                raise WorkbookRefusedError(f"the file has more than {MAX_ROWS} rows or {MAX_WIDTH} columns")
            grid.rows.append([unguarded(cell) for cell in row])
    except csv.Error as error:
        raise WorkbookRefusedError(f"the file is no CSV file: {error} after row {len(grid.rows)}") from error
    return grid


def xlsx_grids(content: bytes) -> Iterator[Grid]:
    """The cells of each worksheet of an xlsx workbook."""
    _check_size(content)
    _check_parts(content)
    try:
        workbook = load_workbook(io.BytesIO(content), read_only=True, data_only=False, keep_links=False)
        try:
            rows = 0
            for sheet in workbook.worksheets:
                grid = Grid(sheet.title)
                for cells in sheet.iter_rows(max_col=MAX_WIDTH):
                    rows += 1
                    if rows > MAX_ROWS:
                        raise WorkbookRefusedError(f"the workbook has more than {MAX_ROWS} rows")
                    grid.rows.append([_text(cell.value) for cell in cells])
                    grid.formulas += [
                        (len(grid.rows) - 1, column)
                        for column, cell in enumerate(cells)
                        if cell.data_type == "f"
                    ]
                yield grid
        finally:
            workbook.close()
    except WorkbookRefusedError:
        raise
    except _DAMAGED as error:
        raise WorkbookRefusedError("the file is damaged: it cannot be read as an Excel workbook") from error


# What openpyxl, and the readers of XML and zip files below it, raise on files that are no workbooks.
_DAMAGED = (
    *(InvalidFileException, zipfile.BadZipFile, zlib.error, SyntaxError, EOFError, OSError),
    *(KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError, NotImplementedError),
)


def guarded(text: str) -> str:
    """A text as a CSV cell that no spreadsheet takes for a formula: behind an apostrophe if need be."""
    if not text.startswith(GUARDED) or re.fullmatch(r"-?\d+", text):
        return text
    return f"'{text}"


def unguarded(text: str) -> str:
    """The text that `guarded` was given."""
    return text[1:] if text.startswith("'") and text[1:].startswith(GUARDED) else text


def _check_size(content: bytes) -> None:
    if not content.strip():
        raise WorkbookRefusedError("the file is empty")
    if len(content) > MAX_BYTES:
        raise WorkbookRefusedError(f"the file is larger than {MAX_BYTES // 2**20} MiB")


def _check_parts(content: bytes) -> None:
    """Refuses, by the directory of the zip file alone, what is no plain workbook of a sound size."""
    if content.startswith(OLE):
        raise WorkbookRefusedError(
            "the file is an old .xls workbook or has a password: save it as plain .xlsx"
        )
    if not content.startswith(ZIP):
        raise WorkbookRefusedError("the file is no Excel workbook (.xlsx)")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = archive.infolist()
            names = {part.filename.lower() for part in parts}
            if any(part.flag_bits & 1 for part in parts):
                raise WorkbookRefusedError("the file has a password")
            if len(parts) > MAX_ENTRIES or sum(part.file_size for part in parts) > MAX_UNPACKED_BYTES:
                raise WorkbookRefusedError(
                    "the workbook unpacks to more than a workbook of mappings can hold"
                )
            if any(p.file_size > SMALL_PART and p.file_size > MAX_RATIO * p.compress_size for p in parts):
                raise WorkbookRefusedError("the workbook is packed more densely than any real one")
            if not {"[content_types].xml", "xl/workbook.xml"} <= names:
                raise WorkbookRefusedError("the file is another kind of zip file, no Excel workbook (.xlsx)")
            if any(name.endswith("vbaproject.bin") for name in names):
                raise WorkbookRefusedError("the workbook holds macros: save it as plain .xlsx")
            if any(_declares(archive, part) for part in parts):
                raise WorkbookRefusedError("the workbook holds XML that no spreadsheet writes")
    except _DAMAGED as error:
        raise WorkbookRefusedError("the file is damaged: it cannot be read as an Excel workbook") from error


def _declares(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> bool:
    """Whether a part declares XML entities. It is unpacked piece by piece, whatever size it claims."""
    tail = b""
    with archive.open(part) as unpacked:
        while piece := unpacked.read(PIECE):
            if b"<!DOCTYPE" in tail + piece:
                return True
            tail = piece[-len(b"<!DOCTYPE") :]
    return False


def _text(value: Any) -> str:
    """A cell's value as it would be typed; characters that XML lacks are escaped in a workbook."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return ESCAPED.sub(lambda match: chr(int(match[1], 16)), str(value))
