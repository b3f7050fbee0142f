"""The source query: every combination of a mapping in one SELECT, joined on the business key.

A column's logic is a SELECT of its own. Columns whose logics are the same text share one subquery. The logics
of one combination are joined (rows that lack any are left out); the driving combination, the one with the key
columns, comes first and the others are attached to it where their key is found.
"""

from collections.abc import Sequence
from itertools import count, groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from services.mapper.compiler.dialects import Dialect
from services.mapper.definition import Column, Definition


class Logic(sa.TableClause):
    """A user's SELECT as something to select from: its text stays as it was written."""

    inherit_cache = False

    def __init__(self, text: str, columns: Sequence[sa.ColumnClause[Any]]) -> None:
        super().__init__("logic", *columns)
        self.text = text


@compiles(Logic)
def _logic(element: Logic, _compiler: SQLCompiler, **_: object) -> str:
    return f"(\n{element.text}\n)"  # on a line of its own, for the text may end in a comment


class _Subquery:
    """A logic in the query, and the columns of it that the mapping names."""

    def __init__(self, number: int, columns: Sequence[Column], dialect: Dialect) -> None:
        first = columns[0]
        self.columns = columns
        self._names = {
            name: dialect.written(name) for c in columns for name in (*c.key_columns, c.value_column)
        }
        distinct: list[sa.ColumnClause[Any]] = [
            sa.column(name) for name in dict.fromkeys(self._names.values())
        ]
        self.clause = Logic(first.statement, distinct).alias(f"q{number}")
        self.keys = [self._named(name) for name in first.key_columns]

    def _named(self, name: str) -> sa.ColumnElement[Any]:
        return self.clause.c[self._names[name]]

    def value(self, column: Column) -> sa.ColumnElement[Any]:
        """The value of one of its columns."""
        return self._named(column.value_column)


def source_query(definition: Definition, source: Dialect, target: Dialect) -> str:
    """One SELECT in the source's dialect whose columns bear the names that they have in the target."""
    numbers = count(1)
    combinations = [
        [_Subquery(next(numbers), columns, source) for columns in _logics(combination, source)]
        for combination in _combinations(definition)
    ]
    driver, *others = combinations
    joined = _outer_join(driver)
    for members in others:
        joined = joined.outerjoin(_inner_join(members), _same_key(driver[0], members[0]))
    values = {
        id(column): query.value(column)
        for members in combinations
        for query in members
        for column in query.columns
    }
    select = sa.select(*(values[id(c)].label(target.fold(c.name)) for c in definition.sourced))
    return source.sql(select.select_from(joined).where(*_matched(driver)))


def _combinations(definition: Definition) -> list[list[Column]]:
    """The columns that have logic, by combination: the driving one first, then by execution sequence."""

    def code(column: Column) -> str:
        return column.combination_code.strip()

    def driving_first(columns: list[Column]) -> tuple[bool, int]:
        return not any(column.key for column in columns), columns[0].execution_sequence

    combinations = [list(columns) for _, columns in groupby(sorted(definition.sourced, key=code), key=code)]
    return sorted(combinations, key=driving_first)


def _logics(columns: Sequence[Column], source: Dialect) -> list[list[Column]]:
    """A combination's columns by logic and key, in order."""
    found: dict[tuple[str, ...], list[Column]] = {}
    for column in columns:
        key = (column.statement, *(source.written(name) for name in column.key_columns))
        found.setdefault(key, []).append(column)
    return list(found.values())


def _inner_join(members: Sequence[_Subquery]) -> sa.FromClause:
    joined: sa.FromClause = members[0].clause
    for member in members[1:]:
        joined = joined.join(member.clause, _same_key(members[0], member))
    return joined


def _outer_join(members: Sequence[_Subquery]) -> sa.FromClause:
    joined: sa.FromClause = members[0].clause
    for member in members[1:]:
        joined = joined.outerjoin(member.clause, _same_key(members[0], member))
    return joined


def _matched(driver: Sequence[_Subquery]) -> list[sa.ColumnElement[bool]]:
    """Which rows of the driving combination count: those of an inner join, and those without a key.

    The latter match nothing, but they must reach the stage to be rejected there, not vanish.
    """
    if len(driver) == 1:
        return []
    without_key = (key.is_(None) for key in driver[0].keys)
    found = sa.and_(*(member.keys[0].is_not(None) for member in driver[1:]))
    return [sa.or_(found, *without_key)]


def _same_key(left: _Subquery, right: _Subquery) -> sa.ColumnElement[bool]:
    return sa.and_(*(a == b for a, b in zip(left.keys, right.keys, strict=True)))
