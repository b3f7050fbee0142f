"""Connections over gRPC."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty

from kernel import clients
from kernel.auth import principal
from kernel.cancellation import on_cancel
from kernel.crypto import KeyRing
from kernel.databases import queries
from kernel.databases.endpoints import DatabaseKind
from kernel.databases.sources import Source, open_source
from kernel.db import Database
from kernel.errors import to_status
from kernel.resources import DEFAULT_PAGE, check_etag, last_seen, merge, next_token, page, to_message
from portolan.connections.v1 import connections_pb2 as pb
from portolan.connections.v1 import connections_pb2_grpc as rpc
from services.connections.clients import Clients
from services.connections.domain import access, connections
from services.connections.domain.bulkheads import Bulkhead
from services.connections.errors import QueryInvalidError, QueryRefusedError, QueryTimeoutError
from services.connections.models import Connection, CredentialLease
from services.connections.servicers.messages import definition, to_column, to_connection, to_rows, to_table

if TYPE_CHECKING:
    import grpc

_MUTABLE = frozenset({"description", "postgresql", "sqlite", "files"})
DOMAIN = pb.DESCRIPTOR.package
DEFAULT_ROWS = 20
DEFAULT_LOOKS = 8
"""Calls that may look into one connection at once."""
MIN_SECONDS = 0.1


class ConnectionServicer(rpc.ConnectionServiceServicer):
    """Keeps connections, and looks at what they hold."""

    def __init__(
        self,
        database: Database,
        secrets: KeyRing,
        policy: access.Policy,
        others: Clients,
        *,
        query_seconds: float,
        looks: int = DEFAULT_LOOKS,
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._policy = policy
        self._others = others
        self._query_seconds = query_seconds
        self._bulkhead = Bulkhead(looks)

    def CreateConnection(
        self, request: pb.CreateConnectionRequest, context: "grpc.ServicerContext"
    ) -> pb.Connection:
        wanted = definition(request.connection)
        access.check(wanted.kind, wanted.settings, self._policy)
        with self._database.transaction() as session:
            row = connections.create(session, principal().organization_id, wanted, self._secrets)
        return to_connection(row)

    def GetConnection(
        self, request: pb.GetConnectionRequest, context: "grpc.ServicerContext"
    ) -> pb.Connection:
        return to_connection(self._row(request.name))

    def ListConnections(
        self, request: pb.ListConnectionsRequest, context: "grpc.ServicerContext"
    ) -> pb.ListConnectionsResponse:
        with self._database.read() as session:
            query = connections.connections(principal().organization_id)
            rows, token = page(session, query, Connection.name, request)
        return pb.ListConnectionsResponse(connections=map(to_connection, rows), next_page_token=token)

    def UpdateConnection(
        self, request: pb.UpdateConnectionRequest, context: "grpc.ServicerContext"
    ) -> pb.Connection:
        before = to_connection(self._row(request.name))
        wanted = pb.Connection()
        wanted.CopyFrom(before)
        changed = merge(wanted, request.connection, request.update_mask, _MUTABLE)
        asked = definition(wanted)
        access.check(asked.kind, asked.settings, self._policy)
        with self._database.transaction() as session:
            row = connections.lock(session, principal().organization_id, request.name)
            check_etag(row, request.connection.etag or before.etag)
            if changed or asked.password:
                connections.update(row, asked, self._secrets)
        return to_connection(row)

    def DeleteConnection(self, request: pb.DeleteConnectionRequest, context: "grpc.ServicerContext") -> Empty:
        name, limit = self._row(request.name).name, connections.MAX_NAMED + 1
        # Who names it after these questions finds it missing: a validation, or a run, then says so.
        mappings, jobs = self._others.mappings(name, limit), self._others.jobs(name, limit)
        connections.check_unused(name, mappings, jobs)
        with self._database.transaction() as session:
            row = connections.lock(session, principal().organization_id, request.name)
            check_etag(row, request.etag)
            session.delete(row)
        return Empty()

    def TestConnection(
        self, request: pb.TestConnectionRequest, context: "grpc.ServicerContext"
    ) -> pb.TestConnectionResponse:
        begun = time.perf_counter()
        with self._opened(request.name) as source:
            server, warnings = source.server(), source.warnings()
        latency = Duration()
        latency.FromMicroseconds(int((time.perf_counter() - begun) * 1e6))
        return pb.TestConnectionResponse(server=server, warnings=warnings, latency=latency)

    def ListTables(
        self, request: pb.ListTablesRequest, context: "grpc.ServicerContext"
    ) -> pb.ListTablesResponse:
        size = request.page_size or DEFAULT_PAGE
        schema, _, name = (last_seen(request, str) or "\n").partition("\n")
        with self._opened(request.connection) as source:
            found = source.tables(request.schema, after=(schema, name), limit=size + 1)
        tables, more = found[:size], len(found) > size
        token = next_token(request, f"{tables[-1].schema}\n{tables[-1].name}") if more else ""
        return pb.ListTablesResponse(tables=map(to_table, tables), next_page_token=token)

    def DescribeQuery(
        self, request: pb.DescribeQueryRequest, context: "grpc.ServicerContext"
    ) -> pb.QueryDescription:
        with self._opened(request.connection) as source:
            return _describe(source, request.query)

    def BatchDescribeQueries(
        self, request: pb.BatchDescribeQueriesRequest, context: "grpc.ServicerContext"
    ) -> pb.BatchDescribeQueriesResponse:
        response = pb.BatchDescribeQueriesResponse()
        with self._opened(request.connection) as source:
            for query in request.queries:
                result = response.results.add()
                try:
                    result.description.CopyFrom(_describe(source, query))
                except (QueryRefusedError, QueryInvalidError, QueryTimeoutError) as refused:
                    result.error.CopyFrom(to_status(refused, DOMAIN))
        return response

    def PreviewRows(
        self, request: pb.PreviewRowsRequest, context: "grpc.ServicerContext"
    ) -> pb.PreviewRowsResponse:
        limit = request.max_rows or DEFAULT_ROWS
        with self._opened(request.connection) as source:
            text = queries.bind(queries.check(request.query, source.kind), request.parameters)
            columns, found = source.describe(text), source.rows(text, limit + 1)
        rows, cut = to_rows(found[:limit])
        return pb.PreviewRowsResponse(
            columns=map(to_column, columns), rows=rows, truncated=cut or len(found) > limit
        )

    def LeaseCredentials(
        self, request: pb.LeaseCredentialsRequest, context: "grpc.ServicerContext"
    ) -> pb.CredentialLease:
        row = self._row(request.connection)
        password = connections.password(row, self._secrets)
        opened = access.endpoint(row, password, self._policy)
        with self._database.transaction() as session:
            lease = connections.lease(session, row, principal().service, request.purpose)
        connection = to_connection(row)
        if row.kind is DatabaseKind.POSTGRESQL:
            connection.postgresql.password = password
        return pb.CredentialLease(
            id=lease.id, connection=connection, host_address=opened.address, resolved_path=opened.path
        )

    def ListCredentialLeases(
        self, request: pb.ListCredentialLeasesRequest, context: "grpc.ServicerContext"
    ) -> pb.ListCredentialLeasesResponse:
        with self._database.read() as session:
            query = connections.leases(principal().organization_id, request.connection)
            rows, token = page(session, query, CredentialLease.id, request, descending=True)
        records = [to_message(row, pb.LeaseRecord) for row in rows]
        return pb.ListCredentialLeasesResponse(leases=records, next_page_token=token)

    def _row(self, name: str) -> Connection:
        with self._database.read() as session:
            return connections.get(session, principal().organization_id, name)

    @contextmanager
    def _opened(self, name: str) -> Iterator[Source]:
        """The connection's database, opened for the caller after our own transaction has ended."""
        row = self._row(name)
        way = access.endpoint(row, connections.password(row, self._secrets), self._policy)
        left = clients.deadline.get(float("inf")) - clients.MARGIN_SECONDS - time.monotonic()
        seconds = max(MIN_SECONDS, min(self._query_seconds, left))
        with (
            self._bulkhead.enter(row.id),
            open_source(way, time_limit=seconds) as source,
            on_cancel(source.cancel),
        ):
            yield source


def _describe(source: Source, query: str) -> pb.QueryDescription:
    checked = queries.check(query, source.kind)
    columns = source.describe(queries.bind(checked, None))
    return pb.QueryDescription(columns=map(to_column, columns), parameters=checked.parameters)
