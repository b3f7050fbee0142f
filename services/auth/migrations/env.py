"""Alembic's entry."""

from kernel import migrations
from services.auth.models import Model

migrations.run(Model.metadata)
