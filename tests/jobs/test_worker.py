"""A worker with real load processes, from the queue to the warehouse."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel.changes import Changes
from kernel.db import Database
from portolan.jobs.v1 import jobs_pb2
from portolan.jobs.v1 import runs_pb2 as pb
from portolan.jobs.v1.jobs_pb2_grpc import JobServiceStub
from portolan.jobs.v1.runs_pb2_grpc import RunServiceStub
from services.jobs.clients import Clients
from services.jobs.servicers.jobs import JobServicer
from services.jobs.servicers.runs import RunServicer
from services.jobs.servicers.tails import Tails
from services.jobs.settings import Settings
from services.jobs.workers.worker import Worker
from tests.jobs.world import HARBOURS, World, calling
from tests.servers import Issuer, bearer, connect, serve

SLOW = "SELECT code, name FROM harbours, range(3000000000) AS r (n) WHERE n < 0 OR sqrt(n) < 0"
"""A logic that takes long and returns nothing."""


@dataclass
class Suite:
    """The jobs service, and what workers need."""

    database: Database
    changes: Changes
    clients: Clients
    settings: Settings
    jobs: Any
    runs: Any
    metadata: Any

    @asynccontextmanager
    async def working(self, **settings: object) -> AsyncIterator[Worker]:
        """A worker in this process, until the end of the block."""
        worker = Worker(
            self.database, self.changes, self.clients, self.settings.model_copy(update=dict(settings))
        )
        task = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def run(self, reference: str = HARBOURS, **parameters: str) -> str:
        """The id of a queued run."""
        request = jobs_pb2.RunJobRequest(reference=reference, parameters=parameters)
        return str((await self.jobs.RunJob(request, metadata=self.metadata)).id)

    async def get(self, run_id: str) -> pb.Run:
        """A run as it stands."""
        run: pb.Run = await self.runs.GetRun(pb.GetRunRequest(run_id=run_id), metadata=self.metadata)
        return run

    async def log(self, run_id: str) -> list[str]:
        """The messages of a run's log, when it has ended."""
        call = self.runs.TailRunLogs(pb.TailRunLogsRequest(run_id=run_id), metadata=self.metadata)
        async with asyncio.timeout(60):
            lines = [line async for response in call for line in response.lines]
        assert [line.sequence for line in lines] == list(range(1, len(lines) + 1))
        return [line.message for line in lines]

    async def ended(self, run_id: str) -> pb.Run:
        """A run at its end."""
        await self.log(run_id)
        return await self.get(run_id)

    async def begun(self, run_id: str, text: str = "Version") -> None:
        """Returns when a line with a text is in the run's log."""
        call = self.runs.TailRunLogs(pb.TailRunLogsRequest(run_id=run_id), metadata=self.metadata)
        async for response in call:
            if any(text in line.message for line in response.lines):
                call.cancel()
                return


@asynccontextmanager
async def suite(database: Database, world: World, keys: Path) -> AsyncIterator[Suite]:
    """The jobs service over the world, with a job of its mapping."""
    issuer = Issuer(keys)
    metadata = bearer(issuer.token())
    async with calling(issuer, world) as (clients, settings), Changes(database) as changes:
        tails = Tails(database, changes)
        watch = asyncio.create_task(tails.watch())
        servicers = (JobServicer(database, clients), RunServicer(database, tails))
        async with serve(issuer, *servicers) as address, connect(address) as channel:
            jobs: Any = JobServiceStub(channel)
            await jobs.CreateJob(jobs_pb2.CreateJobRequest(reference=HARBOURS), metadata=metadata)
            yield Suite(database, changes, clients, settings, jobs, RunServiceStub(channel), metadata)
        watch.cancel()


async def test_a_run_loads_the_warehouse_and_tells_what_became_of_the_rows(
    database: Database, world: World, tmp_path: Path
) -> None:
    world.write({1: "Genoa", 2: "Venice"})
    world.plan()
    async with suite(database, world, tmp_path / "keys") as jobs, jobs.working():
        run = await jobs.ended(await jobs.run())
        assert run.state == pb.Run.STATE_SUCCEEDED, run
        assert (run.rows.source, run.rows.inserted, run.attempt, run.worker) == (2, 2, 1, "w1")
        assert world.rows() == [(1, "Genoa"), (2, "Venice")]
        assert ("warehouse", f"run {run.id}") in world.leases

        world.write({1: "Genova", 2: "Venice", 3: "Ragusa"})
        second = await jobs.ended(await jobs.run())
        assert (second.rows.inserted, second.rows.closed, second.rows.unchanged) == (1, 1, 1)
        assert world.rows() == [(1, "Genova"), (2, "Venice"), (3, "Ragusa")]


async def test_rejected_rows_are_kept_and_the_good_ones_load(
    database: Database, world: World, tmp_path: Path
) -> None:
    world.write({1: "Genoa", 2: "a name that is longer than the column", "": "nowhere"})
    world.plan(length=10)
    async with suite(database, world, tmp_path / "keys") as jobs, jobs.working():
        run = await jobs.ended(await jobs.run())
        assert run.state == pb.Run.STATE_SUCCEEDED
        assert (run.rows.source, run.rows.inserted, run.rows.rejected) == (3, 1, 2)
        page = await jobs.runs.ListRejectedRows(
            pb.ListRejectedRowsRequest(run_id=run.id), metadata=jobs.metadata
        )
        assert [row.sequence for row in page.rejected_rows] == [1, 2]
        assert {row.reason for row in page.rejected_rows} == {"TOO_LONG", "NULL_KEY"}


async def test_a_failed_run_says_why_in_the_databases_words(
    database: Database, world: World, tmp_path: Path
) -> None:
    world.write({1: "Genoa"})
    world.plan("SELECT code, name FROM atlantis")
    async with suite(database, world, tmp_path / "keys") as jobs, jobs.working():
        run = await jobs.ended(await jobs.run())
        assert run.state == pb.Run.STATE_FAILED
        assert "atlantis" in run.error_message
        assert run.error_reason
