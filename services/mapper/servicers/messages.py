"""Mappings as messages."""

from collections.abc import Mapping
from typing import Any

from kernel.errors import FieldInvalidError
from kernel.resources import enum_name, to_message
from kernel.validation import validate
from portolan.mapper.v1 import mappings_pb2 as pb
from services.mapper.definition import Column, Definition, Frequency, Lookup, ScdType, TableType
from services.mapper.domain.faults import Fault
from services.mapper.domain.mappings import Revision
from services.mapper.errors import WorkbookInvalidError
from services.mapper.workbook import Sheet, cell_of

MUTABLE = frozenset(
    {
        *("description", "source_connection", "target_connection", "target_schema", "target_table"),
        *("table_type", "frequency", "source_system", "batch_rows", "columns"),
    }
)
TABLE_TYPES = pb.DESCRIPTOR.enum_types_by_name["TableType"]
FREQUENCIES = pb.DESCRIPTOR.enum_types_by_name["Frequency"]
SCD_TYPES = pb.DESCRIPTOR.enum_types_by_name["ScdType"]


def to_mapping(revision: Revision, *, columns: bool = True) -> pb.Mapping:
    """A mapping in a version, with or without its columns."""
    mapping, version = revision.mapping, revision.version
    return to_message(
        version,
        pb.Mapping,
        reference=mapping.reference,
        columns=[to_column(column) for column in revision.definition.columns] if columns else [],
        active_version=mapping.active_version,
        create_time=mapping.create_time,
        update_time=version.create_time,
        etag=mapping.etag,
    )


def to_column(column: Column) -> pb.MappingColumn:
    """A column."""
    lookup = to_message(column.lookup, pb.Lookup) if column.lookup else None
    return to_message(column, pb.MappingColumn, lookup=lookup)


def to_fault(fault: Fault) -> pb.Fault:
    """A fault, with its cell in the exported workbook."""
    return to_message(fault, pb.Fault, cell=cell_of(fault.row, fault.field))


def definition_of(message: pb.Mapping) -> Definition:
    """What a message says, in the form in which it is kept and exported: trimmed, with plain line ends."""
    return Definition(
        reference=message.reference,
        description=_text(message.description),
        source_connection=_text(message.source_connection),
        target_connection=_text(message.target_connection),
        target_schema=_text(message.target_schema),
        target_table=_text(message.target_table),
        table_type=TableType(enum_name(TABLE_TYPES, message.table_type)),
        frequency=Frequency(enum_name(FREQUENCIES, message.frequency)),
        source_system=_text(message.source_system),
        batch_rows=message.batch_rows,
        columns=tuple(_column(column) for column in message.columns),
    )


def check_sheet(sheet: Sheet) -> None:
    """Holds a sheet's mapping against the rules of the proto; WorkbookInvalidError names the cells."""
    definition = sheet.definition
    columns = [to_column(column) for column in definition.columns]
    try:
        validate(to_message(definition, pb.Mapping, columns=columns))
    except FieldInvalidError as error:
        faults = {_cell(sheet, path): text for path, text in error.fields.items()}
        cell, text = next(iter(faults.items()))
        raise WorkbookInvalidError(f"{cell}: {text}", fields=faults) from error


def to_imported(
    sheet: Sheet, outcomes: Mapping[str, tuple[int, bool]]
) -> pb.ImportMappingsResponse.ImportedMapping:
    """What became of a sheet; `outcomes` are the latest version and whether it is new, by reference."""
    reference = sheet.definition.reference
    version, changed = outcomes[reference]
    return pb.ImportMappingsResponse.ImportedMapping(
        sheet=sheet.name, reference=reference, version=version, changed=changed
    )


def _cell(sheet: Sheet, path: str) -> str:
    """The cell that a field's path leads to, such as `columns[0].key_columns[1]`."""
    while path not in sheet.cells and "[" in path:
        path = path[: path.rindex("[")]
    return sheet.cells.get(path, path)


def _column(message: pb.MappingColumn) -> Column:
    texts: dict[str, Any] = {
        name: _text(getattr(message, name))
        for name in ("name", "data_type", "description", "logic", "value_column", "combination_code")
    }
    return Column(
        **texts,
        key=message.key,
        key_sequence=message.key_sequence,
        key_columns=_names(message.key_columns),
        execution_sequence=message.execution_sequence,
        scd_type=ScdType(enum_name(SCD_TYPES, message.scd_type)),
        lookup=_lookup(message.lookup) if message.HasField("lookup") else None,
    )


def _lookup(message: pb.Lookup) -> Lookup:
    return Lookup(
        mapping=_text(message.mapping),
        match_columns=_names(message.match_columns),
        as_of_column=_text(message.as_of_column),
        default_key=message.default_key if message.HasField("default_key") else None,
    )


def _text(text: str) -> str:
    return text.strip().replace("\r\n", "\n")


def _names(names: Any) -> tuple[str, ...]:
    """Names without blanks around them; one that holds a comma is quoted, as a cell needs it."""
    stripped = (_text(name) for name in names)
    return tuple(
        '"' + name.replace('"', '""') + '"' if "," in name and not name.startswith('"') else name
        for name in stripped
        if name
    )
