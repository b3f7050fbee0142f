"""Connections are kept, changed and found, and their passwords stay inside."""

import asyncio

import sqlalchemy as sa
from google.protobuf.field_mask_pb2 import FieldMask

from portolan.connections.v1 import connections_pb2 as pb
from services.connections.models import Connection
from tests.connections.conftest import World
from tests.servers import refusal


def _update(name: str, mask: str, **fields: object) -> pb.UpdateConnectionRequest:
    given = pb.Connection(**fields)  # type: ignore[arg-type]  # each has the type of its field
    paths = mask.split(",") if mask else []
    return pb.UpdateConnectionRequest(name=name, connection=given, update_mask=FieldMask(paths=paths))


def _stored(world: World, name: str) -> Connection:
    with world.database.read() as session:
        found = session.scalars(sa.select(Connection).where(Connection.name == name)).one()
        session.expunge(found)
        return found


async def test_a_connection_is_created_and_found(world: World, registry: str) -> None:
    found = await world.GetConnection(pb.GetConnectionRequest(name=registry))
    assert found.kind == pb.KIND_POSTGRESQL
    assert found.has_password
    assert found.etag == '"1"'
    assert found.create_time.seconds > 0
    assert found.postgresql.host == world.settings.host
    assert found.postgresql.password == ""


async def test_a_name_is_taken_once(world: World, charts: str) -> None:
    again = pb.Connection(name=charts, files=pb.FilesSettings(path="charts"))
    refused = await refusal(world.CreateConnection(pb.CreateConnectionRequest(connection=again)))
    assert (refused.reason, refused.metadata) == ("CONNECTION_EXISTS", {"connection": charts})
    other = world.as_caller(world.issuer.token(organization="org-2"))
    await other.CreateConnection(pb.CreateConnectionRequest(connection=again))


async def test_another_organization_does_not_see_it(world: World, charts: str) -> None:
    other = world.as_caller(world.issuer.token(organization="org-2"))
    for call in (
        other.GetConnection(pb.GetConnectionRequest(name=charts)),
        other.DeleteConnection(pb.DeleteConnectionRequest(name=charts)),
        other.UpdateConnection(_update(charts, "", description="mine")),
        other.TestConnection(pb.TestConnectionRequest(name=charts)),
        other.ListTables(pb.ListTablesRequest(connection=charts)),
        other.PreviewRows(pb.PreviewRowsRequest(connection=charts, query="SELECT 1")),
    ):
        assert (await refusal(call)).reason == "CONNECTION_NOT_FOUND"
    assert not (await other.ListConnections(pb.ListConnectionsRequest())).connections


async def test_a_viewer_changes_nothing(world: World, charts: str) -> None:
    viewer = world.as_caller(world.issuer.token("viewer"))
    assert (await viewer.GetConnection(pb.GetConnectionRequest(name=charts))).name == charts
    for call in (
        viewer.DeleteConnection(pb.DeleteConnectionRequest(name=charts)),
        viewer.ListCredentialLeases(pb.ListCredentialLeasesRequest(connection=charts)),
    ):
        assert (await refusal(call)).reason == "PERMISSION_MISSING"


async def test_connections_are_listed_in_pages_by_name(world: World) -> None:
    for name in ("c", "a", "b"):
        connection = pb.Connection(name=name, files=pb.FilesSettings(path="charts"))
        await world.CreateConnection(pb.CreateConnectionRequest(connection=connection))
    first = await world.ListConnections(pb.ListConnectionsRequest(page_size=2))
    rest = await world.ListConnections(
        pb.ListConnectionsRequest(page_size=2, page_token=first.next_page_token)
    )
    assert [found.name for found in first.connections] == ["a", "b"]
    assert [found.name for found in rest.connections] == ["c"]
    assert rest.next_page_token == ""


async def test_an_update_changes_what_the_mask_names(world: World, registry: str) -> None:
    given = pb.PostgresqlSettings(database="elsewhere", host="ignored.example")
    changed = await world.UpdateConnection(
        _update(registry, "description,postgresql.database", description="new", postgresql=given)
    )
    assert changed.description == "new"
    assert changed.postgresql.database == "elsewhere"
    assert changed.postgresql.host == world.settings.host
    assert changed.has_password
    assert changed.etag == '"2"'


async def test_a_stale_etag_is_refused(world: World, charts: str) -> None:
    await world.UpdateConnection(_update(charts, "", description="first"))
    stale = _update(charts, "description", description="second", etag='"1"')
    assert (await refusal(world.UpdateConnection(stale))).reason == "ETAG_MISMATCH"
    delete = pb.DeleteConnectionRequest(name=charts, etag='"1"')
    assert (await refusal(world.DeleteConnection(delete))).reason == "ETAG_MISMATCH"


