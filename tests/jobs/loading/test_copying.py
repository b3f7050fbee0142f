"""PostgreSQL to PostgreSQL by binary COPY: safe, or not used."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from kernel.databases.endpoints import DatabaseKind
from kernel.databases.errors import QueryInvalidError, SourceUnavailableError
from services.jobs.loading import prepare
from services.jobs.loading.engine import Load
from services.jobs.loading.errors import StoppedError
from services.jobs.loading.events import Counts, Event, Line, Reason
from services.mapper.definition import Column, Definition, TableType
from tests.jobs.loading.places import Place, load, plan, run_of, task
from tests.postgres import PostgresServer

VALUES = """SELECT i::bigint AS id, (i * 7 % 30000)::smallint AS small, i::int AS whole,
  i::numeric / 3 AS ratio,
  (i / 4.0)::real AS rough, i / 7.0::float8 AS double, i % 2 = 0 AS even,
  date '2000-02-28' + i AS day,
  timestamptz '2026-03-29 00:30:00+00' + i * interval '1 hour 1 microsecond' AS moment,
  ('c' || i)::char(8) AS padded, md5(i::text)::uuid AS uuid, jsonb_build_object('i', i) AS doc,
  CASE WHEN i % 3 = 0 THEN NULL ELSE E'é"\\'\\n\\\\,' || i END AS text
