"""Log lines as they are written: each once, in order, and an explicit end."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kernel.changes import Changes
from kernel.db import Database, now
from portolan.jobs.v1 import runs_pb2 as pb
from portolan.jobs.v1.runs_pb2_grpc import RunServiceStub
from services.jobs.domain import leases, logs
from services.jobs.models import Level, Run, State
from services.jobs.servicers.runs import RunServicer
from services.jobs.servicers.tails import Tails
from tests.jobs.conftest import make_job
from tests.jobs.test_leases import claimed, lease_of
from tests.jobs.test_runs import queue, stop
from tests.servers import Issuer, bearer, connect, refusal, serve

CHANCE = random.Random()  # noqa: S311 - chance, not secrecy


@asynccontextmanager
async def serving(database: Database, issuer: Issuer, idle: float = 15) -> AsyncIterator[Any]:
    """A stub of the run service."""
    async with Changes(database) as changes:
        tails = Tails(database, changes, idle=idle)
        watch = asyncio.create_task(tails.watch())
        async with serve(issuer, RunServicer(database, tails)) as address, connect(address) as channel:
            yield RunServiceStub(channel)
        watch.cancel()


@asynccontextmanager
async def served(database: Database, keys: Path, idle: float = 15) -> AsyncIterator[tuple[Any, Any]]:
    """A stub of the run service, and an administrator's metadata to call it with."""
    issuer = Issuer(keys)
    async with serving(database, issuer, idle) as stub:
        yield stub, bearer(issuer.token())


def running(database: Database) -> Run:
    """A run that a worker holds; its log has one line."""
    make_job(database)
    queue(database)
    return claimed(database)


def write(database: Database, run: Run, *messages: str, end: State | None = None) -> None:
    """What the run's worker does."""
    with database.transaction() as session:
        held = leases.hold(session, lease_of(run), now())
        logs.append(session, held, [logs.Entry(now(), Level.INFO, message) for message in messages])
        if end is not None:
            held.move(end, now())


async def write_slowly(database: Database, run: Run, lines: int) -> None:
    """A worker that writes lines in batches and ends the run."""
    written = 0
    while written < lines:
        batch = [f"line {written + n}" for n in range(CHANCE.randint(1, 5))][: lines - written]
        await asyncio.to_thread(write, database, run, *batch)
        written += len(batch)
        await asyncio.sleep(CHANCE.random() * 0.02)
    await asyncio.to_thread(write, database, run, end=State.SUCCEEDED)


async def test_a_tail_sees_each_line_once_over_drops_and_ends_explicitly(
    database: Database, tmp_path: Path
) -> None:
    run = running(database)
    async with served(database, tmp_path / "keys") as (stub, metadata):

        async def read() -> tuple[list[int], int, int]:
            seen: list[int] = []
            drops, end = 0, pb.Run.STATE_UNSPECIFIED
            while end == pb.Run.STATE_UNSPECIFIED:
                request = pb.TailRunLogsRequest(run_id=run.id, after_sequence=seen[-1] if seen else 0)
                call = stub.TailRunLogs(request, metadata=metadata)
                async for response in call:
                    seen += [line.sequence for line in response.lines]
                    end = response.end_state
                    if end == pb.Run.STATE_UNSPECIFIED and CHANCE.random() < 0.2:
                        drops += 1
                        call.cancel()
                        break
            return seen, drops, end

        readers = [asyncio.create_task(read()) for _ in range(4)]
        await write_slowly(database, run, 300)
        for seen, _, end in await asyncio.gather(*readers):
            assert seen == list(range(1, 302))
            assert end == pb.Run.STATE_SUCCEEDED
        assert sum(reader.result()[1] for reader in readers) > 0


async def test_server_sent_events_resume_by_their_last_id(database: Database, tmp_path: Path) -> None:
    run = running(database)
    write(database, run, "two", "three\nlines", end=State.SUCCEEDED)
    async with served(database, tmp_path / "keys") as (stub, metadata):
        request = pb.StreamRunEventsRequest(run_id=run.id)
        first = [body async for body in stub.StreamRunEvents(request, metadata=metadata)]
        assert first[0].content_type == "text/event-stream"
        events = b"".join(body.data for body in first).decode().split("\n\n")
        assert events[0] == "retry: 1000"
        assert [event.partition("\n")[0] for event in events[1:4]] == ["id: 1", "id: 2", "id: 3"]
        kinds = [line for event in events for line in event.split("\n") if line.startswith("event")]
        assert kinds == ["event: line"] * 3 + ["event: end"]
        assert json.loads(events[3].partition("data: ")[2])["message"] == "three\nlines"
        assert json.loads(events[4].partition("data: ")[2])["state"] == "STATE_SUCCEEDED"
        assert events[5:] == [""]

        again = (*metadata, ("last-event-id", "2"))
        resumed = [body async for body in stub.StreamRunEvents(request, metadata=again)]
        text = b"".join(body.data for body in resumed).decode()
        assert [line for line in text.split("\n") if line.startswith("id")] == ["id: 3"]