async def test_of_updates_at_once_one_holds_and_the_others_are_told(world: World, charts: str) -> None:
    updates = [world.UpdateConnection(_update(charts, "", description=f"text {n}")) for n in range(8)]
    made = await asyncio.gather(*updates, return_exceptions=True)
    etags = [changed.etag for changed in made if isinstance(changed, pb.Connection)]
    assert len(set(etags)) == len(etags) > 0
    found = await world.GetConnection(pb.GetConnectionRequest(name=charts))
    assert found.etag == max(etags) == f'"{len(etags) + 1}"'


async def test_a_deleted_connection_is_gone(world: World, charts: str) -> None:
    await world.DeleteConnection(pb.DeleteConnectionRequest(name=charts))
    refused = await refusal(world.GetConnection(pb.GetConnectionRequest(name=charts)))
    assert refused.reason == "CONNECTION_NOT_FOUND"


async def test_a_connection_that_is_used_is_not_deleted_and_its_users_are_named(
    world: World, charts: str
) -> None:
    delete = pb.DeleteConnectionRequest(name=charts)
    world.mapper.users = {charts: [f"DIM_{letter}" for letter in "ABCDEF"], "warehouse": ["FCT_X"]}
    refused = await refusal(world.DeleteConnection(delete))
    assert refused.reason == "CONNECTION_IN_USE"
    assert refused.metadata == {"connection": charts, "mappings": "DIM_A, DIM_B, DIM_C, DIM_D, DIM_E"}
    assert refused.message.endswith("the mappings DIM_A, DIM_B, DIM_C, DIM_D, DIM_E and others")
    world.mapper.users, world.jobs.users = {charts: ["DIM_A"]}, {charts: ["DIM_B"]}
    refused = await refusal(world.DeleteConnection(delete))
    assert refused.message == "connection charts is used by the mappings DIM_A and the jobs DIM_B"
    world.mapper.users = {}
    assert (await refusal(world.DeleteConnection(delete))).metadata["jobs"] == "DIM_B"
    world.jobs.users = {}
    await world.DeleteConnection(delete)


async def test_nothing_is_deleted_while_nobody_can_tell_whether_it_is_used(world: World, charts: str) -> None:
    await world.users.aclose()
    refused = await refusal(world.DeleteConnection(pb.DeleteConnectionRequest(name=charts)))
    assert refused.reason == "SERVICE_UNAVAILABLE"
    assert (await world.GetConnection(pb.GetConnectionRequest(name=charts))).name == charts


async def test_a_stored_password_is_not_shown_to_another_server(world: World, registry: str) -> None:
    for mask, settings in (
        ("postgresql.host", pb.PostgresqlSettings(host="127.0.0.2")),
        ("postgresql.port", pb.PostgresqlSettings(port=1)),
        ("postgresql.user", pb.PostgresqlSettings(user="eve")),
    ):
        refused = await refusal(world.UpdateConnection(_update(registry, mask, postgresql=settings)))
        assert refused.reason == "PASSWORD_REQUIRED"
        assert "connection.postgresql.password" in refused.fields
    settings = pb.PostgresqlSettings(host="127.0.0.2", password="given again")
    mask = "postgresql.host,postgresql.password"
    moved = await world.UpdateConnection(_update(registry, mask, postgresql=settings))
    assert moved.postgresql.host == "127.0.0.2"


async def test_a_stored_password_is_not_shown_under_weaker_encryption(world: World) -> None:
    modes = pb.PostgresqlSettings
    strict = pb.Connection(name="strict", postgresql=world.settings)
    strict.postgresql.ssl_mode = modes.SSL_MODE_VERIFY_FULL
    await world.CreateConnection(pb.CreateConnectionRequest(connection=strict))
    for mode in (modes.SSL_MODE_UNSPECIFIED, modes.SSL_MODE_REQUIRE, modes.SSL_MODE_DISABLE):
        weaker = _update("strict", "postgresql.ssl_mode", postgresql=pb.PostgresqlSettings(ssl_mode=mode))
        assert (await refusal(world.UpdateConnection(weaker))).reason == "PASSWORD_REQUIRED"
    given = pb.PostgresqlSettings(ssl_mode=modes.SSL_MODE_REQUIRE, password="again")
    mask = "postgresql.ssl_mode,postgresql.password"
    await world.UpdateConnection(_update("strict", mask, postgresql=given))
    stronger = pb.PostgresqlSettings(ssl_mode=modes.SSL_MODE_VERIFY_FULL)
    changed = await world.UpdateConnection(_update("strict", "postgresql.ssl_mode", postgresql=stronger))
    assert changed.has_password


