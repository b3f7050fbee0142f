"""Fixtures for all tests."""

import fcntl
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kernel import logs
from tests.postgres import PostgresServer, stop_when_unlocked
from tests.servers import Issuer


def pytest_configure() -> None:
    """Logs as the services do."""
    logs.configure("tests", "info")


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[PostgresServer]:
    """The PostgreSQL server of this run: the first worker that needs it starts it; it ends with the last."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared if worker_id == "master" else shared.parent
    with (shared / "postgres.users").open("w") as users:
        with _locked(shared / "postgres.lock"):
            fcntl.flock(users, fcntl.LOCK_SH)
            server = _shared_server(shared / "postgres.json", shared / "postgres.users")
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The SQLAlchemy URL of a fresh, empty PostgreSQL database, which another test gets next."""
    database = postgres_server.take_database()
    yield postgres_server.url(database)
    postgres_server.leave_database(database)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The SQLAlchemy URL of a fresh, empty database, once of each kind that services run on."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'service.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    """Signs the tokens that a test calls its servers with."""
    return Issuer(tmp_path / "keys")


def _shared_server(state: Path, users: Path) -> PostgresServer:
    if state.exists():
        known = json.loads(state.read_text())
        server = PostgresServer(Path(known["directory"]))
        server.port, server.password = known["port"], known["password"]
        return server
    server = PostgresServer(Path(tempfile.mkdtemp(prefix="portolan-postgres-")))
    server.start()
    stop_when_unlocked(server, users, state)
    state.write_text(
        json.dumps({"directory": str(server.directory), "port": server.port, "password": server.password})
    )
    return server


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
