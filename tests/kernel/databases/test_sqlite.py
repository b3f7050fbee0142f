"""What only SQLite has."""

import sqlite3
from pathlib import Path

import pyarrow as pa
import pytest

from kernel.databases.endpoints import DatabaseKind, Endpoint
from kernel.databases.errors import QueryInvalidError, SourceUnavailableError
from kernel.databases.sources import open_source
from kernel.databases.sqlite import data_type
from kernel.databases.types import DataType, Kind
from tests.kernel.databases.conftest import Place


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("INTEGER", DataType(Kind.BIG_INTEGER)),
        ("smallint unsigned", DataType(Kind.BIG_INTEGER)),
        ("VARCHAR(10)", DataType(Kind.STRING, length=10)),
        ("TEXT", DataType(Kind.STRING)),
        ("decimal(15, 2)", DataType(Kind.DECIMAL, precision=15, scale=2)),
        ("NUMERIC(5)", DataType(Kind.DECIMAL, precision=5)),
        ("NUMERIC", DataType(Kind.OTHER)),
        ("double precision", DataType(Kind.DOUBLE)),
        ("BOOLEAN", DataType(Kind.BOOLEAN)),
        ("DATE", DataType(Kind.DATE)),
        ("DATETIME", DataType(Kind.TIMESTAMP)),
        ("BLOB", DataType(Kind.BINARY)),
        ("", DataType(Kind.OTHER)),
        ("anything ! at all", DataType(Kind.OTHER)),
    ],
)
def test_declared_types_become_ours(declared: str, expected: DataType) -> None:
    assert data_type(declared) == expected


def test_a_column_that_mixes_types_comes_as_text(sqlite: Place) -> None:
    query = "SELECT 1 AS a, 1.5 AS b, 'x' AS c, x'00ff' AS d, 1 AS e UNION ALL SELECT 2, 2.5, 'y', x'01', 2.5"
    with open_source(sqlite.endpoint) as source:
        (batch,) = source.batches(query, 100)
    assert [field.type for field in batch.schema] == [
        *(pa.int64(), pa.float64(), pa.string(), pa.binary(), pa.string())
    ]
    assert batch.column(4).to_pylist() == ["1", "2.5"]


def test_an_expression_has_no_declared_type(sqlite: Place) -> None:
    with open_source(sqlite.endpoint) as source:
        described = source.describe("SELECT id, count(*) AS n, pay AS p FROM people GROUP BY id")
    assert [(column.name, column.type.kind, column.native_type) for column in described] == [
        ("id", Kind.BIG_INTEGER, "INTEGER"),
        ("n", Kind.OTHER, ""),
        ("p", Kind.DECIMAL, "decimal(10,2)"),
    ]


def test_a_file_of_something_else_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_text("no database at all, but longer than a header would be" * 40)
    with pytest.raises(SourceUnavailableError):
        open_source(Endpoint(kind=DatabaseKind.SQLITE, path=str(path)))


def test_a_file_that_does_not_exist_yet_is_told_by_the_query_that_needs_it(tmp_path: Path) -> None:
    endpoint = Endpoint(kind=DatabaseKind.SQLITE, path=str(tmp_path / "later.db"))
    with open_source(endpoint) as source, pytest.raises(QueryInvalidError, match="does not exist yet"):
        source.rows("SELECT a FROM t", 1)


def test_a_name_of_a_file_may_be_odd(tmp_path: Path) -> None:
    path = tmp_path / "odd ?name#1%20.db"
    sqlite3.connect(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a)")
    connection.close()
    with open_source(Endpoint(kind=DatabaseKind.SQLITE, path=str(path))) as source:
        assert [table.name for table in source.tables(limit=9)] == ["t"]


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH ':memory:' AS x",
        "PRAGMA query_only = 0",
        "PRAGMA database_list",
        "CREATE TEMP TABLE x (a)",
        "CREATE TEMP VIEW x AS SELECT 1",
        "SELECT load_extension('x')",
        "VACUUM INTO 'x'",
        "BEGIN",
    ],
)
def test_nothing_else_is_reached_even_past_the_guard(sqlite: Place, statement: str) -> None:
    with open_source(sqlite.endpoint) as source, pytest.raises(QueryInvalidError):
        list(source.batches(statement, 100))


def test_a_value_cannot_fill_the_memory(sqlite: Place) -> None:
    with open_source(sqlite.endpoint) as source, pytest.raises(QueryInvalidError, match="too big"):
        source.rows("SELECT replace(printf('%.*c', 60000000, 'x'), 'x', 'xx') AS a", 1)


def test_a_database_is_read_while_it_is_written(sqlite: Place) -> None:
    writer = sqlite3.connect(sqlite.endpoint.path, isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL").fetchall()
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM people")
    with open_source(sqlite.endpoint) as source:
        assert len(source.rows("SELECT id FROM people", 10)) == 3
        writer.execute("COMMIT")
        assert source.rows("SELECT id FROM people", 10) == []
    writer.close()
