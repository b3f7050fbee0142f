"""PostgreSQL: catalog and descriptions by psycopg, rows as Arrow by ADBC's binary COPY."""

import contextlib
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import adbc_driver_postgresql
import psycopg
import pyarrow as pa
from adbc_driver_manager import AdbcConnection, AdbcStatement, Error
from adbc_driver_manager._reader import AdbcRecordBatchReader
from psycopg import conninfo, generators
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from kernel.databases import arrow
from kernel.databases.endpoints import DatabaseKind, Endpoint, SslMode
from kernel.databases.errors import (
    QueryInvalidError,
    SourceUnavailableError,
    position,
)
from kernel.databases.postgresql_catalog import (
    NATIVE_TYPES,
    TABLES,
    WARNINGS,
    data_type,
    read_exactly,
    table,
)
from kernel.databases.sources import Column, Source, Table

CONNECT_SECONDS = 10
CANCEL_SECONDS = 1.0
LATE_SECONDS = 2.0
"""What a server gets beyond a time limit that it should hold itself."""
BATCH_BYTES = 4_000_000
CANCELLED = "57014"
# A statement whose client has died ends by itself; servers before 14 cannot be asked for that.
CHECK_CLIENT = (
    "SELECT set_config('client_connection_check_interval', '5s', true)"
    " WHERE current_setting('server_version_num')::int >= 140000"
)
LOST = ("08", "57P")
"""The classes of SQLSTATE that tell of a lost connection or a server that goes down."""
NOWHERE = "/nonexistent"
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian and its kin
    "/etc/pki/tls/certs/ca-bundle.crt",  # Red Hat and its kin
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine, macOS
)
"""Where machines keep the certificates that they trust. libpq's `system` is where its wheel was built."""
DAYS_TO_1970 = 10_957
# ADBC moves PostgreSQL's epoch, 2000, to 1970 and lets the numbers that stand for infinity wrap around.
INFINITE_DATES = {-(2**31) + DAYS_TO_1970 - 1: "infinity", -(2**31) + DAYS_TO_1970: "-infinity"}
INFINITE_TIMES = {
    -(2**63) + DAYS_TO_1970 * 86_400_000_000 - 1: "infinity",
    -(2**63) + DAYS_TO_1970 * 86_400_000_000: "-infinity",
}


def parameters(endpoint: Endpoint) -> dict[str, str]:
    """What libpq needs to open the endpoint: nothing is left to its environment or home folder."""
    values = {
        "host": endpoint.host,
        "hostaddr": endpoint.address,
        "port": str(endpoint.port),
        "dbname": endpoint.database,
        "user": endpoint.user,
        "password": endpoint.password,
        "passfile": NOWHERE,
        "sslmode": endpoint.ssl_mode.value.lower().replace("_", "-"),
        "sslcertmode": "disable",
        "sslrootcert": NOWHERE,
        "gssencmode": "disable",
        "connect_timeout": str(CONNECT_SECONDS),
        "application_name": endpoint.application,
        "client_encoding": "UTF8",
    }
    if endpoint.ssl_mode is SslMode.VERIFY_FULL:
        values["sslrootcert"] = endpoint.authorities or next(filter(_exists, BUNDLES), "system")
    return values


def connect(endpoint: Endpoint, *, autocommit: bool = False) -> psycopg.Connection:
    """A psycopg connection, for reading or loading. Fails with `SourceUnavailableError`."""
    try:
        # No statement is prepared behind our back: its plan would outlive a table that a load creates anew.
        return psycopg.connect(
            **parameters(endpoint),  # type: ignore[arg-type]  # the names are libpq's, and checked by it
            autocommit=autocommit,
            prepare_threshold=None,
        )
    except psycopg.Error as error:
        raise SourceUnavailableError(_server_message(str(error))) from None


