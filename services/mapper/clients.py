"""The calls that this service makes to others, as the caller that is being served."""

from collections.abc import Sequence

import grpc
from google.rpc import status_pb2

from kernel import clients
from kernel.databases.endpoints import DatabaseKind
from kernel.databases.messages import data_type
from kernel.errors import NotFoundError, from_status
from kernel.resources import enum_name
from portolan.connections.v1 import connections_pb2 as connections
from portolan.connections.v1.connections_pb2_grpc import ConnectionServiceStub
from portolan.jobs.v1 import jobs_pb2 as jobs
from portolan.jobs.v1.jobs_pb2_grpc import JobServiceStub
from services.mapper.domain.faults import Reason
from services.mapper.domain.validation import Described, Rejected

DESCRIBE_SECONDS = 25.0
KINDS = connections.DESCRIPTOR.enum_types_by_name["Kind"]


class Clients:
    """The connections and jobs services, as this service uses them; blocking, from any thread."""

    def __init__(self, connection_service: grpc.Channel, job_service: grpc.Channel) -> None:
        self._connections = ConnectionServiceStub(connection_service)
        self._jobs = JobServiceStub(job_service)

    def kind(self, connection: str) -> DatabaseKind:
        """The kind of a connection; refuses with CONNECTION_NOT_FOUND."""
        request = connections.GetConnectionRequest(name=connection)
        found = clients.call(self._connections.GetConnection, request)
        return DatabaseKind(enum_name(KINDS, found.kind))

    def describe(self, connection: str, queries: Sequence[str]) -> list[Described | Rejected]:
        """What each query returns; refuses with CONNECTION_REFUSED when the connection cannot be opened."""
        request = connections.BatchDescribeQueriesRequest(connection=connection, queries=queries)
        answer = clients.call(self._connections.BatchDescribeQueries, request, timeout=DESCRIBE_SECONDS)
        return [
            _described(result.description)
            if result.WhichOneof("result") == "description"
            else _rejected(result.error)
            for result in answer.results
        ]

    def has_job(self, reference: str) -> bool:
        """Whether a job of the mapping exists."""
        try:
            clients.call(self._jobs.GetJob, jobs.GetJobRequest(reference=reference))
        except NotFoundError:
            return False
        return True


def _described(description: connections.QueryDescription) -> Described:
    return Described({column.name: data_type(column.type) for column in description.columns})


def _rejected(status: status_pb2.Status) -> Rejected:
    refused = from_status(status)
    if refused is None:
        return Rejected(Reason.QUERY_INVALID, status.message)
    reason = Reason.QUERY_REFUSED if refused.reason == "QUERY_REFUSED" else Reason.QUERY_INVALID
    line, position = (int(refused.metadata.get(name, 0)) for name in ("line", "column"))
    return Rejected(reason, refused.message, line, position)
