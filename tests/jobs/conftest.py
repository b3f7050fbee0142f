"""What the tests of the jobs service share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from kernel import migrations
from kernel.db import Database
from portolan.mapper.v1 import plan_pb2
from services.jobs.domain import jobs
from services.jobs.models import Job
from services.jobs.servicers.messages import plan_row
from tests.jobs.world import World
from tests.postgres import PostgresServer

ORGANIZATION = "org-1"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """The service's own database with its own migrations, once on each system."""
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/jobs.db" if sqlite else str(request.getfixturevalue("postgres_url"))
    database = Database(url, "jobs")
    migrations.upgrade(database, "jobs")
    yield database
    database.close()


@pytest.fixture
def world(database: Database, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """A world whose warehouse is of the same system as the service's own database."""
    if database.sqlite:
        yield World(tmp_path / "charts", sa.make_url(f"sqlite:///{tmp_path}/warehouse.db"))
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.take_database()
    yield World(tmp_path / "charts", sa.make_url(server.url(name)))
    server.leave_database(name)


def plan(reference: str = "DIM_CARRIER", *, parameters: tuple[str, ...] = ()) -> plan_pb2.LoadPlan:
    """A plan that nobody runs."""
    return plan_pb2.LoadPlan(
        reference=reference,
        version=3,
        source_connection="files",
        target_connection="warehouse",
        parameters=parameters,
        target=plan_pb2.TargetTable(schema="dw", name=reference.lower()),
    )


def make_job(database: Database, reference: str = "DIM_CARRIER", *, parameters: tuple[str, ...] = ()) -> Job:
    """A job in the database."""
    with database.transaction() as session:
        return jobs.create(session, plan_row(ORGANIZATION, plan(reference, parameters=parameters)), "ada")
