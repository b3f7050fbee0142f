"""The mapper in the test's own process, beside stand-ins of the services that it calls."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from kernel import clients, migrations
from kernel.databases import queries
from kernel.databases.endpoints import DatabaseKind, Endpoint
from kernel.databases.errors import QueryInvalidError, QueryRefusedError
from kernel.databases.sources import open_source
from kernel.db import Database
from kernel.errors import NotFoundError, to_status
from kernel.resources import to_message
from portolan.common.v1 import datatypes_pb2
from portolan.connections.v1 import connections_pb2, connections_pb2_grpc
from portolan.jobs.v1 import jobs_pb2, jobs_pb2_grpc
from portolan.mapper.v1 import mappings_pb2 as pb
from portolan.mapper.v1 import mappings_pb2_grpc as rpc
from services.mapper.clients import Clients
from services.mapper.servicers.mappings import MappingServicer
from tests.servers import Issuer, bearer, connect, serve


class ConnectionNotFoundError(NotFoundError):
    """As the connections service says it."""

    reason = "CONNECTION_NOT_FOUND"


class JobNotFoundError(NotFoundError):
    """As the jobs service says it."""

    reason = "JOB_NOT_FOUND"


@dataclass
class Connections(connections_pb2_grpc.ConnectionServiceServicer):
    """Connections to real SQLite files, by name; others have a kind only."""

    files: dict[str, Path] = field(default_factory=dict)
    kinds: dict[str, connections_pb2.Kind.ValueType] = field(default_factory=dict)

    def GetConnection(self, request: Any, context: Any) -> connections_pb2.Connection:
        if request.name in self.kinds:
            return connections_pb2.Connection(name=request.name, kind=self.kinds[request.name])
        self._file(request.name)
        return connections_pb2.Connection(name=request.name, kind=connections_pb2.KIND_SQLITE)

    def BatchDescribeQueries(
        self, request: Any, context: Any
    ) -> connections_pb2.BatchDescribeQueriesResponse:
        response = connections_pb2.BatchDescribeQueriesResponse()
        endpoint = Endpoint(kind=DatabaseKind.SQLITE, path=str(self._file(request.connection)))
        with open_source(endpoint) as source:
            for query in request.queries:
                result = response.results.add()
                try:
                    checked = queries.check(query, endpoint.kind)
                    columns = source.describe(queries.bind(checked, None))
                except (QueryRefusedError, QueryInvalidError) as error:
                    result.error.CopyFrom(to_status(error, "portolan.connections.v1"))
                else:
                    result.description.columns.extend(
                        to_message(
                            column,
                            connections_pb2.Column,
                            type=to_message(column.type, datatypes_pb2.DataType),
                        )
                        for column in columns
                    )
        return response

    def _file(self, name: str) -> Path:
        if name not in self.files:
            raise ConnectionNotFoundError(f"there is no connection {name}")
        return self.files[name]


@dataclass
class Jobs(jobs_pb2_grpc.JobServiceServicer):
    """Jobs that exist, by reference."""

    references: set[str] = field(default_factory=set)

    def GetJob(self, request: Any, context: Any) -> jobs_pb2.Job:
        if request.reference not in self.references:
            raise JobNotFoundError(f"there is no job {request.reference}")
        return jobs_pb2.Job(reference=request.reference)


@dataclass
class Suite:
    """The mapper and what it calls."""

    mapper: Any
    connections: Connections
    jobs: Jobs
    issuer: Issuer
    metadata: tuple[tuple[str, str], ...]
    database: Database

    def call(self, name: str, request: Any, **claims: Any) -> Any:
        """A call as the usual developer, or as somebody else."""
        metadata = self.metadata if not claims else bearer(self.issuer.token("developer", **claims))
        return getattr(self.mapper, name)(request, metadata=metadata)

    async def create(self, mapping: pb.Mapping) -> pb.Mapping:
        """A mapping that exists."""
        created: pb.Mapping = await self.call("CreateMapping", pb.CreateMappingRequest(mapping=mapping))
        return created

    async def validate(self, reference: str) -> list[pb.Fault]:
        """What validation finds."""
        request = pb.ValidateMappingRequest(reference=reference)
        return list((await self.call("ValidateMapping", request)).faults)

    async def activate(self, reference: str) -> pb.Mapping:
        """The mapping, active."""
        request = pb.ActivateMappingRequest(reference=reference)
        activated: pb.Mapping = await self.call("ActivateMapping", request)
        return activated


@asynccontextmanager
async def suite(url: str, keys: Path) -> AsyncIterator[Suite]:
    """All of it, over a migrated database."""
    database = Database(url, "mapper", pool=8)
    migrations.upgrade(database, "mapper")
    issuer, connections, jobs = Issuer(keys), Connections(), Jobs()
    async with AsyncExitStack() as stack:
        others = await stack.enter_async_context(serve(issuer, connections, jobs))
        channel: grpc.Channel = stack.enter_context(clients.channel(others))
        servicer = MappingServicer(database, Clients(channel, channel))
        address = await stack.enter_async_context(serve(issuer, servicer))
        stub: Any = rpc.MappingServiceStub(await stack.enter_async_context(connect(address)))
        yield Suite(stub, connections, jobs, issuer, bearer(issuer.token("developer")), database)
    database.close()
