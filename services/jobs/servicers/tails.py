"""Following a run's log, live and complete."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from kernel.changes import Changes
from kernel.db import Database
from portolan.jobs.v1 import runs_pb2 as pb
from services.jobs.domain import logs, runs
from services.jobs.servicers.messages import line_message, run_message

PAGE_LINES = 500
IDLE_SECONDS = 15.0


@dataclass(frozen=True)
class Batch:
    """The next lines of a log; none when the stream is idle. `end` is the run, once it has ended."""

    lines: Sequence[pb.LogLine]
    end: pb.Run | None = None


class Tails:
    """The logs of runs, to be followed."""

    def __init__(self, database: Database, changes: Changes, *, idle: float = IDLE_SECONDS) -> None:
        self._database = database
        self._changes = changes
        self._idle = idle

    async def follow(
        self, organization_id: str, run_id: str, after: int, *, wait: bool = True
    ) -> AsyncIterator[Batch]:
        """Each line behind a sequence number once and in order, and at last the run that has ended.

        The first batch comes at once, and an empty one after each 15 seconds without a line. With `wait` off
        it ends after the lines that exist. RunNotFoundError.
        """
        sent = time.monotonic() - self._idle
        while True:
            cursor = self._changes.cursor
            batch, drained = await asyncio.to_thread(self._read, organization_id, run_id, after)
            idle = time.monotonic() - sent
            if batch.lines or batch.end or idle >= self._idle:
                yield batch
                sent, idle = time.monotonic(), 0
            if batch.lines:
                after = batch.lines[-1].sequence
            if batch.end or (drained and not wait):
                return
            if drained:
                await self._changes.wait(cursor, self._idle - idle)

    def _read(self, organization_id: str, run_id: str, after: int) -> tuple[Batch, bool]:
        """The next batch, and whether there are no more lines for now.

        The run is read first and then its lines: a run that is seen to have ended is seen with all of them.
        """
        with self._database.read() as session:
            run = runs.get(session, organization_id, run_id)
            lines = [line_message(line) for line in session.scalars(logs.lines(run_id, after, PAGE_LINES))]
            drained = len(lines) < PAGE_LINES
            return Batch(lines, run_message(run) if run.ended and drained else None), drained
