"""Look-ups of dimensions' surrogate keys, run on real databases."""

import datetime as dt

from services.mapper.definition import Definition, Lookup, TableType
from tests.mapper.warehouse import MOMENT, NEW_VERSION, Counts, Warehouse, column, definition, key

DAY = dt.timedelta(days=1)


def regions() -> Definition:
    return definition(
        column("CODE", "String10", "r", key=True, key_sequence=2, key_columns=("land", "code")),
        column("LAND", "String10", "r", key=True, key_sequence=1, key_columns=("land", "code")),
        column("CHIEF", "String10", "r", key_columns=("land", "code"), scd_type=NEW_VERSION),
        reference="REGION",
        target_table="DIM_REGION",
    )


def sales(lookup: Lookup, sold: str = "Date") -> Definition:
    return definition(
        key("f"),
        column("LAND", "String10", "f"),
        column("REGION", "String10", "f"),
        column("SOLD", sold, "f"),
        column("REGION_SKEY", "", "f", logic="", lookup=lookup),
        reference="SALES",
        target_table="FCT_SALES",
        table_type=TableType.FACT,
    )


def load_regions(warehouse: Warehouse, *rows: tuple[str, str, str], day: int) -> None:
    warehouse.source("r", "land varchar(10), code varchar(10), chief varchar(10)", rows)
    warehouse.load(warehouse.plan(regions()), MOMENT + day * DAY)


def load_sales(
    warehouse: Warehouse, fact: Definition, *rows: tuple[int, str | None, str | None, str | None]
) -> Counts:
    warehouse.source("f", "id integer, land varchar(10), region varchar(10), sold varchar(40)", rows)
    return warehouse.load(warehouse.plan(fact, regions()))


def chiefs(warehouse: Warehouse) -> dict[int, str | None]:
    """The chief of the version that each sale refers to."""
    prefix = "dw." if warehouse.plan(regions()).target.schema else ""
    joined = f"{prefix}fct_sales f LEFT JOIN {prefix}dim_region d ON d.skey = f.region_skey"
    return dict(warehouse.rows(f"SELECT f.id, d.chief FROM {joined}"))


def test_the_current_row_is_looked_up_by_the_whole_key(warehouse: Warehouse) -> None:
    load_regions(warehouse, ("NO", "1", "Ann"), ("SE", "1", "Bob"), day=0)
    load_regions(warehouse, ("NO", "1", "Amy"), ("SE", "1", "Bob"), day=1)
    fact = sales(Lookup(mapping="REGION", match_columns=("land", "REGION")))
    counts = load_sales(
        warehouse,
        fact,
        (1, "NO", "1", None),
        (2, "SE", "1", None),
        (3, "NO", "2", None),
        (4, None, "1", None),
    )
    assert counts == Counts(inserted=4)
    assert chiefs(warehouse) == {1: "Amy", 2: "Bob", 3: None, 4: None}


def test_what_matches_nothing_gets_the_default(warehouse: Warehouse) -> None:
    load_regions(warehouse, ("NO", "1", "Ann"), day=0)
    fact = sales(Lookup(mapping="REGION", match_columns=("LAND", "REGION"), default_key=-1))
    load_sales(warehouse, fact, (1, "DK", "1", None))
    prefix = "dw." if warehouse.plan(fact, regions()).target.schema else ""
    assert warehouse.rows(f"SELECT region_skey FROM {prefix}fct_sales") == [(-1,)]


def test_the_version_of_the_rows_own_date_is_looked_up(warehouse: Warehouse) -> None:
    load_regions(warehouse, ("NO", "1", "Ann"), day=10)
    load_regions(warehouse, ("NO", "1", "Amy"), day=20)
    load_regions(warehouse, ("NO", "1", "Ada"), day=30)
    fact = sales(Lookup(mapping="REGION", match_columns=("LAND", "REGION"), as_of_column="SOLD"))
    days = ["2019-05-05", "2026-01-11", "2026-01-20", "2026-01-21", "2026-02-15", None]
    load_sales(warehouse, fact, *((number, "NO", "1", day) for number, day in enumerate(days)))
    # Before the first version the first counts; a version begins on its own day.
    assert chiefs(warehouse) == {0: "Ann", 1: "Ann", 2: "Ann", 3: "Amy", 4: "Ada", 5: None}


def test_moments_are_compared_to_the_microsecond(warehouse: Warehouse) -> None:
    load_regions(warehouse, ("NO", "1", "Ann"), day=10)
    load_regions(warehouse, ("NO", "1", "Amy"), day=20)
    for sold in ("Timestamp", "TimestampTz"):
        lookup = Lookup(mapping="REGION", match_columns=("LAND", "REGION"), as_of_column="SOLD")
        moments = ["2026-01-20 23:59:59.999999", "2026-01-21T00:00:00"]
        fact = sales(lookup, sold)
        fact = definition(*fact.columns, target_table="FCT_SALES", table_type=TableType.FACT)
        warehouse.do("DROP TABLE IF EXISTS fct_sales")
        warehouse.do(
            "DROP TABLE IF EXISTS dw.fct_sales" if warehouse.plan(fact, regions()).target.schema else ""
        )
        load_sales(warehouse, fact, *((number, "NO", "1", moment) for number, moment in enumerate(moments)))
        assert chiefs(warehouse) == {0: "Ann", 1: "Amy"}


def test_a_fact_follows_what_its_look_up_finds(warehouse: Warehouse) -> None:
    load_regions(warehouse, ("NO", "1", "Ann"), day=0)
    fact = sales(Lookup(mapping="REGION", match_columns=("LAND", "REGION")))
    load_sales(warehouse, fact, (1, "NO", "1", None), (2, "NO", "2", None))
    load_regions(warehouse, ("NO", "1", "Ann"), ("NO", "2", "Eve"), day=1)
    assert load_sales(warehouse, fact, (1, "NO", "1", None), (2, "NO", "2", None)) == Counts(updated=1)
    assert chiefs(warehouse) == {1: "Ann", 2: "Eve"}
