"""Each run knows its holder's last write."""

import sqlalchemy as sa
from alembic import op

revision = "last_write"
down_revision = "jobs_runs_and_logs"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this version."""
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("last_write", sa.String(length=36), server_default="", nullable=False))


def downgrade() -> None:
    """Back to the version before."""
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_column("last_write")