class PostgresqlSource(Source):
    """A PostgreSQL database. Each query runs in a read-only transaction of its own, which is rolled back."""

    kind = DatabaseKind.POSTGRESQL

    def __init__(self, endpoint: Endpoint, time_limit: float | None) -> None:
        super().__init__()
        self._endpoint = endpoint
        self._connection = connect(endpoint)
        self._connection.read_only = True
        self._time_limit = time_limit
        milliseconds = 0 if time_limit is None else max(1, int(time_limit * 1000))
        self._settings = (
            f"SET LOCAL statement_timeout = {milliseconds}",
            "SET LOCAL standard_conforming_strings = on",  # what the guard's lexer assumes
            "SET LOCAL timezone = 'UTC'",
            CHECK_CLIENT,
        )
        self._statement: AdbcStatement | None = None

    def server(self) -> str:
        """The product and version."""
        version = self._connection.info.parameter_status("server_version") or "?"
        return f"PostgreSQL {version.split()[0]}"

    def warnings(self) -> list[str]:
        """What the user may do beyond reading and loading, and whether others can listen."""
        found = [] if self._connection.pgconn.ssl_in_use else ["The connection is not encrypted."]
        return found + [str(row[0]) for row in self._catalog(WARNINGS, {})]

    def tables(self, schema: str = "", *, after: tuple[str, str] = ("", ""), limit: int) -> list[Table]:
        """The tables and views that the user may read, without PostgreSQL's own."""
        values = {"schema": schema, "after_schema": after[0], "after_name": after[1], "limit": limit}
        return [table(row) for row in self._catalog(TABLES, values)]

    def describe(self, query: str) -> list[Column]:
        """The columns, as the server parsed the query: it is prepared, never executed."""
        return [
            Column(name, data_type(oid, modifier), native)
            for (name, oid, modifier), native in self._described(query)
        ]

    def batches(self, query: str, batch_rows: int, *, limit: int | None = None) -> Iterator[pa.RecordBatch]:
        """The rows, by binary COPY into Arrow; a type that ADBC hands on as raw bytes is cast to text."""
        fields = [field for field, _ in self._described(query)]
        names = [name for name, _, _ in fields]
        if not fields:
            raise QueryInvalidError("the query returns no columns")
        text = arrow.projected(query, [not read_exactly(oid) for _, oid, _ in fields], "text", limit)
        with self._arrow(text) as reader:
            rows = 0
            for batch in reader:
                columns = [arrow.storable(column, INFINITE_DATES, INFINITE_TIMES) for column in batch.columns]
                rows += batch.num_rows
                yield from arrow.sliced(pa.RecordBatch.from_arrays(columns, names=names), batch_rows)
            if not rows:
                yield arrow.empty(names)

    def _interrupt(self) -> None:
        with contextlib.suppress(psycopg.Error):
            self._connection.cancel_safe(timeout=CANCEL_SECONDS)
        if (statement := self._statement) is not None:
            with contextlib.suppress(Error):
                statement.cancel()

    def _break_off(self) -> None:
        """Hangs up on a server that is silent: whoever waits for it sees the connection end."""
        with (
            contextlib.suppress(psycopg.Error, OSError),
            socket.socket(fileno=os.dup(self._connection.fileno())) as wire,
        ):
            wire.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def _described(self, query: str) -> list[tuple[tuple[str, int, int], str]]:
        """Each column's name, type and modifier, and its type in PostgreSQL's words."""
        with self._transaction(query):
            wire = self._connection.pgconn
            # Not by psycopg's calls that also wait: one of them stops all threads until the server answers.
            wire.send_prepare(b"", query.encode())
            self._answered()
            wire.send_describe_prepared(b"")
            result = self._answered()
            fields = [
                ((result.fname(place) or b"").decode(), result.ftype(place), result.fmod(place))
                for place in range(result.nfields)
            ]
            columns = [[field[1] for field in fields], [field[2] for field in fields]]
            natives = self._connection.execute(NATIVE_TYPES, columns)
            return [(field, str(native)) for field, (native,) in zip(fields, natives, strict=True)]

    def _answered(self) -> PGresult:
        """What the server answers to what was sent."""
        result: PGresult = self._connection.wait(generators.execute(self._connection.pgconn))[-1]
        if result.status != ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(result)
        return result

    def _catalog(self, query: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        with self._transaction(query):
            return self._connection.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self, query: str) -> Iterator[None]:
        try:
            with self._busy(), self._hurried():
                self._connection.execute("; ".join(self._settings))
                yield
        except psycopg.Error as error:
            told = error.diag
            message = told.message_primary or str(error)
            raise self._failure(
                error.sqlstate, message, told.message_hint, told.statement_position, query
            ) from None
        finally:
            with contextlib.suppress(psycopg.Error):
                self._connection.rollback()

    @contextlib.contextmanager
    def _hurried(self) -> Iterator[None]:
        """Breaks off when the block takes much longer than the time limit, which is then not held."""
        if self._time_limit is None:
            yield
            return
        timer = threading.Timer(self._time_limit + LATE_SECONDS, self._break_off)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @contextlib.contextmanager
    def _arrow(self, query: str) -> Iterator[AdbcRecordBatchReader]:
        """The result of a query, in a read-only transaction on a connection of its own.

        It goes by the driver itself, since its DB-API layer loads half of pyarrow, and by the driver's own
        reader, since pyarrow's drops what the server says of an error.
        """
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(self._busy())
                uri = conninfo.make_conninfo(**parameters(self._endpoint))
                database = stack.enter_context(adbc_driver_postgresql.connect(uri))
                connection = stack.enter_context(AdbcConnection(database))
                connection.set_autocommit(False)
                self._statement = stack.enter_context(AdbcStatement(connection))
                for setting in ("SET TRANSACTION READ ONLY", *self._settings):
                    self._statement.set_sql_query(setting)
                    self._statement.execute_update()
                size = adbc_driver_postgresql.StatementOptions.BATCH_SIZE_HINT_BYTES.value
                self._statement.set_options(**{size: str(BATCH_BYTES)})
                self._statement.set_sql_query(query)
                stream, _ = self._statement.execute_query()
                reader = AdbcRecordBatchReader._import_from_c(stream.address)  # noqa: SLF001 - it has no public one
                stack.enter_context(reader)
                # Closing a reader would read the rest of its result first.
                stack.callback(self._abandon)
                yield reader
        except (Error, pa.ArrowException, OSError) as error:
            told = {key: value.decode() for key, value in getattr(error, "details", None) or ()}
            message = told.get(b"PG_DIAG_MESSAGE_PRIMARY") or _server_message(str(error))
            hint = told.get(b"PG_DIAG_MESSAGE_HINT")
            raise self._failure(getattr(error, "sqlstate", None), message, hint) from None
        finally:
            self._statement = None

    def _abandon(self) -> None:
        """Ends the statement under way, which from then on nobody else cancels: it is about to be closed."""
        statement, self._statement = self._statement, None
        if statement is not None:
            with contextlib.suppress(Error):
                statement.cancel()

    def _failure(
        self, state: str | None, message: str, hint: str | None, place: str | None = None, query: str = ""
    ) -> Exception:
        """The error of ours that the database's stands for; `place` is a character of the query, from 1."""
        if state == CANCELLED or self._cancelled:
            return self._ended()
        if state is None or state.startswith(LOST):
            return SourceUnavailableError(message)
        line, column = position(query, int(place) - 1) if place else (0, 0)
        return QueryInvalidError(f"{message} ({hint})" if hint else message, line, column)


_ENCRYPTION = re.compile(
    r"(SSL error: |server certificate |server does not support SSL"
    r"|(could not read )?root certificate file ).*"
)


def _server_message(text: str) -> str:
    """What the server itself says in a message of libpq, or what its encryption lacks.

    One text for all cases in which no server answers: whether a port is closed, filtered or another program's
    is not for those who may try any host.
    """
    _, found, message = text.partition("FATAL:")
    if found:
        return message.strip().splitlines()[0]
    lacking = _ENCRYPTION.search(text)
    return lacking[0] if lacking else "no PostgreSQL server answers there"


def _exists(path: str) -> bool:
    return Path(path).exists()
