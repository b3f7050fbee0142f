"""Connections: what they say, and how their passwords are kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from kernel.crypto import KeyRing
from kernel.databases.endpoints import DatabaseKind
from kernel.db import unless_conflict
from services.connections.errors import (
    ConnectionExistsError,
    ConnectionInUseError,
    ConnectionNotFoundError,
    PasswordRequiredError,
)
from services.connections.models import Connection, CredentialLease

IDENTITY = ("host", "port", "user")
"""The settings that say whom the password is shown to."""
STRENGTHS = ("DISABLE", "REQUIRE", "VERIFY_FULL")
"""The modes of encryption: each next one knows better whom the password is shown to."""
MAX_NAMED = 5
"""Users of each kind that a refusal names."""


@dataclass(frozen=True)
class Definition:
    """What a client says of a connection; an empty password is one that is not given."""

    name: str
    description: str
    kind: DatabaseKind
    settings: Mapping[str, Any]
    password: str = field(default="", repr=False)


def connections(organization_id: str) -> sa.Select[Connection]:
    """The connections of an organization."""
    return sa.select(Connection).where(Connection.organization_id == organization_id)


def leases(organization_id: str, connection: str) -> sa.Select[CredentialLease]:
    """The record of an organization's leases of one connection."""
    return sa.select(CredentialLease).where(
        CredentialLease.organization_id == organization_id, CredentialLease.connection == connection
    )


def get(session: orm.Session, organization_id: str, name: str) -> Connection:
    """A connection; ConnectionNotFoundError."""
    return _found(session.scalar(connections(organization_id).where(Connection.name == name)), name)


def lock(session: orm.Session, organization_id: str, name: str) -> Connection:
    """A connection that nobody else changes before the transaction ends; ConnectionNotFoundError."""
    query = connections(organization_id).where(Connection.name == name).with_for_update()
    return _found(session.scalar(query), name)


def create(
    session: orm.Session, organization_id: str, definition: Definition, secrets: KeyRing
) -> Connection:
    """Makes a connection; ConnectionExistsError."""
    row = Connection(organization_id=organization_id, name=definition.name)
    row.description, row.kind, row.settings = (
        definition.description,
        definition.kind,
        dict(definition.settings),
    )
    taken = ConnectionExistsError(f"a connection {definition.name} exists", connection=definition.name)
    with unless_conflict(session, uq_connections_organization_id_name=taken):
        session.add(row)
    row.sealed_password = _sealed(row, definition.password, secrets)
    return row


def update(row: Connection, definition: Definition, secrets: KeyRing) -> None:
    """Changes a connection; PasswordRequiredError where its password would be shown to somebody else."""
    if definition.password:
        row.sealed_password = _sealed(row, definition.password, secrets)
    elif row.has_password and _exposes(row, definition):
        if definition.kind == DatabaseKind.POSTGRESQL:
            text = "is needed again when kind, host, port or user changes, or encryption becomes weaker"
            raise PasswordRequiredError(
                f"the password {text}", fields={"connection.postgresql.password": text}
            )
        row.sealed_password = None
    row.description, row.kind, row.settings = (
        definition.description,
        definition.kind,
        dict(definition.settings),
    )
    row.revision += 1


def check_unused(name: str, mappings: Sequence[str], jobs: Sequence[str]) -> None:
    """Raises ConnectionInUseError where there are users, and names the first MAX_NAMED of each kind."""
    users = {kind: found for kind, found in (("mappings", mappings), ("jobs", jobs)) if found}
    if users:
        named = {kind: ", ".join(found[:MAX_NAMED]) for kind, found in users.items()}
        told = (
            f"the {kind} {named[kind]}{' and others' if len(found) > MAX_NAMED else ''}"
            for kind, found in users.items()
        )
        text = f"connection {name} is used by {' and '.join(told)}"
        raise ConnectionInUseError(text, fields=None, retry_after=None, connection=name, **named)


def password(row: Connection, secrets: KeyRing) -> str:
    """The password in clear; empty when none is kept."""
    if row.sealed_password is None:
        return ""
    return secrets.open(row.sealed_password, row.secret_context).decode()


def lease(session: orm.Session, row: Connection, service: str, purpose: str) -> CredentialLease:
    """Records that a service is handed a connection's credentials."""
    record = CredentialLease(
        organization_id=row.organization_id, connection=row.name, service=service, purpose=purpose
    )
    session.add(record)
    session.flush()
    return record


def _found(row: Connection | None, name: str) -> Connection:
    if row is None:
        raise ConnectionNotFoundError(f"there is no connection {name}", connection=name)
    return row


def _exposes(row: Connection, definition: Definition) -> bool:
    """Whether others than before may get to see the password."""
    before, after = row.settings, definition.settings
    if row.kind != definition.kind or any(before.get(name) != after.get(name) for name in IDENTITY):
        return True
    return STRENGTHS.index(after["ssl_mode"]) < STRENGTHS.index(before["ssl_mode"])


def _sealed(row: Connection, secret: str, secrets: KeyRing) -> bytes | None:
    return secrets.seal(secret.encode(), row.secret_context) if secret else None
