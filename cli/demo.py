"""`portolan demo`: a warehouse loaded from real data, its source changed, and loaded again."""

import os
import secrets
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from cli import show
from cli.auth import ENROLMENT_FILE, enrolment_code
from cli.client import Client, CommandError
from cli.connection import SslMode, postgresql_settings
from cli.session import failures
from cli.suite import Suite
from cli.up import BasePort, Data, Database, Port, announce, interrupt_on_signals, report
from portolan.auth.v1.auth_pb2 import BootstrapRequest, LoginRequest
from portolan.connections.v1.connections_pb2 import Connection, PostgresqlSettings, SqliteSettings

USER, EMAIL = "admin", "admin@portolan.example"
PASSWORD_FILE = "demo-password"  # noqa: S105  # a file's name
SQLITE_FILE, SQLITE_SCHEMA, POSTGRESQL_SCHEMA = "warehouse.db", "main", "portolan_demo"


def demo(
    *,
    data: Data = Path("data"),
    postgres: Annotated[
        str | None,
        typer.Option(
            metavar="postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
            help=f"Load into this PostgreSQL database; its schema {POSTGRESQL_SCHEMA} is made anew.",
        ),
    ] = None,
    ssl_mode: Annotated[SslMode, typer.Option(help="Encryption of that connection.")] = SslMode.DISABLE,
    database: Database = None,
    port: Port = 8080,
    base_port: BasePort = 50051,
) -> None:
    """Loads a warehouse from real data, changes the source, loads again, shows it all, and ends."""
    from demo import source, story  # the demonstration is no part of an installed package

    suite = Suite(data, database, port, base_port)
    target = Connection(name="warehouse", description="The warehouse of the demonstration")
    if postgres:
        target.postgresql.CopyFrom(postgresql_settings(postgres, ssl_mode))
    else:
        target.sqlite.CopyFrom(SqliteSettings(path=SQLITE_FILE))
    interrupt_on_signals()
    begun = time.monotonic()
    with failures(suite.url), suite.claimed():
        source.reset(data / "flights")
        _reset_warehouse(data, target)
        story.heading("Start")
        announce(suite)
        with suite.running(report) as (_supervisor, seconds):
            story.done(f"all healthy in {show.seconds(seconds)}")
            client = Client(suite.url)
            try:
                _sign_in(client, data)
                schema = POSTGRESQL_SCHEMA if postgres else SQLITE_SCHEMA
                story.Story(client, data, schema).play(target)
            finally:
                client.close()
    story.heading("What to try next")
    _suggest(suite)
    show.out.print()
    story.done(f"the demonstration took {show.seconds(time.monotonic() - begun)}; nothing is left running")


def _sign_in(client: Client, data: Path) -> None:
    """Signs in as the administrator that the demonstration made, and makes it the first time."""
    path = data / PASSWORD_FILE
    if (data / ENROLMENT_FILE).exists():
        password = secrets.token_urlsafe(18)
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(password + "\n")
        request = BootstrapRequest(
            enrolment_code=enrolment_code(data), email=EMAIL, user_name=USER, password=password
        )
        client.tokens.keep(client.public.Bootstrap(request))
    elif path.exists():
        password = path.read_text().strip()
        client.tokens.keep(client.public.Login(LoginRequest(user=USER, password=password)))
    else:
        raise CommandError(
            f"The data folder {data} has an administrator that the demonstration did not make. "
            "Give it a folder of its own with --data."
        )
    show.out.print(Text.assemble(("✓ ", "green"), f"signed in as {USER}; the password is in {path}"))


def _reset_warehouse(data: Path, target: Connection) -> None:
    """Makes the demonstration's warehouse empty, so that it tells the same each time."""
    if target.HasField("sqlite"):
        for path in data.glob(SQLITE_FILE + "*"):
            path.unlink()
    else:
        _drop_schema(target.postgresql)


def _drop_schema(settings: PostgresqlSettings) -> None:
    import psycopg

    try:
        with psycopg.connect(
            host=settings.host,
            port=settings.port,
            dbname=settings.database,
            user=settings.user,
            password=settings.password,
        ) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {POSTGRESQL_SCHEMA} CASCADE")
    except psycopg.Error as error:
        raise CommandError(f"The database of --postgres cannot be used: {error}") from None


def _suggest(suite: Suite) -> None:
    folder = "" if suite.data == Path("data") else f" --data {suite.data}"
    ports = "" if suite.port == Suite.port else f" --port {suite.port} --base-port {suite.base_port}"
    server = "" if suite.port == Suite.port else f" --server {suite.url}"
    suggestions = [
        ("Serve this data until Ctrl-C", f"portolan up{folder}{ports}"),
        ("See what there is", f"portolan job list{server}"),
        ("Load once more", f"portolan job run DIM_PLANE --follow{server}"),
        ("Ask the warehouse", f'portolan connection query warehouse "SELECT * FROM mart_delay"{server}'),
        ("See the statements", f"portolan mapping plan FCT_FLIGHT{server}"),
        ("Write your own", f"portolan mapping template -o mine.xlsx{server}"),
        ("Over REST", f"curl {suite.url}/api/openapi.json"),
    ]
    for what, command in suggestions:
        show.out.print(Text(what, "dim"))
        show.out.print(Text(f"  {command}", "bold"), soft_wrap=True)  # whole, to be copied
