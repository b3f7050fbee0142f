"""Loads in processes of their own: started, confirmed, stopped, killed."""

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from kernel.databases.endpoints import DatabaseKind
from services.jobs.loading import prepare
from services.jobs.loading.events import Begun, Counts, Done, Event, Failed, Line, Progress, Ready
from services.jobs.loading.process import LoadProcess, Nursery, ensure_gone
from services.jobs.loading.tasks import Task
from services.mapper.definition import Definition
from tests.jobs.loading.places import CURRENT, HISTORY, Place, load, person, plan, run_of, task

ROWS = 3000
SLOW = """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000)
SELECT max(i) AS id, 'a' AS name, 1 AS amount, NULL AS born, NULL AS seen FROM n"""


@pytest.fixture
async def nursery() -> AsyncIterator[Nursery]:
    """What gives loads a process."""
    nursery = Nursery("warning")
    yield nursery
    await nursery.close()


async def confirmed(process: LoadProcess, task: Task) -> list[Event]:
    """The events of a load that is confirmed."""
    await process.start(task)
    found = []
    async for event in process.events():
        found.append(event)
        if isinstance(event, Ready):
            await process.confirm()
    return found


async def until(process: LoadProcess, met: Callable[[Event], bool]) -> None:
    """Returns when an event meets the condition."""
    async for event in process.events():
        assert not isinstance(event, Failed), event
        if met(event):
            return


async def under_way(nursery: Nursery, source: Place, target: Place, definition: Definition) -> LoadProcess:
    """A load that has begun to read."""
    plan_ = plan(definition, source, target)
    prepare(target.endpoint, plan_)
    process = await nursery.take()
    await process.start(task(plan_, source, target))
    await until(process, lambda event: isinstance(event, Line))
    return process


def backends(target: Place) -> int:
    """The sessions of a target's first run on the server."""
    query = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'portolan run {run_of(target)}'"
    return int(target.rows(query)[0][0])


def active(place: Place, text: str) -> int:
    """The statements with a text in them that the server works on."""
    query = f"SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%{text}%' "
    query += "AND datname = current_database()"
    return int(place.rows(f"{query} AND pid <> pg_backend_pid()")[0][0])


