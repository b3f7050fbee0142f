"""Mappings as a workbook or CSV file, which reads back to the same mappings."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from openpyxl import Workbook
from openpyxl.comments import Comment
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.datavalidation import DataValidation
from openpyxl.worksheet.worksheet import Worksheet

from services.mapper.definition import MAX_COLUMNS, Column, Definition
from services.mapper.errors import WorkbookRefusedError
from services.mapper.workbook.grids import guarded
from services.mapper.workbook.layout import (
    HEADER,
    HEADER_BLOCK,
    HEADER_TITLES,
    HEADER_VALUES,
    TABLE,
    TABLE_BLOCK,
    TABLE_BLOCK_ROW,
    TABLE_TITLES,
    TABLE_VALUES,
    TEMPLATE_ROWS,
    Field,
    cell_of,
)

TEMPLATE_NAME = "Mapping Template"
MAX_TITLE = 31
MAX_CELL = 32_767  # characters; more would be cut in silence
GREEN, RED = PatternFill("solid", fgColor="00B050"), PatternFill("solid", fgColor="FFC7CE")
UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
Faults = Sequence[tuple[int, str, str]]


def write_xlsx(definitions: Sequence[Definition], faults: Mapping[str, Faults] | None = None) -> bytes:
    """A workbook with a sheet for each mapping; the blank template when there is none.

    `faults` are (row, field, message) by reference; their cells are marked in red and commented.
    """
    workbook = Workbook()
    workbook.remove(workbook.worksheets[0])
    for definition in definitions:
        sheet = workbook.create_sheet(_title(definition.reference, workbook.sheetnames))
        _fill(sheet, _grid(definition), len(definition.columns))
        _mark(sheet, (faults or {}).get(definition.reference, ()))
    if not definitions:
        _fill(workbook.create_sheet(TEMPLATE_NAME), _grid(None), TEMPLATE_ROWS)
    content = io.BytesIO()
    workbook.save(content)
    return content.getvalue()


def write_csv(definition: Definition | None) -> bytes:
    """A CSV file in UTF-8 with one mapping; the blank template for None."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([[guarded(cell) for cell in row] for row in _grid(definition)])
    return text.getvalue().encode("utf-8-sig")


def _grid(definition: Definition | None) -> list[list[str]]:
    """A sheet's rows of text."""
    rows = [
        [HEADER_BLOCK],
        [known.title for known in HEADER],
        [],
        [],
        [TABLE_BLOCK],
        [known.title for known in TABLE],
    ]
    if definition is None:
        return rows
    rows[HEADER_VALUES - 1] = [known.codec.format(getattr(definition, known.name)) for known in HEADER]
    return rows + [[_cell(column, known) for known in TABLE] for column in definition.columns]


def _cell(column: Column, known: Field) -> str:
    value: Any = column
    for part in known.name.split("."):
        value = getattr(value, part)
        if value is None:
            return ""
    return known.codec.format(value)


def _fill(sheet: Worksheet, rows: Sequence[Sequence[str]], columns: int) -> None:
    for row, texts in enumerate(rows, 1):
        for column, text in enumerate(texts, 1):
            cell = sheet.cell(row, column)
            if re.fullmatch(r"\d{1,15}", text) and not text.startswith("0"):
                cell.value = int(text)
            elif text:
                cell.value = _escaped(text, cell.coordinate)
                cell.data_type = "s"  # never a formula, whatever it begins with
            cell.alignment = Alignment(vertical="top", wrap_text=True)
    for row, fields in ((HEADER_TITLES, HEADER), (TABLE_TITLES, TABLE)):
        for column in range(1, len(fields) + 1):
            sheet.cell(row, column).fill = GREEN
            sheet.cell(row, column).font = Font(bold=True, color="FFFFFF")
    for row, fields in ((1, HEADER), (TABLE_BLOCK_ROW, TABLE)):
        sheet.merge_cells(start_row=row, start_column=1, end_row=row, end_column=len(fields))
        sheet.cell(row, 1).font = Font(bold=True, size=13)
    for column, pair in enumerate(zip((*HEADER, *[None] * len(TABLE)), TABLE, strict=False), 1):
        sheet.column_dimensions[get_column_letter(column)].width = max(known.width for known in pair if known)
    last = TABLE_VALUES + min(max(columns, TEMPLATE_ROWS) + 100, MAX_COLUMNS) - 1
    _offer(sheet, HEADER, HEADER_VALUES, HEADER_VALUES)
    _offer(sheet, TABLE, TABLE_VALUES, last)
    sheet.freeze_panes = f"A{TABLE_VALUES}"


def _escaped(text: str, address: str) -> str:
    """A text without the characters that XML lacks; refused where a cell would cut it."""
    escaped = UNSAFE.sub(lambda match: f"_x{ord(match[0]):04X}_", text)
    if len(escaped) > MAX_CELL:
        raise WorkbookRefusedError(f"{address} is longer than a workbook's cell can be; ask for CSV")
    return escaped


def _offer(sheet: Worksheet, fields: Sequence[Field], first: int, last: int) -> None:
    """Drop-down lists for the cells that take codes. Only data types may be others than those listed."""
    for column, known in enumerate(fields, 1):
        if known.codec.choices:
            formula = '"' + ",".join(choice for choice in known.codec.choices if "," not in choice) + '"'
            strict = known.name != "data_type"
            offered = DataValidation("list", formula1=formula, allow_blank=True, showErrorMessage=strict)
            letter = get_column_letter(column)
            offered.add(f"{letter}{first}:{letter}{last}")
            sheet.add_data_validation(offered)


def _mark(sheet: Worksheet, faults: Faults) -> None:
    comments: dict[str, list[str]] = {}
    for row, name, message in faults:
        address = cell_of(row, name) or cell_of(row, "name" if row else "reference")
        comments.setdefault(address, []).append(message)
    for address, messages in comments.items():
        sheet[address].fill = RED
        sheet[address].comment = Comment("\n".join(messages), "Portolan", height=120, width=360)


def _title(reference: str, taken: Sequence[str]) -> str:
    """The sheet's name: the reference, cut to what a sheet's name can hold."""
    title, number = reference[:MAX_TITLE], 1
    while title in taken:
        number += 1
        suffix = f"_{number}"
        title = reference[: MAX_TITLE - len(suffix)] + suffix
    return title
