"""Reading a customer's database or folder: one interface, whatever its kind."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import pyarrow as pa

from kernel.databases.endpoints import DatabaseKind, Endpoint
from kernel.databases.errors import QueryCancelledError, QueryTimeoutError
from kernel.databases.types import DataType

INTERRUPT_SECONDS, CANCEL_SECONDS = 0.05, 2.0


@dataclass(frozen=True)
class Column:
    """A column of a table or of a query's result; `native_type` is its type in the database's own words."""

    name: str
    type: DataType
    native_type: str
    nullable: bool = True


@dataclass(frozen=True)
class ForeignKey:
    """A reference to another table; the column lists are aligned."""

    columns: tuple[str, ...]
    referred_schema: str
    referred_table: str
    referred_columns: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table, view or file. `schema` is empty where the database has none."""

    schema: str
    name: str
    view: bool = False
    columns: tuple[Column, ...] = ()
    primary_key: tuple[str, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = field(default=())


class Source(ABC):
    """An open database or folder, for reading only, by one thread at a time; `cancel` may come from another.

    Queries are single SELECTs that passed `kernel.databases.queries`, in the database's own dialect, without
    parameters. What the database says against one is raised as `QueryInvalidError`; a query that takes longer
    than the time limit ends as `QueryTimeoutError`, a cancelled one as `QueryCancelledError`, and a lost
    connection as `SourceUnavailableError`.
    """

    kind: ClassVar[DatabaseKind]

    def __init__(self) -> None:
        self._cancelled = False
        self._idle = threading.Event()
        self._idle.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def server(self) -> str:
        """The product and version, such as `PostgreSQL 15.18`."""

    def warnings(self) -> list[str]:
        """What an administrator should know about this way in."""
        return []

    @abstractmethod
    def tables(self, schema: str = "", *, after: tuple[str, str] = ("", ""), limit: int) -> list[Table]:
        """The first tables, views or files by schema and name, behind the one named `after`.

        Those of all schemas when `schema` is empty.
        """

    @abstractmethod
    def describe(self, query: str) -> list[Column]:
        """The columns that the query would return; the query does not run."""

    @abstractmethod
    def batches(self, query: str, batch_rows: int, *, limit: int | None = None) -> Iterator[pa.RecordBatch]:
        """The query's rows in flat memory, in batches of about `batch_rows`, at most `limit` rows.

        Values come exactly as the database has them. A type that Arrow lacks comes as strings, and so do
        PostgreSQL's numeric, a column of a batch that mixes types (SQLite), and one with an infinite date. A
        column's type may therefore differ from batch to batch; whoever needs one type casts. An empty result
        gives one batch without rows.
        """

    def rows(self, query: str, limit: int) -> list[tuple[Any, ...]]:
        """The query's first rows, as Python values."""
        found: list[tuple[Any, ...]] = []
        for batch in self.batches(query, limit, limit=limit):
            columns = [column.to_pylist() for column in batch.columns]
            found.extend(zip(*columns, strict=True))
        return found[:limit]

    @abstractmethod
    def close(self) -> None:
        """Ends the session; whatever runs is cancelled."""

    def cancel(self) -> None:
        """Makes the running query end at once, and lets no other begin; from any thread."""
        self._cancelled = True
        # A database forgets an interrupt that comes just before its statement.
        deadline = time.monotonic() + CANCEL_SECONDS
        while time.monotonic() < deadline:
            self._interrupt()
            if self._idle.wait(INTERRUPT_SECONDS):
                return
        self._break_off()

    @abstractmethod
    def _interrupt(self) -> None:
        """Makes the statement that runs now fail, when one does; from any thread."""

    def _break_off(self) -> None:
        """Makes the session fail where the database heeds no interrupt; those in our own process do."""
        return

    @contextmanager
    def _busy(self) -> Iterator[None]:
        """The time in which a query runs."""
        self._idle.clear()
        try:
            if self._cancelled:
                raise self._ended()
            yield
        finally:
            self._idle.set()

    def _ended(self) -> Exception:
        """Why a query was interrupted: by `cancel`, or else by the time limit."""
        if self._cancelled:
            return QueryCancelledError("the query was cancelled")
        return QueryTimeoutError("the query ran longer than its time limit and was cancelled")


def open_source(endpoint: Endpoint, *, time_limit: float | None = None) -> Source:
    """Opens a database or folder for reading; `time_limit` in seconds holds for each query.

    Fails with `SourceUnavailableError` when it cannot be opened, `FolderMissingError` when there is none.
    """
    match endpoint.kind:
        case DatabaseKind.POSTGRESQL:
            from kernel.databases.postgresql import PostgresqlSource

            return PostgresqlSource(endpoint, time_limit)
        case DatabaseKind.SQLITE:
            from kernel.databases.sqlite import SqliteSource

            return SqliteSource(endpoint, time_limit)
        case DatabaseKind.FILES:
            from kernel.databases.files import FilesSource

            return FilesSource(endpoint, time_limit)
