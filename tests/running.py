"""The whole suite, as `portolan up` starts it, for those who call it from outside."""

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx

from cli.suite import Suite
from cli.supervisor import Supervisor
from kernel import clients
from kernel.settings import SERVICES
from tests.servers import bearer

PORTS = (10_000, 32_000)
USER, PASSWORD = "ada", "seven lighthouses, one grey sea"


@dataclass
class Running:
    """A suite that runs, and an administrator's way in."""

    suite: Suite
    supervisor: Supervisor
    seconds: float
    """How long it took to be healthy."""
    rest: httpx.Client
    """Calls with the administrator's token."""
    anyone: httpx.Client
    """Calls without one."""
    channel: grpc.Channel
    """A gRPC channel through the gateway."""
    token: str

    @property
    def metadata(self) -> Any:
        """The administrator's token for gRPC calls."""
        return bearer(self.token)

    def sign_in(self) -> str:
        """A new session's access token, which the clients use from now on."""
        answer = self.anyone.post("/api/v1/auth/login", json={"user": USER, "password": PASSWORD})
        self.token = answer.raise_for_status().json()["access_token"]
        self.rest.headers["authorization"] = f"Bearer {self.token}"
        return self.token


@contextmanager
def running(data: Path, database: str | None = None, *, workers: int = 1) -> Iterator[Running]:
    """A suite over a data folder, with its administrator signed in."""
    with ExitStack() as stack:
        port, base = free_ports()
        suite = Suite(data, database, port, base, workers)
        supervisor, seconds = stack.enter_context(suite.running(lambda _: None))
        anyone = stack.enter_context(httpx.Client(base_url=suite.url, timeout=30))
        rest = stack.enter_context(httpx.Client(base_url=suite.url, timeout=30))
        channel = stack.enter_context(clients.channel(f"127.0.0.1:{port}"))
        found = Running(suite, supervisor, seconds, rest, anyone, channel, "")
        code = data / "enrolment-code"
        if code.exists():
            body = {
                "enrolment_code": code.read_text().strip(),
                "email": f"{USER}@example.org",
                "user_name": USER,
                "password": PASSWORD,
            }
            anyone.post("/api/v1/auth/bootstrap", json=body).raise_for_status()
        found.sign_in()
        yield found


def free_ports() -> tuple[int, int]:
    """A free port for the gateway, and the first of as many free ones in a row as there are services.

    They are none that outgoing connections get, which would take a port while its service is down.
    """
    while True:
        base = random.randrange(*PORTS)  # noqa: S311 - no secret
        with ExitStack() as stack:
            try:
                for offset in range(len(SERVICES) + 1):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", base + offset))
            except OSError:
                continue
            return base + len(SERVICES), base
