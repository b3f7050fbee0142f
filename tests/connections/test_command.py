"""`portolan connection update` against the service."""

import asyncio
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from typer.testing import CliRunner

from cli.main import app
from cli.tokens import Tokens
from portolan.auth.v1.auth_pb2 import TokenPair
from portolan.connections.v1 import connections_pb2 as pb
from tests.connections.conftest import World


@pytest.fixture(autouse=True)
def signed_in(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An administrator's tokens, where the command looks for them, and a terminal that is wide enough."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("PORTOLAN_SERVER", f"http://{world.address}")
    monkeypatch.setattr("cli.show.notes._width", 200)
    pair = TokenPair(access_token=world.issuer.token(), expires_in=Duration(seconds=300))
    Tokens(f"http://{world.address}").keep(pair)


async def update(*arguments: str, stdin: str = "") -> tuple[int, str]:
    """The exit code of the command, and what it told."""
    run = CliRunner().invoke
    result = await asyncio.to_thread(run, app, ["connection", "update", *arguments], input=stdin)
    return result.exit_code, result.output


async def found(world: World, name: str) -> pb.Connection:
    connection: pb.Connection = await world.GetConnection(pb.GetConnectionRequest(name=name))
    return connection


async def test_what_is_given_changes_and_the_rest_stays(world: World, registry: str, charts: str) -> None:
    arguments = ("--database", "elsewhere", "--ssl-mode", "verify-full", "--description", "new")
    assert (await update(registry, *arguments))[0] == 0
    changed = await found(world, registry)
    assert (changed.description, changed.postgresql.database) == ("new", "elsewhere")
    assert changed.postgresql.ssl_mode == pb.PostgresqlSettings.SSL_MODE_VERIFY_FULL
    assert (changed.postgresql.host, changed.has_password) == (world.settings.host, True)
    assert (await update(charts, "--path", "charts/today"))[0] == 0
    assert (await found(world, charts)).files.path == "charts/today"
    assert (await update(registry, "--description", ""))[0] == 0
    assert (await found(world, registry)).description == ""


async def test_another_user_needs_the_password_which_is_asked_for(world: World, registry: str) -> None:
    code, told = await update(registry, "--user", "eve", stdin="\n")
    assert code == 1
    assert "The password is needed again when kind, host, port or user changes" in told
    assert "(PASSWORD_REQUIRED)" in told
    code, told = await update(registry, "--user", "eve", stdin="a password of hers\n")
    assert code == 0
    assert "a password of hers" not in told
    assert (await found(world, registry)).postgresql.user == "eve"


async def test_a_new_password_is_read_from_standard_input(world: World, registry: str) -> None:
    assert (await update(registry, "--password-stdin", stdin="wrong from now on\n"))[0] == 0
    jobs = world.as_caller(world.issuer.service_token("jobs"))
    lease = await jobs.LeaseCredentials(pb.LeaseCredentialsRequest(connection=registry, purpose="a test"))
    assert lease.connection.postgresql.password == "wrong from now on"


async def test_what_the_kind_does_not_have_and_nothing_at_all_are_refused(charts: str) -> None:
    code, told = await update(charts, "--host", "example.org")
    assert (code, "--host" in told, "is of kind files" in told) == (2, True, True)
    assert (await update(charts))[0] == 2
