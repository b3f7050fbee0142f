"""Dimension look-ups: the staged rows with the surrogate keys that they refer to, joined in the target.

A look-up takes the dimension's current row, or the version that was current at the row's own date. A date
before the first version takes the first: a dimension's history begins with its first load, facts do earlier.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from services.mapper.compiler.dialects import Dialect
from services.mapper.compiler.target import CURRENT, ROW, Role, Target, column_type, target_table
from services.mapper.definition import Definition, Lookup


def incoming(
    stage: sa.Table, definition: Definition, dimensions: Mapping[str, Definition], dialect: Dialect
) -> sa.FromClause:
    """The stage with the mapping's look-ups as columns beside its own."""
    if not definition.looked_up:
        return stage
    joined: sa.FromClause = stage
    found: list[sa.ColumnElement[Any]] = []
    for number, (column, lookup) in enumerate(definition.looked_up, 1):
        dimension = target_table(dimensions[lookup.mapping], dialect)
        side = _versions(dimension, as_of=bool(lookup.as_of_column)).subquery(f"l{number}")
        joined = joined.outerjoin(side, _matches(stage, side, definition, lookup, dialect))
        key: sa.ColumnElement[Any] = side.c.surrogate
        if lookup.default_key is not None:
            key = sa.func.coalesce(key, lookup.default_key)
        found.append(key.label(dialect.fold(column.name)))
    own = [column for column in stage.c if not column.system]
    return sa.select(*own, *found, stage.c[ROW].label(ROW)).select_from(joined).subquery("incoming")


def _matches(
    stage: sa.Table, side: sa.Subquery, definition: Definition, lookup: Lookup, dialect: Dialect
) -> sa.ColumnElement[bool]:
    """Whether a dimension's version is the one that a staged row refers to."""
    own = {column.name.lower(): column for column in definition.columns}
    matched = [stage.c[dialect.fold(own[name.lower()].name)] for name in lookup.match_columns]
    same = [column == side.c[f"key{number}"] for number, column in enumerate(matched)]
    if not lookup.as_of_column:
        return sa.and_(*same)
    as_of = own[lookup.as_of_column.lower()]
    moment = dialect.moment(stage.c[dialect.fold(as_of.name)], column_type(as_of))
    return sa.and_(*same, moment < side.c.until, sa.or_(side.c.ordinal == 1, moment >= side.c.since))


def _versions(dimension: Target, *, as_of: bool) -> sa.Select[Any]:
    """A dimension's current rows, or all with their intervals, numbered within each key from the first."""
    keys = [dimension.table.c[key] for key in dimension.keys]
    rows: sa.Select[Any] = sa.select(
        *(key.label(f"key{number}") for number, key in enumerate(keys)),
        dimension.column(Role.ROLE_SURROGATE_KEY).label("surrogate"),
    )
    if not as_of:
        return rows.where(dimension.column(Role.ROLE_CURRENT_FLAG) == CURRENT)
    since = dimension.column(Role.ROLE_FROM_TIME)
    return rows.add_columns(
        since.label("since"),
        dimension.column(Role.ROLE_TO_TIME).label("until"),
        sa.func.row_number().over(partition_by=keys, order_by=since).label("ordinal"),
    )
