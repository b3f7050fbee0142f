"""Random batches against a small model of what a dimension should hold."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.mapper.warehouse import MOMENT, NEW_VERSION, OVERWRITE, Counts, Warehouse, column, definition, key

VALUES = st.none() | st.sampled_from(["", "a", "b", "-1"])
ROWS = st.lists(st.tuples(st.none() | st.integers(1, 5), VALUES, VALUES, VALUES), max_size=8)
BATCHES = st.lists(st.tuples(st.integers(0, 2), ROWS), min_size=1, max_size=5)
MAPPING = definition(
    key("s"),
    column("ONE", "String5", "s", scd_type=OVERWRITE),
    column("TWO", "String5", "s", scd_type=NEW_VERSION),
    column("THREE", "String5", "s", scd_type=NEW_VERSION),
)


@dataclass
class Version:
    """A row of the dimension."""

    values: tuple[Any, ...]
    since: int
    until: int | None = None


def load(model: dict[int, list[Version]], rows: list[tuple[Any, ...]], moment: int) -> Counts:
    """What a load of some rows should do to a dimension."""
    sound = [row for row in rows if row[0] is not None]
    last = {row[0]: row[1:] for row in sound}
    counts = Counts(null_keys=len(rows) - len(sound), duplicates=len(sound) - len(last))
    for number, values in last.items():
        history = model.setdefault(number, [])
        if not history:
            history.append(Version(values, moment))
            counts.inserted += 1
        elif values[1:] != history[-1].values[1:] and history[-1].since < moment:
            history[-1].until = moment
            history.append(Version(values, moment))
            counts.versions += 1
        elif values != history[-1].values:
            history[-1].values = values
            counts.updated += 1
    return counts


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(BATCHES)
def test_a_dimension_is_what_the_model_says(
    warehouse: Warehouse, batches: list[tuple[int, list[tuple[Any, ...]]]]
) -> None:
    plan = warehouse.plan(MAPPING)
    table = f'"{plan.target.schema}"."{plan.target.name}"' if plan.target.schema else f'"{plan.target.name}"'
    warehouse.prepare(plan)
    warehouse.do(f"DELETE FROM {table}")
    model: dict[int, list[Version]] = {}
    moment = 0
    for days, rows in batches:
        moment += days
        warehouse.source("s", "id integer, one varchar(5), two varchar(5), three varchar(5)", rows)
        assert warehouse.load(plan, MOMENT + dt.timedelta(days=moment)) == load(model, rows, moment)
    columns = "id, one, two, three, current_flag, from_time, to_time"
    found = [
        (*row[:5], str(row[5])[:10], str(row[6])[:10])
        for row in warehouse.rows(f"SELECT {columns} FROM {table} ORDER BY id, from_time")
    ]
    assert found == [
        (
            *(number, *version.values),
            "Y" if version.until is None else "N",
            day(version.since),
            "2999-12-31" if version.until is None else day(version.until),
        )
        for number, history in sorted(model.items())
        for version in history
    ]


def day(number: int) -> str:
    return str((MOMENT + dt.timedelta(days=number)).date())
