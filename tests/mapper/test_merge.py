"""Compiled plans, run on real databases: what a load leaves in its target."""

import datetime as dt
import sqlite3
from typing import Any

import psycopg
import pytest

from kernel.databases.endpoints import DatabaseKind
from services.mapper.definition import Definition, TableType
from tests.mapper.warehouse import MOMENT, NEW_VERSION, OVERWRITE, Counts, Warehouse, column, definition, key

DAY = dt.timedelta(days=1)


def customers(**changes: Any) -> Definition:
    return definition(
        key("s"),
        column("NAME", "String20", "s", scd_type=OVERWRITE),
        column("CITY", "String20", "s", scd_type=NEW_VERSION),
        **changes,
    )


def names(plan: Any) -> str:
    return f'"{plan.target.schema}"."{plan.target.name}"' if plan.target.schema else f'"{plan.target.name}"'


def history(warehouse: Warehouse, plan: Any) -> list[tuple[Any, ...]]:
    columns = "id, name, city, current_flag, from_time, to_time"
    rows = warehouse.rows(f"SELECT {columns} FROM {names(plan)} ORDER BY id, from_time")
    return [(*row[:4], str(row[4])[:10], str(row[5])[:10]) for row in rows]


def fill(warehouse: Warehouse, *rows: tuple[Any, ...]) -> None:
    warehouse.source("s", "id integer, name varchar(40), city varchar(40)", rows)


def test_first_load_opens_one_version_a_key(warehouse: Warehouse) -> None:
    fill(warehouse, (1, "Ann", "Oslo"), (2, "Bob", None))
    plan = warehouse.plan(customers())
    assert warehouse.load(plan) == Counts(inserted=2)
    assert history(warehouse, plan) == [
        (1, "Ann", "Oslo", "Y", "2026-01-01", "2999-12-31"),
        (2, "Bob", None, "Y", "2026-01-01", "2999-12-31"),
    ]


def test_second_load_of_the_same_changes_nothing(warehouse: Warehouse) -> None:
    fill(warehouse, (1, "Ann", "Oslo"), (2, None, None))
    plan = warehouse.plan(customers())
    warehouse.load(plan)
    assert warehouse.load(plan, MOMENT + DAY) == Counts()


def test_type_one_overwrites_and_type_two_opens_a_version(warehouse: Warehouse) -> None:
    fill(warehouse, (1, "Ann", "Oslo"), (2, "Bob", "Rome"), (3, "Cid", "Bonn"))
    plan = warehouse.plan(customers())
    warehouse.load(plan)
    fill(warehouse, (1, "Anna", "Oslo"), (2, "Bob", "Pisa"), (3, "Cyd", "Kiel"), (4, "Dan", "Nice"))
    assert warehouse.load(plan, MOMENT + DAY) == Counts(inserted=1, versions=2, updated=1)
    assert history(warehouse, plan) == [
        (1, "Anna", "Oslo", "Y", "2026-01-01", "2999-12-31"),
        (2, "Bob", "Rome", "N", "2026-01-01", "2026-01-02"),
        (2, "Bob", "Pisa", "Y", "2026-01-02", "2999-12-31"),
        (3, "Cid", "Bonn", "N", "2026-01-01", "2026-01-02"),
        (3, "Cyd", "Kiel", "Y", "2026-01-02", "2999-12-31"),
        (4, "Dan", "Nice", "Y", "2026-01-02", "2999-12-31"),
    ]


def test_null_and_value_differ_in_both_directions(warehouse: Warehouse) -> None:
    fill(warehouse, (1, None, None), (2, "Bob", "Rome"), (3, "", "-1"))
    plan = warehouse.plan(customers())
    warehouse.load(plan)
    fill(warehouse, (1, None, "Oslo"), (2, None, "Rome"), (3, None, None))
    assert warehouse.load(plan, MOMENT + DAY) == Counts(versions=2, updated=1)
    assert warehouse.load(plan, MOMENT + 2 * DAY) == Counts()


def test_a_second_change_within_one_moment_overwrites(warehouse: Warehouse) -> None:
    fill(warehouse, (1, "Ann", "Oslo"))
    plan = warehouse.plan(customers())
    warehouse.load(plan)
    fill(warehouse, (1, "Ann", "Rome"))
    assert warehouse.load(plan) == Counts(updated=1)
    assert history(warehouse, plan) == [(1, "Ann", "Rome", "Y", "2026-01-01", "2999-12-31")]


def test_the_last_row_of_a_key_counts(warehouse: Warehouse) -> None:
    fill(warehouse, (1, "Ann", "Oslo"), (2, "Bob", "Rome"), (1, "Anna", "Bonn"), (1, "Anne", "Kiel"))
    plan = warehouse.plan(customers())
    assert warehouse.load(plan) == Counts(inserted=2, duplicates=2)
    assert history(warehouse, plan)[0][:3] == (1, "Anne", "Kiel")


def test_rows_without_a_key_are_set_aside(warehouse: Warehouse) -> None:
    fill(warehouse, (None, "Ann", "Oslo"), (2, "Bob", "Rome"), (None, "Cid", "Bonn"))
    plan = warehouse.plan(customers())
    assert warehouse.load(plan) == Counts(inserted=1, null_keys=2)


