"""Loads as processes, seen from the worker that starts them."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from itertools import count
from typing import Self

from kernel.databases.endpoints import DatabaseKind, Endpoint
from services.jobs.loading.events import COMMIT, LENGTH, STOP, Done, Event, Failed, framed, from_json
from services.jobs.loading.tasks import Task


class LoadProcess:
    """The process of one load. It dies with this one, and writes its log to the same standard error."""

    def __init__(self, out: asyncio.StreamReader, into: asyncio.StreamWriter) -> None:
        self._out, self._in = out, into
        self._begun, self._ended = asyncio.Event(), asyncio.Event()
        self._pid = self._code = 0

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._pid

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._ended.is_set()

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
                    await self._ended.wait()
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            await self._ended.wait()
            code = self._code
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
                await self._ended.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """Ends the process at once, if it has not ended, and what it told is heard no more; returns then."""
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            await self._ended.wait()
        self._in.transport.abort()

    async def begun(self) -> None:
        """Returns when the process has begun. Without who waits for that, it ends when it has."""
        try:
            await self._begun.wait()
        except asyncio.CancelledError:
            self._in.transport.abort()
            raise

    def begin(self, pid: int) -> None:
        """Takes in that the process has begun."""
        self._pid = pid
        self._begun.set()

    def end(self, code: int) -> None:
        """Takes in that the process has ended, or never begun."""
        self._code = code
        self._begun.set()
        self._ended.set()

    async def _send(self, text: bytes) -> None:
        # A process that has ended tells so by its events.
        with contextlib.suppress(ConnectionError):
            self._in.write(framed(text))
            await self._in.drain()


class Nursery:
    """Gives each load a process.

    It is forked from one that has imported what loads need: that takes a second, and a fork milliseconds.
    """

    def __init__(self, log_level: str = "info") -> None:
        self._log_level = log_level
        self._opening = asyncio.Lock()
        self._forker: _Forker | None = None

    async def open(self) -> None:
        """Starts what forks, unless it is there. It dies with the thread that calls this."""
        await self._opened()

    async def take(self) -> LoadProcess:
        """A process that waits for its task."""
        return await (await self._opened()).fork()

    async def close(self) -> None:
        """Ends what forks, and all loads."""
        if self._forker is not None:
            await self._forker.kill()

    async def _opened(self) -> "_Forker":
        async with self._opening:
            if self._forker is None or self._forker.gone:
                self._forker = await _Forker.started(self._log_level)
            return self._forker


class _Forker:
    """The process that forks."""

    def __init__(self, process: Process, control: socket.socket) -> None:
        self._process, self._control = process, control
        self._requests = count(1)
        self._loads: dict[int, LoadProcess] = {}
        self._hearing = asyncio.create_task(self._hear())

    @classmethod
    async def started(cls, log_level: str) -> Self:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "services.jobs.loading", str(os.getpid()), log_level),
                    stdin=theirs.fileno(),
                    start_new_session=True,
                )
        except BaseException:
            ours.close()  # upon which a process that was begun ends
            raise
        return cls(process, ours)

    @property
    def gone(self) -> bool:
        return self._hearing.done()

    async def fork(self) -> LoadProcess:
        ours, theirs = socket.socketpair()
        with theirs:
            load = LoadProcess(*await _streams(ours))
            try:
                socket.send_fds(self._control, [b"+"], [theirs.fileno()])
            except OSError:
                load.end(-signal.SIGKILL)
        self._loads[next(self._requests)] = load
        await load.begun()
        return load

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._hearing

    async def _hear(self) -> None:
        """Passes on what becomes of the loads, until the process is gone, and they with it."""
        loop, rest = asyncio.get_running_loop(), b""
        with self._control, contextlib.suppress(ConnectionError):
            while part := await loop.sock_recv(self._control, 1 << 12):
                *lines, rest = (rest + part).split(b"\n")
                for number, pid, *code in (map(int, line.split()) for line in lines):
                    if code:
                        self._loads.pop(number).end(*code)
                    else:
                        self._loads[number].begin(pid)
        await self._process.wait()
        for load in self._loads.values():
            load.end(-signal.SIGKILL)


class _Closing(asyncio.StreamReaderProtocol):
    """Closes its socket when the other end has closed it and all is read."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False


async def _streams(connected: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """What is read from a socket, and what is written to it."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    transport, protocol = await loop.create_connection(lambda: _Closing(reader), sock=connected)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


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
