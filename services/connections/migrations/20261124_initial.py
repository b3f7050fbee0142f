"""Connections and the record of leases."""

import sqlalchemy as sa
from alembic import op

import kernel.db

revision = "initial"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this version."""
    op.create_table(
        "connections",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("organization_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("description", sa.String(length=400), nullable=False),
        sa.Column(
            "kind",
            sa.Enum("POSTGRESQL", "SQLITE", "FILES", name="databasekind", native_enum=False, length=20),
            nullable=False,
        ),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("sealed_password", sa.LargeBinary(), nullable=True),
        sa.Column("create_time", kernel.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("update_time", kernel.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_connections")),
        sa.UniqueConstraint("organization_id", "name", name=op.f("uq_connections_organization_id_name")),
    )
    op.create_table(
        "credential_leases",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("organization_id", sa.String(length=36), nullable=False),
        sa.Column("connection", sa.String(length=63), nullable=False),
        sa.Column("service", sa.String(length=30), nullable=False),
        sa.Column("purpose", sa.String(length=200), nullable=False),
        sa.Column("create_time", kernel.db.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credential_leases")),
    )
    with op.batch_alter_table("credential_leases", schema=None) as batch_op:
        batch_op.create_index(
            "ix_credential_leases_organization_id_connection", ["organization_id", "connection"], unique=False
        )


def downgrade() -> None:
    """Back to the version before."""
    with op.batch_alter_table("credential_leases", schema=None) as batch_op:
        batch_op.drop_index("ix_credential_leases_organization_id_connection")

    op.drop_table("credential_leases")
    op.drop_table("connections")
