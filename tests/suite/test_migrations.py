"""The migrations of every service make the tables of its models, forth and back, in its own schema alone."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory

from kernel import migrations
from kernel.db import Database

ROOT = Path(__file__).parents[2]
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/migrations"))
SYSTEM = {"information_schema", "pg_catalog", "pg_toast"}


@pytest.fixture
def database(service: str, database_url: str) -> Database:
    return Database(database_url, service, pool=2)


@pytest.mark.parametrize("service", SERVICES)
def test_models_equal_migrations(database: Database, service: str) -> None:
    migrations.upgrade(database, service)
    command.check(migrations.config(database, service))
    database.close()


@pytest.mark.parametrize("service", SERVICES)
def test_there_is_one_newest_version(service: str) -> None:
    database = Database("sqlite://", service)
    assert len(ScriptDirectory.from_config(migrations.config(database, service)).get_heads()) == 1
    database.close()


@pytest.mark.parametrize("service", SERVICES)
def test_every_version_goes_up_down_and_up(database: Database, service: str) -> None:
    config = migrations.config(database, service)
    assert migrations.pending(database, service)
    versions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    states = [tables(database)]
    for version in reversed(versions):
        command.upgrade(config, version)
        states.append(tables(database))
    assert not migrations.pending(database, service)
    for before in reversed(states[1:-1]):
        command.downgrade(config, "-1")
        assert tables(database) == before
    command.downgrade(config, "base")
    assert tables(database).keys() <= {f"{service}.alembic_version", "main.alembic_version"}
    migrations.upgrade(database, service)
    assert tables(database) == states[-1]
    database.close()


def test_services_share_a_database_without_touching_each_other(postgres_url: str) -> None:
    before: dict[str, list[str]] = {}
    for service in SERVICES:
        database = Database(postgres_url, service, pool=2)
        migrations.upgrade(database, service)
        after = tables(database)
        database.close()
        made = after.keys() - before.keys()
        assert {table.partition(".")[0] for table in made} == {service}
        assert {table: after[table] for table in before} == before
        before = after


def tables(database: Database) -> dict[str, list[str]]:
    """All tables of a database, each with its columns and indexes as text."""
    inspector = sa.inspect(database.engine)
    return {
        f"{schema}.{table}": [
            *(f"{column['name']} {column['type']}" for column in inspector.get_columns(table, schema)),
            *sorted(
                f"{index['name']} {index['unique']} {index['column_names']}"
                for index in inspector.get_indexes(table, schema)
            ),
        ]
        for schema in inspector.get_schema_names()
        if schema not in SYSTEM
        for table in inspector.get_table_names(schema)
    }
