"""`portolan connection`: the databases and folders that mappings read and load."""

import enum
import sys
from typing import Annotated
from urllib.parse import unquote, urlsplit

import typer
from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import ListValue
from rich.console import RenderableType

from cli import show
from cli.client import pages
from cli.session import Session, command
from portolan.connections.v1.connections_pb2 import (
    Connection,
    CreateConnectionRequest,
    DeleteConnectionRequest,
    FilesSettings,
    GetConnectionRequest,
    Kind,
    ListConnectionsRequest,
    ListConnectionsResponse,
    ListTablesRequest,
    ListTablesResponse,
    PostgresqlSettings,
    PreviewRowsRequest,
    SqliteSettings,
    TestConnectionRequest,
    UpdateConnectionRequest,
)

app = typer.Typer(no_args_is_help=True, help="Say where data lives, and look at it.")

Name = Annotated[str, typer.Argument(help="The connection's name.")]


class SslMode(enum.StrEnum):
    """How a PostgreSQL connection is encrypted."""

    DISABLE = "disable"
    REQUIRE = "require"
    VERIFY_FULL = "verify-full"


@command(app, "add")
def add(
    session: Session,
    name: Name,
    *,
    postgresql: Annotated[
        str | None,
        typer.Option(metavar="postgresql://USER@HOST:PORT/DATABASE", help="A PostgreSQL database."),
    ] = None,
    sqlite: Annotated[str | None, typer.Option(metavar="FILE", help="A SQLite file.")] = None,
    files: Annotated[str | None, typer.Option(metavar="FOLDER", help="A folder of CSV and Parquet.")] = None,
    ssl_mode: Annotated[
        SslMode, typer.Option(help="Encryption of a PostgreSQL connection.")
    ] = SslMode.REQUIRE,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    description: Annotated[str, typer.Option(help="What it is.")] = "",
) -> None:
    """Adds a connection. Paths are relative to the installation's data folder; passwords are asked for."""
    connection = Connection(name=name, description=description)
    match postgresql, sqlite, files:
        case str(url), None, None:
            settings = postgresql_settings(url, ssl_mode)
            if settings.password:
                raise typer.BadParameter(
                    "Leave the password out of the address; it is asked for.", param_hint="--postgresql"
                )
            settings.password = _password(from_stdin=password_stdin)
            connection.postgresql.CopyFrom(settings)
        case None, str(path), None:
            connection.sqlite.CopyFrom(SqliteSettings(path=path))
        case None, None, str(path):
            connection.files.CopyFrom(FilesSettings(path=path))
        case _:
            raise typer.BadParameter(
                "Give exactly one of them.", param_hint="--postgresql, --sqlite or --files"
            )
    added = session.client.connections.CreateConnection(CreateConnectionRequest(connection=connection))
    session.show(added, f"Added {added.name}. Try it with `portolan connection test {added.name}`.")


@command(app, "list")
def list_(session: Session) -> None:
    """Lists connections."""
    request = ListConnectionsRequest()
    found = ListConnectionsResponse(
        connections=pages(session.client.connections.ListConnections, request, lambda page: page.connections)
    )
    rows = [(row.name, _kind(row), _place(row), row.description) for row in found.connections]
    session.show(found, show.table(["NAME", "KIND", "WHERE", "DESCRIPTION"], rows))


@command(app, "show")
def show_(session: Session, name: Name) -> None:
    """Shows a connection, without its password."""
    found = session.client.connections.GetConnection(GetConnectionRequest(name=name))
    session.show(
        found,
        show.facts(
            [
                ("Connection", found.name),
                ("Description", found.description),
                ("Kind", _kind(found)),
                ("Where", _place(found)),
                ("Password", "kept" if found.has_password else ""),
                ("Created", show.moment(found.create_time)),
                ("Changed", show.moment(found.update_time)),
            ]
        ),
    )


@command(app, "test")
def test(session: Session, name: Name) -> None:
    """Opens a connection and tells what answered."""
    with session.busy(f"Opening {name}"):
        result = session.client.connections.TestConnection(TestConnectionRequest(name=name))
    session.show(
        result,
        f"{name} answers: {result.server}, in {show.duration(result.latency)}.",
        *(f"Note: {warning}" for warning in result.warnings),
    )


@command(app, "tables")
def tables(
    session: Session, name: Name, *, schema: Annotated[str, typer.Option(help="Only this schema.")] = ""
) -> None:
    """Lists the tables of a connection with their columns; key columns are marked."""
    request = ListTablesRequest(connection=name, schema=schema)
    with session.busy(f"Reading {name}"):
        found = ListTablesResponse(
            tables=pages(session.client.connections.ListTables, request, lambda page: page.tables)
        )
    rows = [
        (
            f"{table.schema}.{table.name}" if table.schema else table.name,
            ", ".join(
                f"{column.name}{'*' if column.name in table.primary_key else ''} {column.native_type}"
                for column in table.columns
            ),
        )
        for table in found.tables
    ]
    session.show(found, show.table(["TABLE", "COLUMNS"], rows))


@command(app, "preview")
def preview(
    session: Session,
    name: Name,
    table: Annotated[str, typer.Argument(help="A table, as `tables` lists it.")],
    *,
    rows: Annotated[int, typer.Option(min=1, max=1000, help="The most rows.")] = 20,
) -> None:
    """Shows the first rows of a table."""
    quoted = ".".join('"' + part.replace('"', '""') + '"' for part in table.split("."))
    _preview(session, PreviewRowsRequest(connection=name, query=f"SELECT * FROM {quoted}", max_rows=rows))


