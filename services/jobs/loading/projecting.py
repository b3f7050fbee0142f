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
from services.jobs.loading.columns import StageColumn

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
CAST_AS_WRITTEN = {
    Kind.INTEGER: FLOATS | {NUMERIC},
    Kind.BIG_INTEGER: FLOATS | {NUMERIC},
    Kind.DECIMAL: FLOATS,
    Kind.BOOLEAN: INTEGERS,
}
"""Those that have one as they are written: a whole number with a fraction is none, where a cast rounds."""
TEXTS = {TEXT, VARCHAR}
DAY, HOUR, SIXTY = "[0-9]{4}-[0-9]{2}-[0-9]{2}", "([01][0-9]|2[0-3])", "[0-5][0-9]"
TIME = f"[ T]{HOUR}:{SIXTY}(:{SIXTY}([.][0-9]{{1,6}})?)?"
NUMBER = r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)(e[+-]?[0-9]{1,3})?"
WRITTEN = {
    Kind.INTEGER: "[+-]?[0-9]+",
    Kind.BIG_INTEGER: "[+-]?[0-9]+",
    Kind.DECIMAL: NUMBER,
    Kind.DOUBLE: NUMBER,
    Kind.BOOLEAN: "true|t|yes|y|on|1|false|f|no|n|off|0",
    Kind.DATE: f"{DAY}([ T]00:00(:00([.]0{{1,6}})?)?)?",
    Kind.TIMESTAMP: f"{DAY}({TIME})?",
    Kind.TIMESTAMP_TZ: f"{DAY}({TIME}(Z|[+-]{HOUR}:{SIXTY})?)?",
}
"""How a text must be written for PostgreSQL to read it as Portolan does, in any letter case."""
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


def takes(target: int, kind: Kind) -> bool:
    """Whether a column of a type of the target takes the binary form of a kind."""
    native = NATIVE[kind][1]
    return target == native or (target in TEXTS and native in TEXTS)


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
    if source in CAST_AS_WRITTEN.get(kind, ()):
        return f"CAST(CAST({name} AS text) AS {native})"
    if source in TEXTS and kind in WRITTEN:
        # What no cast reads, and the error then shows.
        read = f"CASE WHEN {name} ~* '^ *({WRITTEN[kind]}) *$' THEN {name} ELSE {name} || ' is not plain' END"
        return f"CAST({read} AS {native})"
    return None
