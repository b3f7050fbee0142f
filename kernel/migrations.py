"""Migrations: one Alembic history a service, in the service's own schema, run under a lock."""

import importlib
import re
from pathlib import Path

import sqlalchemy as sa
from alembic import command, context
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from kernel.db import Database

_LOCK = 7_067_830  # any number that nobody else locks; the schema's hash is added


def config(database: Database, service: str) -> Config:
    """Alembic's configuration for a service's package."""
    package = Path(str(importlib.import_module(f"services.{service}").__file__)).parent
    found = Config()
    found.set_main_option("script_location", str(package / "migrations"))
    found.set_main_option("file_template", "%%(year)d%%(month).2d%%(day).2d_%%(slug)s")
    found.set_main_option("path_separator", "os")
    found.attributes["database"] = database
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


def run(metadata: sa.MetaData) -> None:
    """What a service's `migrations/env.py` calls: runs the migrations that Alembic was asked for."""
    database: Database = context.config.attributes["database"]
    with database.engine.connect() as connection:
        if database.sqlite:
            connection.execute(sa.text("BEGIN IMMEDIATE"))
        else:
            key = _LOCK + sum(database.schema.encode())
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
            connection.execute(sa.schema.CreateSchema(database.schema, if_not_exists=True))
        context.configure(
            connection=connection,
            target_metadata=metadata,
            render_as_batch=database.sqlite,
            compare_type=True,
            transactional_ddl=True,
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
