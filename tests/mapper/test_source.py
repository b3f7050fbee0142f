"""The source query: combinations, shared logic, parameters and names."""

from typing import Any

from services.mapper.definition import Column, Definition
from tests.mapper.warehouse import Counts, Warehouse, definition


def part(name: str, logic: str, value: str, code: str = "", **changes: Any) -> Column:
    return Column(
        name=name,
        data_type=changes.pop("data_type", "String20"),
        logic=logic,
        value_column=value,
        combination_code=code,
        **{"key_columns": ("id",)} | changes,
    )


def rows(warehouse: Warehouse, mapping: Definition) -> list[tuple[Any, ...]]:
    return sorted(warehouse.rows(warehouse.plan(mapping).source_query), key=str)


def sources(warehouse: Warehouse) -> None:
    warehouse.source("a", "id integer, v varchar(9)", [(1, "a1"), (2, "a2"), (3, "a3")])
    warehouse.source("b", "id integer, v varchar(9)", [(1, "b1"), (2, "b2")])
    warehouse.source("c", "no integer, v varchar(9), w varchar(9)", [(1, "c1", "C1"), (3, "c3", "C3")])
    warehouse.source("d", "no integer, v varchar(9)", [(1, "d1"), (2, "d2")])


def test_combinations_are_joined_inside_and_attached_outside(warehouse: Warehouse) -> None:
    sources(warehouse)
    mapping = definition(
        part("K", "select id, v from a;", "id", "ONE", key=True, key_sequence=1, data_type="Integer"),
        part("A", "select id, v from a", "v", "ONE"),
        part("B", "select id, v from b -- a comment", "v", "ONE"),
        part("C", "select no, v, w from c", "v", "TWO", key_columns=("no",)),
        part("C2", "  select no, v, w from c ;\n", "w", "TWO", key_columns=("NO",)),
        part("D", "select no, v from d", "v", "TWO", key_columns=("no",)),
        part("D2", "select no, v from d", "v", "", key_columns=("no",)),
    )
    # b lacks 3, so the driving combination does; c and d together hold only 1; d alone holds 1 and 2.
    assert rows(warehouse, mapping) == [
        (1, "a1", "b1", "c1", "C1", "d1", "d1"),
        (2, "a2", "b2", None, None, None, "d2"),
    ]
    query = warehouse.plan(mapping).source_query
    assert query.count(" from a") == 1
    assert query.count(" from c") == 1
    assert query.count(" from d") == 2


def test_a_row_without_a_key_reaches_the_stage_however_many_logics_are_joined(warehouse: Warehouse) -> None:
    warehouse.source("a", "id integer, v varchar(9)", [(1, "a1"), (None, "lost?"), (3, "a3")])
    warehouse.source("b", "id integer, v varchar(9)", [(1, "b1"), (None, "other")])
    mapping = definition(
        part("K", "select id, v from a", "id", "ONE", key=True, key_sequence=1, data_type="Integer"),
        part("A", "select id, v from a", "v", "ONE"),
        part("B", "select id, v from b", "v", "ONE"),
    )
    assert rows(warehouse, mapping) == [(1, "a1", "b1"), (None, "lost?", None)]


def test_the_combination_of_the_key_drives_whatever_its_place(warehouse: Warehouse) -> None:
    sources(warehouse)
    mapping = definition(
        part("B", "select id, v from b", "v", "Z", execution_sequence=1),
        part(
            "K",
            "select id from a",
            "id",
            "A",
            key=True,
            key_sequence=1,
            data_type="Integer",
            execution_sequence=2,
        ),
    )
    assert rows(warehouse, mapping) == [("b1", 1), ("b2", 2), (None, 3)]
    assert warehouse.load(warehouse.plan(mapping)) == Counts(inserted=3)


def test_composite_keys_match_by_position(warehouse: Warehouse) -> None:
    warehouse.source("x", "p integer, q integer, v varchar(9)", [(1, 2, "x12"), (2, 1, "x21")])
    warehouse.source("y", "s integer, r integer, w varchar(9)", [(2, 1, "y12"), (1, 2, "y21")])
    one, two = ("p", "q"), ("r", "s")
    mapping = definition(
        part("P", "select * from x", "p", key=True, key_sequence=1, data_type="Integer", key_columns=one),
        part("Q", "select * from x", "q", key=True, key_sequence=2, data_type="Integer", key_columns=one),
        part("W", "select * from y", "w", "Y", key_columns=two),
    )
    assert rows(warehouse, mapping) == [(1, 2, "y12"), (2, 1, "y21")]


def test_quoted_result_columns_keep_their_case(warehouse: Warehouse) -> None:
    logic = 'select 1 as id, 2 as "Mixed Case", 3 as "select"'
    mapping = definition(
        part("K", logic, "ID", key=True, key_sequence=1, data_type="Integer"),
        part("M", logic, '"Mixed Case"', data_type="Integer"),
        part("S", logic, "select", data_type="Integer"),
    )
    assert rows(warehouse, mapping) == [(1, 2, 3)]


def test_parameters_are_found_in_all_logics(warehouse: Warehouse) -> None:
    logic = "select 1 as id, 'a' as v from a -- :line\n where ':text' <> :day"
    mapping = definition(
        part("K", logic, "id", key=True, key_sequence=1, data_type="Integer"),
        part("V", logic, "v"),
        part("W", "select id, v from b where v = :zone or v = :day", "v"),
    )
    plan = warehouse.plan(mapping)
    assert list(plan.parameters) == ["day", "zone"]
    assert plan.source_query in plan.stage.fill