FROM generate_series(1, 500) AS i"""
TYPES = {
    "id": "BigInteger",
    "small": "BigInteger",
    "whole": "Integer",
    "ratio": "Decimal(12,4)",
    "rough": "Double",
    "double": "Double",
    "even": "Boolean",
    "day": "Date",
    "moment": "Timestamp",
    "padded": "String20",
    "uuid": "String40",
    "doc": "Text",
    "text": "Text",
}


def fact(logic: str, types: dict[str, str], table: str = "fct") -> Definition:
    """A table of the columns of a logic, whose first one is the key."""
    columns = tuple(
        Column(
            name=name,
            data_type=of,
            key=not place,
            key_sequence=int(not place),
            logic=logic,
            key_columns=("id",),
            value_column=name,
        )
        for place, (name, of) in enumerate(types.items())
    )
    return Definition(
        reference=table.upper(),
        source_connection="office",
        target_connection="warehouse",
        target_schema="public",
        target_table=table,
        table_type=TableType.FACT,
        columns=columns,
    )


@pytest.fixture
def source(postgres_server: PostgresServer) -> Any:
    """A database to read from."""
    name = postgres_server.take_database()
    yield Place(DatabaseKind.POSTGRESQL, postgres_server.url(name))
    postgres_server.leave_database(name)


def contents(place: Place, table: str) -> Sequence[tuple[Any, ...]]:
    """What was loaded."""
    return place.rows(f"SELECT {', '.join(TYPES)} FROM {table} ORDER BY id")


def test_every_type_arrives_as_it_does_by_batches(source: Place, postgres: Place) -> None:
    fast = plan(fact("SELECT * FROM v", TYPES), source, postgres)
    prepare(postgres.endpoint, fast)
    source.do(f"CREATE TABLE v AS {VALUES}")
    story = load(task(fast, source, postgres))
    assert "binary COPY" in story.log
    assert story.counts == Counts(source=500, inserted=500)

    slow = plan(fact("SELECT * FROM v", TYPES, "fct_slow"), source, postgres)
    prepare(postgres.endpoint, slow)
    source.do("INSERT INTO v (id, whole, ratio) VALUES (501, 1, 123456789)")
    story = load(task(slow, source, postgres))
    assert "in batches" in story.log
    assert story.counts == Counts(source=501, inserted=500, rejected=1)
    assert contents(postgres, "fct") == contents(postgres, "fct_slow")


def test_a_first_load_goes_straight_into_its_table_and_the_next_by_a_stage(
    source: Place, postgres: Place
) -> None:
    source.do(f"CREATE TABLE v AS {VALUES}")
    plan_ = plan(fact("SELECT * FROM v", TYPES), source, postgres)
    prepare(postgres.endpoint, plan_)
    load(task(plan_, source, postgres))
    times = "SELECT DISTINCT create_time = update_time, create_time < now() AT TIME ZONE 'UTC' FROM fct"
    assert postgres.rows(times) == [(True, True)]
    source.do("UPDATE v SET small = 0 WHERE id < 11")
    assert load(task(plan_, source, postgres, fence=2)).counts == Counts(
        source=500, updated=10, unchanged=490
    )


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("(NULL, 1)", Counts(source=101, inserted=100, rejected=1)),
        ("(7, 1)", Counts(source=101, inserted=100, duplicate=1)),
        ("(7, 3000000000)", Counts(source=101, inserted=100, rejected=1)),
    ],
)
def test_a_row_that_is_not_fit_makes_a_first_load_go_by_a_stage(
    source: Place, postgres: Place, row: str, expected: Counts
) -> None:
    source.do("CREATE TABLE v AS SELECT i::bigint AS id, i::bigint AS n FROM generate_series(1, 100) AS i")
    source.do(f"INSERT INTO v VALUES {row}")
    plan_ = plan(fact("SELECT * FROM v", {"id": "BigInteger", "n": "Integer"}), source, postgres)
    prepare(postgres.endpoint, plan_)
    story = load(task(plan_, source, postgres))
    assert "going by a stage" in story.log
    assert story.counts == expected
    assert postgres.rows("SELECT count(DISTINCT id) FROM fct") == [(100,)]


def test_a_table_whose_key_may_be_null_is_loaded_by_a_stage(source: Place, postgres: Place) -> None:
    source.do("CREATE TABLE v AS SELECT i::bigint AS id, i AS n FROM generate_series(1, 100) AS i")
    source.do("INSERT INTO v VALUES (NULL, 1)")
    plan_ = plan(fact("SELECT * FROM v", {"id": "BigInteger", "n": "Integer"}), source, postgres)
    postgres.do("CREATE TABLE fct (id bigint, n integer)")
    prepare(postgres.endpoint, plan_)
    assert load(task(plan_, source, postgres)).counts == Counts(source=101, inserted=100, rejected=1)


CASTS = {
    "noon": ("timestamp '2026-01-01 12:00'", "Date", Reason.NOT_CONVERTIBLE),
    "midnight": ("timestamp '2026-01-01 00:00'", "Date", None),
    "half": ("2.5", "Integer", Reason.NOT_CONVERTIBLE),
    "third": ("1.0/3::float8", "BigInteger", Reason.NOT_CONVERTIBLE),
    "sum": ("sum(3::bigint)", "BigInteger", None),
    "two": ("2", "Boolean", Reason.NOT_CONVERTIBLE),
    "one": ("1", "Boolean", None),
    "tie": ("0.125::float8", "Decimal(8,2)", None),
    "spoken": ("'yesterday'::text", "Date", Reason.NOT_CONVERTIBLE),
    "noon_text": ("'2026-01-01 12:00'::text", "Date", Reason.NOT_CONVERTIBLE),
    "leap": ("'2026-02-29'::text", "Date", Reason.NOT_CONVERTIBLE),
    "compact": ("'20260101'::text", "Date", Reason.NOT_CONVERTIBLE),
    "american": ("'01/02/2026'::text", "Timestamp", Reason.NOT_CONVERTIBLE),
    "offset_": ("'2026-01-01 12:00:00+02:00'::text", "Timestamp", None),
    "zoned": ("'2026-01-01T12:00:00.5+02:00'::text", "TimestampTz", None),
    "local": ("' 2026-01-01 12:00 '::text", "TimestampTz", None),
    "midnight_next": ("'2026-01-01 24:00:00'::text", "Timestamp", Reason.NOT_CONVERTIBLE),
    "scored": ("'1_000'::text", "Integer", Reason.NOT_CONVERTIBLE),
    "wordy": ("'tr'::text", "Boolean", Reason.NOT_CONVERTIBLE),
    "yes": ("' Yes'::text", "Boolean", None),
    "scientific": ("'1.5e2'::text", "Decimal(8,2)", None),
    "nan_text": ("'NaN'::text", "Decimal(8,2)", Reason.NOT_CONVERTIBLE),
    "whole_text": ("'5.00'::text", "Integer", Reason.NOT_CONVERTIBLE),
    "padded_text": ("' +5 '::text", "BigInteger", None),
}
WITHIN = {"sum", "one", "tie", "zoned", "local", "yes", "scientific"}
"""Those for which the rows do not leave the database."""


@pytest.mark.parametrize("name", CASTS)
def test_a_value_means_the_same_by_every_way(source: Place, postgres: Place, name: str) -> None:
    value, of, reason = CASTS[name]
    definition = fact(f"SELECT 1 AS id, {value} AS {name}", {"id": "BigInteger", name: of})
    found = []
    for fence, (connection, place) in enumerate((("office", source), ("warehouse", postgres)), 1):
        plan_ = plan(replace(definition, source_connection=connection), place, postgres)
        prepare(postgres.endpoint, plan_)
        story = load(task(plan_, place, postgres, fence))
        rejected = [row.reason for row in story.rejected]
        assert ("in batches" not in story.log) or name not in WITHIN
        found.append((postgres.rows(f"SELECT {name} FROM fct"), rejected))
        postgres.do("DROP TABLE fct")
    assert found[0] == found[1]
    assert found[0][1] == ([reason] if reason else [])


def test_a_sum_of_big_numbers_does_not_leave_the_database(postgres: Place) -> None:
    logic = "SELECT i % 3 AS id, sum(i::bigint) AS n FROM generate_series(1, 100) AS i GROUP BY 1"
    definition = replace(fact(logic, {"id": "BigInteger", "n": "BigInteger"}), source_connection="warehouse")
    plan_ = plan(definition, postgres, postgres)
    prepare(postgres.endpoint, plan_)
    story = load(task(plan_, postgres, postgres))
    assert "without leaving the database" in story.log
    assert "in batches" not in story.log
    assert postgres.rows("SELECT sum(n) FROM fct") == [(5050,)]


def test_times_as_text_go_by_batches(source: Place, postgres: Place) -> None:
    source.do(f"CREATE TABLE v AS {VALUES}")
    plan_ = plan(fact("SELECT * FROM v", {"id": "Integer", "moment": "String40"}), source, postgres)
    prepare(postgres.endpoint, plan_)
    assert "binary" not in load(task(plan_, source, postgres)).log
    assert postgres.rows("SELECT moment FROM fct WHERE id = 1") == [("2026-03-29 01:30:00.000001",)]


def test_a_value_that_the_sources_cast_refuses_is_one_rejected_row(source: Place, postgres: Place) -> None:
    numbers = "SELECT i::bigint AS id, i * 21500000::bigint AS n FROM generate_series(1, 100) AS i"
    source.do(f"CREATE TABLE v AS {numbers}")
    plan_ = plan(fact("SELECT * FROM v", {"id": "BigInteger", "n": "Integer"}), source, postgres)
    prepare(postgres.endpoint, plan_)
    story = load(task(plan_, source, postgres))
    assert "does not fit" in story.log
    assert story.counts == Counts(source=100, inserted=99, rejected=1)
    assert [row.reason for row in story.rejected] == [Reason.OUT_OF_RANGE]


def test_an_error_in_the_middle_of_the_source_is_the_sources(source: Place, postgres: Place) -> None:
    source.do("CREATE TABLE v AS SELECT i AS id FROM generate_series(1, 100000) AS i")
    logic = "SELECT id, 1 / (99999 - id) AS n FROM v"
    plan_ = plan(fact(logic, {"id": "BigInteger", "n": "Integer"}), source, postgres)
    prepare(postgres.endpoint, plan_)
    with pytest.raises(QueryInvalidError, match="division by zero"):
        load(task(plan_, source, postgres))
    assert postgres.rows("SELECT * FROM fct") == []


def test_a_source_that_is_lost_on_the_way_is_unavailable(source: Place, postgres: Place) -> None:
    slow_load(
        source,
        postgres,
        lambda _: source.do(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE application_name = 'portolan run {run_of(postgres)}' AND query LIKE 'COPY%'"
        ),
        SourceUnavailableError,
    )


def test_a_stop_in_the_middle_of_a_copy_ends_both_sides(source: Place, postgres: Place) -> None:
    slow_load(source, postgres, Load.stop, StoppedError)
    query = f"SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%{run_of(postgres)}'"
    assert postgres.rows(query) == [(0,)]


def slow_load(source: Place, target: Place, interfere: Any, error: type[Exception]) -> None:
    """A load of many rows that is interfered with once it reads."""
    logic = "SELECT i AS id, 1 AS n FROM generate_series(1, 100000000) AS i"
    plan_ = plan(fact(logic, {"id": "BigInteger", "n": "Integer"}), source, target)
    prepare(target.endpoint, plan_)
    reading = threading.Event()

    def hear(event: Event) -> None:
        if isinstance(event, Line) and "binary COPY" in event.message:
            reading.set()

    running = Load(task(plan_, source, target), hear, lambda: None)

    def wait_and_interfere() -> None:
        reading.wait()
        threading.Event().wait(0.5)
        interfere(running)

    thread = threading.Thread(target=wait_and_interfere)
    thread.start()
    with pytest.raises(error):
        running.run()
    thread.join()
    assert target.rows("SELECT * FROM fct") == []
