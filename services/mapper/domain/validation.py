"""A mapping against what surrounds it: its connections, the live source, and the dimensions it looks up."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kernel.databases.endpoints import DatabaseKind
from kernel.databases.types import DataType, parse_code
from services.mapper.compiler import NameRefusedError, compile_plan
from services.mapper.compiler.plan import dialect
from services.mapper.definition import Column, Definition
from services.mapper.domain.faults import Fault, Reason, of_column
from services.mapper.domain.lookups import lookup_faults
from services.mapper.domain.rules import column_faults, header_faults
from services.mapper.domain.types import convertible


@dataclass(frozen=True)
class Described:
    """The columns that a query returns, with their types, in order."""

    columns: Mapping[str, DataType]


@dataclass(frozen=True)
class Rejected:
    """Why a query cannot be described."""

    reason: Reason
    message: str
    line: int = 0
    position: int = 0


@dataclass(frozen=True)
class Surroundings:
    """What was found around a mapping. A connection that is at fault has its message instead of its kind."""

    source: DatabaseKind | str
    target: DatabaseKind | str
    answers: Mapping[str, Described | Rejected] = field(default_factory=dict)
    """By statement."""
    dimensions: Mapping[str, Definition] = field(default_factory=dict)
    """The mappings that can be looked up, by reference."""


def statements(definition: Definition) -> list[str]:
    """The distinct logics, to be described by the source."""
    return list(dict.fromkeys(column.statement for column in definition.sourced if column.statement))


def validate(definition: Definition, around: Surroundings) -> list[Fault]:
    """Every fault of a mapping, by row."""
    target = around.target if isinstance(around.target, DatabaseKind) else None
    faults = [*header_faults(definition, target), *column_faults(definition)]
    for name, kind in (("source_connection", around.source), ("target_connection", around.target)):
        if getattr(definition, name) and not isinstance(kind, DatabaseKind):
            faults.append(Fault(0, name, Reason.CONNECTION, kind))
    for row, column in enumerate(definition.columns, 1):
        if column.lookup is not None:
            faults += lookup_faults(definition, row, column.lookup, around.dimensions)
        elif isinstance(around.source, DatabaseKind):
            faults += _logic_faults(definition, row, column, around.source, around.answers)
    return sorted(faults, key=lambda fault: fault.row)


def joined_query(definition: Definition, around: Surroundings) -> str | Fault:
    """The source query of a mapping that has no fault so far, to be described as a whole."""
    if not isinstance(around.source, DatabaseKind) or not isinstance(around.target, DatabaseKind):
        raise TypeError("a mapping without a fault has connections")
    try:
        plan = compile_plan(
            definition, 0, source=around.source, target=around.target, dimensions=around.dimensions
        )
    except NameRefusedError as error:
        return Fault(0, "columns", Reason.ILLEGAL, str(error))
    return plan.source_query


def joined_fault(definition: Definition, answer: Described | Rejected) -> Fault | None:
    """What the source says against the logics together, as when their key columns cannot be compared."""
    if isinstance(answer, Described):
        return None
    row = definition.columns.index(definition.keys[0]) + 1
    message = f"the logics cannot be joined on their key columns: {answer.message}"
    return of_column(definition, row, "key_columns", answer.reason, message)


def _logic_faults(
    definition: Definition,
    row: int,
    column: Column,
    source: DatabaseKind,
    answers: Mapping[str, Described | Rejected],
) -> Iterator[Fault]:
    match answers.get(column.statement):
        case Rejected(reason, message, line, position):
            yield of_column(definition, row, "logic", reason, message, line=line, position=position)
        case Described(columns):
            returned = {name if _minds_case(source) else name.lower(): of for name, of in columns.items()}
            for name in column.key_columns:
                if _written(name, source) not in returned:
                    yield _not_returned(definition, row, "key_columns", name, columns)
            if not column.value_column:
                return
            of = returned.get(_written(column.value_column, source))
            wanted = parse_code(column.data_type)
            if of is None:
                yield _not_returned(definition, row, "value_column", column.value_column, columns)
            elif wanted is not None and not convertible(of, wanted):
                message = f"{column.value_column} is {of}, which cannot become {column.data_type}"
                yield of_column(definition, row, "data_type", Reason.TYPE_MISMATCH, message)


def _not_returned(
    definition: Definition, row: int, name: str, missing: str, columns: Mapping[str, DataType]
) -> Fault:
    message = f"the logic returns no column {missing}; it returns {', '.join(columns) or 'none'}"
    if any(found.lower() == missing.lower() for found in columns):
        message += f'; write "{missing}" in double quotes if its letter case is meant'
    return of_column(definition, row, name, Reason.COLUMN_NOT_RETURNED, message)


def _minds_case(source: DatabaseKind) -> bool:
    return source == DatabaseKind.POSTGRESQL


def _written(name: str, source: DatabaseKind) -> str:
    """The name of a result column that a user writes so; in lower case where case does not matter."""
    written = str(dialect(source).written(name))
    return written if _minds_case(source) else written.lower()
