"""A service is a process that starts, serves, stops when it is told, and dies when it must."""

import json
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
import sqlalchemy as sa
from grpc_health.v1 import health_pb2, health_pb2_grpc

ROOT = Path(__file__).parents[2]
SERVICE = (sys.executable, "-m", "services.connections")
SECONDS = 60
STOP_SECONDS = 20

FAILING = """
import asyncio
from kernel import app
from kernel.settings import Settings

async def fail():
    await asyncio.sleep(0.1)
    raise RuntimeError("leak")

async def ever():
    await asyncio.Event().wait()

app.main("connections", Settings(), serve=lambda _: app.Parts(loops=[ever, fail]))
"""
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-m", "services.connections"])
print(child.pid, flush=True)
time.sleep(600)
"""


class Child:
    """A process under test, and the lines of its log."""

    def __init__(self, command: tuple[str, ...], data: Path, **settings: str) -> None:
        environment = {
            "PYTHONPATH": str(ROOT / "gen"),
            "PORTOLAN_DATA_DIR": str(data),
            "PORTOLAN_LISTEN": "127.0.0.1:0",
            "PORTOLAN_AUTH_ADDRESS": "127.0.0.1:9",
            "PORTOLAN_WORKERS": "2",
        }
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.rest = ""
        """What was no log line."""

    def lines(self) -> Iterator[dict[str, Any]]:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                yield json.loads(line)
            except ValueError:
                self.rest += line

    def port(self) -> int:
        """The port that it serves at, once it does."""
        for line in self.lines():
            if line["event"] == "serving":
                return int(line["port"])
        pytest.fail(f"it ended before it served: {self.rest}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """The seconds that it took to end."""
        started = time.perf_counter()
        self.process.send_signal(number)
        self.process.communicate(timeout=SECONDS)
        return time.perf_counter() - started


@contextmanager
def child(command: tuple[str, ...], data: Path, **settings: str) -> Iterator[Child]:
    found = Child(command, data, **settings)
    try:
        yield found
    finally:
        found.process.kill()
        found.process.communicate()


def health(port: int, service: str = "") -> int:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=service)
        return int(stub.Check(request, timeout=SECONDS, wait_for_ready=True).status)


def ended_children() -> float:
    """The seconds of CPU that the processes took which ended so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_starts_serves_and_stops(tmp_path: Path, number: signal.Signals) -> None:
    with child(SERVICE, tmp_path) as service:
        port = service.port()
        for name in ("", "portolan.connections.v1.ConnectionService"):
            assert health(port, name) == health_pb2.HealthCheckResponse.SERVING
        assert service.stop(number) < STOP_SECONDS
        assert service.process.returncode == 0
    assert (tmp_path / "connections.db").exists()
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()} == {0o600}


@pytest.mark.timed
def test_a_stop_is_next_to_no_work(tmp_path: Path) -> None:
    before = ended_children()
    with child(SERVICE, tmp_path) as service:
        service.port()
        running = psutil.Process(service.process.pid).cpu_times()
        service.stop()
        assert ended_children() - before - running.user - running.system < 0.3


def test_a_loop_that_fails_ends_the_process(tmp_path: Path) -> None:
    with child((sys.executable, "-c", FAILING), tmp_path) as failing:
        faults = [line for line in failing.lines() if "fault in a loop" in line["event"]]
        assert failing.process.wait(SECONDS) == 1
    assert "RuntimeError: leak" in faults[0]["exception"]


def test_a_service_ends_with_its_parent(tmp_path: Path) -> None:
    with child((sys.executable, "-c", PARENT), tmp_path) as parent:
        assert parent.process.stdout is not None
        service = psutil.Process(int(parent.process.stdout.readline()))
        parent.port()
        parent.process.kill()
        _, alive = psutil.wait_procs([service], timeout=SECONDS)
        assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def test_two_services_do_not_share_an_address(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "{}:{}".format(*taken.getsockname())
        with child(SERVICE, tmp_path, PORTOLAN_LISTEN=address) as service:
            service.process.communicate(timeout=SECONDS)
            assert service.process.returncode == 1


def test_an_old_schema_is_refused_where_it_is_not_migrated(tmp_path: Path) -> None:
    with child(SERVICE, tmp_path, PORTOLAN_MIGRATE="false") as service:
        _, said = service.process.communicate(timeout=SECONDS)
        assert service.process.returncode == 1
        assert "not at its newest version" in said
    with child((*SERVICE, "migrate"), tmp_path) as migration:
        migration.process.communicate(timeout=SECONDS)
        assert migration.process.returncode == 0
    with child(SERVICE, tmp_path, PORTOLAN_MIGRATE="false") as service:
        assert health(service.port()) == health_pb2.HealthCheckResponse.SERVING


def test_a_password_in_the_databases_address_is_not_logged(tmp_path: Path, postgres_url: str) -> None:
    password = str(sa.make_url(postgres_url).password)
    with child(SERVICE, tmp_path, PORTOLAN_DATABASE_URL=postgres_url) as service:
        logged = next(line for line in service.lines() if line["event"] == "serving")
    assert password not in json.dumps(logged)
    assert "***" in logged["database"]


def test_health_follows_the_database(tmp_path: Path, postgres_server: Any) -> None:
    database = postgres_server.create_database()
    with child(SERVICE, tmp_path, PORTOLAN_DATABASE_URL=postgres_server.url(database)) as service:
        port = service.port()
        assert health(port) == health_pb2.HealthCheckResponse.SERVING
        postgres_server.drop_database(database)
        deadline = time.monotonic() + SECONDS
        while health(port) == health_pb2.HealthCheckResponse.SERVING:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert service.stop() < STOP_SECONDS
        assert service.process.returncode == 0
