"""The way to a connection's database: where it may lie, and what opens it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel.databases import hosts, paths
from kernel.databases.endpoints import DatabaseKind, Endpoint, SslMode
from services.connections.errors import HostRefusedError, PathRefusedError
from services.connections.models import Connection

POSTGRESQL_PORT = 5432


@dataclass(frozen=True)
class Policy:
    """What connections may reach."""

    hosts: hosts.HostPolicy
    folders: tuple[Path, ...]
    own: tuple[Path, ...] = ()
    """What lies in the folders and is the installation's own."""
    authorities: str = ""
    """The certificates that servers are checked against, as in Endpoint."""


def check(kind: DatabaseKind, settings: Mapping[str, Any], policy: Policy) -> None:
    """Raises HostRefusedError or PathRefusedError where given settings lead to what may not be reached."""
    try:
        _place(kind, settings, policy)
    except (HostRefusedError, PathRefusedError) as refused:
        name = "host" if kind is DatabaseKind.POSTGRESQL else "path"
        field = f"connection.{kind.value.lower()}.{name}"
        raise type(refused)(refused.message, fields={field: refused.message}) from None


def endpoint(row: Connection, password: str, policy: Policy) -> Endpoint:
    """What opens a connection; its host or path is checked anew. HostRefusedError, PathRefusedError."""
    try:
        place = _place(row.kind, row.settings, policy)
    except (HostRefusedError, PathRefusedError) as refused:
        raise type(refused)(f"connection {row.name}: {refused.message}", connection=row.name) from None
    if row.kind is not DatabaseKind.POSTGRESQL:
        return Endpoint(kind=row.kind, path=place)
    return Endpoint(
        kind=row.kind,
        host=row.settings["host"],
        address=place,
        port=row.settings["port"],
        database=row.settings["database"],
        user=row.settings["user"],
        password=password,
        ssl_mode=SslMode(row.settings["ssl_mode"]),
        authorities=policy.authorities,
    )


def _place(kind: DatabaseKind, settings: Mapping[str, Any], policy: Policy) -> str:
    """The checked address of a host, or the checked absolute path."""
    if kind is DatabaseKind.POSTGRESQL:
        return hosts.resolve(settings["host"], policy.hosts)
    return str(paths.resolve(settings["path"], policy.folders, policy.own))
