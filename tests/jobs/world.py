"""A small world around the jobs service: a folder of CSV files, a warehouse, the services that know them."""

import csv
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from kernel.auth import ServiceIdentity
from kernel.databases.endpoints import DatabaseKind
from kernel.errors import PreconditionError, RefusedError
from portolan.connections.v1 import connections_pb2, connections_pb2_grpc
from portolan.mapper.v1 import mappings_pb2, mappings_pb2_grpc, plan_pb2
from services.jobs.clients import Clients
from services.jobs.settings import Settings
from services.mapper.compiler import compile_plan
from services.mapper.definition import Column, Definition, ScdType, TableType
from tests.servers import Issuer, serve

HARBOURS = "DIM_HARBOUR"
CURRENT = "SELECT code, name FROM dim_harbour WHERE current_flag = 'Y' ORDER BY code"


@dataclass
class World:
    """A folder of sources and an empty warehouse; `url` is the warehouse's."""

    folder: Path
    url: sa.URL
    plans: dict[str, plan_pb2.LoadPlan] = field(default_factory=dict)
    refusals: list[RefusedError] = field(default_factory=list)
    """What the next calls to lease credentials are refused with."""
    leases: list[tuple[str, str]] = field(default_factory=list)
    """The connections that credentials were leased for, and the purposes."""

    @property
    def kind(self) -> DatabaseKind:
        """The warehouse's kind."""
        sqlite = self.url.get_backend_name() == "sqlite"
        return DatabaseKind.SQLITE if sqlite else DatabaseKind.POSTGRESQL

    def write(self, rows: Mapping[Any, str], name: str = "harbours") -> None:
        """Replaces a source as a whole."""
        self.folder.mkdir(exist_ok=True)
        draft = self.folder / "draft"
        with draft.open("w", newline="") as file:
            csv.writer(file).writerows([("code", "name"), *rows.items()])
        draft.replace(self.folder / f"{name}.csv")

    def plan(
        self, logic: str = "SELECT code, name FROM harbours", *, length: int = 50, version: int = 1
    ) -> plan_pb2.LoadPlan:
        """Makes a dimension of harbours the active mapping, and returns its plan."""
        common: dict[str, Any] = {"logic": logic, "key_columns": ("code",)}
        name: dict[str, Any] = {"data_type": f"String{length}", "scd_type": ScdType.NEW_VERSION}
        definition = Definition(
            reference=HARBOURS,
            source_connection="charts",
            target_connection="warehouse",
            target_schema="main" if self.kind is DatabaseKind.SQLITE else "public",
            target_table="dim_harbour",
            table_type=TableType.DIMENSION,
            columns=(
                Column(
                    name="code", data_type="Integer", key=True, key_sequence=1, value_column="code", **common
                ),
                Column(name="name", value_column="name", **name, **common),
            ),
        )
        plan = compile_plan(definition, version, source=DatabaseKind.FILES, target=self.kind, dimensions={})
        self.plans[HARBOURS] = plan
        return plan

    def rows(self, query: str = CURRENT) -> Sequence[Any]:
        """What the warehouse answers."""
        engine = sa.create_engine(self.url, poolclass=NullPool)
        with engine.connect() as connection:
            return connection.execute(sa.text(query)).all()


class MappingNotActiveError(PreconditionError):
    """As the mapper refuses."""

    reason = "MAPPING_NOT_ACTIVE"


class Mapper(mappings_pb2_grpc.MappingServiceServicer):
    """Compiles what the world has a plan of."""

    def __init__(self, world: World) -> None:
        self._world = world

    def CompileMapping(
        self, request: mappings_pb2.CompileMappingRequest, context: object
    ) -> plan_pb2.LoadPlan:
        """The plan of a mapping."""
        if request.reference not in self._world.plans:
            raise MappingNotActiveError("no version is active")
        return self._world.plans[request.reference]


class Connections(connections_pb2_grpc.ConnectionServiceServicer):
    """Leases the credentials of the world's folder and warehouse."""

    def __init__(self, world: World) -> None:
        self._world = world

    def LeaseCredentials(
        self, request: connections_pb2.LeaseCredentialsRequest, context: object
    ) -> connections_pb2.CredentialLease:
        """What opens a connection."""
        world = self._world
        if world.refusals:
            raise world.refusals.pop(0)
        world.leases.append((request.connection, request.purpose))
        connection = connections_pb2.Connection(name=request.connection)
        if request.connection == "charts":
            connection.kind = connections_pb2.KIND_FILES
            path = str(world.folder)
            connection.files.path = path
            return connections_pb2.CredentialLease(connection=connection, resolved_path=path)
        if world.kind is DatabaseKind.SQLITE:
            connection.kind = connections_pb2.KIND_SQLITE
            path = str(world.url.database)
            connection.sqlite.path = path
            return connections_pb2.CredentialLease(connection=connection, resolved_path=path)
        connection.kind = connections_pb2.KIND_POSTGRESQL
        server = connection.postgresql
        server.host, server.port = str(world.url.host), world.url.port or 5432
        server.database, server.user = str(world.url.database), str(world.url.username)
        server.password, server.ssl_mode = str(world.url.password), server.SSL_MODE_DISABLE
        return connections_pb2.CredentialLease(connection=connection, host_address=server.host)


@asynccontextmanager
async def calling(issuer: Issuer, world: World) -> AsyncIterator[tuple[Clients, Settings]]:
    """The jobs service's clients and settings, over servers of the world's services."""
    mapper = Mapper(world)
    connections = Connections(world)
    async with serve(issuer, mapper, connections) as address:
        settings = Settings(
            mapper_address=address,
            connections_address=address,
            worker_name="w1",
            heartbeat_seconds=0.2,
            lease_seconds=2,
            retry_seconds=2,
        )
        yield Clients(settings, ServiceIdentity.load(issuer.keys, "jobs")), settings
