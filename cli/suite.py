"""What a running Portolan consists of on one machine, and where each part of it listens."""

import fcntl
import http.client
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cli.client import CommandError
from cli.supervisor import Probe, Program, Report, StartError, Supervisor
from kernel.settings import SERVICES

HOST = "127.0.0.1"
PROBE_SECONDS = 1.0
START_SECONDS = 60.0


@dataclass(frozen=True)
class Suite:
    """All services, the workers and the gateway, over one data folder."""

    data: Path
    database: str | None = None
    port: int = 8080
    base_port: int = 50051
    workers: int = 1

    @property
    def url(self) -> str:
        """Where the gateway is reached."""
        return f"http://{HOST}:{self.port}"

    @property
    def logs(self) -> Path:
        """The folder of the programs' logs."""
        return self.data / "logs"

    def addresses(self) -> dict[str, str]:
        """Where each service listens."""
        return {name: f"{HOST}:{self.base_port + place}" for place, name in enumerate(SERVICES)}

    def programs(self) -> list[Program]:
        """What is started, in order."""
        environment = self._environment()
        python = [sys.executable, "-m"]
        workers = ["worker"] if self.workers == 1 else [f"worker-{n + 1}" for n in range(self.workers)]
        return [
            *(
                Program(name, [*python, f"services.{name}", "serve"], environment, _serving(address))
                for name, address in self.addresses().items()
            ),
            *(Program(name, [*python, "services.jobs", "worker"], environment) for name in workers),
            Program("gateway", [*python, "gateway"], environment, self._gateway_serving),
        ]

    @contextmanager
    def running(self, report: Report) -> Iterator[tuple[Supervisor, float]]:
        """The suite, healthy, with the seconds that its start took; stopped at the end.

        Refused with a CommandError where a port is in use, or a program does not start.
        """
        for port in (*(self.base_port + place for place in range(len(SERVICES))), self.port):
            _check_free(port)
        with Supervisor(self.programs(), self.logs, report) as supervisor:
            try:
                seconds = supervisor.wait_healthy(START_SECONDS)
            except StartError as error:
                raise CommandError(f"{error}. Its log is in {self.logs}.", reason="NOT_STARTED") from None
            yield supervisor, seconds

    def _environment(self) -> dict[str, str]:
        own = {f"PORTOLAN_{name.upper()}_ADDRESS": address for name, address in self.addresses().items()}
        own["PORTOLAN_GATEWAY_ADDRESS"] = f"{HOST}:{self.port}"
        own["PORTOLAN_DATA_DIR"] = str(self.data.resolve())
        if self.database:
            own["PORTOLAN_DATABASE_URL"] = self.database
        # On one machine the databases are here too.
        usual = {"PORTOLAN_ALLOW_LOOPBACK": "true"}
        return {**usual, **os.environ, **own}  # noqa: TID251  # handed on whole, not read

    def _gateway_serving(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=PROBE_SECONDS)
        try:
            connection.request("GET", "/api/health")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """The data folder, for one suite at a time; refused with a CommandError where it is in use."""
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.data / "suite.lock").open("a+") as lock:
            lock.seek(0)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CommandError(
                    f"Portolan already runs on the data folder {self.data}: {lock.read().strip()}.",
                    reason="ALREADY_RUNNING",
                ) from None
            lock.truncate(0)
            lock.write(f"{self.url}, process {os.getpid()}\n")
            lock.flush()
            yield


def _serving(address: str) -> Probe:
    def probe() -> bool:
        with grpc.insecure_channel(address) as channel:
            try:
                stub: Any = health_pb2_grpc.HealthStub(channel)  # whose methods have no annotations
                answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=PROBE_SECONDS)
            except grpc.RpcError:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    return probe


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise CommandError(
                f"The port {port} is in use by another program. Choose others with --port (the gateway) and "
                "--base-port (the services).",
                reason="PORT_IN_USE",
            ) from None
