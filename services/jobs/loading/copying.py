"""PostgreSQL to PostgreSQL: one server's binary COPY into the other's, where the types make it safe.

Binary COPY checks the length of a value and no more, so it is used only when the source casts every column of
the query to the very type of the stage's column. Only casts are made that lose nothing, or fail.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Self

import psycopg
from psycopg import sql

from kernel.databases.endpoints import Endpoint
from kernel.databases.errors import QueryInvalidError, SourceUnavailableError
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
    TIMESTAMP,
    TIMESTAMPTZ,
)
from kernel.databases.types import Kind
from services.jobs.loading.casting import StageColumn
from services.jobs.loading.errors import StoppedError, TargetDataError, TargetError, TargetUnavailableError
from services.jobs.loading.postgresql import CANCEL_SECONDS, open_session, translated

BLOCK = 128 * 1024
BEFORE, BEHIND = 1, 1  # the messages of a binary COPY that are no rows: its header and its trailer
INTEGERS, TIMES = {INT2, INT4, INT8}, {TIMESTAMP, TIMESTAMPTZ, DATE}
SAFE = {
    Kind.INTEGER: INTEGERS,
    Kind.BIG_INTEGER: INTEGERS,
    Kind.DECIMAL: INTEGERS | {NUMERIC},
    Kind.DOUBLE: {FLOAT4, FLOAT8},
    Kind.BOOLEAN: {BOOL},
    Kind.DATE: {DATE},
    Kind.TIMESTAMP: TIMES,
    Kind.TIMESTAMP_TZ: TIMES,
    Kind.BINARY: {BYTEA},
}
"""The source's types whose every value has one meaning in a column of each kind."""
UNSAFE_AS_TEXT = {FLOAT4, FLOAT8, TIMESTAMP, TIMESTAMPTZ, BYTEA}
"""Those that PostgreSQL writes otherwise than Portolan does."""
NATIVE = {
    Kind.STRING: "text",
    Kind.OTHER: "text",
    Kind.INTEGER: "integer",
    Kind.BIG_INTEGER: "bigint",
    Kind.DECIMAL: "numeric",
    Kind.DOUBLE: "double precision",
    Kind.BOOLEAN: "boolean",
    Kind.DATE: "date",
    Kind.TIMESTAMP: "timestamp",
    Kind.TIMESTAMP_TZ: "timestamptz",
    Kind.BINARY: "bytea",
}
"""What the source casts to; text and varchar, and numerics of any digits, are one in binary form."""


class BinaryReader:
    """A session that reads one query in binary form, in a read-only transaction."""

    def __init__(self, endpoint: Endpoint, run_id: str) -> None:
        with _reading():
            self._connection = open_session(endpoint, run_id)
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def projected(self, query: str, columns: Sequence[StageColumn]) -> str | None:
        """The query with its columns in the types and order of the stage's; None when that is not safe."""
        described = f"SELECT * FROM (\n{query}\n) AS source WHERE false"
        with _reading():
            self._connection.execute("SET default_transaction_read_only = on")
            cursor = self._connection.execute(described.encode(), binary=True)
        types = {column.name: column.type_code for column in cursor.description or ()}
        if not all(_safe(types.get(column.name), column) for column in columns):
            return None
        values = sql.SQL(", ").join(
            sql.SQL("CAST({0} AS {1}) AS {0}").format(
                sql.Identifier(column.name), sql.SQL(NATIVE[column.type.kind])
            )
            for column in columns
        )
        return f"SELECT {values.as_string()} FROM (\n{query}\n) AS source"

    def blocks(self, query: str) -> Iterator[bytes]:
        """The rows, many in a block. `rows` counts those that were read."""
        with _reading(), self._connection.cursor() as cursor:
            with cursor.copy(f"COPY (\n{query}\n) TO STDOUT (FORMAT binary)".encode()) as pipe:
                block = bytearray()
                messages = -BEFORE
                while message := pipe.read():
                    block += message
                    messages += 1
                    if len(block) >= BLOCK:
                        self.rows = max(messages - BEHIND, 0)
                        yield bytes(block)
                        block.clear()
                if block:
                    yield bytes(block)
            self.rows = cursor.rowcount

    def cancel(self) -> None:
        """Cancels the query; from any thread."""
        with contextlib.suppress(psycopg.Error):
            self._connection.cancel_safe(timeout=CANCEL_SECONDS)


def write_blocks(
    connection: psycopg.Connection,
    stage: str,
    columns: Sequence[StageColumn],
    blocks: Iterator[bytes],
    told: Callable[[], None],
) -> None:
    """Appends the blocks to the stage; calls `told` after each."""
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
    copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(sql.Identifier(stage), names)
    with translated(), connection.cursor() as cursor, cursor.copy(copy) as pipe:
        for block in blocks:
            pipe.write(block)
            told()


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Turns psycopg's errors into those of a source, but for a value that a cast refuses."""
    try:
        with translated():
            yield
    except (TargetDataError, StoppedError):
        raise
    except TargetUnavailableError as error:
        raise SourceUnavailableError(str(error)) from None
    except TargetError as error:
        raise QueryInvalidError(str(error)) from None


def _safe(source: int | None, column: StageColumn) -> bool:
    if column.type.kind in {Kind.STRING, Kind.OTHER}:
        return source not in UNSAFE_AS_TEXT
    return source in SAFE[column.type.kind]
