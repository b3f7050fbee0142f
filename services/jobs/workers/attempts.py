"""One attempt at a run, from its claim to its end."""

import asyncio
import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from sqlalchemy import orm

from kernel.databases.endpoints import Endpoint
from kernel.db import Database, new_id, now
from kernel.errors import PreconditionError, RefusedError, UnavailableError
from kernel.logs import logger
from portolan.mapper.v1 import plan_pb2
from services.jobs.clients import Clients
from services.jobs.domain import logs
from services.jobs.domain.leases import Lease
from services.jobs.errors import LeaseLostError
from services.jobs.loading import events
from services.jobs.loading.errors import LoadError
from services.jobs.loading.process import LoadProcess, Nursery, ensure_gone
from services.jobs.loading.tasks import Task
from services.jobs.models import Level, Run, State
from services.jobs.settings import Settings
from services.jobs.workers.holds import Hold
from services.jobs.workers.journals import Journal

log = logger(__name__)

PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
UNSETTLED = " It is not known whether an earlier attempt was committed."


class Order(Enum):
    """Why an attempt does not load, or not to the end."""

    STOP = auto()
    HAND_BACK = auto()
    GIVE_UP = auto()


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: with the run's end, or QUEUED when another attempt is to follow."""

    state: State
    message: str
    reason: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)

    def commit(self, session: orm.Session, run: Run) -> None:
        """Moves the run, and says so in its log."""
        failed = self.state is State.FAILED
        logs.append(session, run, [logs.Entry(now(), Level.ERROR if failed else Level.INFO, self.message)])
        if failed:
            run.error_reason, run.error_message = self.reason, self.message
        if self.counts:
            run.counts = self.counts
        run.move(self.state, now())


