"""What every kind of source does alike. Another kind is one more fixture of `place`."""

import threading
import time
from dataclasses import replace

import pyarrow as pa
import pytest

from kernel.databases.endpoints import DatabaseKind
from kernel.databases.errors import (
    FolderMissingError,
    QueryCancelledError,
    QueryInvalidError,
    QueryTimeoutError,
    SourceUnavailableError,
)
from kernel.databases.sources import open_source
from kernel.databases.types import Kind
from tests.kernel.databases.conftest import Place


def test_the_server_tells_its_product_and_version(place: Place) -> None:
    with open_source(place.endpoint) as source:
        product, version = source.server().split(" ")
    assert product in {"PostgreSQL", "SQLite", "DuckDB"}
    assert version[0].isdigit()


def test_tables_come_with_their_columns_and_types(place: Place) -> None:
    with open_source(place.endpoint) as source:
        tables = {table.name: table for table in source.tables(limit=100)}
    people = tables["people"]
    assert people.schema == place.schema
    assert not people.view
    assert [column.name for column in people.columns] == ["id", "name", "born", "pay"]
    kinds = [column.type.kind for column in people.columns]
    assert kinds[0] in {Kind.INTEGER, Kind.BIG_INTEGER}
    assert kinds[1:3] == [Kind.STRING, Kind.DATE]
    assert kinds[3] in {Kind.DECIMAL, Kind.DOUBLE}
    assert all(column.native_type for column in people.columns)


def test_tables_are_listed_in_pages(place: Place) -> None:
    with open_source(place.endpoint) as source:
        whole = [(table.schema, table.name) for table in source.tables(limit=100)]
        found: list[tuple[str, str]] = []
        while page := source.tables(after=found[-1] if found else ("", ""), limit=1):
            found.append((page[0].schema, page[0].name))
        assert found == whole == sorted(whole)
        assert source.tables("no_such_schema", limit=100) == []


def test_keys_and_references_are_told_where_the_database_has_them(place: Place) -> None:
    if place.endpoint.kind is DatabaseKind.FILES:
        return
    with open_source(place.endpoint) as source:
        tables = {table.name: table for table in source.tables(limit=100)}
    orders = tables["orders"]
    assert orders.primary_key == ("id",)
    assert [(key.columns, key.referred_table, key.referred_columns) for key in orders.foreign_keys] == [
        (("person",), "people", ("id",))
    ]
    assert [column.nullable for column in orders.columns] == [False, False, True]
    assert tables["rich"].view


def test_a_query_is_described_without_running(place: Place) -> None:
    with open_source(place.endpoint, time_limit=5) as source:
        assert [column.name for column in source.describe("SELECT name, born AS birthday FROM people")] == [
            "name",
            "birthday",
        ]
        assert [column.type.kind for column in source.describe("SELECT name, born FROM people")] == [
            Kind.STRING,
            Kind.DATE,
        ]
        assert len(source.describe(place.endless)) == 1


def test_a_query_that_the_database_rejects_gets_its_message(place: Place) -> None:
    with open_source(place.endpoint) as source:
        for query, word in (
            ("SELECT nope FROM people", "nope"),
            ("SELECT * FROM nowhere", "nowhere"),
            ("SELECT id frm people x", "people|x"),
        ):
            with pytest.raises(QueryInvalidError, match=word):
                source.describe(query)
            with pytest.raises(QueryInvalidError, match=word):
                list(source.batches(query, 100))
        assert len(source.rows("SELECT id FROM people", 10)) == 3


def test_rows_keep_percent_signs_colons_and_quotes(place: Place) -> None:
    with open_source(place.endpoint) as source:
        condition = "name LIKE '%100%' OR id = 5 % 3"
        query = f"SELECT name, ':x %s 100% ''' AS text FROM people WHERE {condition} ORDER BY id"
        assert source.rows(query, 10) == [
            ("Grace; O'Neil", ":x %s 100% '"),
            ("Ünal 100%", ":x %s 100% '"),
        ]


def test_a_trailing_comment_does_no_harm(place: Place) -> None:
    with open_source(place.endpoint) as source:
        query = "SELECT id FROM people ORDER BY id -- all of them"
        assert source.rows(query, 10) == [(1,), (2,), (3,)]
        assert len(source.describe(query)) == 1


