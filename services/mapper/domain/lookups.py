"""The rules of dimension look-ups."""

from collections.abc import Iterator, Mapping

from kernel.databases.types import parse_code
from services.mapper.definition import Column, Definition, Lookup, TableType
from services.mapper.domain.faults import Fault, Reason, of_column
from services.mapper.domain.types import MOMENTS, comparable
from services.mapper.errors import MappingNotValidatedError

Found = Iterator[tuple[str, Reason, str]]


def lookup_faults(
    definition: Definition, row: int, lookup: Lookup, dimensions: Mapping[str, Definition]
) -> Iterator[Fault]:
    """The faults of a column's look-up; `dimensions` are the mappings that can be looked up, by reference."""
    own = {column.name.lower(): column for column in definition.sourced}
    found = [
        *_own_faults(lookup, own),
        *_dimension_faults(definition, lookup, dimensions.get(lookup.mapping)),
    ]
    if (dimension := dimensions.get(lookup.mapping)) is not None and not found:
        found += _key_faults(lookup, own, dimension)
    for name, reason, message in found:
        yield of_column(definition, row, f"lookup.{name}", reason, message)


def check_dimensions(definition: Definition, dimensions: Mapping[str, Definition]) -> None:
    """Raises MappingNotValidatedError when a dimension went away or changed its key since the validation."""
    for row, column in enumerate(definition.columns, 1):
        if column.lookup is not None:
            for fault in lookup_faults(definition, row, column.lookup, dimensions):
                message = f"validate {definition.reference} again: {fault.message}"
                raise MappingNotValidatedError(message, mapping=definition.reference)


def _own_faults(lookup: Lookup, own: Mapping[str, Column]) -> Found:
    """The columns of this mapping that a look-up names."""
    if not lookup.match_columns:
        yield "match_columns", Reason.MISSING, "the columns that match the dimension's key are needed"
    for name in lookup.match_columns:
        if name.lower() not in own:
            yield "match_columns", Reason.UNKNOWN, f"this mapping has no column {name} with logic"
    if not lookup.as_of_column:
        return
    as_of = own.get(lookup.as_of_column.lower())
    if as_of is None:
        message = f"this mapping has no column {lookup.as_of_column} with logic"
        yield "as_of_column", Reason.UNKNOWN, message
    elif (of := parse_code(as_of.data_type)) and of.kind not in MOMENTS:
        yield "as_of_column", Reason.TYPE_MISMATCH, f"{as_of.name} is {as_of.data_type}, no date or time"


def _dimension_faults(definition: Definition, lookup: Lookup, dimension: Definition | None) -> Found:
    """The mapping that a look-up names."""
    if not lookup.mapping:
        yield "mapping", Reason.MISSING, "the mapping of the dimension is needed"
    elif lookup.mapping == definition.reference:
        yield "mapping", Reason.ILLEGAL, "a mapping cannot look itself up"
    elif dimension is None:
        message = f"there is no mapping {lookup.mapping} with an active or validated version"
        yield "mapping", Reason.UNKNOWN, message
    elif dimension.table_type != TableType.DIMENSION:
        yield "mapping", Reason.ILLEGAL, f"{lookup.mapping} loads no dimension"
    elif dimension.target_connection != definition.target_connection:
        message = f"{lookup.mapping} loads into {dimension.target_connection}, which is another connection"
        yield "mapping", Reason.CONFLICT, message


def _key_faults(lookup: Lookup, own: Mapping[str, Column], dimension: Definition) -> Found:
    """The matching columns against the dimension's business key."""
    if len(lookup.match_columns) != len(dimension.keys):
        wanted = ", ".join(key.name for key in dimension.keys)
        message = f"the business key of {lookup.mapping} is {wanted}: name as many columns, in this order"
        yield "match_columns", Reason.CONFLICT, message
        return
    for name, key in zip(lookup.match_columns, dimension.keys, strict=True):
        column = own[name.lower()]
        if not comparable(column.data_type, key.data_type):
            message = f"{name} is {column.data_type}, {key.name} of {lookup.mapping} is {key.data_type}"
            yield "match_columns", Reason.TYPE_MISMATCH, message
