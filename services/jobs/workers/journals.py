"""What a run tells while it is worked on: lines, counts and rejected rows, written in batches."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import orm

from kernel.db import now
from services.jobs.domain import logs
from services.jobs.models import Level, Run
from services.jobs.workers.holds import Hold

DELAY_SECONDS = 0.04


@dataclass
class _Batch:
    entries: list[logs.Entry] = field(default_factory=list)
    rejected: list[Mapping[str, Any]] = field(default_factory=list)
    counts: Mapping[str, int] | None = None
    anew: bool = False

    def commit(self, session: orm.Session, run: Run) -> None:
        """Adds the batch to the run."""
        if self.anew:
            logs.forget_rejected(session, run)
        logs.reject(session, run, self.rejected)
        logs.append(session, run, self.entries)
        if self.counts is not None:
            run.counts = self.counts


class Journal:
    """Keeps what is told, in order and within 40 ms."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._batch = _Batch()
        self._told = asyncio.Event()
        self._hurry = asyncio.Event()
        self._kept = asyncio.Event()
        self._kept.set()
        self._rejected = 0

    async def keep(self) -> None:
        """Writes for ever, and alone, so that order holds; LeaseLostError when the run is no longer ours."""
        while True:
            await self._told.wait()
            self._told.clear()
            batch, self._batch = self._batch, _Batch()
            await self._hold.write(batch.commit)
            if not self._told.is_set():
                self._kept.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DELAY_SECONDS):
                    await self._hurry.wait()

    def line(self, level: Level, message: str) -> None:
        """Tells a line."""
        self._batch.entries.append(logs.Entry(now(), level, message))
        self._wake()

    def count(self, counts: Mapping[str, int]) -> None:
        """Tells what became of the rows so far."""
        self._batch.counts = counts
        self._wake()

    def begin(self) -> None:
        """Tells that the load begins, so that what an earlier attempt rejected is forgotten."""
        self._batch.anew, self._rejected = True, 0
        self._wake()

    def reject(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Tells of rejected rows."""
        for row in rows:
            self._rejected += 1
            self._batch.rejected.append({**row, "sequence": self._rejected})
        self._wake()

    async def flush(self) -> None:
        """Returns when all that was told is kept."""
        self._hurry.set()
        try:
            await self._kept.wait()
        finally:
            self._hurry.clear()

    def _wake(self) -> None:
        self._kept.clear()
        self._told.set()
