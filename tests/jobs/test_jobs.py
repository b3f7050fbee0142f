"""Jobs: created from mappings, bound anew, listed and deleted, over the real chain."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from kernel.db import Database, new_id, now
from portolan.jobs.v1 import jobs_pb2 as pb
from portolan.jobs.v1.jobs_pb2_grpc import JobServiceStub
from services.jobs.models import Run, State
from services.jobs.servicers.jobs import JobServicer
from tests.jobs.world import HARBOURS, World, calling
from tests.servers import Issuer, bearer, connect, refusal, serve


@asynccontextmanager
async def served(database: Database, world: World, keys: Path) -> AsyncIterator[tuple[Any, Any]]:
    """A stub of the job service, and an administrator's metadata to call it with."""
    issuer = Issuer(keys)
    async with (
        calling(issuer, world) as (clients, _),
        serve(issuer, JobServicer(database, clients)) as address,
        connect(address) as channel,
    ):
        yield JobServiceStub(channel), bearer(issuer.token())


async def test_a_job_is_made_of_the_active_version_and_its_table_exists(
    database: Database, world: World, tmp_path: Path
) -> None:
    world.plan(version=2)
    async with served(database, world, tmp_path / "keys") as (stub, metadata):
        job = await stub.CreateJob(pb.CreateJobRequest(reference=HARBOURS), metadata=metadata)
        assert (job.reference, job.mapping_version, job.creator) == (HARBOURS, 2, "ada")
        assert job.target.endswith("dim_harbour")
        assert world.rows() == []
        found = await stub.GetJob(pb.GetJobRequest(reference=HARBOURS), metadata=metadata)
        assert found.plan == world.plans[HARBOURS]
        again = await refusal(stub.CreateJob(pb.CreateJobRequest(reference=HARBOURS), metadata=metadata))
        assert again.reason == "JOB_EXISTS"


async def test_a_bound_job_has_the_new_columns(database: Database, world: World, tmp_path: Path) -> None:
    world.plan()
    async with served(database, world, tmp_path / "keys") as (stub, metadata):
        await stub.CreateJob(pb.CreateJobRequest(reference=HARBOURS), metadata=metadata)
        world.plan(version=2)
        job = await stub.RefreshJob(pb.RefreshJobRequest(reference=HARBOURS), metadata=metadata)
        assert job.mapping_version == 2
        missing = await refusal(stub.RefreshJob(pb.RefreshJobRequest(reference="NO"), metadata=metadata))
        assert missing.reason == "JOB_NOT_FOUND"


async def test_a_target_that_cannot_be_made_is_told_in_the_databases_words(
    database: Database, world: World, tmp_path: Path
) -> None:
    world.plan().target.create_table = "CREATE TABLE dim_harbour (code nonsense nonsense("
    async with served(database, world, tmp_path / "keys") as (stub, metadata):
        refused = await refusal(stub.CreateJob(pb.CreateJobRequest(reference=HARBOURS), metadata=metadata))
        assert refused.reason == "TARGET_REFUSED"
        assert refused.message
        page = await stub.ListJobs(pb.ListJobsRequest(), metadata=metadata)
        assert not page.jobs


async def test_what_other_services_refuse_reaches_the_caller(
    database: Database, world: World, tmp_path: Path
) -> None:
    async with served(database, world, tmp_path / "keys") as (stub, metadata):
        refused = await refusal(stub.CreateJob(pb.CreateJobRequest(reference=HARBOURS), metadata=metadata))
        assert refused.reason == "MAPPING_NOT_ACTIVE"


async def test_a_job_tells_its_latest_run_and_a_repeated_call_makes_no_second(
    database: Database, world: World, tmp_path: Path
) -> None:
    world.plan()
    async with served(database, world, tmp_path / "keys") as (stub, metadata):
        await stub.CreateJob(pb.CreateJobRequest(reference=HARBOURS), metadata=metadata)
        request = pb.RunJobRequest(reference=HARBOURS, request_id=new_id())
        run = await stub.RunJob(request, metadata=metadata)
        assert (await stub.RunJob(request, metadata=metadata)).id == run.id
        other = await refusal(stub.RunJob(pb.RunJobRequest(reference=HARBOURS), metadata=metadata))
        assert (other.reason, other.metadata) == ("RUN_ACTIVE", {"run": run.id})
        page = await stub.ListJobs(pb.ListJobsRequest(), metadata=metadata)
        assert [job.latest_run.id for job in page.jobs] == [run.id]
        busy = await refusal(stub.DeleteJob(pb.DeleteJobRequest(reference=HARBOURS), metadata=metadata))
        assert busy.reason == "RUN_ACTIVE"


async def test_jobs_are_found_by_what_they_read_and_load_now_and_in_a_run_under_way(
    database: Database, world: World, tmp_path: Path
) -> None:
    world.plan()
    async with served(database, world, tmp_path / "keys") as (stub, metadata):

        async def found(connection: str) -> list[str]:
            page = await stub.ListJobs(pb.ListJobsRequest(connection=connection), metadata=metadata)
            return [job.reference for job in page.jobs]

        await stub.CreateJob(pb.CreateJobRequest(reference=HARBOURS), metadata=metadata)
        assert await found("charts") == await found("warehouse") == [HARBOURS]
        assert await found("atlas") == []
        await stub.RunJob(pb.RunJobRequest(reference=HARBOURS), metadata=metadata)
        world.plan(version=2).source_connection = "atlas"
        await stub.RefreshJob(pb.RefreshJobRequest(reference=HARBOURS), metadata=metadata)
        assert await found("charts") == await found("atlas") == [HARBOURS]
        with database.transaction() as session:
            session.scalars(sa.select(Run)).one().move(State.STOPPED, now())
        assert await found("charts") == []


@pytest.mark.parametrize("role", ["viewer", "operator"])
async def test_making_a_job_needs_the_permission_to_write(
    database: Database, world: World, tmp_path: Path, role: str
) -> None:
    issuer = Issuer(tmp_path / "keys")
    async with (
        calling(issuer, world) as (clients, _),
        serve(issuer, JobServicer(database, clients)) as address,
        connect(address) as channel,
    ):
        stub: Any = JobServiceStub(channel)
        call = stub.CreateJob(pb.CreateJobRequest(reference=HARBOURS), metadata=bearer(issuer.token(role)))
        assert (await refusal(call)).reason == "PERMISSION_MISSING"
