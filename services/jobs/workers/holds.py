"""Holding a run: every write of its worker, as long as the lease lasts."""

import asyncio
import datetime as dt
import time
from collections.abc import Callable

from sqlalchemy import orm
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from kernel.db import Database, new_id, now
from kernel.logs import logger
from services.jobs.domain import leases
from services.jobs.domain.leases import Lease
from services.jobs.errors import LeaseLostError
from services.jobs.models import Run, State
from services.jobs.settings import Settings

log = logger(__name__)

RETRY_SECONDS = 0.5
SILENCE = (OperationalError, InterfaceError, PoolTimeoutError)
"""What is raised when the service's own database does not answer."""

Change = Callable[[orm.Session, Run], None]


class Hold:
    """A run that this worker holds."""

    def __init__(self, database: Database, run: Run, settings: Settings) -> None:
        self.lease = Lease(run.id, run.fence)
        self._database = database
        self._duration = dt.timedelta(seconds=settings.lease_seconds)
        self._heartbeat = settings.heartbeat_seconds
        self._until = time.monotonic() + settings.lease_seconds
        self._writing = asyncio.Lock()

    async def keep(self) -> None:
        """Heartbeats for ever; LeaseLostError when the run is not ours any more."""
        while True:
            await asyncio.sleep(self._heartbeat)
            await self.extend()

    async def extend(self) -> State:
        """Lengthens the lease, and tells where the run stands."""
        started = time.monotonic()
        state = await self.write(lambda _, run: setattr(run, "lease_expire_time", now() + self._duration))
        self._until = started + self._duration.total_seconds()
        return state

    async def renew(self) -> None:
        """Holds the run under a new fence: what was begun under the old one is not committed any more."""
        await self.write(lambda session, run: leases.renew(session, run, now()))

    async def write(self, change: Change) -> State:
        """Commits a change to the run, and tells where it stands; LeaseLostError when it is no longer ours.

        While the database does not answer it is tried again, until the lease has surely expired, and made
        once. What has begun goes on when the waiter is cancelled, so nothing is half known.
        """
        writing = asyncio.create_task(self._write(change))
        # Nobody may be left to hear how it ended.
        writing.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(writing)

    async def _write(self, change: Change) -> State:
        write = new_id()
        async with self._writing:
            while True:
                try:
                    return await asyncio.to_thread(self._commit, change, write)
                except SILENCE as error:
                    if time.monotonic() > self._until:
                        raise LeaseLostError("the database does not answer") from error
                    log.warning("the database does not answer", error=type(error).__name__)
                    await asyncio.sleep(RETRY_SECONDS)

    def _commit(self, change: Change, write: str) -> State:
        with self._database.transaction() as session:
            run = leases.written(session, self.lease, write)
            if run is None:
                run = leases.hold(session, self.lease, now())
                change(session, run)
                run.last_write = write
        self.lease = Lease(run.id, run.fence)
        return run.state
