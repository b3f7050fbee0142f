"""Who waits for a change wakes up soon after another process has committed one."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from kernel.changes import Changes
from kernel.db import Database

ROOT = Path(__file__).parents[2]
WRITER = """
import sys, time
import sqlalchemy as sa
from kernel.db import Database
database = Database(sys.argv[1], "buoys")
print("ready", flush=True)
for line in sys.stdin:
    with database.transaction() as session:
        session.execute(sa.text(f"INSERT INTO buoys VALUES ('{line.strip()}')"))
    print(time.time(), flush=True)
"""


class Writer:
    """Another process that commits when it is told."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER, url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def commit(self) -> float:
        """Commits a row, and tells when."""
        assert self._process.stdin is not None
        self._process.stdin.write("x\n")
        self._process.stdin.flush()
        return float(self._answer())

    def close(self) -> None:
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip().replace("ready", "0")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    found = Database(database_url, "buoys", pool=4)
    with found.engine.begin() as connection:
        if not found.sqlite:
            connection.execute(sa.schema.CreateSchema("buoys"))
        connection.execute(sa.text("CREATE TABLE buoys (name VARCHAR(9))"))
    yield found
    found.close()


@pytest.fixture
async def changes(database: Database) -> AsyncIterator[Changes]:
    async with Changes(database) as found:
        yield found


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[Writer]:
    found = await asyncio.to_thread(Writer, database.url.render_as_string(hide_password=False))
    yield found
    await asyncio.to_thread(found.close)


def count(database: Database) -> int:
    with database.read() as session:
        return int(session.execute(sa.text("SELECT count(*) FROM buoys")).scalar_one())


async def settled(changes: Changes) -> int:
    """A cursor after what came before the test was seen."""
    await changes.wait(changes.cursor, 0.1)
    return changes.cursor


@pytest.mark.timed
async def test_a_commit_of_another_process_wakes_within_a_tenth_of_a_second(
    changes: Changes, writer: Writer
) -> None:
    delays = []
    for _ in range(9):
        waiting = asyncio.create_task(changes.wait(await settled(changes), 5))
        await asyncio.sleep(0.02)
        committed = await asyncio.to_thread(writer.commit)
        await waiting
        delays.append(time.time() - committed)
    assert sorted(delays)[4] < 0.1
    assert max(delays) < 2


@pytest.mark.timed
async def test_nothing_wakes_nobody(changes: Changes) -> None:
    cursor = await settled(changes)
    started = time.perf_counter()
    await changes.wait(cursor, 0.3)
    assert 0.25 < time.perf_counter() - started < 1
    assert changes.cursor == cursor


async def test_reading_wakes_nobody(changes: Changes, database: Database) -> None:
    cursor = await settled(changes)
    await asyncio.to_thread(count, database)
    await changes.wait(cursor, 0.2)
    assert changes.cursor == cursor


@pytest.mark.timed
async def test_a_commit_before_the_wait_is_not_missed(changes: Changes, writer: Writer) -> None:
    cursor = await settled(changes)
    await asyncio.to_thread(writer.commit)
    started = time.perf_counter()
    await changes.wait(cursor, 5)
    assert time.perf_counter() - started < 1


@pytest.mark.timed
async def test_a_commit_of_this_process_wakes(changes: Changes, database: Database) -> None:
    cursor = await settled(changes)

    def commit() -> None:
        with database.transaction() as session:
            session.execute(sa.text("INSERT INTO buoys VALUES ('own')"))

    await asyncio.to_thread(commit)
    started = time.perf_counter()
    await changes.wait(cursor, 5)
    assert time.perf_counter() - started < 1


@pytest.mark.timed
async def test_several_who_wait_see_every_row(changes: Changes, database: Database, writer: Writer) -> None:
    async def follow() -> int:
        woken = 0
        while True:
            cursor = changes.cursor
            if await asyncio.to_thread(count, database) == 30:
                return woken
            await changes.wait(cursor, 10)
            woken += 1

    started = time.perf_counter()
    followers = [asyncio.create_task(follow()) for _ in range(5)]
    for _ in range(30):
        await asyncio.to_thread(writer.commit)
    assert all(woken > 0 for woken in await asyncio.gather(*followers))
    assert time.perf_counter() - started < 9  # nobody slept through the last change


async def test_one_who_gives_up_disturbs_no_other(changes: Changes, writer: Writer) -> None:
    cursor = await settled(changes)
    patient = asyncio.create_task(changes.wait(cursor, 5))
    for _ in range(3):
        await changes.wait(cursor, 0.05)
    given_up = asyncio.create_task(changes.wait(cursor, 5))
    await asyncio.sleep(0.05)
    given_up.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await given_up
    await asyncio.to_thread(writer.commit)
    async with asyncio.timeout(2):
        await patient


async def test_a_lost_connection_is_replaced(postgres_url: str) -> None:
    database = Database(postgres_url, "public", pool=4)
    terminate = sa.text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    )

    def end_listener() -> None:
        with database.engine.begin() as connection:
            while not connection.execute(terminate).scalar():
                time.sleep(0.05)

    def commit() -> None:
        with database.transaction() as session:
            session.execute(sa.select(1))

    async with Changes(database) as changes:
        for _ in range(2):
            async with asyncio.timeout(10):
                await asyncio.to_thread(end_listener)
            cursor = changes.cursor
            await asyncio.to_thread(commit)
            await changes.wait(cursor, 9)
            # What came while nobody listened is not known, so who waits looks again.
            assert changes.cursor > cursor
    database.close()


async def test_a_broken_file_is_found_by_who_looks_and_the_watch_goes_on(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'buoys.db'}", "buoys", pool=4)
    async with Changes(database) as changes:
        await settled(changes)
        changes._connection.close()
        cursor = changes.cursor
        await changes.wait(cursor, 5)
        assert changes.cursor > cursor

        def commit() -> None:
            with database.transaction() as session:
                session.execute(sa.text("CREATE TABLE more (name VARCHAR(9))"))

        cursor = await settled(changes)
        await asyncio.to_thread(commit)
        await changes.wait(cursor, 5)
        assert changes.cursor > cursor
    database.close()
