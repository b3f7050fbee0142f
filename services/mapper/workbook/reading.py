"""Mappings from a workbook or CSV file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from openpyxl.utils import get_column_letter

from services.mapper.definition import MAX_COLUMNS, Column, Definition, Lookup
from services.mapper.errors import WorkbookInvalidError, WorkbookRefusedError
from services.mapper.workbook.grids import Grid, csv_grid, xlsx_grids
from services.mapper.workbook.layout import HEADER, TABLE, Field

MAX_SHEETS = 200
LOOKUP = "lookup."


@dataclass(frozen=True)
class Sheet:
    """A mapping of a file. `cells` names each field's cell, by the field's path in Mapping."""

    name: str
    definition: Definition
    cells: dict[str, str]
    untold: frozenset[str]
    """The fields whose titles the sheet lacks, such as `lookup.mapping`."""

    def over(self, before: Definition) -> Definition:
        """What the mapping says after an import: the sheet's word, and what it was where there is no title.

        A column that has logic needs no look-up, so none is kept for it.
        """
        header = {name: getattr(before, name) for name in self.untold if "." not in name}
        lookups = {column.name: column.lookup for column in before.columns if column.lookup}
        columns = (
            replace(column, lookup=self._lookup(column, lookups.get(column.name)))
            for column in self.definition.columns
        )
        return replace(self.definition, **header, columns=tuple(columns))

    def _lookup(self, column: Column, before: Lookup | None) -> Lookup | None:
        untold = {name.removeprefix(LOOKUP) for name in self.untold if name.startswith(LOOKUP)}
        if before is None or column.logic or (column.lookup is None and "mapping" not in untold):
            return column.lookup
        kept = {name: getattr(before, name) for name in untold}
        return replace(column.lookup or Lookup(mapping=""), **kept)


@dataclass
class _Reading:
    """What was found so far in one sheet."""

    grid: Grid
    cells: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    def address(self, row: int, column: int) -> str:
        """A cell as people name it, from indexes."""
        return f"{self.grid.prefix}{get_column_letter(column + 1)}{row + 1}"

    def values(self, row: int, places: dict[int, Field], path: str) -> dict[str, Any]:
        """A row's values by field, without those at fault."""
        found = {}
        for column, known in places.items():
            self.cells[path + known.name] = address = self.address(row, column)
            try:
                found[known.name] = known.codec.parse(self.grid.text(row, column).strip())
            except ValueError as error:
                self.faults[address] = str(error)
        return found


def read_xlsx(content: bytes) -> list[Sheet]:
    """The mappings of a workbook, one a sheet; empty sheets are passed over.

    Fails with WorkbookRefusedError when it cannot be read, WorkbookInvalidError when cells do not fit.
    """
    grids = [grid for grid in xlsx_grids(content) if not grid.blank]
    if not grids:
        raise WorkbookRefusedError("the workbook is empty")
    if len(grids) > MAX_SHEETS:
        raise WorkbookRefusedError(f"the workbook has more than {MAX_SHEETS} sheets")
    return _read(grids)


def read_csv(content: bytes) -> Sheet:
    """The mapping of a CSV file; fails as `read_xlsx` does."""
    return _read([csv_grid(content)])[0]


def _read(grids: Sequence[Grid]) -> list[Sheet]:
    readings = [_Reading(grid) for grid in grids]
    sheets = [_sheet(reading) for reading in readings]
    faults = {cell: text for reading in readings for cell, text in reading.faults.items()}
    seen: set[str] = set()
    for sheet in sheets:
        if sheet.definition.reference in seen:
            faults[sheet.cells["reference"]] = f"{sheet.definition.reference} stands in another sheet too"
        seen.add(sheet.definition.reference)
    if faults:
        cell, text = next(iter(faults.items()))
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise WorkbookInvalidError(f"{cell}: {text}{more}", fields=faults)
    return sheets


def _sheet(reading: _Reading) -> Sheet:
    grid = reading.grid
    top = _titles(grid, "reference", "Form Fields", 0)
    header = reading.values(top + 1, _places(reading, top, HEADER), "")
    titles = _titles(grid, "fieldName", "Table Fields", top + 2)
    places = _places(reading, titles, TABLE)
    columns = list(_columns(reading, titles, places))
    _refuse_formulas(reading)
    told = {*header, *(known.name for known in places.values())}
    untold = frozenset(known.name for known in (*HEADER, *TABLE) if not known.required) - told
    definition = Definition(**{"reference": "", **header}, columns=tuple(columns))
    return Sheet(grid.name, definition, reading.cells, untold)


def _titles(grid: Grid, title: str, block: str, start: int) -> int:
    """The row that holds the titles of a block."""
    for row in range(start, len(grid.rows)):
        if any(text.strip().lower() == title.lower() for text in grid.rows[row]):
            return row
    where = f"sheet {grid.name}" if grid.name else "the file"
    raise WorkbookRefusedError(f"{where} lacks the block {block}: no row has the title {title}")


def _places(reading: _Reading, row: int, fields: Sequence[Field]) -> dict[int, Field]:
    """The fields by the index of their column."""
    known = {field.title.lower(): field for field in fields}
    places: dict[int, Field] = {}
    for column, text in enumerate(reading.grid.rows[row]):
        title = text.strip().lower()
        if title and (title not in known or known[title] in places.values()):
            problem = "appears twice" if title in known else "is not one of the titles"
            reading.faults[reading.address(row, column)] = f"{text.strip()} {problem}"
        elif title:
            places[column] = known[title]
    missing = [field.title for field in fields if field.required and field not in places.values()]
    if missing:
        where = f"sheet {reading.grid.name}" if reading.grid.name else "the file"
        raise WorkbookRefusedError(f"{where} lacks the titles {', '.join(missing)}")
    return places


def _columns(reading: _Reading, titles: int, places: dict[int, Field]) -> Iterator[Column]:
    count = 0
    for row in range(titles + 1, len(reading.grid.rows)):
        texts = [reading.grid.text(row, column).strip() for column in places]
        if not any(text and text.lower() != "no" for text in texts):
            continue
        if count == MAX_COLUMNS:
            raise WorkbookRefusedError(
                f"{reading.address(row, 0)}: a mapping has at most {MAX_COLUMNS} columns"
            )
        values = reading.values(row, places, f"columns[{count}].")
        count += 1
        lookup = {
            name.removeprefix(LOOKUP): values.pop(name) for name in list(values) if name.startswith(LOOKUP)
        }
        given = any(value not in ("", (), None) for value in lookup.values())
        yield Column(**values, lookup=Lookup(**{"mapping": "", **lookup}) if given else None)


def _refuse_formulas(reading: _Reading) -> None:
    for row, column in reading.grid.formulas:
        reading.faults[reading.address(row, column)] = "holds a formula; put its value there instead"
