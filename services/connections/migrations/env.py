"""Alembic's entry."""

from kernel import migrations
from services.connections.models import Model

migrations.run(Model.metadata)