async def test_an_idle_stream_is_kept_alive(database: Database, tmp_path: Path) -> None:
    run = running(database)
    async with served(database, tmp_path / "keys", idle=0.1) as (stub, metadata):
        events = stub.StreamRunEvents(pb.StreamRunEventsRequest(run_id=run.id), metadata=metadata)
        tail = stub.TailRunLogs(pb.TailRunLogsRequest(run_id=run.id, after_sequence=1), metadata=metadata)
        assert (await events.read()).data.startswith(b"retry")
        assert (await events.read()).data == b": ping\n\n"
        assert await tail.read() == pb.TailRunLogsResponse()
        assert await tail.read() == pb.TailRunLogsResponse()
        tail.cancel()
        events.cancel()


async def test_a_tail_that_does_not_follow_ends_after_what_there_is(
    database: Database, tmp_path: Path
) -> None:
    run = running(database)
    write(database, run, *["more"] * 1200)
    async with served(database, tmp_path / "keys") as (stub, metadata):
        request = pb.TailRunLogsRequest(run_id=run.id, no_follow=True)
        responses = [response async for response in stub.TailRunLogs(request, metadata=metadata)]
        assert sum(len(response.lines) for response in responses) == 1201
        assert {response.end_state for response in responses} == {pb.Run.STATE_UNSPECIFIED}


@pytest.mark.timed
async def test_a_line_arrives_soon_after_it_is_written(database: Database, tmp_path: Path) -> None:
    run = running(database)
    async with served(database, tmp_path / "keys") as (stub, metadata):
        call = stub.TailRunLogs(pb.TailRunLogsRequest(run_id=run.id, after_sequence=1), metadata=metadata)
        assert await call.read() == pb.TailRunLogsResponse()
        delays = []
        for number in range(20):
            await asyncio.to_thread(write, database, run, f"line {number}")
            line = (await call.read()).lines[0]
            delays.append(now().timestamp() - line.create_time.ToNanoseconds() / 1e9)
            await asyncio.sleep(0.02)
        call.cancel()
    assert sorted(delays)[10] < 0.1


@pytest.mark.parametrize("method", ["TailRunLogs", "StreamRunEvents"])
async def test_a_run_that_does_not_exist_is_refused_before_anything_is_sent(
    database: Database, tmp_path: Path, method: str
) -> None:
    async with served(database, tmp_path / "keys") as (stub, metadata):
        request = {"TailRunLogs": pb.TailRunLogsRequest, "StreamRunEvents": pb.StreamRunEventsRequest}[method]
        refused = await refusal(getattr(stub, method)(request(run_id="nothing"), metadata=metadata))
        assert refused.reason == "RUN_NOT_FOUND"


async def test_runs_are_listed_newest_first_and_by_state(database: Database, tmp_path: Path) -> None:
    made = []
    for reference in ("A", "B", "C"):
        make_job(database, reference)
        made.append(queue(database, reference))
    stop(database, made[0])
    async with served(database, tmp_path / "keys") as (stub, metadata):
        page = await stub.ListRuns(pb.ListRunsRequest(page_size=2), metadata=metadata)
        assert [run.reference for run in page.runs] == ["C", "B"]
        rest = pb.ListRunsRequest(page_size=2, page_token=page.next_page_token)
        assert [run.reference for run in (await stub.ListRuns(rest, metadata=metadata)).runs] == ["A"]
        queued = pb.ListRunsRequest(states=[pb.Run.STATE_QUEUED])
        assert len((await stub.ListRuns(queued, metadata=metadata)).runs) == 2
        of_job = await stub.ListRuns(pb.ListRunsRequest(reference="B"), metadata=metadata)
        assert [run.id for run in of_job.runs] == [made[1].id]


async def test_stopping_a_run_needs_the_permission_to_run(database: Database, tmp_path: Path) -> None:
    make_job(database)
    run = queue(database)
    issuer = Issuer(tmp_path / "keys")
    async with serving(database, issuer) as stub:
        request = pb.StopRunRequest(run_id=run.id)
        viewer = await refusal(stub.StopRun(request, metadata=bearer(issuer.token("viewer"))))
        assert viewer.reason == "PERMISSION_MISSING"
        stranger = bearer(issuer.token("operator", organization="org-2"))
        assert (await refusal(stub.StopRun(request, metadata=stranger))).reason == "RUN_NOT_FOUND"
        stopped = await stub.StopRun(request, metadata=bearer(issuer.token("operator")))
        assert stopped.state == pb.Run.STATE_STOPPED
        again = await refusal(stub.StopRun(request, metadata=bearer(issuer.token("operator"))))
        assert again.reason == "RUN_ENDED"
