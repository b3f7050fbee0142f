"""Filling the stage, by the fastest way that is safe: in the database, by binary COPY, or by batches."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import pyarrow as pa

from kernel.databases import queries
from kernel.databases.endpoints import DatabaseKind
from kernel.databases.errors import QueryInvalidError
from kernel.databases.sources import open_source
from kernel.databases.types import DataType, Kind
from portolan.common.v1 import datatypes_pb2
from portolan.mapper.v1 import plan_pb2
from services.jobs.loading.casting import CastBatch, Caster, StageColumn
from services.jobs.loading.errors import TargetDataError, TargetError, TargetUnavailableError
from services.jobs.loading.events import RejectedRow
from services.jobs.loading.reading import ReadAhead
from services.jobs.loading.targets import Target
from services.jobs.loading.tasks import Task

STAGE = "portolan_stage"
MAX_QUERY = 16_000_000  # bytes: many logics, of which each was held against the limit of one


class Teller(Protocol):
    """Who is told how the stage fills, and can make it stop."""

    def line(self, message: str) -> None:
        """Takes a line of the log."""

    def read(self, rows: int) -> None:
        """Takes the number of rows that were read so far."""

    def reject(self, rows: list[RejectedRow]) -> None:
        """Takes rows that cannot be loaded."""

    def cancelling(self, cancel: Callable[[], None]) -> AbstractContextManager[None]:
        """While this lasts, `cancel` is called when the load is to stop."""


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
        self._teller.line(f"Reading {self._plan.source_connection}, without leaving the database.")
        # The statement holds the source query as it was written.
        fill = self._plan.stage.fill.replace(self._plan.source_query, self._query)
        try:
            return self._target.execute(fill)
        except (TargetDataError, TargetUnavailableError):
            raise
        except TargetError as error:
            raise QueryInvalidError(str(error)) from None

    def _binary(self) -> int | None:
        if {self._task.source.kind, self._task.target.kind} != {DatabaseKind.POSTGRESQL}:
            return None
        from services.jobs.loading.copying import BinaryReader, write_blocks
        from services.jobs.loading.postgresql import PostgresqlTarget

        with BinaryReader(self._task.source, self._task.run_id) as reader:
            query = reader.projected(self._query, self._columns)
            if query is None or not isinstance(self._target, PostgresqlTarget):
                return None
            self._teller.line(f"Reading {self._plan.source_connection} by binary COPY.")
            with (
                self._teller.cancelling(reader.cancel),
                ReadAhead(reader.blocks(query), reader.cancel) as blocks,
            ):
                write_blocks(
                    self._target.connection,
                    STAGE,
                    self._columns,
                    iter(blocks),
                    lambda: self._teller.read(reader.rows),
                )
            return reader.rows

    def _by_batches(self) -> int:
        caster = Caster(self._columns, self._target.unkept)
        columns = [(column.name, column.type) for column in self._columns]
        size = self._plan.batch_rows
        self._teller.line(f"Reading {self._plan.source_connection} in batches of {size:,} rows.")
        with open_source(self._task.source) as source, self._teller.cancelling(source.cancel):
            batches = source.batches(self._query, size)
            with ReadAhead((caster.cast(batch) for batch in batches), source.cancel) as cast:
                told = _Told(iter(cast), self._teller)
                self._target.fill(STAGE, columns, told.rows())
        return told.count


class _Told:
    """Cast batches, with what they tell passed on."""

    def __init__(self, batches: Iterator[CastBatch], teller: Teller) -> None:
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


def stage_columns(plan: plan_pb2.LoadPlan) -> list[StageColumn]:
    """The columns of a plan's stage."""
    return [StageColumn(column.name, data_type(column.type), column.key) for column in plan.stage_columns]


def data_type(message: datatypes_pb2.DataType) -> DataType:
    """A type as the kernel has it."""
    kind = Kind(datatypes_pb2.DataType.Kind.Name(message.kind).removeprefix("KIND_"))
    return DataType(kind, length=message.length, precision=message.precision, scale=message.scale)