async def test_a_connection_of_another_kind_forgets_the_password(world: World, registry: str) -> None:
    changed = await world.UpdateConnection(_update(registry, "files", files=pb.FilesSettings(path="charts")))
    assert changed.kind == pb.KIND_FILES
    assert not changed.has_password
    back = world.settings.__class__()
    back.CopyFrom(world.settings)
    back.password = ""
    await world.UpdateConnection(_update(registry, "postgresql", postgresql=back))
    assert _stored(world, registry).sealed_password is None


async def test_a_password_is_sealed_for_its_own_row(world: World, registry: str) -> None:
    row = _stored(world, registry)
    assert row.sealed_password
    assert world.settings.password.encode() not in row.sealed_password
    assert world.settings.password not in str(row.settings)
    thief = pb.PostgresqlSettings()
    thief.CopyFrom(world.settings)
    thief.password = "my own"
    await world.CreateConnection(
        pb.CreateConnectionRequest(connection=pb.Connection(name="thief", postgresql=thief))
    )
    with world.database.transaction() as session:
        stolen = sa.update(Connection).where(Connection.name == "thief")
        session.execute(stolen.values(sealed_password=row.sealed_password))
    call = world.stub.TestConnection(pb.TestConnectionRequest(name="thief"), metadata=world.caller)
    try:
        await call
    except Exception as error:  # noqa: BLE001 - a fault of ours is no refusal
        assert "internal error" in str(error)
    else:
        raise AssertionError


async def test_a_host_outside_of_the_policy_is_refused_at_its_field(world: World) -> None:
    for host in ("169.254.169.254", "metadata.google.internal", "0x7f.1", "::ffff:169.254.169.254", "a b"):
        connection = pb.Connection(name="x", postgresql=world.settings)
        connection.postgresql.host = host
        refused = await refusal(world.CreateConnection(pb.CreateConnectionRequest(connection=connection)))
        assert refused.reason == "HOST_REFUSED"
        assert list(refused.fields) == ["connection.postgresql.host"]


async def test_a_path_outside_of_the_folders_is_refused_at_its_field(world: World) -> None:
    (world.folder / "link").symlink_to("/etc")
    for path in ("/etc", "../..", "charts/../../x", "link", "."):
        for connection in (
            pb.Connection(name="x", files=pb.FilesSettings(path=path)),
            pb.Connection(name="x", sqlite=pb.SqliteSettings(path=path)),
        ):
            refused = await refusal(world.CreateConnection(pb.CreateConnectionRequest(connection=connection)))
            assert refused.reason == "PATH_REFUSED"
            assert next(iter(refused.fields)).endswith(".path")


async def test_a_path_is_checked_again_when_it_is_opened(world: World, charts: str) -> None:
    (world.folder / "charts").rename(world.folder / "moved")
    (world.folder / "charts").symlink_to("/etc")
    refused = await refusal(world.ListTables(pb.ListTablesRequest(connection=charts)))
    assert (refused.reason, refused.metadata) == ("PATH_REFUSED", {"connection": charts})
    assert refused.fields == {}
    assert refused.message.startswith("connection charts: the path lies outside")


async def test_credentials_are_leased_to_the_jobs_service_alone_and_on_record(
    world: World, registry: str
) -> None:
    request = pb.LeaseCredentialsRequest(connection=registry, purpose="run 1")
    for token in (world.issuer.token(), world.issuer.service_token("mapper")):
        assert (
            await refusal(world.as_caller(token).LeaseCredentials(request))
        ).reason == "PERMISSION_MISSING"
    jobs = world.as_caller(world.issuer.service_token("jobs"))
    lease = await jobs.LeaseCredentials(request)
    assert lease.connection.postgresql.password == world.settings.password
    assert lease.host_address == "127.0.0.1"
    records = await world.ListCredentialLeases(pb.ListCredentialLeasesRequest(connection=registry))
    assert [(found.id, found.service, found.purpose) for found in records.leases] == [
        (lease.id, "jobs", "run 1")
    ]
    await world.DeleteConnection(pb.DeleteConnectionRequest(name=registry))
    records = await world.ListCredentialLeases(pb.ListCredentialLeasesRequest(connection=registry))
    assert len(records.leases) == 1


async def test_a_lease_of_a_folder_tells_its_absolute_path(world: World, charts: str) -> None:
    jobs = world.as_caller(world.issuer.service_token("jobs"))
    lease = await jobs.LeaseCredentials(pb.LeaseCredentialsRequest(connection=charts, purpose="run 1"))
    assert lease.resolved_path == str((world.folder / "charts").resolve())
    other = world.as_caller(world.issuer.service_token("jobs", organization="org-2"))
    request = pb.LeaseCredentialsRequest(connection=charts, purpose="run 1")
    assert (await refusal(other.LeaseCredentials(request))).reason == "CONNECTION_NOT_FOUND"
