"""Alembic's entry."""

from kernel import migrations
from services.mapper.models import Model

migrations.run(Model.metadata)
