"""A worker with real load processes, from the queue to the warehouse."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel.changes import Changes
from kernel.db import Database, now
from kernel.errors import ServiceUnavailableError
from portolan.jobs.v1 import jobs_pb2
from portolan.jobs.v1 import runs_pb2 as pb
from portolan.jobs.v1.jobs_pb2_grpc import JobServiceStub
from portolan.jobs.v1.runs_pb2_grpc import RunServiceStub
from portolan.mapper.v1 import plan_pb2
from services.jobs.clients import Clients
from services.jobs.domain import jobs as domain
from services.jobs.models import Run, State
from services.jobs.servicers.jobs import JobServicer
from services.jobs.servicers.messages import plan_row
from services.jobs.servicers.runs import RunServicer
from services.jobs.servicers.tails import Tails
from services.jobs.settings import Settings
from services.jobs.workers.worker import Worker
from tests.jobs.conftest import ORGANIZATION
from tests.jobs.test_leases import claimed
from tests.jobs.world import HARBOURS, World, calling
from tests.servers import Issuer, bearer, connect, refusal, serve

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


async def test_a_running_run_that_is_stopped_leaves_nothing_behind(
    database: Database, world: World, tmp_path: Path
) -> None:
    world.write({1: "Genoa"})
    world.plan(SLOW)
    async with suite(database, world, tmp_path / "keys") as jobs, jobs.working():
        run_id = await jobs.run()
        await jobs.begun(run_id)
        await asyncio.sleep(1)
        stopping = await jobs.runs.StopRun(pb.StopRunRequest(run_id=run_id), metadata=jobs.metadata)
        assert stopping.state == pb.Run.STATE_STOPPING
        async with asyncio.timeout(5):
            run = await jobs.ended(run_id)
        assert run.state == pb.Run.STATE_STOPPED
        assert world.rows() == []
        if not database.sqlite:
            sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%" + run_id + "%'"
            assert world.rows(sessions) == [(0,)]
        again = await refusal(jobs.runs.StopRun(pb.StopRunRequest(run_id=run_id), metadata=jobs.metadata))
        assert again.reason == "RUN_ENDED"


async def test_a_worker_that_shuts_down_hands_its_run_to_the_next(
    database: Database, world: World, tmp_path: Path
) -> None:
    world.write({1: "Genoa"})
    world.plan(SLOW)
    async with suite(database, world, tmp_path / "keys") as jobs:
        async with jobs.working():
            run_id = await jobs.run()
            await jobs.begun(run_id)
        assert (await jobs.get(run_id)).state == pb.Run.STATE_QUEUED
        async with jobs.working(worker_name="w2"):
            await jobs.begun(run_id, "worker w2 takes the run")
            await jobs.runs.StopRun(pb.StopRunRequest(run_id=run_id), metadata=jobs.metadata)
            run = await jobs.ended(run_id)
    assert (run.state, run.attempt, run.worker) == (pb.Run.STATE_STOPPED, 2, "w2")


async def test_what_does_not_answer_is_tried_again(database: Database, world: World, tmp_path: Path) -> None:
    world.write({1: "Genoa"})
    world.plan()
    async with suite(database, world, tmp_path / "keys") as jobs, jobs.working():
        world.refusals += [ServiceUnavailableError("the connections service is away")] * 2
        run_id = await jobs.run()
        lines = await jobs.log(run_id)
        assert sum("Trying again" in line for line in lines) == 2
        assert (await jobs.get(run_id)).state == pb.Run.STATE_SUCCEEDED


async def test_what_does_not_answer_for_long_fails_the_run_with_a_sentence(
    database: Database, world: World, tmp_path: Path
) -> None:
    world.write({1: "Genoa"})
    world.plan()
    async with suite(database, world, tmp_path / "keys") as jobs, jobs.working(retry_seconds=0.5):
        world.refusals += [ServiceUnavailableError("the connections service is away")] * 50
        run = await jobs.ended(await jobs.run())
        assert (run.state, run.error_reason) == (pb.Run.STATE_FAILED, "SERVICE_UNAVAILABLE")
        assert run.error_message == "the connections service is away"


async def test_a_source_folder_that_is_missing_fails_the_run_at_once(
    database: Database, world: World, tmp_path: Path
) -> None:
    world.plan()
    async with suite(database, world, tmp_path / "keys") as jobs, jobs.working(retry_seconds=60):
        run_id = await jobs.run()
        lines = await jobs.log(run_id)
        run = await jobs.get(run_id)
    assert (run.state, run.error_reason) == (pb.Run.STATE_FAILED, "FOLDER_MISSING")
    assert run.error_message == "The folder does not exist."
    assert not [line for line in lines if "Trying again" in line]


async def test_a_run_that_lost_its_worker_is_loaded_by_another_one(
    database: Database, world: World, tmp_path: Path
) -> None:
    world.write({1: "Genoa"})
    world.plan()
    async with suite(database, world, tmp_path / "keys") as jobs:
        run_id = await jobs.run()
        lost = claimed(database, "lost", duration=dt.timedelta(seconds=0.5))
        async with jobs.working():
            lines = await jobs.log(run_id)
        run = await jobs.get(run_id)
        assert (run.state, run.attempt, lost.attempt) == (pb.Run.STATE_SUCCEEDED, 2, 1)
        assert lines[1] == "Attempt 2: worker lost stopped answering; worker w1 takes the run."


async def test_a_run_that_lost_too_many_workers_fails(
    database: Database, world: World, tmp_path: Path
) -> None:
    world.plan()
    async with suite(database, world, tmp_path / "keys") as jobs:
        run_id = await jobs.run()
        for _ in range(3):
            claimed(database, "lost", duration=dt.timedelta(seconds=0))
        async with jobs.working(max_losses=3):
            run = await jobs.ended(run_id)
        assert (run.state, run.error_reason) == (pb.Run.STATE_FAILED, "WORKER_LOST")
        assert world.rows() == []


async def test_a_load_that_was_committed_before_its_worker_was_lost_is_not_loaded_again(
    database: Database, world: World, tmp_path: Path
) -> None:
    world.write({1: "Genoa"})
    world.plan()
    async with suite(database, world, tmp_path / "keys") as jobs:
        run_id = await jobs.run()
        async with jobs.working():
            await jobs.ended(run_id)
        with database.transaction() as session:
            run = session.get_one(Run, run_id)
            run.state, run.end_time, run.lease_expire_time = State.STOPPING, None, now()
        async with jobs.working(worker_name="w2"):
            again = await jobs.ended(run_id)
            lines = await jobs.log(run_id)
        assert (again.state, again.rows.inserted, again.worker) == (pb.Run.STATE_SUCCEEDED, 1, "w2")
        assert "Asking warehouse whether an earlier attempt was committed." in lines
        assert world.rows("SELECT count(*) FROM dim_harbour") == [(1,)]


async def test_a_worker_works_on_as_many_runs_as_it_may(
    database: Database, world: World, tmp_path: Path
) -> None:
    world.write({1: "Genoa"})
    other_plan = plan_pb2.LoadPlan()
    other_plan.CopyFrom(world.plan())
    other_plan.reference = "OTHER"
    async with suite(database, world, tmp_path / "keys") as jobs:
        with database.transaction() as session:
            domain.create(session, plan_row(ORGANIZATION, other_plan), "ada")
        runs = [await jobs.run(), await jobs.run("OTHER")]
        async with jobs.working(worker_runs=1):
            first, second = [await jobs.ended(run_id) for run_id in runs]
    assert (first.state, second.state) == (pb.Run.STATE_SUCCEEDED, pb.Run.STATE_SUCCEEDED)
    assert second.start_time.ToNanoseconds() >= first.end_time.ToNanoseconds()
