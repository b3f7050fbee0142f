"""The databases of tests."""

import psycopg
import pytest

from tests.postgres import PostgresServer


def test_a_database_that_is_taken_again_is_as_new(postgres_server: PostgresServer) -> None:
    def seen(name: str) -> tuple[object, ...]:
        with psycopg.connect(postgres_server.url(name)) as connection:
            schemas = connection.execute(
                "SELECT nspname, nspacl, nspowner FROM pg_namespace WHERE nspname !~ '_temp_' ORDER BY 1"
            )
            relations = connection.execute("SELECT relname FROM pg_class WHERE relname !~ '^pg_' ORDER BY 1")
            objects = connection.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone()
            setting = connection.execute("SHOW statement_timeout").fetchone()
            return schemas.fetchall(), relations.fetchall(), objects, setting

    new = postgres_server.create_database()
    name = postgres_server.take_database()
    with psycopg.connect(postgres_server.url(name), autocommit=True) as left_open:
        left_open.execute("CREATE SCHEMA own CREATE TABLE kept (n integer)")
        left_open.execute("CREATE TABLE kept AS SELECT 1 AS n")
        left_open.execute("SELECT lo_create(0)")
        left_open.execute(f"ALTER DATABASE {name} SET statement_timeout = '1s'")
        postgres_server.leave_database(name)
        with pytest.raises(psycopg.OperationalError):
            left_open.execute("SELECT 1")
    assert postgres_server.take_database() == name
    assert seen(name) == seen(new)
    postgres_server.leave_database(name)
    postgres_server.drop_database(new)