class Attempt:
    """A worker's attempt at a run that it has claimed."""

    def __init__(
        self, run: Run, database: Database, clients: Clients, nursery: Nursery, settings: Settings
    ) -> None:
        self._run = run
        self._clients = clients
        self._nursery = nursery
        self._settings = settings
        self._hold = Hold(database, run, settings)
        self._journal = Journal(self._hold)
        self._work: asyncio.Task[Outcome] | None = None
        self._order: Order | None = None
        if run.state is State.STOPPING:
            self._order = Order.STOP
        elif run.losses >= settings.max_losses:
            self._order = Order.GIVE_UP
        self._settled = run.attempt == 1
        """Whether it is known that no earlier attempt was committed."""
        self._confirmed = self._broken_off = False

    @property
    def lease(self) -> Lease:
        """The lease that the run is held by."""
        return self._hold.lease

    async def drive(self) -> None:
        """Works on the run until it has ended, is queued again, or is not ours any more."""
        try:
            async with asyncio.TaskGroup() as group:
                keepers = [group.create_task(self._hold.keep()), group.create_task(self._journal.keep())]
                outcome = await self._outcome()
                await self._journal.flush()
                for keeper in keepers:
                    keeper.cancel()
                await self._hold.write(outcome.commit)
        except* LeaseLostError:
            log.warning("lost the lease of a run", run=self._run.id, fence=self.lease.fence)

    def stop(self) -> None:
        """Stops the load, unless it is about to be committed or already was."""
        if self._order is None:
            self._order = Order.STOP
            self._obey()

    def hand_back(self) -> None:
        """Stops the load, unless it is about to be committed, and queues the run again."""
        self._order = self._order or Order.HAND_BACK
        self._obey()

    def _obey(self) -> None:
        """Breaks the load off, once it is known that this leaves the target as it was before the run."""
        safe = (self._settled or self._order is Order.HAND_BACK) and not self._confirmed
        if self._order is not None and self._work is not None and safe and not self._broken_off:
            self._broken_off = True
            self._work.cancel()

    async def _outcome(self) -> Outcome:
        """What came of the attempt."""
        unsettled = ""
        self._work = asyncio.create_task(self._load())
        try:
            self._obey()
            return await self._work
        except asyncio.CancelledError:
            this = asyncio.current_task()
            if not self._broken_off or (this is not None and this.cancelling()):  # the lease is lost
                raise
            return self._obeyed()
        except RefusedError as error:
            unsettled = "" if self._settled else UNSETTLED
            return Outcome(State.FAILED, error.message + unsettled, error.reason)
        except LoadError as error:
            return Outcome(State.FAILED, str(error), error.reason)
        except Exception:
            reference = new_id()
            log.exception("fault in an attempt", run=self._run.id, reference=reference)
            message = f"Internal error; the worker's log tells more under {reference}."
            return Outcome(State.FAILED, message, "INTERNAL")

    def _obeyed(self) -> Outcome:
        """The end of an attempt that was broken off."""
        match self._order:
            case Order.HAND_BACK:
                text = f"Worker {self._run.worker} shuts down; the run is queued again."
                return Outcome(State.QUEUED, text)
            case Order.GIVE_UP:
                text = f"{self._run.losses} workers stopped answering while they held the run."
                return Outcome(State.FAILED, text, "WORKER_LOST")
            case _:
                return Outcome(State.STOPPED, "Stopped; the target is as it was.")

    async def _load(self) -> Outcome:
        """Loads, and tries again for a while when what is needed does not answer or is lost on the way."""
        plan = plan_pb2.LoadPlan.FromString(self._run.plan.content)
        route = f"from {plan.source_connection} into {plan.target_connection}, table {self._run.plan.target}"
        opening = f"Version {plan.version} of {plan.reference}: {route}."
        if self._order is not None:
            opening = f"Asking {plan.target_connection} whether an earlier attempt was committed."
        self._journal.line(Level.INFO, opening)
        limit = self._settings.retry_seconds
        deadline, pause, lost = time.monotonic() + limit, PAUSE_SECONDS, 0
        while True:
            started = time.monotonic()
            try:
                return await self._try(plan)
            except UnavailableError as error:
                if time.monotonic() - started > limit:  # lost after long work, which is a trouble of its own
                    deadline, pause, lost = time.monotonic() + limit, PAUSE_SECONDS, lost + 1
                if time.monotonic() + pause > deadline or lost >= self._settings.max_losses:
                    raise
                self._journal.line(Level.WARNING, f"{error.message} Trying again in {pause:g} s.")
            self._settled, self._confirmed = self._settled and not self._confirmed, False
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            await self._hold.renew()

    async def _try(self, plan: plan_pb2.LoadPlan) -> Outcome:
        """Loads in a process of its own; what of it is left when this is cancelled is ended first."""
        target = await self._lease(plan.target_connection)
        source = await self._lease(plan.source_connection)
        task = Task(
            run_id=self._run.id,
            fence=self.lease.fence,
            plan=plan,
            source=source,
            target=target,
            parameters=self._run.parameters,
            # Who has not confirmed by then has lost the lease, and must not keep the target locked.
            confirm_seconds=self._settings.lease_seconds,
        )
        process = await self._nursery.take()
        event: events.Event | None = None
        try:
            await process.start(task)
            async for event in process.events():
                await self._heed(event, process)
        except asyncio.CancelledError:
            if self._broken_off:
                await process.stop(self._settings.stop_seconds)
                for place in (source, target):
                    await ensure_gone(place, self._run.id)
            raise
        finally:
            await process.kill()
        match event:
            case events.Done(counts):
                return Outcome(State.SUCCEEDED, "Succeeded.", counts=dataclasses.asdict(counts))
            case events.Failed(reason, message, unavailable):
                error = (UnavailableError if unavailable else PreconditionError)(message)
                error.reason = reason
                raise error
            case _:
                raise AssertionError("a load ends by Done or Failed")

    async def _heed(self, event: events.Event, process: LoadProcess) -> None:
        """Keeps what the load tells, and confirms its commit while the run is held and not to stop."""
        match event:
            case events.Begun():
                self._settled = True
                self._journal.begin()
                self._obey()
            case events.Line(message, level):
                self._journal.line(Level(level), message)
            case events.Progress(counts):
                self._journal.count(dataclasses.asdict(counts))
            case events.Rejected(rows):
                self._journal.reject([dataclasses.asdict(row) for row in rows])
            case events.Ready():
                await self._journal.flush()
                if await self._hold.extend() is State.STOPPING:
                    self.stop()
                else:
                    self._confirmed = True
                    await process.confirm()
            case _:
                pass

    async def _lease(self, connection: str) -> Endpoint:
        """What opens a connection."""
        purpose = f"run {self._run.id}"
        return await asyncio.to_thread(self._clients.lease, self._run.organization_id, connection, purpose)
