"""Places to load from and into."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.databases.endpoints import DatabaseKind
from tests.jobs.loading.places import Place
from tests.postgres import PostgresServer


@pytest.fixture
def files(tmp_path: Path) -> Place:
    """An empty folder."""
    folder = tmp_path / "files"
    folder.mkdir()
    return Place(DatabaseKind.FILES, str(folder))


@pytest.fixture
def postgres(postgres_url: str) -> Place:
    """An empty PostgreSQL database."""
    return Place(DatabaseKind.POSTGRESQL, postgres_url)


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty database to load, once of each kind."""
    if request.param == "sqlite":
        return Place(DatabaseKind.SQLITE, str(tmp_path / "warehouse.db"))
    place: Place = request.getfixturevalue("postgres")
    return place


@pytest.fixture
def other(target: Place, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Another empty database of the target's kind."""
    if target.kind is DatabaseKind.SQLITE:
        yield Place(DatabaseKind.SQLITE, str(tmp_path / "other.db"))
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.take_database()
    yield Place(DatabaseKind.POSTGRESQL, server.url(name))
    server.leave_database(name)
