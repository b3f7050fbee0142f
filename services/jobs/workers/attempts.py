"""One attempt at a run, from its claim to its end."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeVar

from sqlalchemy import orm

from kernel.db import Database, now
from kernel.logs import logger
from services.jobs.clients import Clients
from services.jobs.domain import logs
from services.jobs.errors import LeaseLostError
from services.jobs.models import Level, Run, State
from services.jobs.settings import Settings
from services.jobs.workers.holds import Hold
from services.jobs.workers.journals import Journal

log = logger(__name__)

PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0

T = TypeVar("T")


class Order(Enum):
    """Why an attempt is broken off."""

    STOP = auto()
    HAND_BACK = auto()


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended; QUEUED when another one is to follow."""

    state: State
    message: str
    reason: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)

    def commit(self, session: orm.Session, run: Run) -> None:
        """Moves the run, and says so in its log."""
        failed = self.state is State.FAILED
        level = Level.ERROR if failed else Level.INFO
        logs.append(session, run, [logs.Entry(now(), level, self.message)])
        if failed:
            run.error_reason, run.error_message = self.reason, self.message
        if self.counts:
            run.counts = self.counts
        run.move(self.state, now())


class Attempt:
    """A worker's attempt at a run that it has claimed."""

    def __init__(self, run: Run, database: Database, clients: Clients, settings: Settings) -> None:
        self._run = run
        self._clients = clients
        self._settings = settings
        self._hold = Hold(database, run, settings)
        self._journal = Journal(self._hold)
        self._work: asyncio.Task[Outcome] | None = None
        self._order: Order | None = Order.STOP if run.state is State.STOPPING else None
        self._confirmed = False

    async def drive(self) -> None:
        """Works on the run until it has ended, is queued again, or is not ours any more."""
        try:
            async with asyncio.TaskGroup() as keepers:
                tasks = [keepers.create_task(self._hold.keep()), keepers.create_task(self._journal.keep())]
                outcome = await self._outcome()
                await self._journal.flush()
                await self._hold.write(outcome.commit)
                for task in tasks:
                    task.cancel()
        except* LeaseLostError:
            log.warning("lost the lease of a run", run=self._run.id, fence=self._run.fence)

    def stop(self) -> None:
        """Stops the load, unless it is about to be committed."""
        self._break_off(Order.STOP)

    def hand_back(self) -> None:
        """Stops the load, unless it is about to be committed, and queues the run again."""
        self._break_off(Order.HAND_BACK)

    def _break_off(self, order: Order) -> None:
        if self._order is None and not self._confirmed:
            self._order = order
            if self._work is not None:
                self._work.cancel()

    async def _outcome(self) -> Outcome: ...