def test_columns_of_the_same_name_are_both_read(place: Place) -> None:
    with open_source(place.endpoint) as source:
        (batch,) = source.batches("SELECT id AS a, name AS a FROM people WHERE id = 1", 100)
    assert batch.num_columns == 2
    assert [column.to_pylist() for column in batch.columns] == [[1], ["Ada"]]


def test_batches_are_bounded_and_complete(place: Place) -> None:
    with open_source(place.endpoint) as source:
        query = " UNION ALL ".join(["SELECT id FROM people"] * 400)
        sizes = [batch.num_rows for batch in source.batches(query, 100)]
        limited = [batch.num_rows for batch in source.batches(query, 100, limit=150)]
    assert sum(sizes) == 1200
    assert max(sizes) <= 100
    assert sum(limited) == 150


def test_an_empty_result_gives_one_empty_batch(place: Place) -> None:
    with open_source(place.endpoint) as source:
        (batch,) = source.batches("SELECT id, name FROM people WHERE id = 99", 100)
    assert batch.num_rows == 0
    assert batch.schema.names == ["id", "name"]


@pytest.mark.timed
def test_a_query_ends_at_its_time_limit(place: Place) -> None:
    with open_source(place.endpoint, time_limit=0.3) as source:
        started = time.monotonic()
        with pytest.raises(QueryTimeoutError):
            list(source.batches(place.endless, 100))
        assert time.monotonic() - started < 3
        assert source.rows("SELECT id FROM people WHERE id = 1", 1) == [(1,)]


def test_a_query_is_cancelled_from_another_thread(place: Place) -> None:
    with open_source(place.endpoint) as source:
        timer = threading.Timer(0.3, source.cancel)
        timer.start()
        with pytest.raises(QueryCancelledError):
            list(source.batches(place.endless, 100))
        timer.join()


def test_a_cancelled_source_lets_no_query_begin(place: Place) -> None:
    with open_source(place.endpoint) as source:
        source.cancel()
        for _ in range(2):
            with pytest.raises(QueryCancelledError):
                list(source.batches(place.endless, 100))


def test_a_reader_that_stops_early_leaves_nothing_running(place: Place) -> None:
    with open_source(place.endpoint) as source:
        batches = source.batches(" UNION ALL ".join(["SELECT * FROM people"] * 400), 10)
        assert next(batches).num_rows
        batches.close()  # type: ignore[attr-defined]  # all are generators
        assert len(source.rows("SELECT id FROM people", 10)) == 3


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM people",
        "CREATE TABLE more (a integer)",
        "INSERT INTO people (id, name) VALUES (9, 'x')",
        "SELECT 1; DELETE FROM people",
        "WITH x AS (DELETE FROM people RETURNING id) SELECT * FROM x",
    ],
)
def test_nothing_is_written_even_past_the_guard(place: Place, statement: str) -> None:
    with open_source(place.endpoint) as source:
        with pytest.raises(QueryInvalidError):
            list(source.batches(statement, 100))
        assert len(source.rows("SELECT id FROM people", 10)) == 3


def test_values_arrive_exactly(place: Place) -> None:
    with open_source(place.endpoint) as source:
        rows = source.rows("SELECT id, name, born, pay FROM people ORDER BY id", 10)
    assert [(row[0], row[1]) for row in rows] == [(1, "Ada"), (2, "Grace; O'Neil"), (3, "Ünal 100%")]
    assert [str(row[2]) for row in rows] == ["2024-02-29", "None", "1999-12-31"]
    assert [None if row[3] is None else float(row[3]) for row in rows] == [12.5, 0.25, None]


def test_a_server_that_does_not_answer_is_unavailable_and_a_folder_that_is_not_there_is_missing(
    place: Place,
) -> None:
    if place.endpoint.kind is DatabaseKind.POSTGRESQL:
        with pytest.raises(SourceUnavailableError):
            open_source(replace(place.endpoint, port=1))
    else:
        with pytest.raises(FolderMissingError):
            open_source(replace(place.endpoint, path="/nonexistent/folder/data.db"))


def test_each_batch_is_an_arrow_batch(place: Place) -> None:
    with open_source(place.endpoint) as source:
        assert all(isinstance(batch, pa.RecordBatch) for batch in source.batches("SELECT * FROM people", 2))
