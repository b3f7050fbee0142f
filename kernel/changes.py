"""Waking up when another process changes the database, without asking for the data again and again."""

import asyncio
import contextlib
from types import TracebackType
from typing import Any, Self

from kernel.db import Database

POLL_SECONDS = 0.01


class Changes:
    """Wakes everyone in this process who waits, at each commit to a service's database by any process.

    On PostgreSQL it listens on the channel that transactions notify. On SQLite it reads `PRAGMA
    data_version`, some microseconds each time, every 10 ms, and only while somebody waits.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._condition = asyncio.Condition()
        self._connection: Any = None
        self._task: asyncio.Task[None] | None = None
        self._seen = 0
        self._waiting = 0
        self._wanted = asyncio.Event()

    async def __aenter__(self) -> Self:
        watch = self._poll if self._database.sqlite else self._listen
        self._connection = await asyncio.to_thread(self._connect)
        self._task = asyncio.create_task(watch(), name="database changes")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._connection.close()

    @property
    def cursor(self) -> int:
        """The number of changes seen so far. Take it before looking at the data, and give it to `wait`."""
        return self._seen

    async def wait(self, cursor: int, timeout: float) -> None:  # noqa: ASYNC109 - waiting for so long is what it does
        """Returns at the first commit since the cursor was taken, or after `timeout` seconds without one."""
        self._waiting += 1
        self._wanted.set()
        try:
            async with asyncio.timeout(timeout), self._condition:
                await self._condition.wait_for(lambda: self._seen != cursor)
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1

    def _connect(self) -> Any:
        fairy = self._database.engine.raw_connection()
        fairy.detach()
        connection: Any = fairy.dbapi_connection
        if not self._database.sqlite:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f'LISTEN "{self._database.channel}"')
        return connection

    async def _poll(self) -> None:
        seen = None
        while True:
            if not self._waiting:
                self._wanted.clear()
                await self._wanted.wait()
            try:
                (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            except Exception:  # noqa: BLE001 - as below
                self._connection = await self._reconnect()
                version, seen = -1, None
            if version != seen:
                seen = version
                await self._wake()
            await asyncio.sleep(POLL_SECONDS)

    async def _listen(self) -> None:
        loop, heard = asyncio.get_running_loop(), asyncio.Event()
        while True:
            loop.add_reader(self._connection.fileno(), heard.set)
            try:
                await heard.wait()
            finally:
                loop.remove_reader(self._connection.fileno())
            heard.clear()
            try:
                self._connection.poll()
            except Exception:  # noqa: BLE001 - whatever ended the connection, the cure is another one
                self._connection = await self._reconnect()
            self._connection.notifies.clear()
            await self._wake()

    async def _reconnect(self) -> Any:
        while True:
            await asyncio.sleep(1)
            with contextlib.suppress(Exception):
                return await asyncio.to_thread(self._connect)

    async def _wake(self) -> None:
        self._seen += 1
        async with self._condition:
            self._condition.notify_all()
