"""What differs between the databases that statements are made for; a new one is a subclass, and no more."""

from typing import Any

import sqlalchemy as sa
from alembic.ddl.base import AddColumn
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.sql.elements import CompilerElement
from sqlalchemy.sql.expression import quoted_name

from kernel.databases.types import DataType, Kind
from services.mapper.compiler.names import PLAIN, quoted

Expression = sa.ColumnElement[Any]
MOMENT = DataType(Kind.TIMESTAMP)


class Dialect:
    """A database that reads or is loaded: its names, types and conversions. This one is PostgreSQL."""

    max_name_bytes = 63
    row_id = "ctid"  # tells a row of a table from all others, and orders the rows of a new table
    has_schemas = True
    table_options: dict[str, Any] = {}  # noqa: RUF012 - never changed; options of `sa.Table` for the stage

    def __init__(self) -> None:
        self.sqlalchemy: sa.Dialect = PGDialect(paramstyle="named")  # type: ignore[no-untyped-call] # SQLAlchemy's

    def fold(self, name: str) -> quoted_name:
        """The name as the database would keep it if it were written without quotes."""
        return quoted(name.lower(), self.max_name_bytes)

    def written(self, name: str) -> quoted_name:
        """A result column's name as a user writes it: lower case, unless it is quoted or is no plain word."""
        if len(name) > 1 and name[0] == name[-1] == '"':
            return quoted(name[1:-1].replace('""', '"'), self.max_name_bytes)
        return quoted(name.lower() if PLAIN.fullmatch(name) else name, self.max_name_bytes)

    def sql(self, element: CompilerElement) -> str:
        """The statement's text, with all values in it."""
        options = {} if isinstance(element, sa.schema.ExecutableDDLElement) else {"literal_binds": True}
        return str(element.compile(dialect=self.sqlalchemy, compile_kwargs=options)).strip()

    def type(self, of: DataType) -> sa.types.TypeEngine[Any]:
        """The type of a column of the target."""
        return of.sqlalchemy()

    def stage_type(self, of: DataType) -> sa.types.TypeEngine[Any]:
        """The type of a column of the stage."""
        return self.type(of)

    def check(self, column: Expression, of: DataType) -> Expression | None:
        """What a value of a stage column must meet beside its type; None for nothing."""
        del column, of
        return None

    def convert(self, value: Expression, to: DataType) -> Expression:
        """A value of the source query as the stage's column takes it.

        Text is not cast to its length, for a cast would cut it silently; the insert refuses what is too long.
        """
        if to.kind in {Kind.STRING, Kind.OTHER}:
            return sa.cast(value, sa.Text())
        return sa.cast(value, to.sqlalchemy())

    def moment(self, value: Expression, of: DataType) -> Expression:
        """A date or time as a TIMESTAMP in UTC, to be compared with one."""
        if of.kind == Kind.TIMESTAMP_TZ:
            return sa.func.timezone("UTC", value)
        return sa.cast(value, sa.DateTime()) if of.kind == Kind.DATE else value

    def add_column(self, column: sa.Column[Any]) -> str:
        """Adds a column, which may be NULL, to a table that exists; empty when the database cannot."""
        numbered = [sa.Identity(always=False)] if column.identity else []
        loose = sa.Column(column.name, column.type, *numbered, nullable=not numbered)
        return self.sql(AddColumn(column.table.name, loose, schema=column.table.schema))
