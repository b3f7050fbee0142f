"""The connections service on each database that it runs on, and a folder and a database to look at."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from kernel import clients, migrations
from kernel.crypto import KeyRing, create_key_file
from kernel.databases.hosts import HostPolicy
from kernel.db import Database
from portolan.connections.v1 import connections_pb2 as pb
from portolan.connections.v1.connections_pb2_grpc import ConnectionServiceStub
from services.connections.clients import Clients
from services.connections.domain.access import Policy
from services.connections.servicers.connections import ConnectionServicer
from tests.connections.users import Jobs, Mapper
from tests.postgres import PostgresServer
from tests.servers import Issuer, bearer, connect, serve

HARBOURS = "name,country,depth\nGenoa,IT,15\nLübeck,DE,9\nPalma,ES,\n"


@dataclass
class World:
    """The service, its callers, and what it can look at."""

    stub: Any
    issuer: Issuer
    database: Database
    secrets: KeyRing
    folder: Path
    settings: pb.PostgresqlSettings
    """The way into a PostgreSQL database with the table `harbours`."""
    policy: Policy
    mapper: Mapper = field(default_factory=Mapper)
    jobs: Jobs = field(default_factory=Jobs)
    address: str = ""
    users: AsyncExitStack = field(default_factory=AsyncExitStack)
    """Closing it ends mapper and jobs."""
    caller: tuple[tuple[str, str], ...] = ()

    def __getattr__(self, method: str) -> Any:
        """A method of the service, for the caller."""
        rpc = getattr(self.stub, method)
        return lambda request: rpc(request, metadata=self.caller, timeout=30)

    def as_caller(self, token: str) -> "World":
        """The same world for another caller."""
        return replace(self, caller=bearer(token))


@pytest.fixture
def query_seconds() -> float:
    """How long a query may take."""
    return 2


@pytest.fixture
async def world(
    issuer: Issuer, database_url: str, tmp_path: Path, postgres_server: PostgresServer, query_seconds: float
) -> AsyncIterator[World]:
    """The service, called by an administrator."""
    folder = tmp_path / "data"
    (folder / "charts").mkdir(parents=True)
    (folder / "charts" / "harbours.csv").write_text(HARBOURS)
    create_key_file(tmp_path / "keys")
    secrets = KeyRing.load(tmp_path / "keys")
    database = Database(database_url, "connections", pool=8)
    migrations.upgrade(database, "connections")
    customer = postgres_server.take_database()
    parts = sa.make_url(postgres_server.url(customer))
    with psycopg.connect(postgres_server.url(customer)) as connection:
        connection.execute(
            "CREATE TABLE harbours (name text PRIMARY KEY, country char(2), depth numeric(5, 1))"
        )
        connection.execute("INSERT INTO harbours VALUES ('Genoa', 'IT', 15), ('Lübeck', 'DE', 9)")
    settings = pb.PostgresqlSettings(
        host=str(parts.host),
        port=parts.port or 0,
        database=customer,
        user=str(parts.username),
        password=str(parts.password),
        ssl_mode=pb.PostgresqlSettings.SSL_MODE_DISABLE,
    )
    policy = Policy(HostPolicy(allow_loopback=True), (folder,))
    mapper, jobs, users = Mapper(), Jobs(), AsyncExitStack()
    async with users, AsyncExitStack() as stack:
        others = stack.enter_context(
            clients.channel(await users.enter_async_context(serve(issuer, mapper, jobs)))
        )
        servicer = ConnectionServicer(
            database, secrets, policy, Clients(others, others), query_seconds=query_seconds, looks=3
        )
        address = await stack.enter_async_context(serve(issuer, servicer))
        channel = await stack.enter_async_context(connect(address))
        stub = ConnectionServiceStub(channel)
        world = World(stub, issuer, database, secrets, folder, settings, policy, mapper, jobs, address, users)
        yield world.as_caller(issuer.token())
    database.close()
    await asyncio.to_thread(postgres_server.leave_database, customer)


@pytest.fixture
async def charts(world: World) -> str:
    """The name of a connection to the folder."""
    connection = pb.Connection(name="charts", files=pb.FilesSettings(path="charts"))
    await world.CreateConnection(pb.CreateConnectionRequest(connection=connection))
    return "charts"


@pytest.fixture
async def registry(world: World) -> str:
    """The name of a connection to the PostgreSQL database."""
    connection = pb.Connection(name="registry", postgresql=world.settings)
    await world.CreateConnection(pb.CreateConnectionRequest(connection=connection))
    return "registry"