@command(app, "query")
def query(
    session: Session,
    name: Name,
    sql: Annotated[str, typer.Argument(help="One SELECT in the connection's own dialect; - reads it.")],
    *,
    rows: Annotated[int, typer.Option(min=1, max=1000, help="The most rows.")] = 20,
) -> None:
    """Runs a query, read-only and within a time limit, and shows its first rows."""
    text = sys.stdin.read() if sql == "-" else sql
    _preview(session, PreviewRowsRequest(connection=name, query=text, max_rows=rows))


@command(app, "update")
def update(
    session: Session,
    name: Name,
    *,
    description: Annotated[str | None, typer.Option(help="What it is.")] = None,
    host: Annotated[str | None, typer.Option(help="The PostgreSQL server's host.")] = None,
    port: Annotated[int | None, typer.Option(help="Its port.", min=1, max=65535)] = None,
    database: Annotated[str | None, typer.Option(help="The database.")] = None,
    user: Annotated[str | None, typer.Option(help="The user to sign in as.")] = None,
    ssl_mode: Annotated[SslMode | None, typer.Option(help="Encryption.")] = None,
    path: Annotated[str | None, typer.Option(help="The SQLite file, or the folder of files.")] = None,
    password: Annotated[bool, typer.Option("--password", help="Ask for a new password.")] = False,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read a new password from standard input.")
    ] = False,
) -> None:
    """Changes what is given. Another host, port or user, or weaker encryption, needs the password again."""
    before = session.client.connections.GetConnection(GetConnectionRequest(name=name))
    given = {"host": host, "port": port, "database": database, "user": user, "path": path}
    changes: dict[str, object] = {field: value for field, value in given.items() if value is not None}
    exposed = not {"host", "port", "user"}.isdisjoint(changes)
    if ssl_mode is not None:
        changes["ssl_mode"] = _ssl_mode(ssl_mode)
        exposed = exposed or _ssl_mode(ssl_mode) < before.postgresql.ssl_mode
    if password or password_stdin or (before.has_password and exposed):
        changes["password"] = _password(from_stdin=password_stdin)
    wanted = Connection(etag=before.etag)
    mask = [] if description is None else ["description"]
    wanted.description = description or ""
    kind = str(before.WhichOneof("settings"))
    settings = getattr(wanted, kind)
    for field, value in changes.items():
        if field not in settings.DESCRIPTOR.fields_by_name:
            raise typer.BadParameter(f"{name} is of kind {kind}.", param_hint=f"--{field.replace('_', '-')}")
        setattr(settings, field, value)
        mask.append(f"{kind}.{field}")
    if not mask:
        raise typer.BadParameter("Say what to change; --help lists what can be.")
    request = UpdateConnectionRequest(name=name, connection=wanted, update_mask=FieldMask(paths=mask))
    changed = session.client.connections.UpdateConnection(request)
    session.show(changed, f"Changed {name}. Try it with `portolan connection test {name}`.")


@command(app, "delete")
def delete(session: Session, name: Name) -> None:
    """Deletes a connection and its password."""
    session.client.connections.DeleteConnection(DeleteConnectionRequest(name=name))
    session.show(Empty(), f"The connection {name} is deleted.")


def postgresql_settings(url: str, ssl_mode: SslMode) -> PostgresqlSettings:
    """The settings that an address such as `postgresql://user@host:5432/database` stands for."""
    address = urlsplit(url)
    if address.scheme not in {"postgresql", "postgres"} or not (address.hostname and address.username):
        raise typer.BadParameter(f"{url!r} is not postgresql://USER@HOST:PORT/DATABASE.")
    return PostgresqlSettings(
        host=address.hostname,
        port=address.port or 5432,
        database=unquote(address.path.lstrip("/")),
        user=unquote(address.username),
        password=unquote(address.password or ""),
        ssl_mode=_ssl_mode(ssl_mode),
    )


def rows_table(columns: list[str], rows: list[ListValue]) -> RenderableType:
    """A query's rows; numbers stand to the right. Where a row is too wide for the terminal, it is a block."""
    numeric = [
        any(row[place] is not None for row in rows)
        and all(isinstance(row[place], float | None) for row in rows)
        for place in range(len(columns))
    ]
    heads = [("#" if number else "") + column for column, number in zip(columns, numeric, strict=True)]
    drawn = show.table(heads, [[_plain(value) for value in row] for row in rows])
    if show.fits(drawn):
        return drawn
    blocks = ([*zip(columns, map(_plain, row), strict=True), (" ", " ")] for row in rows)
    return show.facts(pair for block in blocks for pair in block)


def _preview(session: Session, request: PreviewRowsRequest) -> None:
    with session.busy(f"Asking {request.connection}"):
        found = session.client.connections.PreviewRows(request)
    parts: list[RenderableType] = [rows_table([column.name for column in found.columns], list(found.rows))]
    if found.truncated:
        parts.append(f"There is more than the first {len(found.rows):,} rows.")
    session.show(found, *parts)


def _plain(value: object) -> object:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)
    return show.NULL if value is None else value


def _ssl_mode(mode: SslMode) -> PostgresqlSettings.SslMode.ValueType:
    return PostgresqlSettings.SslMode.Value(f"SSL_MODE_{mode.name}")


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    password: str = typer.prompt("Password", hide_input=True, default="", show_default=False)
    return password


def _kind(connection: Connection) -> str:
    return show.name_of(Kind.Name(connection.kind), "KIND").lower()


def _place(connection: Connection) -> str:
    match connection.WhichOneof("settings"):
        case "postgresql":
            at = connection.postgresql
            return f"{at.user}@{at.host}:{at.port or 5432}/{at.database}"
        case "sqlite":
            return connection.sqlite.path
        case _:
            return connection.files.path
