"""Following the logs of runs, live and complete."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from kernel.changes import Changes
from kernel.db import Database
from kernel.logs import logger
from portolan.jobs.v1 import runs_pb2 as pb
from services.jobs.domain import logs, runs
from services.jobs.models import Run
from services.jobs.servicers.messages import line_message, run_message

log = logger(__name__)

PAGE_LINES = 500
IDLE_SECONDS = 15.0
PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class Batch:
    """The next lines of a log; none when the stream is idle. `end` is the run, once it has ended."""

    lines: Sequence[pb.LogLine]
    end: pb.Run | None = None


@dataclass
class _Watch:
    """A run that somebody follows: how far it has come, and whom to wake when it goes on."""

    mark: tuple[int, str] | None = None
    followers: int = 0
    moved: asyncio.Event = field(default_factory=asyncio.Event)


class Tails:
    """The logs of runs, to be followed. A change of the database costs one query, however many follow."""

    def __init__(self, database: Database, changes: Changes, *, idle: float = IDLE_SECONDS) -> None:
        self._database = database
        self._changes = changes
        self._idle = idle
        self._watches: dict[str, _Watch] = {}

    async def follow(
        self, organization_id: str, run_id: str, after: int, *, wait: bool = True
    ) -> AsyncIterator[Batch]:
        """Each line behind a sequence number once and in order, and at last the run that has ended.

        The first batch comes at once, and an empty one after each 15 seconds without a line. With `wait` off
        it ends after the lines that exist. RunNotFoundError.
        """
        due = time.monotonic()
        with self._watched(run_id) as watch:
            while True:
                moved = watch.moved
                batch, drained = await asyncio.to_thread(self._read, organization_id, run_id, after)
                if batch.lines or batch.end or time.monotonic() >= due:
                    yield batch
                    due = time.monotonic() + self._idle
                if batch.lines:
                    after = batch.lines[-1].sequence
                if batch.end or (drained and not wait):
                    return
                if drained:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(due - time.monotonic()):
                            await moved.wait()

    async def watch(self) -> None:
        """Wakes those whose run went on, for ever."""
        while True:
            cursor = self._changes.cursor
            try:
                marks = await asyncio.to_thread(self._marks, list(self._watches))
            except SQLAlchemyError as error:
                log.warning("the database does not answer", error=type(error).__name__)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            for run_id, mark in marks.items():
                watch = self._watches.get(run_id)
                if watch is not None and watch.mark != mark:
                    watch.mark = mark
                    watch.moved.set()
                    watch.moved = asyncio.Event()
            await self._changes.wait(cursor, self._idle)

    @contextlib.contextmanager
    def _watched(self, run_id: str) -> Iterator[_Watch]:
        watch = self._watches.setdefault(run_id, _Watch())
        watch.followers += 1
        try:
            yield watch
        finally:
            watch.followers -= 1
            if not watch.followers:
                del self._watches[run_id]

    def _read(self, organization_id: str, run_id: str, after: int) -> tuple[Batch, bool]:
        """The next batch, and whether there are no more lines for now.

        The run is read first and then its lines: a run that is seen to have ended is seen with all of them.
        """
        with self._database.read() as session:
            run = runs.get(session, organization_id, run_id)
            lines = [line_message(line) for line in session.scalars(logs.lines(run_id, after, PAGE_LINES))]
            drained = len(lines) < PAGE_LINES
            return Batch(lines, run_message(run) if run.ended and drained else None), drained

    def _marks(self, run_ids: Sequence[str]) -> dict[str, tuple[int, str]]:
        """How far runs have come."""
        if not run_ids:
            return {}
        with self._database.read() as session:
            query = sa.select(Run.id, Run.lines, Run.state).where(Run.id.in_(run_ids))
            return {run_id: (lines, state) for run_id, lines, state in session.execute(query)}
