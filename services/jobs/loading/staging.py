"""Filling the stage, by the fastest way that is safe: in the database, by binary COPY, or by batches."""

from collections.abc import Iterable, Iterator
from datetime import datetime

import pyarrow as pa
from psycopg import sql

from kernel.databases import queries
from kernel.databases.endpoints import DatabaseKind
from kernel.databases.errors import QueryInvalidError
from kernel.databases.sources import open_source
from services.jobs.loading.casting import CastBatch, Caster
from services.jobs.loading.columns import stage_columns
from services.jobs.loading.copying import BinaryCopy
from services.jobs.loading.direct import load_directly
from services.jobs.loading.errors import (
    TargetCancelledError,
    TargetDataError,
    TargetError,
    TargetUnavailableError,
)
from services.jobs.loading.postgresql import PostgresqlTarget
from services.jobs.loading.reading import ReadAhead
from services.jobs.loading.targets import Target
from services.jobs.loading.tasks import Task
from services.jobs.loading.telling import Teller

STAGE = "portolan_stage"
MAX_QUERY = 16_000_000  # bytes: many logics, of which each was held against the limit of one


class Stage:
    """The stage of a load."""

    def __init__(self, task: Task, target: Target, teller: Teller) -> None:
        self._task = task
        self._plan = task.plan
        self._target = target
        self._teller = teller
        self._columns = stage_columns(task.plan)
        checked = queries.check(self._plan.source_query, task.source.kind, max_bytes=MAX_QUERY)
        self._query = queries.bind(checked, task.parameters)
        self._copy: BinaryCopy | None = None
        if task.source.kind is DatabaseKind.POSTGRESQL and isinstance(target, PostgresqlTarget):
            self._copy = BinaryCopy(task, target, self._query, self._columns, teller)

    def bypass(self, moment: datetime) -> int | None:
        """Loads an empty table without the stage, where that is possible; the rows, all of them inserted."""
        if self._copy is None or self._plan.stage.fill:
            return None
        try:
            with self._target.staging():
                return load_directly(self._copy, self._plan.target, moment)
        except TargetDataError as error:
            self._teller.line(f"Not every row can be inserted as it is ({error}); going by a stage.")
            return None

    def fill(self) -> int:
        """Creates and fills the stage; the number of rows that were read, the rejected ones included."""
        self._target.execute(self._plan.stage.create)
        for way in (self._in_the_database, self._binary):
            try:
                with self._target.staging():
                    rows = way()
            except TargetDataError as error:
                self._teller.line(f"A value does not fit its column ({error}); going row by row.")
                break
            if rows is not None:
                return rows
        return self._by_batches()

    def _in_the_database(self) -> int | None:
        if not self._plan.stage.fill:
            return None
        try:
            if (query := self._target.exact(self._query, self._columns)) is None:
                return None
            self._teller.line(f"Reading {self._plan.source_connection}, without leaving the database.")
            # The statement holds the source query as it was written.
            return self._target.execute(self._plan.stage.fill.replace(self._plan.source_query, query))
        except (TargetCancelledError, TargetDataError, TargetUnavailableError):
            raise
        except TargetError as error:
            raise QueryInvalidError(str(error)) from None

    def _binary(self) -> int | None:
        return self._copy.into(sql.Identifier(STAGE)) if self._copy else None

    def _by_batches(self) -> int:
        caster = Caster(self._columns, self._target.unkept)
        columns = [(column.name, column.type) for column in self._columns]
        size = self._plan.batch_rows
        self._teller.line(f"Reading {self._plan.source_connection} in batches of {size:,} rows.")
        with open_source(self._task.source) as source, self._teller.cancelling(source.cancel):
            batches = source.batches(self._query, size)
            with ReadAhead((caster.cast(batch) for batch in batches), source.cancel) as cast:
                told = _Told(cast, self._teller)
                self._target.fill(STAGE, columns, told.rows())
        return told.count


class _Told:
    """Cast batches, with what they tell passed on."""

    def __init__(self, batches: Iterable[CastBatch], teller: Teller) -> None:
        self._batches = batches
        self._teller = teller
        self.count = 0

    def rows(self) -> Iterator[pa.RecordBatch]:
        """The rows that fit."""
        for batch in self._batches:
            self.count += batch.source_rows
            if batch.rejected:
                self._teller.reject(batch.rejected)
            if batch.rows.num_rows:
                yield batch.rows
            self._teller.read(self.count)
