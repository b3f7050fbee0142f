"""Rows and messages of connections."""

import datetime as dt
import decimal
import json
import math
from collections.abc import Sequence
from typing import Any

from google.protobuf import struct_pb2

from kernel.databases.endpoints import DatabaseKind, SslMode
from kernel.databases.messages import type_message
from kernel.databases.sources import Column, Table
from kernel.resources import enum_name, enum_number, to_message
from portolan.connections.v1 import connections_pb2 as pb
from services.connections.domain.access import POSTGRESQL_PORT
from services.connections.domain.connections import Definition
from services.connections.models import Connection

EXACT = 2**53
"""Integers up to here are exact as JSON numbers."""
MAX_CELL = 65536
MAX_ROWS_BYTES = 3_000_000
"""What clients of gRPC take without being told to, less a margin."""

_SSL_MODES = pb.PostgresqlSettings.DESCRIPTOR.enum_types_by_name["SslMode"]
_KINDS = {
    "postgresql": DatabaseKind.POSTGRESQL,
    "sqlite": DatabaseKind.SQLITE,
    "files": DatabaseKind.FILES,
}


def to_connection(row: Connection) -> pb.Connection:
    """A connection as its clients see it: without its password."""
    settings: dict[str, Any] = dict(row.settings)
    match row.kind:
        case DatabaseKind.POSTGRESQL:
            settings["ssl_mode"] = enum_number(_SSL_MODES, settings["ssl_mode"])
            return to_message(row, pb.Connection, postgresql=pb.PostgresqlSettings(**settings))
        case DatabaseKind.SQLITE:
            return to_message(row, pb.Connection, sqlite=pb.SqliteSettings(**settings))
        case DatabaseKind.FILES:
            return to_message(row, pb.Connection, files=pb.FilesSettings(**settings))


def definition(message: pb.Connection) -> Definition:
    """What a message says, with the defaults filled in."""
    kind = _KINDS[str(message.WhichOneof("settings"))]
    password = ""
    settings: dict[str, Any]
    match kind:
        case DatabaseKind.POSTGRESQL:
            given = message.postgresql
            password = given.password
            settings = {
                "host": given.host,
                "port": given.port or POSTGRESQL_PORT,
                "database": given.database,
                "user": given.user,
                "ssl_mode": enum_name(_SSL_MODES, given.ssl_mode) or SslMode.REQUIRE.value,
            }
        case DatabaseKind.SQLITE:
            settings = {"path": message.sqlite.path}
        case DatabaseKind.FILES:
            settings = {"path": message.files.path}
    return Definition(message.name, message.description, kind, settings, password)


def to_column(column: Column) -> pb.Column:
    """A column."""
    return to_message(column, pb.Column, type=type_message(column.type))


def to_table(table: Table) -> pb.Table:
    """A table with its columns and keys."""
    columns = [to_column(column) for column in table.columns]
    keys = [to_message(key, pb.ForeignKey) for key in table.foreign_keys]
    return to_message(table, pb.Table, columns=columns, foreign_keys=keys)


def to_rows(rows: Sequence[Sequence[Any]]) -> tuple[list[struct_pb2.ListValue], bool]:
    """Rows as JSON values, as many as a message holds, and whether any or a value had to be cut."""
    lists: list[struct_pb2.ListValue] = []
    room, cut = MAX_ROWS_BYTES, False
    for row in rows:
        cells = [_cell(value) for value in row]
        values = struct_pb2.ListValue(values=[value for value, _ in cells])
        room -= values.ByteSize()
        if room < 0:
            return lists, True
        cut = cut or any(shortened for _, shortened in cells)
        lists.append(values)
    return lists, cut


def _cell(value: Any) -> tuple[struct_pb2.Value, bool]:
    match value:
        case None:
            return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE), False
        case bool():
            return struct_pb2.Value(bool_value=value), False
        case int() if abs(value) <= EXACT:
            return struct_pb2.Value(number_value=value), False
        case float() if math.isfinite(value):
            return struct_pb2.Value(number_value=value), False
        case dt.date() | dt.time():
            text = value.isoformat()
        case bytes():
            text = value.hex()
        case int() | float() | decimal.Decimal() | str():
            text = str(value)
        case _:
            text = json.dumps(value, default=str)
    return struct_pb2.Value(string_value=text[:MAX_CELL]), len(text) > MAX_CELL