@pytest.mark.parametrize("table_type", [TableType.NORMAL, TableType.FACT, TableType.MART])
def test_other_tables_are_overwritten(warehouse: Warehouse, table_type: TableType) -> None:
    fill(warehouse, (1, "Ann", "Oslo"), (2, "Bob", "Rome"))
    plan = warehouse.plan(customers(table_type=table_type))
    warehouse.load(plan)
    fill(warehouse, (1, "Ann", "Bonn"), (2, "Bob", "Rome"), (3, "Cid", "Kiel"))
    assert warehouse.load(plan, MOMENT + DAY) == Counts(inserted=1, updated=1)
    rows = warehouse.rows(f"SELECT id, city, create_time, update_time FROM {names(plan)} ORDER BY id")
    assert [(*row[:2], str(row[2])[8:10], str(row[3])[8:10]) for row in rows] == [
        (1, "Bonn", "01", "02"),
        (2, "Rome", "01", "01"),
        (3, "Kiel", "02", "02"),
    ]


def test_a_table_of_keys_alone_gains_rows(warehouse: Warehouse) -> None:
    fill(warehouse, (1, "Ann", "Oslo"))
    plan = warehouse.plan(definition(key("s")))
    warehouse.load(plan)
    fill(warehouse, (1, "Bob", "Rome"), (2, "Cid", "Kiel"))
    assert warehouse.load(plan, MOMENT + DAY) == Counts(inserted=1)


def test_a_mapping_that_grows_adds_its_columns(warehouse: Warehouse) -> None:
    fill(warehouse, (1, "Ann", "Oslo"), (2, "Bob", None))
    warehouse.load(warehouse.plan(definition(key("s"), column("NAME", "String20", "s"))))
    plan = warehouse.plan(customers())
    assert warehouse.load(plan, MOMENT + DAY) == Counts(versions=1)
    assert history(warehouse, plan) == [
        (1, "Ann", None, "N", "2026-01-01", "2026-01-02"),
        (1, "Ann", "Oslo", "Y", "2026-01-02", "2999-12-31"),
        (2, "Bob", None, "Y", "2026-01-01", "2999-12-31"),
    ]


def test_two_current_rows_of_a_key_cannot_be(warehouse: Warehouse) -> None:
    fill(warehouse, (1, "Ann", "Oslo"))
    plan = warehouse.plan(customers())
    warehouse.load(plan)
    moments = "'2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000'"
    values = f"1, 'Ann', 'Oslo', 'Y', {moments}, {moments}"
    columns = "id, name, city, current_flag, from_time, to_time, create_time, update_time"
    with pytest.raises((psycopg.errors.UniqueViolation, sqlite3.IntegrityError)):
        warehouse.do(f"INSERT INTO {names(plan)} ({columns}) VALUES ({values})")


def test_a_value_that_does_not_fit_fails_the_fill(warehouse: Warehouse) -> None:
    fill(warehouse, (1, "a name of more than twenty letters", "Oslo"))
    plan = warehouse.plan(customers())
    with pytest.raises((psycopg.errors.StringDataRightTruncation, sqlite3.IntegrityError), match=r"NAME|20"):
        warehouse.load(plan)


def test_names_can_be_written_without_quotes_and_may_be_reserved_words(warehouse: Warehouse) -> None:
    fill(warehouse, (1, "Ann", "Oslo"))
    plan = warehouse.plan(
        definition(
            key("s", name="SELECT"),
            column("Order", "String20", "s", value_column="name"),
            column("ROW", "String20", "s", value_column="city"),
            target_table="Group_1",
        )
    )
    assert warehouse.load(plan) == Counts(inserted=1)
    assert warehouse.load(plan, MOMENT + DAY) == Counts()
    schema = "DW." if plan.target.schema else ""
    assert warehouse.rows(f"SELECT t.Skey, t.current_FLAG FROM {schema}GROUP_1 t") == [(1, "Y")]


def test_texts_arrive_as_they_are(warehouse: Warehouse) -> None:
    odd = ["it's", '"x"', "a\\b", "%s :p ?", "-- /* */ ;", "日本語🙂", "  blank  ", "\t\n", ""]
    fill(warehouse, *((number, text, text) for number, text in enumerate(odd)))
    plan = warehouse.plan(customers())
    warehouse.load(plan)
    assert [row[1] for row in history(warehouse, plan)] == odd
    assert warehouse.load(plan, MOMENT + DAY) == Counts()


def test_generated_statements_hold_no_parameters(warehouse: Warehouse) -> None:
    plan = warehouse.plan(customers())
    texts = [plan.stage.fill, plan.merge.create_delta, plan.merge.insert_all, *plan.merge.apply]
    assert not any(mark in text for text in texts for mark in ("%(", "?", " :"))


def test_the_current_row_is_found_by_the_index_on_sqlite(warehouse: Warehouse) -> None:
    if warehouse.kind != DatabaseKind.SQLITE:
        pytest.skip("PostgreSQL decides by statistics")
    fill(warehouse, (1, "Ann", "Oslo"))
    plan = warehouse.plan(customers())
    warehouse.prepare(plan)
    warehouse.do("CREATE TEMPORARY TABLE portolan_load (load_time text)")
    warehouse.do(plan.stage.create)
    select = plan.merge.create_delta.partition(" AS ")[2]
    steps = [row[3] for row in warehouse.rows(f"EXPLAIN QUERY PLAN {select}")]
    assert any("SEARCH TARGET USING INDEX uq_TARGET_key" in step for step in steps)
