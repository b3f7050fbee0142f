"""SQLite as a target: the stage is filled beside the file, which is locked for the merge only."""

import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from kernel.databases.endpoints import Endpoint
from kernel.databases.types import DataType, Kind
from services.jobs.loading.errors import (
    TargetCancelledError,
    TargetDataError,
    TargetError,
    TargetUnavailableError,
)
from services.jobs.loading.targets import Row, Target, Tell

BUSY_SECONDS = 1.0
LOCK_SECONDS = 600.0
POLL_SECONDS = 0.02
PIDS = 2**22  # more than Linux has
INTEGER_DIGITS = 18  # of a decimal without digits after the point; one with more is kept as text
PLAIN_SCALE = 6  # Arrow writes decimals with more digits after the point as 1E-7
LOST = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL}
DATA_ERRORS = {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG}
LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
AFFINITIES = {
    "INTEGER": ("INT",),
    "TEXT": ("CHAR", "CLOB", "TEXT"),
    "BLOB": ("BLOB",),
    "REAL": ("REAL", "FLOA", "DOUB"),
}
"""The affinities by what a declared type contains, the first that fits."""
HOLDING = {
    pa.string(): {"TEXT", "BLOB"},
    pa.float64(): {"REAL", "NUMERIC", "BLOB"},
    **{form: {"INTEGER", "NUMERIC", "BLOB"} for form in (pa.int8(), pa.int32(), pa.int64())},
}
"""Those that keep what is stored in a form as it is; bytes, and texts that are no numbers, every one does."""
PRIMARY = 0xFF  # the part of an error code that all codes of its kind share


