"""The rules that a mapping must meet by itself, whatever its source holds."""

import re
from collections import Counter
from collections.abc import Iterator

from kernel.databases.endpoints import DatabaseKind
from kernel.databases.types import DataType, Kind, parse_code
from services.mapper.compiler.target import OWN_COLUMNS, OWN_TABLES
from services.mapper.definition import Column, Definition, TableType
from services.mapper.domain.faults import Fault, Reason, of_column

MAX_NAME = 63
RESERVED = {"rowid", "oid", "_rowid_", "ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def header_faults(definition: Definition, target: DatabaseKind | None) -> Iterator[Fault]:
    """The faults of the header; `target` is the kind of the target's connection, where it is known."""
    for field in ("source_connection", "target_connection", "source_system", "target_table"):
        if not getattr(definition, field):
            yield Fault(0, field, Reason.MISSING, f"{_words(field)} is needed")
    if definition.table_type == TableType.UNSPECIFIED:
        yield Fault(0, "table_type", Reason.MISSING, "the table type is needed: NRM, DIM, FCT or MRT")
    if definition.target_table and (problem := _bad_name(definition.target_table)):
        yield Fault(0, "target_table", Reason.ILLEGAL, problem)
    elif definition.target_table.lower() in OWN_TABLES:
        yield Fault(
            0, "target_table", Reason.ILLEGAL, f"{definition.target_table} is a table of Portolan's own"
        )
    match target:
        case DatabaseKind.FILES:
            yield Fault(0, "target_connection", Reason.ILLEGAL, "files are read and cannot be loaded")
        case DatabaseKind.SQLITE if definition.target_schema.lower() not in {"", "main"}:
            yield Fault(0, "target_schema", Reason.ILLEGAL, "SQLite has the one schema main")
        case DatabaseKind.POSTGRESQL if not definition.target_schema:
            yield Fault(0, "target_schema", Reason.MISSING, "the target schema is needed")
    if definition.target_schema and (problem := _bad_name(definition.target_schema)):
        yield Fault(0, "target_schema", Reason.ILLEGAL, problem)


def column_faults(definition: Definition) -> Iterator[Fault]:
    """The faults of the columns, each by itself and together."""
    keys = definition.keys
    if not definition.columns:
        yield Fault(0, "columns", Reason.MISSING, "a mapping needs columns")
    elif not keys:
        yield of_column(definition, 1, "key", Reason.MISSING, "a mapping needs at least one key column")
    for row, column in enumerate(definition.columns, 1):
        for field, reason, message in (*_name_faults(column), *_key_faults(column)):
            yield of_column(definition, row, field, reason, message)
        for field, reason, message in _source_faults(column, len(keys)):
            yield of_column(definition, row, field, reason, message)
    yield from _repeated(definition)
    codes = {column.combination_code.strip() for column in keys}
    if len(codes) > 1:
        row = definition.columns.index(keys[-1]) + 1
        message = "all key columns must have one combination code, for their combination drives the load"
        yield of_column(definition, row, "combination_code", Reason.CONFLICT, message)


Found = Iterator[tuple[str, Reason, str]]


def _name_faults(column: Column) -> Found:
    if not column.name:
        yield "name", Reason.MISSING, "the column's name is needed"
    elif problem := _bad_name(column.name):
        yield "name", Reason.ILLEGAL, problem
    elif column.name.upper() in OWN_COLUMNS:
        yield "name", Reason.ILLEGAL, f"{column.name} is a column that Portolan adds itself"
    elif column.name.lower() in RESERVED:
        yield "name", Reason.ILLEGAL, f"{column.name} is a name that databases keep for themselves"
    if column.lookup is not None:
        if column.data_type and parse_code(column.data_type) != DataType(Kind.BIG_INTEGER):
            yield "data_type", Reason.CONFLICT, "a look-up gives a surrogate key: leave empty, or BigInteger"
    elif not column.data_type:
        yield "data_type", Reason.MISSING, "the data type is needed"
    elif parse_code(column.data_type) is None:
        codes = (
            "String50, Text, Integer, BigInteger, Numeric10, Decimal(15,2), Money18, Double, Boolean, Date"
        )
        message = f"{column.data_type} is no data type; there are {codes}, Timestamp and TimestampTz"
        yield "data_type", Reason.ILLEGAL, message


def _key_faults(column: Column) -> Found:
    if column.key and not column.key_sequence:
        yield "key_sequence", Reason.MISSING, "a key column needs its place in the key, from 1"
    if column.key_sequence and not column.key:
        yield "key_sequence", Reason.CONFLICT, "only a key column has a place in the key"
    if column.key and column.lookup is not None:
        yield "key", Reason.CONFLICT, "a look-up cannot be part of the business key"


def _source_faults(column: Column, keys: int) -> Found:
    if column.lookup is not None:
        if column.logic:
            yield "logic", Reason.CONFLICT, "a column has logic or a look-up, not both"
        return
    if not column.statement:
        yield "logic", Reason.MISSING, "the logic is needed: a SELECT, or else a look-up"
    if not column.key_columns:
        yield "key_columns", Reason.MISSING, "the logic's columns that hold the business key are needed"
    elif keys and len(column.key_columns) != keys:
        message = f"the business key has {keys} columns, here are {len(column.key_columns)}"
        yield "key_columns", Reason.CONFLICT, message
    if not column.value_column:
        yield "value_column", Reason.MISSING, "the logic's column that holds the value is needed"


def _repeated(definition: Definition) -> Iterator[Fault]:
    """Names, places in the key and value columns that stand more than once; but for the first."""
    seen: Counter[tuple[str, ...]] = Counter()
    for row, column in enumerate(definition.columns, 1):
        code = column.combination_code.strip()
        values = {
            "name": (column.name.lower(),),
            "key_sequence": (str(column.key_sequence or ""),),
            "value_column": (column.value_column.lower(), code) if column.lookup is None else ("",),
        }
        messages = {
            "name": f"{column.name} is the name of another column too",
            "key_sequence": f"another key column has the place {column.key_sequence} too",
            "value_column": f"{column.value_column} gives another column of this combination its value too: "
            "give it an alias in the logic",
        }
        for field, value in values.items():
            if value[0]:
                seen[field, *value] += 1
                if seen[field, *value] > 1:
                    yield of_column(definition, row, field, Reason.DUPLICATE, messages[field])


def _bad_name(name: str) -> str:
    """What is wrong with a name in the target; empty when nothing is."""
    if len(name) > MAX_NAME:
        return f"{name} is longer than {MAX_NAME} characters"
    if not _NAME.fullmatch(name):
        return f"{name} must hold only letters A to Z, digits and _, and not begin with a digit"
    return ""


def _words(field: str) -> str:
    return f"the {field.replace('_', ' ')}"
