"""PostgreSQL as a target: COPY into the stage, everything in one transaction."""

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from psycopg import sql
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from kernel.databases.endpoints import Endpoint
from kernel.databases.errors import SourceUnavailableError
from kernel.databases.postgresql import connect
from kernel.databases.types import DataType, Kind
from services.jobs.loading.columns import StageColumn
from services.jobs.loading.errors import (
    TargetCancelledError,
    TargetDataError,
    TargetError,
    TargetUnavailableError,
)
from services.jobs.loading.projecting import projected
from services.jobs.loading.targets import Row, Target, Tell

FETCH_ROWS = 1000
CANCEL_SECONDS = 10
LOCK_TIMEOUT = "10min"
END_SECONDS = 30.0
POLL_SECONDS = 0.02
PREPARE_LOCK = 0x706F72746F6C616E  # "portolan"
DATA_ERRORS = ("22", "23")  # data exceptions, and constraints that are violated
PASSING = {"08", "40", "53", "57"}  # a lost connection, a deadlock, too few resources, a server that ends
SETTINGS = {
    "timezone": "UTC",
    "datestyle": "ISO",
    "standard_conforming_strings": "on",
    "synchronous_commit": "on",
    "lock_timeout": LOCK_TIMEOUT,
    "idle_in_transaction_session_timeout": "0",
    # A statement whose client has died ends by itself.
    "client_connection_check_interval": "5s",
}
MEMORY = {"work_mem": 128 * 1024, "maintenance_work_mem": 256 * 1024, "temp_buffers": 8 * 1024}
"""What a load takes at least, in the server's units: 128 MiB, 256 MiB and 64 MiB."""
COLUMNS = """
SELECT a.attname, CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod)
  ELSE format_type(a.atttypid, a.atttypmod) END
FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
"""
TEXTS = {"text", "character varying"}
HOLDING = {
    Kind.STRING: TEXTS,
    Kind.OTHER: TEXTS,
    Kind.INTEGER: {"integer", "bigint", "numeric"},
    Kind.BIG_INTEGER: {"bigint", "numeric"},
    Kind.DECIMAL: {"numeric"},
    Kind.DOUBLE: {"double precision"},
    Kind.BOOLEAN: {"boolean"},
    Kind.DATE: {"date", "timestamp without time zone"},
    Kind.TIMESTAMP: {"timestamp without time zone"},
    Kind.TIMESTAMP_TZ: {"timestamp with time zone"},
    Kind.BINARY: {"bytea"},
}
"""The types that may keep the values of each kind."""
WHOLE_DIGITS = {Kind.INTEGER: 10, Kind.BIG_INTEGER: 19}
"""The most digits that whole numbers have."""
CSV = pa.csv.WriteOptions(include_header=False)


def application(run_id: str) -> str:
    """What a run's sessions are called."""
    return f"portolan run {run_id}"


def open_session(endpoint: Endpoint, run_id: str) -> psycopg.Connection:
    """A session of a run, without a transaction around its statements. Fails with TargetUnavailableError."""
    try:
        connection = connect(endpoint, autocommit=True)
    except SourceUnavailableError as error:
        raise TargetUnavailableError(error.message) from None
    with translated():
        settings = SETTINGS | ({"application_name": application(run_id)} if run_id else {})
        # Older servers lack some.
        connection.execute(
            "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS wanted(name, value)"
            " JOIN pg_settings USING (name)",
            (list(settings), list(settings.values())),
        )
        connection.execute(
            "SELECT set_config(name, value::text, false) FROM unnest(%s::text[], %s::bigint[])"
            " AS wanted(name, value) JOIN pg_settings USING (name) WHERE setting::bigint < value",
            (list(MEMORY), list(MEMORY.values())),
        )
    return connection


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turns psycopg's errors into ours."""
    try:
        yield
    except psycopg.Error as error:
        message = error.diag.message_primary or str(error).split("\n", 1)[0]
        if error.diag.message_detail:
            message = f"{message}: {error.diag.message_detail}"
        match error.sqlstate:
            case "57014":
                raise TargetCancelledError(message) from None
            case "55P03":
                raise TargetUnavailableError("The table is locked by another session for too long.") from None
            case str(state) if state.startswith(DATA_ERRORS):
                raise TargetDataError(message) from None
            case str(state) if state[:2] not in PASSING:
                raise TargetError(message) from None
            case state if state or isinstance(error, psycopg.OperationalError):
                raise TargetUnavailableError(message) from None
            case _:
                raise


