"""The calls that this service makes to others."""

from kernel import clients
from kernel.auth import ServiceIdentity
from kernel.databases.endpoints import DatabaseKind, Endpoint, SslMode
from kernel.resources import enum_name
from portolan.connections.v1 import connections_pb2 as connections
from portolan.connections.v1.connections_pb2_grpc import ConnectionServiceStub
from portolan.mapper.v1 import mappings_pb2, plan_pb2
from portolan.mapper.v1.mappings_pb2_grpc import MappingServiceStub
from services.jobs.settings import Settings

KINDS = connections.DESCRIPTOR.enum_types_by_name["Kind"]
SSL_MODES = connections.PostgresqlSettings.DESCRIPTOR.enum_types_by_name["SslMode"]


class Clients:
    """The mapper and connections services, as this service uses them; blocking, from any thread."""

    def __init__(self, settings: Settings, identity: ServiceIdentity) -> None:
        self._identity = identity
        self._authorities = str(settings.ca_file or "")
        self._mapper = MappingServiceStub(clients.channel(settings.mapper_address))
        self._connections = ConnectionServiceStub(clients.channel(settings.connections_address))

    def compile(self, reference: str) -> plan_pb2.LoadPlan:
        """The plan of a mapping's active version, asked for as the caller that is being served."""
        request = mappings_pb2.CompileMappingRequest(reference=reference)
        return clients.call(self._mapper.CompileMapping, request)

    def lease(self, organization_id: str, connection: str, purpose: str) -> Endpoint:
        """What opens a connection of an organization, asked for as this service. The lease is recorded."""
        request = connections.LeaseCredentialsRequest(connection=connection, purpose=purpose)
        token = self._identity.token(organization_id)
        lease = clients.call(self._connections.LeaseCredentials, request, token=token)
        return _endpoint(lease, f"portolan {purpose}", self._authorities)


def _endpoint(lease: connections.CredentialLease, application: str, authorities: str) -> Endpoint:
    kind = DatabaseKind(enum_name(KINDS, lease.connection.kind))
    if kind is not DatabaseKind.POSTGRESQL:
        return Endpoint(kind=kind, path=lease.resolved_path)
    server = lease.connection.postgresql
    return Endpoint(
        kind=kind,
        host=server.host,
        address=lease.host_address,
        port=server.port or 5432,
        database=server.database,
        user=server.user,
        password=server.password,
        ssl_mode=SslMode(enum_name(SSL_MODES, server.ssl_mode) or SslMode.REQUIRE),
        authorities=authorities,
        application=application,
    )
