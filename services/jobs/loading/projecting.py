"""A query of PostgreSQL's with its columns in the stage's types, where a cast changes no value's meaning.

What a cast does then is what Portolan does by batches, or it fails, and the load goes by batches. A moment
as a date, say, is none of these casts: PostgreSQL would cut off its time of day.
"""

from collections.abc import Mapping, Sequence

import psycopg
from psycopg import sql

from kernel.databases.postgresql_catalog import (
    BOOL,
    BYTEA,
    DATE,
    FLOAT4,
    FLOAT8,
    INT2,
    INT4,
    INT8,
    NUMERIC,
    TEXT,
    TIMESTAMP,
    TIMESTAMPTZ,
    VARCHAR,
)
from kernel.databases.types import Kind
from services.jobs.loading.casting import StageColumn

INTEGERS, FLOATS, TIMES = {INT2, INT4, INT8}, {FLOAT4, FLOAT8}, {TIMESTAMP, TIMESTAMPTZ, DATE}
CAST = {
    Kind.INTEGER: INTEGERS,
    Kind.BIG_INTEGER: INTEGERS,
    Kind.DECIMAL: INTEGERS | {NUMERIC},
    Kind.DOUBLE: FLOATS,
    Kind.BOOLEAN: {BOOL},
    Kind.DATE: {DATE},
    Kind.TIMESTAMP: TIMES,
    Kind.TIMESTAMP_TZ: TIMES,
    Kind.BINARY: {BYTEA},
}
"""The source's types whose every value has one meaning in a column of each kind."""
CAST_BY_TEXT = {
    Kind.INTEGER: FLOATS | {NUMERIC},
    Kind.BIG_INTEGER: FLOATS | {NUMERIC},
    Kind.DECIMAL: FLOATS,
    Kind.BOOLEAN: INTEGERS,
}
"""Those that have one as they are written: a whole number with a fraction is none, where a cast rounds."""
UNSAFE_AS_TEXT = {FLOAT4, FLOAT8, TIMESTAMP, TIMESTAMPTZ, BYTEA}
"""Those that PostgreSQL writes otherwise than Portolan does."""
NATIVE = {
    Kind.STRING: ("text", TEXT),
    Kind.OTHER: ("text", TEXT),
    Kind.INTEGER: ("integer", INT4),
    Kind.BIG_INTEGER: ("bigint", INT8),
    Kind.DECIMAL: ("numeric", NUMERIC),
    Kind.DOUBLE: ("double precision", FLOAT8),
    Kind.BOOLEAN: ("boolean", BOOL),
    Kind.DATE: ("date", DATE),
    Kind.TIMESTAMP: ("timestamp", TIMESTAMP),
    Kind.TIMESTAMP_TZ: ("timestamptz", TIMESTAMPTZ),
    Kind.BINARY: ("bytea", BYTEA),
}
"""What is cast to; text and varchar, and numerics of any digits, are one in binary form."""
VARCHARS = {TEXT, VARCHAR}


def takes(target: int, kind: Kind) -> bool:
    """Whether a column of a type of the target takes the binary form of a kind."""
    native = NATIVE[kind][1]
    return target == native or (target in VARCHARS and native in VARCHARS)


def projected(
    connection: psycopg.Connection,
    query: str,
    columns: Sequence[StageColumn],
    constants: Mapping[str, str] | None = None,
) -> str | None:
    """The query with the stage's columns in their types, then constants, each as SQL; None when not safe."""
    described = f"SELECT * FROM (\n{query}\n) AS source WHERE false"
    cursor = connection.execute(described.encode(), binary=True)
    types = {column.name: column.type_code for column in cursor.description or ()}
    values = [(column.name, _cast(types.get(column.name), column)) for column in columns]
    if not all(value for _, value in values):
        return None
    values += (constants or {}).items()
    listed = ", ".join(f"{value} AS {quoted(name)}" for name, value in values)
    return f"SELECT {listed} FROM (\n{query}\n) AS source"


def quoted(name: str) -> str:
    """A name in a statement."""
    return sql.Identifier(name).as_string()


def _cast(source: int | None, column: StageColumn) -> str | None:
    kind, name = column.type.kind, quoted(column.name)
    native = NATIVE[kind][0]
    if kind in {Kind.STRING, Kind.OTHER}:
        return None if source in UNSAFE_AS_TEXT else f"CAST({name} AS {native})"
    if source in CAST[kind]:
        return f"CAST({name} AS {native})"
    if source in CAST_BY_TEXT.get(kind, ()):
        return f"CAST(CAST({name} AS text) AS {native})"
    return None
