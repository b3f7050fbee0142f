"""Names: whatever they hold, the database keeps them as they are, or they are refused."""

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel.databases.endpoints import DatabaseKind
from portolan.mapper.v1 import plan_pb2 as pb
from services.mapper.compiler import NameRefusedError
from services.mapper.compiler.names import quoted, shortened
from services.mapper.compiler.plan import dialect
from tests.mapper.warehouse import Warehouse

NAMES = st.text(st.characters(exclude_categories=["C", "Zs", "Zl", "Zp"], include_characters=" "), min_size=1)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NAMES.filter(lambda name: len(name.encode()) <= 63))
def test_a_quoted_name_is_kept_as_it_is(warehouse: Warehouse, name: str) -> None:
    column: sa.Column[int] = sa.Column(quoted(name, 63), sa.Integer())
    table = sa.Table(quoted("t", 63), sa.MetaData(), column)
    warehouse.do('DROP TABLE IF EXISTS "t"')
    warehouse.do(dialect(warehouse.kind).sql(sa.schema.CreateTable(table)))
    assert warehouse.columns(pb.TargetTable(name="t")) == [name]


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb", "\u202e", "é" * 32, "x" * 64])
def test_a_name_that_would_not_be_kept_is_refused(name: str) -> None:
    with pytest.raises(NameRefusedError):
        quoted(name, 63)


def test_names_fold_as_the_database_folds_them() -> None:
    assert dialect(DatabaseKind.POSTGRESQL).fold("DIM_A") == "dim_a"
    assert dialect(DatabaseKind.SQLITE).fold("DIM_A") == "DIM_A"


@given(NAMES, NAMES)
def test_shortened_names_fit_and_differ(one: str, other: str) -> None:
    first, second = (shortened(name * 63, "_key", 63) for name in (one, other))
    assert len(first.encode()) <= 63
    assert first.endswith("_key")
    assert (first == second) == (one * 63 == other * 63)
