"""The worker: takes runs from the queue and works on several at once."""

import asyncio
import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa

from kernel.changes import Changes
from kernel.db import Database, now
from kernel.logs import logger
from services.jobs.clients import Clients
from services.jobs.domain import leases
from services.jobs.domain.leases import Lease
from services.jobs.loading.process import Nursery
from services.jobs.models import Run, State
from services.jobs.settings import Settings
from services.jobs.workers.attempts import Attempt
from services.jobs.workers.holds import SILENCE

log = logger(__name__)

PAUSE_SECONDS = 1.0


class Worker:
    """A process's share of the work: at most `worker_runs` runs at once.

    It wakes up when the database changes, so that a queued run starts and a stop arrives at once.
    """

    def __init__(self, database: Database, changes: Changes, clients: Clients, settings: Settings) -> None:
        self._database = database
        self._changes = changes
        self._clients = clients
        self._settings = settings
        self._nursery = Nursery(settings.log_level)
        self._attempts: dict[asyncio.Task[None], Attempt] = {}

    async def run(self) -> None:
        """Works until it is cancelled; then stops its loads and hands its runs back to the queue."""
        await self._nursery.open()
        try:
            while True:
                cursor = self._changes.cursor
                try:
                    await self._look()
                except SILENCE as error:
                    log.warning("the database does not answer", error=type(error).__name__)
                    await asyncio.sleep(PAUSE_SECONDS)
                change = asyncio.create_task(self._changes.wait(cursor, self._settings.heartbeat_seconds))
                await asyncio.wait([change, *self._attempts], return_when=asyncio.FIRST_COMPLETED)
                change.cancel()
        finally:
            for attempt in self._attempts.values():
                attempt.hand_back()
            await asyncio.gather(*self._attempts, return_exceptions=True)
            await self._nursery.close()

    async def _look(self) -> None:
        """Passes on what runs were asked, and takes new ones while there is room."""
        mine = [attempt.lease for attempt in self._attempts.values()]
        stopping, waiting = await asyncio.to_thread(self._news, mine)
        for attempt in self._attempts.values():
            if attempt.lease in stopping:
                attempt.stop()
        while waiting and len(self._attempts) < self._settings.worker_runs:
            waiting = await self._take()

    def _news(self, mine: Sequence[Lease]) -> tuple[set[Lease], bool]:
        """The leases whose runs are to stop, and whether a run waits; it locks nothing, being asked often."""
        with self._database.read() as session:
            query = sa.select(Run.id, Run.fence).where(Run.id.in_([lease.run_id for lease in mine]))
            rows = session.execute(query.where(Run.state == State.STOPPING)) if mine else ()
            stopping = {Lease(run_id, fence) for run_id, fence in rows}
            waiting = session.scalar(leases.claimable(now()).with_only_columns(Run.id))
            return stopping, waiting is not None

    async def _take(self) -> bool:
        """Takes a run, if one is free. A cancel in between does not lose it: it can still be handed back."""
        claim = asyncio.create_task(asyncio.to_thread(self._claim))
        try:
            await asyncio.shield(claim)
        finally:
            if run := await claim:
                self._begin(run)
        return run is not None

    def _claim(self) -> Run | None:
        with self._database.transaction() as session:
            duration = dt.timedelta(seconds=self._settings.lease_seconds)
            return leases.claim(session, self._settings.worker_name, duration, now())

    def _begin(self, run: Run) -> None:
        attempt = Attempt(run, self._database, self._clients, self._nursery, self._settings)
        task = asyncio.create_task(self._drive(attempt), name=f"run {run.id}")
        self._attempts[task] = attempt
        task.add_done_callback(self._attempts.pop)

    async def _drive(self, attempt: Attempt) -> None:
        try:
            await attempt.drive()
        except Exception:
            log.exception("fault in an attempt; its lease will expire", run=attempt.lease.run_id)
