"""The target table: what it has beside the mapped columns, its keys and its indexes."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.expression import quoted_name

from kernel.databases.messages import type_message
from kernel.databases.types import DataType, Kind, parse_code
from portolan.mapper.v1 import plan_pb2 as pb
from services.mapper.compiler.dialects import MOMENT, Dialect
from services.mapper.compiler.names import NameRefusedError, shortened
from services.mapper.definition import Column, Definition, TableType

SURROGATE_KEY = "SKEY"
CURRENT_FLAG = "CURRENT_FLAG"
FROM_TIME = "FROM_TIME"
TO_TIME = "TO_TIME"
CREATE_TIME = "CREATE_TIME"
UPDATE_TIME = "UPDATE_TIME"
OWN_COLUMNS = (SURROGATE_KEY, CURRENT_FLAG, FROM_TIME, TO_TIME, CREATE_TIME, UPDATE_TIME)
ROW = "portolan row"  # what tells rows apart, in our expressions; no mapped column can be named so
OWN_TABLES = ("portolan_stage", "portolan_delta", "portolan_load")
OPEN_END = dt.datetime(2999, 12, 31)  # noqa: DTZ001 - a TIMESTAMP has no zone
CURRENT, CLOSED = "Y", "N"
SURROGATE_TYPE = DataType(Kind.BIG_INTEGER)

Role = pb.TargetColumn.Role
_Described = tuple[sa.Column[Any], Role.ValueType, DataType]


def column_type(column: Column) -> DataType:
    """The type of a mapped column; a look-up's is that of surrogate keys."""
    if column.lookup is not None:
        return SURROGATE_TYPE
    found = parse_code(column.data_type)
    if found is None:
        raise ValueError(f"{column.name}: {column.data_type!r} is no data type")
    return found


@dataclass(frozen=True)
class Target:
    """A mapping's table in a database, as SQLAlchemy sees it, with the roles and types of its columns."""

    table: sa.Table
    roles: tuple[Role.ValueType, ...]
    types: tuple[DataType, ...]
    keys: tuple[quoted_name, ...]
    versioned: bool

    @property
    def row(self) -> sa.Column[Any]:
        """What tells a row from the others: the surrogate key where there is one, for it is read fastest."""
        if Role.ROLE_SURROGATE_KEY in self.roles:
            return self.column(Role.ROLE_SURROGATE_KEY)
        return self.table.c[ROW]

    def column(self, role: Role.ValueType) -> sa.Column[Any]:
        """The only column of its role."""
        return self.table.c[list(self.table.c.keys())[self.roles.index(role)]]


def target_table(definition: Definition, dialect: Dialect) -> Target:
    """The table that a mapping describes; it may exist with more columns than these."""
    described = list(_columns(definition, dialect))
    folded = dialect.fold(definition.target_table)
    if folded.lower() in OWN_TABLES:
        raise NameRefusedError(f'a target table cannot be named "{folded}"')
    schema = dialect.fold(definition.target_schema) if dialect.has_schemas else None
    # What tells a row from the others is no column that the table is created with.
    row: sa.Column[Any] = sa.Column(quoted_name(dialect.row_id, quote=True), key=ROW, system=True)
    table = sa.Table(folded, sa.MetaData(), *(column for column, *_ in described), row, schema=schema)
    keys = tuple(dialect.fold(column.name) for column in definition.keys)
    versioned = definition.table_type == TableType.DIMENSION
    _, roles, types = zip(*described, strict=True)
    return Target(table, roles, types, keys, versioned)


def _columns(definition: Definition, dialect: Dialect) -> Iterator[_Described]:
    def own(name: str, of: DataType, role: Role.ValueType) -> _Described:
        return sa.Column(dialect.fold(name), dialect.type(of), nullable=False), role, of

    if definition.table_type != TableType.NORMAL:
        number = dialect.type(SURROGATE_TYPE).with_variant(sa.Integer(), "sqlite")
        key = sa.Column(dialect.fold(SURROGATE_KEY), number, sa.Identity(always=False), primary_key=True)
        yield key, Role.ROLE_SURROGATE_KEY, SURROGATE_TYPE
    for column in definition.ordered:
        role = Role.ROLE_KEY if column.key else Role.ROLE_LOOKUP if column.lookup else Role.ROLE_VALUE
        name, of = dialect.fold(column.name), column_type(column)
        yield sa.Column(name, dialect.type(of), nullable=not column.key), role, of
    if definition.table_type == TableType.DIMENSION:
        yield own(CURRENT_FLAG, DataType(Kind.STRING, length=1), Role.ROLE_CURRENT_FLAG)
        yield own(FROM_TIME, MOMENT, Role.ROLE_FROM_TIME)
        yield own(TO_TIME, MOMENT, Role.ROLE_TO_TIME)
    yield own(CREATE_TIME, MOMENT, Role.ROLE_CREATE_TIME)
    yield own(UPDATE_TIME, MOMENT, Role.ROLE_UPDATE_TIME)


def target_message(target: Target, dialect: Dialect) -> pb.TargetTable:
    """The table's part of the plan."""
    table = target.table
    schema = ""
    if table.schema:
        schema = dialect.sql(sa.schema.CreateSchema(table.schema, if_not_exists=True))
    columns = [column for column in table.c if not column.system]
    return pb.TargetTable(
        schema=table.schema or "",
        name=table.name,
        create_schema=schema,
        create_table=dialect.sql(sa.schema.CreateTable(table, if_not_exists=True)),
        columns=[
            pb.TargetColumn(
                name=column.name, role=role, add_column=dialect.add_column(column), type=type_message(of)
            )
            for column, role, of in zip(columns, target.roles, target.types, strict=True)
        ],
        create_indexes=[dialect.sql(sa.schema.CreateIndex(_key_index(target, dialect), if_not_exists=True))],
    )


def _key_index(target: Target, dialect: Dialect) -> sa.Index:
    """One row a business key; of a dimension, one current row."""
    name = shortened(f"uq_{target.table.name}", "_key", dialect.max_name_bytes)
    current: dict[str, Any] = {}
    if target.versioned:
        where = target.column(Role.ROLE_CURRENT_FLAG) == CURRENT
        current = {"postgresql_where": where, "sqlite_where": where, "mssql_where": where}
    return sa.Index(
        quoted_name(name, quote=True),
        *(target.table.c[key] for key in target.keys),
        unique=True,
        **current,
    )
