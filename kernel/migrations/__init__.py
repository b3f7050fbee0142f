"""Migrations: one Alembic history a service, in the service's own schema.

A service has its models in `models.py`, where `Model` is the base of all, and its versions in `migrations/`.
How they are run (`env.py`) and what a new one looks like (`script.py.mako`) is the same for all, and here.
"""

import importlib
import re
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from kernel.db import Database


def config(database: Database, service: str) -> Config:
    """Alembic's configuration for a service's package."""
    models = importlib.import_module(f"services.{service}.models")
    found = Config()
    found.set_main_option("script_location", str(Path(__file__).parent))
    found.set_main_option("version_locations", str(Path(str(models.__file__)).with_name("migrations")))
    found.set_main_option("file_template", "%%(year)d%%(month).2d%%(day).2d_%%(slug)s")
    found.set_main_option("path_separator", "newline")
    found.attributes.update(database=database, metadata=models.Model.metadata)
    return found


def upgrade(database: Database, service: str) -> None:
    """Brings a service's schema to its newest version; several may call it at once, and one does the work."""
    command.upgrade(config(database, service), "head")


def revise(database: Database, service: str, message: str) -> None:
    """Writes a migration from the difference between the models and the migrated schema."""
    slug = re.sub(r"\W+", "_", message.lower())
    command.revision(config(database, service), message=message, autogenerate=True, rev_id=slug[:40])


def pending(database: Database, service: str) -> bool:
    """Whether the schema is not at its newest version."""
    head = ScriptDirectory.from_config(config(database, service)).get_current_head()
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() != head
