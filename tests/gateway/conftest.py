"""A real Envoy in front of real servers."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.api import load
from gateway.envoy import Envoy
from gateway.settings import GatewaySettings
from kernel.settings import SERVICES
from tests.gateway.fakes import FakeAuth, FakeConnections, FakeJobs, FakeMappings, FakeRuns
from tests.servers import Issuer, serve

ORIGIN = "http://localhost:5173"


@dataclass(frozen=True)
class Gateway:
    """A gateway that serves, and who signs the tokens that it takes."""

    address: str
    issuer: Issuer
    settings: GatewaySettings

    @property
    def url(self) -> str:
        """The root of all paths."""
        return f"http://{self.address}"

    def async_client(self) -> httpx.AsyncClient:
        """An administrator's client for tests that run on a loop."""
        headers = {"authorization": f"Bearer {self.issuer.token()}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=20)

    def client(self, token: str | None = None, **headers: str) -> httpx.Client:
        """A client with an administrator's token, or another one; an empty one is not sent."""
        token = self.issuer.token() if token is None else token
        if token:
            headers["authorization"] = f"Bearer {token}"
        return httpx.Client(base_url=self.url, headers=headers, timeout=20)


def servicers(issuer: Issuer, runs: FakeRuns | None = None) -> tuple[object, ...]:
    """The fakes of all services."""
    return FakeAuth(issuer), FakeConnections(), FakeMappings(), FakeJobs(), runs or FakeRuns()


@asynccontextmanager
async def running(directory: Path, **settings: Any) -> AsyncIterator[Gateway]:
    """A gateway in front of one server that is every service."""
    issuer = Issuer(directory / "keys")
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(serve(issuer, *servicers(issuer)))
        addresses = {f"{name}_address": address for name in SERVICES}
        defaults = {
            "data_dir": directory,
            "listen": f"127.0.0.1:{free_port()}",
            "sign_ins_per_minute": 1_000,
            "envoy_threads": 1,
            "cors_origins": (ORIGIN,),
        }
        all_settings = GatewaySettings(**{**defaults, **addresses, **settings})
        await stack.enter_async_context(Envoy(load(), all_settings))
        yield Gateway(str(all_settings.listen), issuer, all_settings)


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that lives as long as the tests; it runs on a loop in a thread of its own."""
    started: list[Gateway] = []
    ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def live() -> None:
        try:
            async with running(tmp_path_factory.mktemp("gateway"), drain_timeout=0) as found:
                started.append(found)
                ready.set()
                await stop.wait()
        finally:
            ready.set()

    thread = threading.Thread(target=lambda: loop.run_until_complete(live()))
    thread.start()
    ready.wait()
    yield started[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


@pytest.fixture
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    """An administrator's client."""
    with gateway.client() as found:
        yield found


@pytest.fixture
def anonymous(gateway: Gateway) -> Iterator[httpx.Client]:
    """A client without a token."""
    with gateway.client("") as found:
        yield found


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
