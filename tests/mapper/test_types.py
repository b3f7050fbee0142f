"""Values of each type: their form in the warehouse, exactness, and what is refused."""

import datetime as dt
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel.databases.endpoints import DatabaseKind
from tests.mapper.warehouse import MOMENT, Counts, Warehouse, column, definition, key

DAY = dt.timedelta(days=1)


@pytest.fixture
def sqlite(tmp_path: Path) -> Any:
    opened = Warehouse(DatabaseKind.SQLITE, tmp_path / "w.db")
    yield opened
    opened.close()


def loaded(warehouse: Warehouse, data_type: str, value: Any) -> Any:
    """What a source's value of any type becomes in a column."""
    warehouse.source("s", "id integer, v", [(1, value)])
    plan = warehouse.plan(definition(key("s"), column("V", data_type, "s")))
    warehouse.do('DROP TABLE IF EXISTS "TARGET"')
    warehouse.load(plan)
    return warehouse.rows('SELECT V FROM "TARGET"')[0][0]


@pytest.mark.parametrize(
    ("data_type", "value", "kept"),
    [
        ("Decimal(15,2)", "12.5", "12.50"),
        ("Decimal(15,2)", 12, "12.00"),
        ("Decimal(15,2)", "-7", "-7.00"),
        ("Decimal(15,2)", 0.1 + 0.2, "0.30"),
        ("Decimal(15,2)", -0.001, "0.00"),
        ("Decimal(15,2)", "12.500000", "12.50"),
        ("Decimal(15,2)", "1.239", "1.24"),
        ("Decimal(4,2)", "99.99", "99.99"),
        ("Decimal(2,2)", "0.99", "0.99"),
        (
            "Decimal(38,2)",
            "123456789012345678901234567890123456.78",
            "123456789012345678901234567890123456.78",
        ),
        ("Money18", "-0.5", "-0.500000"),
        ("Numeric30", "123456789012345678901234567890", "123456789012345678901234567890"),
        ("Numeric30", 12.5, "13"),
        ("Numeric10", "42", 42),
        ("Numeric10", 41.7, 42),
        ("Integer", "42", 42),
        ("Integer", 42.0, 42),
        ("BigInteger", 2**62, 2**62),
        ("Double", "1.5", 1.5),
        ("Boolean", "TRUE", 1),
        ("Boolean", 0, 0),
        ("Date", "2026-02-28", "2026-02-28"),
        ("Date", "2026-02-28 00:00:00.000", "2026-02-28"),
        ("Timestamp", "2026-02-28", "2026-02-28 00:00:00.000000"),
        ("Timestamp", "2026-02-28T12:30:00", "2026-02-28 12:30:00.000000"),
        ("Timestamp", "2026-02-28 12:30:00.25", "2026-02-28 12:30:00.250000"),
        ("TimestampTz", "2026-02-28T12:30:00.123456Z", "2026-02-28 12:30:00.123456"),
        ("TimestampTz", "2026-02-28 12:30:00+00:00", "2026-02-28 12:30:00.000000"),
        ("String5", 12345, "12345"),
        ("Text", "00123", "00123"),
    ],
)
def test_sqlite_keeps_each_value_in_one_form(
    sqlite: Warehouse, data_type: str, value: Any, kept: Any
) -> None:
    found = loaded(sqlite, data_type, value)
    assert (type(found), found) == (type(kept), kept)
    # What is kept is its own form: loading it again changes nothing, and it can be loaded from there.
    assert loaded(sqlite, data_type, found) == kept


@pytest.mark.parametrize(
    ("data_type", "value"),
    [
        ("Decimal(4,2)", "100.00"),
        ("Decimal(4,2)", 100),
        ("Decimal(2,2)", "1.00"),
        ("Decimal(15,2)", "abc"),
        ("Decimal(15,2)", "abc.de"),
        ("Decimal(15,2)", ""),
        ("Decimal(15,2)", "1e5"),
        ("Decimal(15,2)", "1-2"),
        ("Decimal(15,2)", "1.2.3"),
        ("Decimal(15,2)", "--1"),
        ("Decimal(38,2)", "1234567890123456789.123"),
        ("Numeric3", 1000),
        ("Numeric10", "abc"),
        ("Integer", 2**31),
        ("Integer", "abc"),
        ("Integer", 1.5),
        ("Double", "abc"),
        ("Boolean", "maybe"),
        ("Boolean", 2),
        ("Date", "2026-02-30"),
        ("Date", "28.02.2026"),
        ("Date", "2026-02-28 12:30:00"),
        ("Date", "now"),
        ("Timestamp", "2026-02-30 00:00:00"),
        ("Timestamp", "2026-02-28 25:00:00"),
        ("Timestamp", "2026-02-28 12:30:00+01:00"),
        ("String3", "abcd"),
        ("Text", b"\xff"),
    ],
)
def test_sqlite_refuses_what_does_not_fit_and_names_the_column(
    sqlite: Warehouse, data_type: str, value: Any
) -> None:
    with pytest.raises(sqlite3.IntegrityError, match=r"\bV\b"):
        loaded(sqlite, data_type, value)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(
    amounts=st.lists(
        st.decimals(min_value=-(10**30), max_value=10**30, places=4, allow_nan=False, allow_infinity=False)
    )
)
def test_decimals_in_sqlite_are_exact(sqlite: Warehouse, amounts: list[Decimal]) -> None:
    sqlite.do('DROP TABLE IF EXISTS "TARGET"')
    sqlite.source("s", "id integer, v text", [(number, str(amount)) for number, amount in enumerate(amounts)])
    sqlite.load(sqlite.plan(definition(key("s"), column("V", "Decimal(38,4)", "s"))))
    assert [Decimal(row[0]) for row in sqlite.rows('SELECT v FROM "TARGET" ORDER BY id')] == amounts


def test_every_type_is_unchanged_when_loaded_again(warehouse: Warehouse) -> None:
    types = {
        "A": ("Decimal(15,2)", "1.5"),
        "B": ("Numeric10", "7"),
        "C": ("Double", "0.1"),
        "D": ("Boolean", "true"),
        "E": ("Date", "2026-02-28"),
        "F": ("Timestamp", "2026-02-28 01:02:03.5"),
        "G": ("TimestampTz", "2026-02-28 01:02:03.5"),
        "H": ("BigInteger", "9007199254740993"),
        "I": ("String5", "abc"),
        "J": ("Money38", "12345678901234567890.123456"),
    }
    texts = ", ".join(f"{name} varchar(60)" for name in types)
    values = tuple(value for _, value in types.values())
    warehouse.source("s", f"id integer, {texts}", [(1, *values), (2, *[None] * len(types))])
    plan = warehouse.plan(
        definition(key("s"), *(column(name, data_type, "s") for name, (data_type, _) in types.items()))
    )
    assert warehouse.load(plan) == Counts(inserted=2)
    assert warehouse.load(plan, MOMENT + DAY) == Counts()
