"""Target tables are made ready, whatever is there already."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from kernel.databases.endpoints import DatabaseKind
from services.jobs.errors import TargetRefusedError
from services.jobs.loading import prepare
from services.jobs.loading.events import Counts
from services.mapper.definition import Column
from tests.jobs.loading.places import CURRENT, Place, load, person, plan, task

ROW = (1, "Anna", "10.50", "2001-02-03", None)
MOTTO = Column(
    name="motto",
    data_type="Text",
    logic="SELECT id, 'onward' AS motto FROM people",
    key_columns=("id",),
    value_column="motto",
)


def test_several_at_once_make_one_table(files: Place, target: Place) -> None:
    plan_ = plan(replace(person(), target_schema="fresh"), files, target)
    with ThreadPoolExecutor(4) as pool:
        for made in [pool.submit(prepare, target.endpoint, plan_) for _ in range(8)]:
            made.result()
    schema = "fresh." if target.kind is DatabaseKind.POSTGRESQL else ""
    assert target.rows(f"SELECT * FROM {schema}dim_person") == []
    assert target.rows(f"SELECT * FROM {schema}portolan_ledger") == []


def test_a_table_gains_what_it_lacks_and_keeps_its_rows(files: Place, target: Place) -> None:
    files.people([ROW])
    plan_ = plan(person(), files, target)
    prepare(target.endpoint, plan_)
    load(task(plan_, files, target))
    wider = replace(person(), columns=(*person().columns, MOTTO))
    plan_ = plan(wider, files, target)
    prepare(target.endpoint, plan_)
    prepare(target.endpoint, plan_)
    assert load(task(plan_, files, target, fence=2)).counts == Counts(source=1, updated=1)
    assert target.rows("SELECT motto FROM dim_person") == [("onward",)]


def test_the_first_load_makes_the_key_unique(files: Place, target: Place) -> None:
    files.people([ROW])
    plan_ = plan(person(), files, target)
    prepare(target.endpoint, plan_)
    load(task(plan_, files, target))
    columns = "id, name, current_flag, from_time, to_time, create_time, update_time"
    values = "1, 'Twin', 'Y', '2026-01-01', '2999-12-31', '2026-01-01', '2026-01-01'"
    with pytest.raises(Exception, match=r"(?i)unique"):
        target.do(f"INSERT INTO dim_person ({columns}) VALUES ({values})")
    assert len(target.rows(CURRENT)) == 1


def test_what_cannot_be_extended_is_refused_in_the_databases_words(files: Place, target: Place) -> None:
    target.do("CREATE VIEW dim_person AS SELECT 1 AS id")
    with pytest.raises(TargetRefusedError) as refused:
        prepare(target.endpoint, plan(person(), files, target))
    assert refused.value.metadata == {"table": "dim_person"}
    assert refused.value.message
    assert target.rows("SELECT * FROM dim_person") == [(1,)]


@pytest.mark.parametrize("amount", ["integer", "decimal(6,2)", "decimal(8,1)", "double precision"])
def test_a_column_that_would_change_the_values_is_refused(files: Place, target: Place, amount: str) -> None:
    target.do(f"CREATE TABLE dim_person (skey integer, id bigint, amount {amount})")
    with pytest.raises(TargetRefusedError, match=r"column amount exists as .+ DECIMAL\(8,2\)"):
        prepare(target.endpoint, plan(person(), files, target))
    with pytest.raises(Exception, match="name"):  # nothing was added
        target.rows("SELECT name FROM dim_person")


def test_a_column_that_is_wider_is_taken(files: Place, target: Place) -> None:
    files.people([ROW])
    decimal = "numeric" if target.kind is DatabaseKind.POSTGRESQL else "decimal_text(20,8)"
    plan_ = plan(person(), files, target)
    plan_.target.create_table = plan_.target.create_table.replace("VARCHAR(10)", "text").replace(
        "NUMERIC(8, 2)" if target.kind is DatabaseKind.POSTGRESQL else "DECIMAL_TEXT(8,2)", decimal
    )
    target.do(plan_.target.create_table)
    prepare(target.endpoint, plan_)
    load(task(plan_, files, target))
    assert load(task(plan_, files, target, fence=2)).counts == Counts(source=1, unchanged=1)


def test_a_database_that_does_not_answer_is_refused(files: Place, target: Place) -> None:
    plan_ = plan(person(), files, target)
    nowhere = replace(target.endpoint, database="nowhere", path="/nowhere/warehouse.db")
    with pytest.raises(TargetRefusedError):
        prepare(nowhere, plan_)