class PostgresqlTarget(Target):
    """A session of a PostgreSQL database. The stage is part of the load's transaction."""

    def __init__(self, endpoint: Endpoint, run_id: str = "", tell: Tell = lambda _: None) -> None:
        self._tell = tell
        self.dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # SQLAlchemy's
        self.connection = open_session(endpoint, run_id)
        self.session = self.connection.info.backend_pid

    def execute(self, statement: str, parameters: dict[str, Any] | None = None) -> int:
        """Runs a statement; without parameters, a `%` in it is only that."""
        with translated():
            # Binary results, of which there are none here, go by the protocol that takes a single statement.
            return self.connection.execute(statement.encode(), parameters, binary=True).rowcount

    def rows(self, statement: str, parameters: dict[str, Any] | None = None) -> Iterator[Row]:
        """The rows; inside a transaction by a cursor of the server."""
        with translated():
            if (
                parameters is not None
                or self.connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            ):
                yield from self.connection.execute(statement.encode(), parameters).fetchall()
                return
            with self.connection.cursor("portolan_rows") as cursor:
                cursor.itersize = FETCH_ROWS
                yield from cursor.execute(statement.encode())

    def columns(self, schema: str, table: str) -> dict[str, str]:
        """The columns, also of a table in the search path when there is no schema. Of a domain, its base."""
        with translated():
            return dict(self.connection.execute(COLUMNS, (table_name(schema, table).as_string(),)))

    def holds(self, declared: str, wanted: DataType) -> bool:
        """Whether the type is of the same family, and wide enough."""
        name, *digits = re.split(r"[(,)]", declared)
        size, scale = (int(digit) if digit else 0 for digit in (*digits, "", "")[:2])
        if name not in HOLDING[wanted.kind]:
            return False
        match name:
            case "character varying":
                return not size or 0 < wanted.length <= size
            case "numeric":
                whole = WHOLE_DIGITS.get(wanted.kind, wanted.precision - wanted.scale)
                return not size or (whole <= size - scale and wanted.scale <= scale)
            case _:
                return True

    def exact(self, query: str, columns: Sequence[StageColumn]) -> str | None:
        """The query with its columns cast where that loses nothing; None when not all can be."""
        with translated():
            return projected(self.connection, query, columns)

    def has_rows(self, schema: str, table: str) -> bool:
        """Whether a table holds any row."""
        query = sql.SQL("SELECT 1 FROM {} LIMIT 1").format(table_name(schema, table))
        with translated():
            return self.connection.execute(query).fetchone() is not None

    def types(self, schema: str, table: str) -> dict[str, tuple[int, bool]]:
        """The type of each column of a table, by its number, and whether it refuses NULL."""
        query = (
            "SELECT attname, atttypid::int, attnotnull FROM pg_attribute"
            " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
        )
        with translated():
            rows = self.connection.execute(query, (table_name(schema, table).as_string(),))
            return {name: (oid, required) for name, oid, required in rows}

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction."""
        with translated(), self.connection.transaction():
            yield

    @contextlib.contextmanager
    def preparing(self) -> Iterator[None]:
        """A transaction under an advisory lock: IF NOT EXISTS alone fails when two create at once."""
        with self.transaction():
            self.connection.execute("SELECT pg_advisory_xact_lock(%s)", (PREPARE_LOCK,))
            yield

    @contextlib.contextmanager
    def staging(self) -> Iterator[None]:
        """A savepoint."""
        self.execute("SAVEPOINT portolan_staging")
        try:
            yield
        except TargetDataError:
            self.execute("ROLLBACK TO SAVEPOINT portolan_staging")
            raise
        self.execute("RELEASE SAVEPOINT portolan_staging")

    def begin_load(self) -> None:
        """Begins the only transaction."""
        self.execute("BEGIN")

    def begin_merge(self, schema: str, table: str) -> None:
        """Locks the table against other writers; readers do not notice."""
        lock = sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(table_name(schema, table))
        self.execute("SAVEPOINT portolan_lock")
        try:
            with translated():
                self.connection.execute(lock + sql.SQL(" NOWAIT"))
        except TargetUnavailableError:
            self.execute("ROLLBACK TO SAVEPOINT portolan_lock")
            self._tell("Another session is writing to the table; waiting for it.")
            with translated():
                self.connection.execute(lock)

    def fill(
        self, stage: str, columns: Sequence[tuple[str, DataType]], batches: Iterator[pa.RecordBatch]
    ) -> None:
        """COPY in CSV, which knows NULL from an empty text and takes each value by its column's own rules."""
        names = sql.SQL(", ").join(sql.Identifier(name) for name, _ in columns)
        copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(sql.Identifier(stage), names)
        with translated(), self.connection.cursor() as cursor, cursor.copy(copy) as pipe:
            for batch in batches:
                sink = pa.BufferOutputStream()
                pa.csv.write_csv(_printable(batch), sink, CSV)
                pipe.write(memoryview(sink.getvalue()))

    def unkept(self, array: pa.Array, type_: DataType) -> tuple[pa.Array, str] | None:
        """Text with the character of code 0."""
        del type_
        if not pa.types.is_string(array.type) or not pc.any(mask := pc.match_substring(array, "\0")).as_py():
            return None
        return mask, "The value holds the character of code 0, which PostgreSQL cannot keep."

    def analyze(self, table: str) -> None:
        """ANALYZE."""
        with translated():
            self.connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table)))

    def commit(self) -> None:
        """COMMIT."""
        self.execute("COMMIT")

    def rollback(self) -> None:
        """ROLLBACK, if the connection is still there."""
        with contextlib.suppress(psycopg.Error):
            if self.connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                self.connection.execute("ROLLBACK")

    def end_session(self, session: int, run_id: str) -> None:
        """Terminates the backend and waits until it is gone."""
        if self.end_sessions(run_id, session):
            self._tell("An earlier attempt still had a session in the database; it is ended.")

    def end_sessions(self, run_id: str, session: int | None = None) -> bool:
        """Terminates the run's backends, or the given one, and waits; whether there were any."""
        found = False
        deadline = time.monotonic() + END_SECONDS
        query = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
            " AND pid <> pg_backend_pid() AND pid = coalesce(%s, pid)"
        )
        with translated():
            while self.connection.execute(query, (application(run_id), session)).rowcount:
                found = True
                if time.monotonic() > deadline:
                    raise TargetUnavailableError(f"A session of run {run_id} does not end.")
                time.sleep(POLL_SECONDS)
        return found

    def cancel(self) -> None:
        """Cancels the running statement."""
        with contextlib.suppress(psycopg.Error):
            self.connection.cancel_safe(timeout=CANCEL_SECONDS)

    def close(self) -> None:
        """Closes the connection."""
        self.connection.close()


def table_name(schema: str, table: str) -> sql.Identifier:
    """A table's name in a statement."""
    return sql.Identifier(schema, table) if schema else sql.Identifier(table)


def _printable(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with bytes in the form that PostgreSQL reads from text."""
    columns = [
        pa.array(
            [None if value is None else f"\\x{value.hex()}" for value in column.to_pylist()], pa.string()
        )
        if pa.types.is_binary(column.type)
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
