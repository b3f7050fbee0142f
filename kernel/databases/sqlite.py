"""SQLite: a file, opened so that nothing can be written and nothing else be reached."""

import contextlib
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from kernel.databases import arrow
from kernel.databases.endpoints import DatabaseKind, Endpoint
from kernel.databases.errors import (
    FolderMissingError,
    QueryInvalidError,
    SourceUnavailableError,
)
from kernel.databases.sources import Column, ForeignKey, Source, Table
from kernel.databases.types import MAX_DIGITS, DataType, Kind

LOCK_SECONDS = 10.0
MAX_VALUE_BYTES = 100_000_000
STEPS = 10_000
"""Virtual machine instructions between two looks at the clock."""
VIEW = "portolan_described"
_READS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
_VIEWS = {sqlite3.SQLITE_CREATE_TEMP_VIEW, sqlite3.SQLITE_DROP_TEMP_VIEW}
_WRITES = {sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE}
_PRAGMAS = {"table_info", "table_xinfo", "foreign_key_list"}
_BROKEN = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOTADB,
}
TABLES = """
SELECT name, type FROM sqlite_master
WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name > ? ORDER BY name LIMIT ?
"""


class SqliteSource(Source):
    """A SQLite file; one that does not exist yet is an empty database, for the first load creates it."""

    kind = DatabaseKind.SQLITE

    def __init__(self, endpoint: Endpoint, time_limit: float | None) -> None:
        super().__init__()
        path = Path(endpoint.path)
        self._missing = not path.exists()
        self._time_limit = time_limit
        self._deadline: float | None = None
        if self._missing and not path.parent.is_dir():
            raise FolderMissingError("the folder of the file does not exist")
        try:
            self._connection = sqlite3.connect(
                ":memory:" if self._missing else f"{path.as_uri()}?mode=ro",
                uri=True,
                timeout=LOCK_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            self._connection.execute("PRAGMA schema_version").fetchall()
        except sqlite3.Error as error:
            raise SourceUnavailableError(f"SQLite cannot open the file: {error}") from None
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        self._connection.set_authorizer(_authorize)
        self._connection.set_progress_handler(self._overdue, STEPS)

    def server(self) -> str:
        """The product and version."""
        return f"SQLite {sqlite3.sqlite_version}"

    def warnings(self) -> list[str]:
        """That the file does not exist, when it does not."""
        return ["The file does not exist yet; the first load creates it."] if self._missing else []

    def tables(self, schema: str = "", *, after: tuple[str, str] = ("", ""), limit: int) -> list[Table]:
        """The tables and views. A SQLite file has no schemas."""
        if schema:
            return []
        with self._running():
            found = self._connection.execute(TABLES, (after[1], limit)).fetchall()
            return [self._table(name, view=kind == "view") for name, kind in found]

    def describe(self, query: str) -> list[Column]:
        """The columns, with the types that those of tables were declared with; an expression has none."""
        with self._running():
            # Only this tells of names that do not exist; a view is taken as it is.
            self._connection.execute(f"EXPLAIN {query}").close()
            self._connection.execute(f"CREATE TEMP VIEW {VIEW} AS {query}")
            try:
                return self._columns(VIEW, nullable=True)[0]
            finally:
                self._connection.execute(f"DROP VIEW temp.{VIEW}")

    def batches(self, query: str, batch_rows: int, *, limit: int | None = None) -> Iterator[pa.RecordBatch]:
        """The rows with the types that each value has."""
        with self._running():
            cursor = self._connection.execute(query)
            if cursor.description is None:
                raise QueryInvalidError("the query returns no columns")
            names = [description[0] for description in cursor.description]
            rows = 0
            while found := cursor.fetchmany(batch_rows if limit is None else min(batch_rows, limit - rows)):
                rows += len(found)
                columns = [arrow.from_values(values) for values in zip(*found, strict=True)]
                yield pa.RecordBatch.from_arrays(columns, names=names)
                if rows == limit:
                    break
            if not rows:
                yield arrow.empty(names)

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def _table(self, name: str, *, view: bool) -> Table:
        columns, key = self._columns(name)
        references: dict[int, list[tuple[str, str, str]]] = {}
        rows = self._connection.execute(f"PRAGMA foreign_key_list({_quoted(name)})").fetchall()
        for number, _, target, column, referred, *_ in sorted(rows):
            references.setdefault(number, []).append((target, column, referred or column))
        return Table(
            schema="",
            name=name,
            view=view,
            columns=tuple(columns),
            primary_key=tuple(key),
            foreign_keys=tuple(
                ForeignKey(
                    columns=tuple(column for _, column, _ in parts),
                    referred_schema="",
                    referred_table=parts[0][0],
                    referred_columns=tuple(referred for _, _, referred in parts),
                )
                for parts in references.values()
            ),
        )

    def _columns(self, table: str, *, nullable: bool = False) -> tuple[list[Column], list[str]]:
        """The columns of a table or view, and the names of those of its primary key."""
        rows = self._connection.execute(f"PRAGMA table_info({_quoted(table)})").fetchall()
        columns = [
            Column(name, data_type(declared), declared, nullable or not (required or place))
            for _, name, declared, required, _, place in rows
        ]
        return columns, [name for _, name, *_, place in sorted(rows, key=lambda row: row[-1]) if place]

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        self._deadline = None if self._time_limit is None else time.monotonic() + self._time_limit
        try:
            with self._busy():
                yield
        except sqlite3.Error as error:
            raise self._failure(error) from None

    def _interrupt(self) -> None:
        with contextlib.suppress(sqlite3.ProgrammingError):
            self._connection.interrupt()

    def _failure(self, error: sqlite3.Error) -> Exception:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_INTERRUPT:
            return self._ended()
        if code in _BROKEN:
            return SourceUnavailableError(f"SQLite cannot read the file: {error}")
        return QueryInvalidError(f"{error}; the file does not exist yet" if self._missing else str(error))

    def _overdue(self) -> int:
        late = self._deadline is not None and time.monotonic() > self._deadline
        return int(late or self._cancelled)


_DECLARED = re.compile(r"\s*([a-z ]*?)\s*(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?\s*")
_KINDS = {
    "boolean": Kind.BOOLEAN,
    "bool": Kind.BOOLEAN,
    "date": Kind.DATE,
    "datetime": Kind.TIMESTAMP,
    "timestamp": Kind.TIMESTAMP,
    "real": Kind.DOUBLE,
    "float": Kind.DOUBLE,
    "double": Kind.DOUBLE,
    "double precision": Kind.DOUBLE,
    "blob": Kind.BINARY,
}


def data_type(declared: str) -> DataType:
    """Our type for a declared type, which SQLite itself does not hold values to. OTHER when it says nothing.

    An integer of any declaration may have 64 bits.
    """
    match = _DECLARED.fullmatch(declared.lower())
    if match is None:
        return DataType(Kind.OTHER)
    name, first, second = match[1], int(match[2] or 0), int(match[3] or 0)
    if name in _KINDS:
        return DataType(_KINDS[name])
    if "int" in name:
        return DataType(Kind.BIG_INTEGER)
    if "char" in name or "text" in name or "clob" in name:
        return DataType(Kind.STRING, length=first)
    if name in {"decimal", "numeric"} and second <= first <= MAX_DIGITS and first:
        return DataType(Kind.DECIMAL, precision=first, scale=second)
    return DataType(Kind.OTHER)


def _authorize(action: int, first: str | None, second: str | None, database: str | None, _: Any) -> int:
    """SQLite's question at each step of compiling a statement. Only reads and `describe` may be."""
    allowed = (
        action in _READS
        or (action in _VIEWS and first == VIEW)
        or (action == sqlite3.SQLITE_FUNCTION and second != "load_extension")
        or (action == sqlite3.SQLITE_PRAGMA and first in _PRAGMAS)
        or (action in _WRITES and database == "temp")
    )
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
