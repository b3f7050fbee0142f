"""The database that is loaded: one interface, whatever its kind."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Self

import pyarrow as pa
import sqlalchemy as sa

from kernel.databases.endpoints import DatabaseKind, Endpoint
from kernel.databases.types import DataType
from services.jobs.loading.columns import StageColumn

Row = tuple[Any, ...]
Tell = Callable[[str], None]


class Target(ABC):
    """A session of a database that is loaded, by one thread at a time; only `cancel` may come from another.

    What the database says against a statement is raised as `TargetError`; against a value, as
    `TargetDataError`; a lost connection as `TargetUnavailableError`; a cancel as `TargetCancelledError`.
    """

    dialect: sa.Dialect
    """What SQLAlchemy's statements are compiled with; its parameters are named as the driver has them."""
    session: int
    """What tells this session from others: its process on the server, or this one; 0 when unknown."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def execute(self, statement: str, parameters: dict[str, Any] | None = None) -> int:
        """Runs a statement; the number of rows that it changed."""

    @abstractmethod
    def rows(self, statement: str, parameters: dict[str, Any] | None = None) -> Iterator[Row]:
        """The rows that a SELECT returns, in flat memory."""

    @abstractmethod
    def columns(self, schema: str, table: str) -> dict[str, str]:
        """The columns of a table that exists, each with its type in the database's words."""

    @abstractmethod
    def holds(self, declared: str, wanted: DataType) -> bool:
        """Whether a column of a type, in the database's words, keeps all values of another as they are."""

    def exact(self, query: str, columns: Sequence[StageColumn]) -> str | None:
        """A query of this database, so that the stage takes its values for what they are, or refuses them.

        None when some could be taken for something else.
        """
        del columns
        return query

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """A transaction that changes tables: committed at the end, rolled back by an error."""

    @abstractmethod
    def preparing(self) -> AbstractContextManager[None]:
        """A transaction that creates tables, one at a time in this database."""

    @abstractmethod
    def staging(self) -> AbstractContextManager[None]:
        """What is done within is undone by a TargetDataError, and only that."""

    @abstractmethod
    def begin_load(self) -> None:
        """Begins what ends with `commit`: the stage is filled, nothing else is touched."""

    @abstractmethod
    def begin_merge(self, schema: str, table: str) -> None:
        """Goes on to change the table, which nobody else does meanwhile; tells when that takes waiting."""

    @abstractmethod
    def fill(
        self, stage: str, columns: Sequence[tuple[str, DataType]], batches: Iterator[pa.RecordBatch]
    ) -> None:
        """Appends batches, whose columns are of the Arrow types of the stage's, to the stage."""

    @abstractmethod
    def unkept(self, array: pa.Array, type_: DataType) -> tuple[pa.Array, str] | None:
        """A mask of the values that this database cannot keep, and why; None when it keeps them all."""

    @abstractmethod
    def analyze(self, table: str) -> None:
        """Tells the planner how large a temporary table is."""

    @abstractmethod
    def commit(self) -> None:
        """Commits what `begin_load` began."""

    @abstractmethod
    def rollback(self) -> None:
        """Undoes what `begin_load` began; nothing when there is nothing."""

    @abstractmethod
    def end_session(self, session: int, run_id: str) -> None:
        """Ends what is left of a run's session, when the database has it still."""

    @abstractmethod
    def cancel(self) -> None:
        """Makes the running statement end at once; from any thread."""

    @abstractmethod
    def close(self) -> None:
        """Ends the session; what is not committed is undone."""

    def run(self, statement: sa.Executable) -> int:
        """Runs a statement of SQLAlchemy's; the number of rows that it changed."""
        text, parameters = self._compiled(statement)
        return self.execute(text, parameters)

    def fetch(self, statement: sa.Executable) -> list[Row]:
        """The rows that a SELECT of SQLAlchemy's returns."""
        text, parameters = self._compiled(statement)
        return list(self.rows(text, parameters))

    def _compiled(self, statement: Any) -> tuple[str, dict[str, Any] | None]:
        compiled = statement.compile(dialect=self.dialect)
        return str(compiled), dict(compiled.params) if compiled.params else None


def open_target(endpoint: Endpoint, run_id: str = "", tell: Tell = lambda _: None) -> Target:
    """Opens a database for loading, for a run when one is given; `tell` takes sentences for its log.

    Fails with `TargetUnavailableError`.
    """
    match endpoint.kind:
        case DatabaseKind.POSTGRESQL:
            from services.jobs.loading.postgresql import PostgresqlTarget

            return PostgresqlTarget(endpoint, run_id, tell)
        case DatabaseKind.SQLITE:
            from services.jobs.loading.sqlite import SqliteTarget

            return SqliteTarget(endpoint, tell)
        case DatabaseKind.FILES:
            raise ValueError("a folder of files is not loaded")
