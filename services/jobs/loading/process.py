"""Loads as processes, seen from the worker that starts them."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from typing import Self

from kernel.databases.endpoints import DatabaseKind, Endpoint
from kernel.logs import logger
from services.jobs.loading.events import COMMIT, LENGTH, STOP, Done, Event, Failed, framed, from_json
from services.jobs.loading.tasks import Task

log = logger(__name__)

REFILL_SECONDS = 1.0


class LoadProcess:
    """The process of one load. It dies with this one, and writes its log to the same standard error."""

    def __init__(self, process: Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise ValueError("a load's process is reached by pipes")
        self._process, self._in, self._out = process, process.stdin, process.stdout

    @classmethod
    async def spare(cls, log_level: str = "info") -> Self:
        """A process that is started and waits for its task. It dies with the thread that calls this."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.jobs.loading", str(os.getpid()), log_level),
            stdin=PIPE,
            stdout=PIPE,
            start_new_session=True,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        """The process's id, which is also that of its group."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.returncode is not None

    async def start(self, task: Task) -> None:
        """Gives the process its task."""
        await self._send(task.to_json())

    async def events(self) -> AsyncIterator[Event]:
        """What the load tells; the last event is Done or Failed, also when the process is killed."""
        try:
            while True:
                (length,) = LENGTH.unpack(await self._out.readexactly(LENGTH.size))
                event = from_json(await self._out.readexactly(length))
                yield event
                if isinstance(event, Done | Failed):
                    await self._process.wait()
                    return
        except asyncio.IncompleteReadError:
            code = await self._process.wait()
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
            yield Failed(
                "LOAD_LOST", f"The process of the load ended before the load did: {how}.", unavailable=True
            )

    async def confirm(self) -> None:
        """Lets a load that is Ready commit. From then on it is not stopped any more."""
        await self._send(COMMIT)

    async def stop(self, grace: float) -> None:
        """Stops the load, unless it is confirmed; kills a process that is not gone after `grace` seconds."""
        await self._send(STOP)
        try:
            async with asyncio.timeout(grace):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """Ends the process and what it started, at once; returns when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        await self._process.wait()

    async def _send(self, text: bytes) -> None:
        # A process that has ended tells so by its events.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._in.write(framed(text))
            await self._in.drain()


class Spares:
    """Keeps one process ready, for a new one takes half a second to start."""

    def __init__(self, log_level: str = "info") -> None:
        self._log_level = log_level
        self._wanted = asyncio.Event()
        self._next: asyncio.Task[LoadProcess] | None = None

    def prepare(self, delay: float = 0.0) -> "asyncio.Task[LoadProcess]":
        """Starts the next process after `delay` seconds, or when it is wanted; nothing when there is one."""
        if self._next is None:
            self._wanted.clear()
            self._next = asyncio.create_task(self._spare(delay))
        return self._next

    async def take(self) -> LoadProcess:
        """The process that is ready, or a new one. The next is started when this one has got its start."""
        process = await self._finish(self.prepare())
        if process.ended:
            process = await LoadProcess.spare(self._log_level)
        self.prepare(REFILL_SECONDS)
        return process

    async def close(self) -> None:
        """Ends the process that waits."""
        if self._next is not None:
            await (await self._finish(self._next)).kill()

    async def _finish(self, started: "asyncio.Task[LoadProcess]") -> LoadProcess:
        self._wanted.set()
        self._next = None
        # A cancel leaves no process behind: one without a task ends when its pipe is closed.
        return await started

    async def _spare(self, delay: float) -> LoadProcess:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._wanted.wait()
        return await LoadProcess.spare(self._log_level)


async def ensure_gone(endpoint: Endpoint, run_id: str) -> None:
    """Returns when no session of the run is left in the database; a LoadError when one does not end.

    A process's death ends what it did to files. A server may take a while to notice, so it is told.
    """
    if endpoint.kind is DatabaseKind.POSTGRESQL:
        await asyncio.to_thread(_end_sessions, endpoint, run_id)


def _end_sessions(endpoint: Endpoint, run_id: str) -> None:
    from services.jobs.loading.postgresql import PostgresqlTarget

    with PostgresqlTarget(endpoint) as target:
        target.end_sessions(run_id)
