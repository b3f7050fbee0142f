"""The same small data in a database of each kind."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from kernel.databases.endpoints import DatabaseKind, Endpoint, SslMode

PEOPLE = [
    (1, "Ada", "2024-02-29", 12.50),
    (2, "Grace; O'Neil", None, 0.25),
    (3, "Ünal 100%", "1999-12-31", None),
]
POSTGRESQL = """
CREATE TABLE people (
  id integer PRIMARY KEY, name varchar(40) NOT NULL, born date, pay numeric(10,2)
);
CREATE TABLE orders (
  id bigint PRIMARY KEY, person integer NOT NULL REFERENCES people (id), note text
);
CREATE VIEW rich AS SELECT id, pay FROM people WHERE pay > 1;
"""
SQLITE = POSTGRESQL.replace("numeric", "decimal")


@dataclass(frozen=True)
class Place:
    """An endpoint with the data in it, and what differs from kind to kind."""

    endpoint: Endpoint
    schema: str
    endless: str
    """A query that runs for ever."""


@pytest.fixture(params=list(DatabaseKind), ids=lambda kind: kind.value.lower())
def place(request: pytest.FixtureRequest) -> Place:
    """The data, in a database of each kind in turn."""
    made: Place = request.getfixturevalue(request.param.value.lower())
    return made


@pytest.fixture
def postgresql(postgres_url: str) -> Place:
    """The data in PostgreSQL."""
    with psycopg.connect(postgres_url) as connection:
        connection.execute(POSTGRESQL)
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO people VALUES (%s, %s, %s, %s)", PEOPLE)
        connection.execute("INSERT INTO orders VALUES (10, 1, 'first')")
    return Place(
        endpoint_of(postgres_url),
        "public",
        "SELECT count(*) FROM generate_series(1, 1000000) AS a, generate_series(1, 1000000) AS b",
    )


@pytest.fixture
def sqlite(tmp_path: Path) -> Place:
    """The data in SQLite."""
    path = tmp_path / "data.db"
    connection = sqlite3.connect(path)
    connection.executescript(SQLITE)
    connection.executemany("INSERT INTO people VALUES (?, ?, ?, ?)", PEOPLE)
    connection.execute("INSERT INTO orders VALUES (10, 1, 'first')")
    connection.commit()
    connection.close()
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    return Place(Endpoint(kind=DatabaseKind.SQLITE, path=str(path)), "", endless)


@pytest.fixture
def files(tmp_path: Path) -> Place:
    """The data in CSV files."""
    folder = tmp_path / "files"
    folder.mkdir()
    lines = ["id,name,born,pay", *(",".join(_cell(value) for value in person) for person in PEOPLE)]
    (folder / "people.csv").write_text("\n".join(lines) + "\n")
    (folder / "orders.csv").write_text("id,person,note\n10,1,first\n")
    endless = "SELECT count(*) FROM range(100000000) AS a, range(100000000) AS b WHERE a.range <> b.range"
    return Place(Endpoint(kind=DatabaseKind.FILES, path=str(folder)), "", endless)


def endpoint_of(url: str) -> Endpoint:
    """The endpoint of a PostgreSQL database of the tests' server."""
    parts = sa.make_url(url)
    assert parts.host
    assert parts.port
    return Endpoint(
        kind=DatabaseKind.POSTGRESQL,
        host=parts.host,
        address=parts.host,
        port=parts.port,
        database=str(parts.database),
        user=str(parts.username),
        password=str(parts.password),
        ssl_mode=SslMode.DISABLE,
    )


@pytest.fixture
def run_postgresql(postgres_url: str) -> Callable[[str], list[tuple[Any, ...]]]:
    """A function that runs statements as the owner of the database."""

    def run(statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    return run


def _cell(value: object) -> str:
    return "" if value is None else f'"{value}"' if isinstance(value, str) else f"{value}"