def gone(process: psutil.Process) -> bool:
    """Whether a process has ended, reaped or not."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def eventually(met: Callable[[], bool]) -> None:
    """Returns when a condition is met, which takes ten seconds at most."""
    for _ in range(200):
        if met():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("not met in time")


async def test_a_load_runs_in_a_process_and_commits_when_it_is_confirmed(
    files: Place, target: Place, nursery: Nursery
) -> None:
    files.people([(i, f"n{i}", 1, None, None) for i in range(ROWS)])
    plan_ = plan(person(), files, target)
    prepare(target.endpoint, plan_)
    process = await nursery.take()
    events = await confirmed(process, task(plan_, files, target))
    assert events[0] == Begun()
    assert events[-1] == Done(Counts(source=ROWS, inserted=ROWS))
    assert process.ended
    assert len(target.rows(CURRENT)) == ROWS


async def test_a_load_that_nobody_confirms_gives_up(files: Place, target: Place, nursery: Nursery) -> None:
    files.people([(1, "a", 1, None, None)])
    plan_ = plan(person(), files, target)
    prepare(target.endpoint, plan_)
    attempt = task(plan_, files, target)
    process = await nursery.take()
    await process.start(Task(**vars(attempt) | {"confirm_seconds": 0.3}))
    events = [event async for event in process.events()]
    assert isinstance(events[-1], Failed)
    assert events[-1].reason == "UNCONFIRMED"
    assert target.rows(CURRENT) == []


async def test_a_stop_ends_the_statement_in_the_database(target: Place, nursery: Nursery) -> None:
    target.people([(1, "a", 1, None, None)])
    process = await under_way(nursery, target, target, person(SLOW, here=True))
    await asyncio.sleep(0.2)
    await process.stop(5)
    await ensure_gone(target.endpoint, run_of(target))
    events = [event async for event in process.events()]
    assert isinstance(events[-1], Failed)
    assert events[-1].reason == "STOPPED"
    assert target.rows(CURRENT) == []
    if target.kind is DatabaseKind.POSTGRESQL:
        assert backends(target) == 0


async def test_a_stop_ends_the_statement_in_the_source(
    postgres: Place, tmp_path: Path, nursery: Nursery
) -> None:
    warehouse = Place(DatabaseKind.SQLITE, str(tmp_path / "warehouse.db"))
    process = await under_way(nursery, postgres, warehouse, person(SLOW))
    await eventually(lambda: active(postgres, "WITH RECURSIVE") == 1)
    await process.stop(5)
    await eventually(lambda: active(postgres, "WITH RECURSIVE") == 0)


async def test_a_frozen_process_is_killed_and_its_sessions_with_it(postgres: Place, nursery: Nursery) -> None:
    postgres.people([(1, "a", 1, None, None)])
    process = await under_way(nursery, postgres, postgres, person(SLOW, here=True))
    os.kill(process.pid, signal.SIGSTOP)
    await process.stop(0.2)
    await ensure_gone(postgres.endpoint, run_of(postgres))
    assert backends(postgres) == 0


async def test_a_frozen_attempt_neither_hinders_the_next_one_nor_commits(
    files: Place, target: Place, nursery: Nursery
) -> None:
    files.people([(1, "a", 1, None, None)])
    plan_ = plan(person(), files, target)
    prepare(target.endpoint, plan_)
    frozen = await nursery.take()
    await frozen.start(task(plan_, files, target, fence=1, run_id="r"))
    await until(frozen, lambda event: isinstance(event, Ready))
    os.kill(frozen.pid, signal.SIGSTOP)
    events = await confirmed(await nursery.take(), task(plan_, files, target, fence=2, run_id="r"))
    assert events[-1] == Done(Counts(source=1, inserted=1))
    assert any("arlier attempt" in line.message for line in events if isinstance(line, Line))
    with contextlib.suppress(ProcessLookupError):
        os.kill(frozen.pid, signal.SIGCONT)
    await frozen.confirm()
    rest = [event async for event in frozen.events()]
    assert isinstance(rest[-1], Failed)
    assert len(target.rows(HISTORY)) == 1


@pytest.mark.slow
async def test_killed_at_any_moment_the_next_attempt_loads_exactly_the_same(
    files: Place, target: Place, other: Place, nursery: Nursery
) -> None:
    undisturbed, plan_ = plan(person(), files, other), plan(person(), files, target)
    prepare(other.endpoint, undisturbed)
    prepare(target.endpoint, plan_)
    chance = random.Random(7)  # noqa: S311 - no secret
    killed, took = 0, 0.5
    for round_ in range(10):
        files.people((i, f"n{i % 7 and round_}", i % 5 * round_, None, None) for i in range(ROWS + round_))
        expected = load(task(undisturbed, files, other, fence=round_ + 1))
        first = await nursery.take()
        loading = asyncio.create_task(
            confirmed(first, task(plan_, files, target, fence=2 * round_ + 1, run_id=f"r{round_}"))
        )
        await asyncio.sleep(chance.uniform(0, took))
        await first.kill()
        killed += isinstance((await loading)[-1], Failed)
        begun = time.monotonic()
        events = await confirmed(
            await nursery.take(), task(plan_, files, target, fence=2 * round_ + 2, run_id=f"r{round_}")
        )
        took = time.monotonic() - begun
        assert events[-1] == Done(expected.counts)
        assert target.rows(HISTORY) == other.rows(HISTORY)
    assert killed >= 5


async def test_a_load_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import asyncio\n"
        "from services.jobs.loading.process import Nursery\n"
        "async def main():\n"
        "    print((await Nursery().take()).pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, str(script), stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))
    await asyncio.sleep(1)
    assert child.is_running()
    parent.kill()
    await parent.wait()
    await eventually(lambda: gone(child))


async def test_loads_end_with_what_forked_them_and_the_next_one_is_forked_anew(
    target: Place, nursery: Nursery
) -> None:
    target.people([(1, "a", 1, None, None)])
    process = await under_way(nursery, target, target, person(SLOW, here=True))
    load = psutil.Process(process.pid)
    forker = load.parent()
    assert forker is not None
    forker.kill()
    events = [event async for event in process.events()]
    assert isinstance(events[-1], Failed)
    assert (events[-1].reason, events[-1].unavailable) == ("LOAD_LOST", True)
    await eventually(lambda: gone(load))
    again = await nursery.take()
    assert psutil.Process(again.pid).parent() != forker
    await again.kill()


async def test_a_process_that_cannot_read_its_task_says_so_and_ends(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Task, "to_json", lambda _: b"no task")
    process = await nursery.take()
    await process.start(Task.__new__(Task))
    events = [event async for event in process.events()]
    lost = f"The process of the load ended before the load did: status {os.EX_SOFTWARE}."
    assert events == [Failed("LOAD_LOST", lost, unavailable=True)]


async def test_a_target_without_its_folder_is_refused_at_once(
    files: Place, tmp_path: Path, nursery: Nursery
) -> None:
    files.people([(1, "a", 1, None, None)])
    target = Place(DatabaseKind.SQLITE, str(tmp_path / "gone" / "warehouse.db"))
    process = await nursery.take()
    events = await confirmed(process, task(plan(person(), files, target), files, target))
    assert events == [Failed("TARGET_REFUSED", "The folder of the file does not exist.")]


@pytest.mark.slow
async def test_memory_stays_flat_however_many_rows_there_are(postgres: Place, nursery: Nursery) -> None:
    async def peak(rows: int, fence: int) -> float:
        postgres.do(
            "DROP TABLE IF EXISTS people",
            "CREATE TABLE people (id bigint, name text, amount double precision, born date, seen timestamp)",
            f"INSERT INTO people SELECT i, 'n' || i % 1000, i % 1000, '2001-02-03', '2026-01-02' "
            f"FROM generate_series(1, {rows}) AS i",
        )
        # Amounts are no decimals there, so that the load goes by batches.
        plan_ = plan(person(), postgres, postgres)
        prepare(postgres.endpoint, plan_)
        process = await nursery.take()
        await process.start(task(plan_, postgres, postgres, fence=fence))
        most = 0.0
        async for event in process.events():
            if isinstance(event, Progress | Ready):
                most = max(most, psutil.Process(process.pid).memory_info().rss / 2**20)
            if isinstance(event, Ready):
                await process.confirm()
        assert event == Done(event.counts)  # type: ignore[union-attr]  # it is the last one
        return most

    small, large = await peak(20_000, 1), await peak(400_000, 2)
    assert large < 250
    assert large - small < 60


async def test_a_failure_is_told_in_a_sentence(files: Place, target: Place, nursery: Nursery) -> None:
    plan_ = plan(person("SELECT * FROM nobody"), files, target)
    prepare(target.endpoint, plan_)
    process = await nursery.take()
    await process.start(task(plan_, files, target))
    events = [event async for event in process.events()]
    assert isinstance(events[-1], Failed)
    assert events[-1].reason == "QUERY_INVALID"
    assert events[-1].message.endswith((".", "!"))
    assert events[-1].message.startswith("Table with name nobody does not exist")
    assert not events[-1].unavailable