class SqliteTarget(Target):
    """A SQLite file, which is made when it is missing.

    Its journal mode is left as it is. The temporary tables lie in a file of their own, so that filling the
    stage locks nobody out; only the merge does.
    """

    def __init__(self, endpoint: Endpoint, tell: Tell = lambda _: None) -> None:
        self._tell = tell
        self._cancelled = False
        self.session = _session(os.getpid())
        self.dialect = SQLiteDialect_pysqlite(paramstyle="named")
        if not Path(endpoint.path).parent.is_dir():
            raise TargetError("The folder of the file does not exist.")
        with _translated():
            self._connection = sqlite3.connect(
                endpoint.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA synchronous = FULL")

    def execute(self, statement: str, parameters: dict[str, Any] | None = None) -> int:
        """Runs a statement."""
        with _translated():
            return self._connection.execute(statement, parameters or {}).rowcount

    def rows(self, statement: str, parameters: dict[str, Any] | None = None) -> Iterator[Row]:
        """The rows."""
        with _translated():
            yield from self._connection.execute(statement, parameters or {})

    def columns(self, schema: str, table: str) -> dict[str, str]:
        """The columns; there is only one schema."""
        del schema
        with _translated():
            query = "SELECT name, type FROM pragma_table_xinfo(?) WHERE hidden IN (0, 2, 3)"
            return dict(self._connection.execute(query, (table,)))

    def holds(self, declared: str, wanted: DataType) -> bool:
        """Whether the type's affinity leaves the values in the form that the stage has them in."""
        if wanted.kind in {Kind.BINARY, Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMP_TZ}:
            return True
        return _affinity(declared) in HOLDING[stored(pa.nulls(0, wanted.arrow()), wanted).type]

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction that locks other writers out from its start."""
        self._lock()
        try:
            yield
        except BaseException:
            self.rollback()
            raise
        self.execute("COMMIT")

    def preparing(self) -> contextlib.AbstractContextManager[None]:
        """The same."""
        return self.transaction()

    @contextlib.contextmanager
    def staging(self) -> Iterator[None]:
        """A savepoint."""
        self.execute("SAVEPOINT portolan_staging")
        try:
            yield
        except TargetDataError:
            self.execute("ROLLBACK TO portolan_staging")
            raise
        finally:
            if self._connection.in_transaction:
                self.execute("RELEASE portolan_staging")

    def begin_load(self) -> None:
        """Begins the stage's transaction, which writes to temporary tables only."""
        self.execute("BEGIN")

    def begin_merge(self, schema: str, table: str) -> None:
        """Ends the stage's transaction, and locks the file for the one that changes the table."""
        del schema, table
        self.execute("COMMIT")
        self._lock()

    def fill(
        self, stage: str, columns: Sequence[tuple[str, DataType]], batches: Iterator[pa.RecordBatch]
    ) -> None:
        """One INSERT a row, prepared once."""
        names = ", ".join('"' + name.replace('"', '""') + '"' for name, _ in columns)
        insert = f'INSERT INTO temp."{stage}" ({names}) VALUES ({", ".join("?" * len(columns))})'
        types = [type_ for _, type_ in columns]
        for batch in batches:
            values = [
                stored(column, type_).to_pylist() for column, type_ in zip(batch.columns, types, strict=True)
            ]
            with _translated():
                self._connection.executemany(insert, zip(*values, strict=True))

    def unkept(self, array: pa.Array, type_: DataType) -> tuple[pa.Array, str] | None:
        """What is not a number, which SQLite would make NULL."""
        if type_.kind is not Kind.DOUBLE or not pc.any(mask := pc.is_nan(array)).as_py():
            return None
        return mask, "SQLite has no value for what is not a number."

    def analyze(self, table: str) -> None:
        """Nothing: the planner does well without."""

    def commit(self) -> None:
        """COMMIT."""
        self.execute("COMMIT")

    def rollback(self) -> None:
        """ROLLBACK, if there is what to roll back."""
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def end_session(self, session: int, run_id: str) -> None:
        """Kills the process, if it is on this machine: a frozen one would keep the file locked."""
        pid = session % PIDS
        if session in {0, self.session} or _session(pid) != session:
            return
        self._tell(f"An earlier attempt's process of run {run_id} is still there; it is ended.")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        while _session(pid) == session:
            time.sleep(POLL_SECONDS)

    def cancel(self) -> None:
        """Interrupts the running statement."""
        self._cancelled = True
        with contextlib.suppress(sqlite3.Error):
            self._connection.interrupt()

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def _lock(self) -> None:
        """Begins a transaction that writes, when nobody else's does."""
        deadline = time.monotonic() + LOCK_SECONDS
        told = False
        while True:
            try:
                self.execute("BEGIN IMMEDIATE")
            except TargetUnavailableError:
                if self._cancelled:
                    raise TargetCancelledError("Waiting was interrupted.") from None
                if time.monotonic() > deadline:
                    raise
            else:
                return
            if not told:
                self._tell("Another program is writing to the file; waiting for it.")
                told = True


def _session(pid: int) -> int:
    """A number that only this process has on this machine, of its id and its start; 0 when there is none."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # Behind the name, which may hold anything, in brackets: the state first, then numbers.
    state, *numbers = status.rpartition(")")[2].split()
    return 0 if state in "ZX" else int(numbers[18]) * PIDS + pid


def stored(array: pa.Array, type_: DataType) -> pa.Array:
    """Values of a type's Arrow form as SQLite keeps them: one exact form each, as the load plan says it."""
    match type_.kind:
        case Kind.DECIMAL if type_.scale == 0 and type_.precision <= INTEGER_DIGITS:
            return array.cast(pa.int64())
        case Kind.DECIMAL if type_.scale > PLAIN_SCALE:
            return pa.array(
                [None if value is None else f"{value:f}" for value in array.to_pylist()], pa.string()
            )
        case Kind.DECIMAL | Kind.DATE | Kind.TIMESTAMP:
            return array.cast(pa.string())
        case Kind.TIMESTAMP_TZ:
            return array.cast(pa.timestamp("us")).cast(pa.string())
        case Kind.BOOLEAN:
            return array.cast(pa.int8())
        case _:
            return array


def _affinity(declared: str) -> str:
    """What SQLite makes of a declared type (https://www.sqlite.org/datatype3.html, section 3.1)."""
    name = declared.upper()
    found = (affinity for affinity, parts in AFFINITIES.items() if any(part in name for part in parts))
    return next(found, "NUMERIC" if name else "BLOB")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turns SQLite's errors into ours."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        match code & PRIMARY if code is not None else None:
            case sqlite3.SQLITE_INTERRUPT:
                raise TargetCancelledError("The statement was interrupted.") from None
            case primary if primary in LOCKED:
                raise TargetUnavailableError("The file is locked by another program for too long.") from None
            case primary if primary in LOST:
                raise TargetUnavailableError(str(error)) from None
            case primary if primary in DATA_ERRORS:
                raise TargetDataError(str(error)) from None
            case _:
                raise TargetError(str(error)) from None
