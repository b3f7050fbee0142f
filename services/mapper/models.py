"""Mappings and their versions. A version is never changed but for what its validation found."""

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from kernel.db import Base, Resource, metadata, new_id, now


class Model(Base):
    """The base of this service's models."""

    __abstract__ = True
    metadata = metadata()


class Mapping(Resource, Model):
    """A mapping: its name, and which of its versions is the latest and which the active one (0 for none)."""

    __tablename__ = "mappings"
    __table_args__ = (sa.UniqueConstraint("organization_id", "reference"),)

    id: orm.Mapped[str] = orm.mapped_column(sa.String(36), primary_key=True, default=new_id)
    organization_id: orm.Mapped[str] = orm.mapped_column(sa.String(36))
    reference: orm.Mapped[str] = orm.mapped_column(sa.String(100))
    latest_version: orm.Mapped[int] = orm.mapped_column(default=0)
    active_version: orm.Mapped[int] = orm.mapped_column(default=0)


class MappingVersion(Model):
    """A version: the header in columns, for it is searched; the mapped columns as one document.

    The columns are only ever written and read together, so they have no table of their own.
    """

    __tablename__ = "mapping_versions"

    mapping_id: orm.Mapped[str] = orm.mapped_column(
        sa.ForeignKey("mappings.id", ondelete="CASCADE"), primary_key=True
    )
    version: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    description: orm.Mapped[str] = orm.mapped_column(sa.String(400))
    source_connection: orm.Mapped[str] = orm.mapped_column(sa.String(63))
    target_connection: orm.Mapped[str] = orm.mapped_column(sa.String(63))
    target_schema: orm.Mapped[str] = orm.mapped_column(sa.String(63))
    target_table: orm.Mapped[str] = orm.mapped_column(sa.String(63))
    table_type: orm.Mapped[str] = orm.mapped_column(sa.String(20))
    frequency: orm.Mapped[str] = orm.mapped_column(sa.String(20))
    source_system: orm.Mapped[str] = orm.mapped_column(sa.String(30))
    batch_rows: orm.Mapped[int]
    columns: orm.Mapped[list[dict[str, Any]]] = orm.mapped_column(sa.JSON)
    creator: orm.Mapped[str] = orm.mapped_column(sa.String(36))
    create_time: orm.Mapped[dt.datetime] = orm.mapped_column(default=now)
    validated: orm.Mapped[bool] = orm.mapped_column(default=False)
    validate_time: orm.Mapped[dt.datetime | None]
    faults: orm.Mapped[list[dict[str, Any]]] = orm.mapped_column(sa.JSON, default=list)
    """What the last validation found."""
