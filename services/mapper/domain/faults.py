"""What can be wrong with a mapping, told at its place."""

import enum
from dataclasses import dataclass

from services.mapper.definition import Definition


class Reason(enum.StrEnum):
    """The kind of a fault; the names are those of `portolan.mapper.v1.Fault.Reason`."""

    MISSING = "MISSING"
    ILLEGAL = "ILLEGAL"
    DUPLICATE = "DUPLICATE"
    UNKNOWN = "UNKNOWN"
    CONFLICT = "CONFLICT"
    QUERY_REFUSED = "QUERY_REFUSED"
    QUERY_INVALID = "QUERY_INVALID"
    COLUMN_NOT_RETURNED = "COLUMN_NOT_RETURNED"
    TYPE_MISMATCH = "TYPE_MISMATCH"
    CONNECTION = "CONNECTION"


@dataclass(frozen=True)
class Fault:
    """One fault. `row` is that of the column, from 1, or 0 for the header; an unknown `line` is 0."""

    row: int
    field: str
    reason: Reason
    message: str
    column: str = ""
    line: int = 0
    position: int = 0


def of_column(
    definition: Definition, row: int, field: str, reason: Reason, message: str, **place: int
) -> Fault:
    """A fault of the column in a row; `place` is the line and position in its logic."""
    return Fault(row, field, reason, message, definition.columns[row - 1].name, **place)
