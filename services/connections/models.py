"""Connections, their sealed passwords, and the record of who was handed them."""

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from kernel.databases.endpoints import DatabaseKind
from kernel.db import Base, Resource, metadata, new_id, now


class Model(Base):
    """The base of this service's models."""

    __abstract__ = True
    metadata = metadata()


class Connection(Resource, Model):
    """A database or folder. `settings` are those of its kind, without the password."""

    __tablename__ = "connections"
    __table_args__ = (sa.UniqueConstraint("organization_id", "name"),)

    id: orm.Mapped[str] = orm.mapped_column(sa.String(36), primary_key=True, default=new_id)
    organization_id: orm.Mapped[str] = orm.mapped_column(sa.String(36))
    name: orm.Mapped[str] = orm.mapped_column(sa.String(63))
    description: orm.Mapped[str] = orm.mapped_column(sa.String(400), default="")
    kind: orm.Mapped[DatabaseKind] = orm.mapped_column(sa.Enum(DatabaseKind, native_enum=False, length=20))
    settings: orm.Mapped[dict[str, Any]] = orm.mapped_column()
    sealed_password: orm.Mapped[bytes | None] = orm.mapped_column(sa.LargeBinary)

    @property
    def has_password(self) -> bool:
        """Whether a password is kept."""
        return self.sealed_password is not None

    @property
    def secret_context(self) -> str:
        """What the sealed password is bound to."""
        return f"connections|{self.organization_id}|{self.id}|password"


class CredentialLease(Model):
    """A record that credentials were handed to a service. It outlives the connection."""

    __tablename__ = "credential_leases"
    __table_args__ = (
        sa.Index("ix_credential_leases_organization_id_connection", "organization_id", "connection"),
    )

    id: orm.Mapped[str] = orm.mapped_column(sa.String(36), primary_key=True, default=new_id)
    organization_id: orm.Mapped[str] = orm.mapped_column(sa.String(36))
    connection: orm.Mapped[str] = orm.mapped_column(sa.String(63))
    service: orm.Mapped[str] = orm.mapped_column(sa.String(30))
    purpose: orm.Mapped[str] = orm.mapped_column(sa.String(200))
    create_time: orm.Mapped[dt.datetime] = orm.mapped_column(default=now)
