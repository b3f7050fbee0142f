"""The merge: what the staged rows change in the target, by business key.

The delta holds only rows that change something, each as two row numbers and an action, so that values are
compared once and moved once. Comparison is null-safe. In a dimension, a change of any column of type 2 closes
the current row and opens a new one with all new values; a change of only columns of type 1 overwrites the
current row, and so does a second change within one moment, which would leave a version that lasted no time.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.expression import quoted_name

from portolan.mapper.v1 import plan_pb2 as pb
from services.mapper.compiler.dialects import Dialect
from services.mapper.compiler.target import CLOSED, CURRENT, OPEN_END, ROW, Role, Target
from services.mapper.definition import Definition, ScdType

INSERT, VERSION, UPDATE = "I", "V", "U"


class Merge:
    """The statements that bring a target to what the incoming rows say."""

    def __init__(
        self, target: Target, incoming: sa.FromClause, definition: Definition, dialect: Dialect
    ) -> None:
        self._target = target
        self._table = target.table
        self._incoming = incoming
        self._dialect = dialect
        self._mapped = [dialect.fold(column.name) for column in definition.ordered]
        values = [column for column in definition.ordered if not column.key]
        self._values = [dialect.fold(column.name) for column in values]
        self._versioning = [
            dialect.fold(column.name)
            for column in values
            if target.versioned and column.scd_type == ScdType.NEW_VERSION
        ]
        load = sa.table(quoted_name("portolan_load", quote=True), sa.column("load_time", sa.DateTime()))
        self._load_time = sa.select(load.c.load_time).scalar_subquery()
        self._delta = sa.table(
            quoted_name("portolan_delta", quote=True),
            sa.column("staged"),
            sa.column("found"),
            sa.column("action", sa.String()),
        )

        self._moved = sa.join(self._delta, incoming, self._delta.c.staged == incoming.c[ROW])

    def message(self) -> pb.Merge:
        """The merge's part of the plan."""
        sql, delta = self._dialect.sql, self._delta
        create = sa.schema.CreateTableAs(self._changes(), delta.name, temporary=True)
        count = sa.select(delta.c.action, sa.func.count()).group_by(delta.c.action)
        has_rows: sa.Select[Any] = sa.select(sa.literal_column("1")).select_from(self._table).limit(1)
        apply = [
            *([self._close()] if self._versioning else []),
            *([self._overwrite()] if self._values else []),
            self._insert(self._moved),
        ]
        return pb.Merge(
            target_has_rows=sql(has_rows),
            insert_all=sql(self._insert(self._incoming)),
            create_delta=sql(create),
            count_delta=sql(count),
            apply=[sql(statement) for statement in apply],
        )

    def _changes(self) -> sa.Select[Any]:
        """The delta's rows."""
        table, new = self._table, self._incoming
        same_key = [table.c[key] == new.c[key] for key in self._target.keys]
        if self._target.versioned:
            same_key.append(self._target.column(Role.ROLE_CURRENT_FLAG) == CURRENT)
        is_new = self._target.row.is_(None)
        action = sa.case((is_new, INSERT), else_=UPDATE)
        if self._versioning:
            older = self._target.column(Role.ROLE_FROM_TIME) < self._load_time
            versioned = sa.and_(self._differs(self._versioning), older)
            action = sa.case((is_new, INSERT), (versioned, VERSION), else_=UPDATE)
        changed = [is_new, *([self._differs(self._values)] if self._values else [])]
        return (
            sa.select(new.c[ROW].label("staged"), self._target.row.label("found"), action.label("action"))
            .select_from(sa.outerjoin(new, table, sa.and_(*same_key)))
            .where(sa.or_(*changed))
        )

    def _differs(self, columns: list[quoted_name]) -> sa.ColumnElement[bool]:
        return sa.or_(*(self._table.c[name].is_distinct_from(self._incoming.c[name]) for name in columns))

    def _close(self) -> sa.Update:
        """Ends the current version of each row that gets a new one."""
        column = self._target.column
        return (
            sa.update(self._table)
            .where(self._target.row == self._delta.c.found, self._delta.c.action == VERSION)
            .values(
                {
                    column(Role.ROLE_CURRENT_FLAG): CLOSED,
                    column(Role.ROLE_TO_TIME): self._load_time,
                    column(Role.ROLE_UPDATE_TIME): self._load_time,
                }
            )
        )

    def _overwrite(self) -> sa.Update:
        """Gives the current rows that stay the new values."""
        table, new, delta = self._table, self._incoming, self._delta
        changed = (
            sa.select(delta.c.found, *(new.c[name] for name in self._values))
            .select_from(self._moved)
            .where(delta.c.action == UPDATE)
            .subquery("changed")
        )
        return (
            sa.update(table)
            .where(self._target.row == changed.c.found)
            .values(
                {table.c[name]: changed.c[name] for name in self._values}
                | {self._target.column(Role.ROLE_UPDATE_TIME): self._load_time}
            )
        )

    def _insert(self, rows: sa.FromClause) -> sa.Insert:
        """Inserts the given incoming rows, but for those of the delta that overwrite."""
        new = self._incoming
        own: dict[Role.ValueType, Any] = {
            Role.ROLE_CURRENT_FLAG: sa.literal(CURRENT),
            Role.ROLE_FROM_TIME: self._load_time,
            Role.ROLE_TO_TIME: sa.literal(OPEN_END, sa.DateTime()),
            Role.ROLE_CREATE_TIME: self._load_time,
            Role.ROLE_UPDATE_TIME: self._load_time,
        }
        values: dict[sa.Column[Any], Any] = {self._table.c[name]: new.c[name] for name in self._mapped}
        values |= {
            self._target.column(role): value for role, value in own.items() if role in self._target.roles
        }
        select = sa.select(*values.values()).select_from(rows)
        if rows is not new:
            select = select.where(self._delta.c.action != UPDATE)
        return sa.insert(self._table).from_select(list(values), select)
