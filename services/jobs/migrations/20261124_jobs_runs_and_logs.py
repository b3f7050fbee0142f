"""jobs runs and logs."""

import sqlalchemy as sa
from alembic import op

import kernel.db

revision = "jobs_runs_and_logs"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this version."""
    op.create_table(
        "plans",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("organization_id", sa.String(length=36), nullable=False),
        sa.Column("reference", sa.String(length=100), nullable=False),
        sa.Column("mapping_version", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("source_connection", sa.String(length=63), nullable=False),
        sa.Column("target_connection", sa.String(length=63), nullable=False),
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plans")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("organization_id", sa.String(length=36), nullable=False),
        sa.Column("reference", sa.String(length=100), nullable=False),
        sa.Column("plan_id", sa.String(length=36), nullable=False),
        sa.Column("fence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("creator", sa.String(length=100), nullable=False),
        sa.Column("create_time", kernel.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("update_time", kernel.db.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_jobs_plan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("organization_id", "reference", name=op.f("uq_jobs_organization_id_reference")),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("organization_id", sa.String(length=36), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=True),
        sa.Column("plan_id", sa.String(length=36), nullable=False),
        sa.Column("reference", sa.String(length=100), nullable=False),
        sa.Column("mapping_version", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("request_id", sa.String(length=36), nullable=True),
        sa.Column("creator", sa.String(length=100), nullable=False),
        sa.Column("create_time", kernel.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "QUEUED",
                "RUNNING",
                "STOPPING",
                "SUCCEEDED",
                "FAILED",
                "STOPPED",
                name="state",
                native_enum=False,
                create_constraint=True,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("start_time", kernel.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("end_time", kernel.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("error_reason", sa.String(length=63), nullable=False),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.Column("attempt", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("losses", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("fence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("worker", sa.String(length=100), nullable=False),
        sa.Column("lease_expire_time", kernel.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("lines", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("rows_source", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("rows_inserted", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("rows_updated", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("rows_closed", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("rows_unchanged", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("rows_duplicate", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("rows_rejected", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.CheckConstraint(
            "(state IN ('RUNNING', 'STOPPING')) = (lease_expire_time IS NOT NULL)", name=op.f("ck_runs_lease")
        ),
        sa.CheckConstraint(
            "state <> 'SUCCEEDED' OR rows_source = rows_inserted + rows_updated + rows_closed"
            " + rows_unchanged + rows_duplicate + rows_rejected",
            name=op.f("ck_runs_rows"),
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_runs_job_id"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_runs_plan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.UniqueConstraint("organization_id", "request_id", name=op.f("uq_runs_organization_id_request_id")),
    )
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.create_index("ix_runs_job_id_id", ["job_id", "id"], unique=False)
        batch_op.create_index("ix_runs_organization_id_id", ["organization_id", "id"], unique=False)
        batch_op.create_index(
            "ix_runs_organization_id_reference_id", ["organization_id", "reference", "id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_runs_state"), ["state"], unique=False)
        batch_op.create_index(
            "uq_runs_job_id",
            ["job_id"],
            unique=True,
            sqlite_where=sa.text("state IN ('QUEUED', 'RUNNING', 'STOPPING')"),
            postgresql_where=sa.text("state IN ('QUEUED', 'RUNNING', 'STOPPING')"),
        )

    op.create_table(
        "log_lines",
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("create_time", kernel.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column(
            "level",
            sa.Enum(
                "INFO", "WARNING", "ERROR", name="level", native_enum=False, create_constraint=True, length=16
            ),
            nullable=False,
        ),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_log_lines_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "sequence", name=op.f("pk_log_lines")),
    )
    op.create_table(
        "rejected_rows",
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key", sa.JSON(), nullable=False),
        sa.Column("column", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("reason", sa.String(length=63), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_rejected_rows_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "sequence", name=op.f("pk_rejected_rows")),
    )


def downgrade() -> None:
    """Back to the version before."""
    op.drop_table("rejected_rows")
    op.drop_table("log_lines")
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_runs_job_id",
            sqlite_where=sa.text("state IN ('QUEUED', 'RUNNING', 'STOPPING')"),
            postgresql_where=sa.text("state IN ('QUEUED', 'RUNNING', 'STOPPING')"),
        )
        batch_op.drop_index(batch_op.f("ix_runs_state"))
        batch_op.drop_index("ix_runs_organization_id_reference_id")
        batch_op.drop_index("ix_runs_organization_id_id")
        batch_op.drop_index("ix_runs_job_id_id")

    op.drop_table("runs")
    op.drop_table("jobs")
    op.drop_table("plans")
