"""PostgreSQL to PostgreSQL: one server's binary COPY into the other's, where the types make it safe.

Binary COPY checks the length of a value and no more, so it is used only when the source casts every column of
the query to the very type of the stage's column.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

import psycopg
from psycopg import sql

from kernel.databases.endpoints import Endpoint
from kernel.databases.errors import QueryInvalidError, SourceUnavailableError
from services.jobs.loading.columns import StageColumn
from services.jobs.loading.errors import (
    TargetCancelledError,
    TargetDataError,
    TargetError,
    TargetUnavailableError,
)
from services.jobs.loading.postgresql import CANCEL_SECONDS, PostgresqlTarget, open_session, translated
from services.jobs.loading.projecting import projected
from services.jobs.loading.reading import ReadAhead
from services.jobs.loading.tasks import Task
from services.jobs.loading.telling import Teller

BLOCK = 128 * 1024
BEFORE, BEHIND = 1, 1  # the messages of a binary COPY that are no rows: its header and its trailer


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

    def projected(
        self, query: str, columns: Sequence[StageColumn], constants: Mapping[str, str]
    ) -> str | None:
        """The query with the stage's columns in their types, then constants; None when that is not safe."""
        with _reading():
            self._connection.execute("SET default_transaction_read_only = on")
            return projected(self._connection, query, columns, constants)

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


class BinaryCopy:
    """A load's query, to be copied into a table of its target."""

    def __init__(
        self, task: Task, target: PostgresqlTarget, query: str, columns: Sequence[StageColumn], teller: Teller
    ) -> None:
        self.target = target
        self.columns = columns
        self._task = task
        self._query = query
        self._teller = teller

    def into(self, table: sql.Identifier, constants: Mapping[str, str] | None = None) -> int | None:
        """Appends the rows to a table whose columns are of the stage's types; how many there were.

        `constants` are further columns, each as SQL. None when the source's types do not allow it.
        """
        constants = constants or {}
        names = [*(column.name for column in self.columns), *constants]
        copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
            table, sql.SQL(", ").join(map(sql.Identifier, names))
        )
        with (
            BinaryReader(self._task.source, self._task.run_id) as reader,
            self._teller.cancelling(reader.cancel),
        ):
            query = reader.projected(self._query, self.columns, constants)
            if query is None:
                return None
            self._teller.line(f"Reading {self._task.plan.source_connection} by binary COPY.")
            with (
                ReadAhead(reader.blocks(query), reader.cancel) as blocks,
                translated(),
                self.target.connection.cursor() as cursor,
                cursor.copy(copy) as pipe,
            ):
                for block in blocks:
                    pipe.write(block)
                    self._teller.read(reader.rows)
            return reader.rows


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Turns psycopg's errors into those of a source, but for a value that a cast refuses."""
    try:
        with translated():
            yield
    except (TargetDataError, TargetCancelledError):
        raise
    except TargetUnavailableError as error:
        raise SourceUnavailableError(str(error)) from None
    except TargetError as error:
        raise QueryInvalidError(str(error)) from None
