"""Each value keeps its meaning in its column, or is refused with the reason."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.databases.types import DataType, Kind
from services.jobs.loading.casting import Caster
from services.jobs.loading.columns import StageColumn
from services.jobs.loading.events import Reason
from services.jobs.loading.sqlite import stored

INTEGER, BIG = DataType(Kind.INTEGER), DataType(Kind.BIG_INTEGER)
MONEY = DataType(Kind.DECIMAL, precision=6, scale=2)
TEXT5, TEXT = DataType(Kind.STRING, length=5), DataType(Kind.STRING)
DOUBLE, BOOLEAN, DATE = DataType(Kind.DOUBLE), DataType(Kind.BOOLEAN), DataType(Kind.DATE)
TIME, TIME_TZ = DataType(Kind.TIMESTAMP), DataType(Kind.TIMESTAMP_TZ)
BINARY = DataType(Kind.BINARY)
NOON = dt.datetime(2026, 1, 2, 12)  # noqa: DTZ001 - a TIMESTAMP has no zone
UTC_NOON = NOON.replace(tzinfo=dt.UTC)
PARIS_ONE = pa.array([UTC_NOON], pa.timestamp("us", tz="Europe/Paris"))


def cast(values: Any, to: DataType) -> tuple[list[Any], list[Reason]]:
    """The values that fit a column of a type, and the reasons why the others do not."""
    caster = Caster([StageColumn("x", to, key=False)], lambda *_: None)
    array = values if isinstance(values, pa.Array) else pa.array(values)
    found = caster.cast(pa.RecordBatch.from_arrays([array], names=["x"]))
    assert found.rows.column("x").type == to.arrow()
    return found.rows.column("x").to_pylist(), [row.reason for row in found.rejected]


@pytest.mark.parametrize(
    ("values", "to", "expected"),
    [
        ([1, -2, None], BIG, [1, -2, None]),
        ([" 12 ", "-3"], INTEGER, [12, -3]),
        ([1.0, 2.0], INTEGER, [1, 2]),
        ([Decimal("5.00")], BIG, [5]),
        ([True, False], INTEGER, [1, 0]),
        ([1, None], MONEY, [Decimal("1.00"), None]),
        (["1.5", " 2 ", "1e2", ".5"], MONEY, [Decimal(x) for x in ("1.50", "2.00", "100.00", "0.50")]),
        (["1.005", "-1.005"], MONEY, [Decimal("1.01"), Decimal("-1.01")]),
        ([Decimal("1.005"), Decimal("-2.345")], MONEY, [Decimal("1.01"), Decimal("-2.35")]),
        ([0.1, -2.5], MONEY, [Decimal("0.10"), Decimal("-2.50")]),
        ([2**53 + 1], DOUBLE, [float(2**53)]),
        (["1.5e3", "-0"], DOUBLE, [1500.0, -0.0]),
        (["true", "F", " yes", "0", None], BOOLEAN, [True, False, True, False, None]),
        ([1, 0, None], BOOLEAN, [True, False, None]),
        (["2026-01-02", "2026-01-02 00:00:00"], DATE, [NOON.date()] * 2),
        ([dt.datetime(2026, 1, 2)], DATE, [NOON.date()]),  # noqa: DTZ001 - a TIMESTAMP has no zone
        (["2026-01-02T12:00:00Z", "2026-01-02 12:00", "2026-01-02 13:00:00+01:00"], TIME, [NOON] * 3),
        ([NOON.date()], TIME, [NOON.replace(hour=0)]),
        (PARIS_ONE, TIME, [NOON]),
        (["2026-01-02 12:00:00", "2026-01-02 13:00:00+01"], TIME_TZ, [UTC_NOON] * 2),
        (pa.array([1767355200123456789], pa.timestamp("ns")), TIME, [NOON.replace(microsecond=123456)]),
        (["héllo", ""], TEXT5, ["héllo", ""]),
        ([Decimal("0.0000001"), None], TEXT, ["0.0000001", None]),
        ([True, False], TEXT, ["true", "false"]),
        ([NOON, NOON.replace(microsecond=120000)], TEXT, ["2026-01-02 12:00:00", "2026-01-02 12:00:00.12"]),
        (["ab"], BINARY, [b"ab"]),
        (pa.nulls(2), INTEGER, [None, None]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), TEXT, ["a", "b", "a"]),
        (pa.array(["a"], pa.large_string()), TEXT, ["a"]),
    ],
)
def test_what_fits_keeps_its_meaning(values: Any, to: DataType, expected: list[Any]) -> None:
    assert cast(values, to) == (expected, [])


@pytest.mark.parametrize(
    ("values", "to", "reason"),
    [
        ([2**31], INTEGER, Reason.OUT_OF_RANGE),
        (["9223372036854775808"], BIG, Reason.OUT_OF_RANGE),
        (["1.5"], INTEGER, Reason.NOT_CONVERTIBLE),
        ([1.5], INTEGER, Reason.NOT_CONVERTIBLE),
        (["", "abc", "1,5"], INTEGER, Reason.NOT_CONVERTIBLE),
        ([10_000], MONEY, Reason.OUT_OF_RANGE),
        (["9999.995"], MONEY, Reason.OUT_OF_RANGE),
        ([1e30], MONEY, Reason.OUT_OF_RANGE),
        ([float("nan"), float("inf")], MONEY, Reason.NOT_CONVERTIBLE),
        (["NaN", "x", ""], MONEY, Reason.NOT_CONVERTIBLE),
        (["abc"], DOUBLE, Reason.NOT_CONVERTIBLE),
        (["maybe"], BOOLEAN, Reason.NOT_CONVERTIBLE),
        ([2], BOOLEAN, Reason.NOT_CONVERTIBLE),
        (["2026-02-30", "02/01/2026", "2026-01-02 12:00:00"], DATE, Reason.NOT_CONVERTIBLE),
        (["infinity", "2026-01-02 25:00:00"], TIME, Reason.NOT_CONVERTIBLE),
        (pa.array([3_000_000], pa.date32()), DATE, Reason.OUT_OF_RANGE),
        (pa.array([2**60], pa.timestamp("us")), TIME, Reason.OUT_OF_RANGE),
        ([5], DATE, Reason.NOT_CONVERTIBLE),
        ([NOON], DATE, Reason.NOT_CONVERTIBLE),
        (["sixsix"], TEXT5, Reason.TOO_LONG),
        ([b"\xff"], TEXT5, Reason.NOT_CONVERTIBLE),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(values: Any, to: DataType, reason: Reason) -> None:
    assert cast(values, to) == ([], [reason] * len(values))


@given(st.lists(st.one_of(st.none(), st.integers(-(10**4) + 1, 10**4 - 1), st.just("x")), max_size=60))
def test_every_bad_value_is_found_and_every_good_one_kept(values: list[int | str | None]) -> None:
    texts = pa.array([None if value is None else str(value) for value in values], pa.string())
    good, reasons = cast(texts, MONEY)
    assert good == [None if value is None else Decimal(value) for value in values if value != "x"]
    assert len(reasons) == values.count("x")


@given(st.decimals(min_value=-(10**27), max_value=10**27, places=10, allow_nan=False))
def test_decimals_reach_sqlite_digit_by_digit(value: Decimal) -> None:
    wide = DataType(Kind.DECIMAL, precision=38, scale=10)
    (text,) = stored(pa.array([value], wide.arrow()), wide).to_pylist()
    assert Decimal(text) == value
    assert len(text.rsplit(".", 1)[1]) == 10


def test_sqlite_keeps_each_type_in_its_one_form() -> None:
    def form(value: Any, of: DataType) -> Any:
        return stored(pa.array([value], of.arrow()), of).to_pylist()[0]

    assert form(Decimal("-1.5"), MONEY) == "-1.50"
    assert form(Decimal(7), DataType(Kind.DECIMAL, precision=18)) == 7
    assert form(Decimal(7), DataType(Kind.DECIMAL, precision=19)) == "7"
    assert form(True, BOOLEAN) == 1
    assert form(NOON.date(), DATE) == "2026-01-02"
    assert form(NOON, TIME) == "2026-01-02 12:00:00.000000"
    assert form(UTC_NOON, TIME_TZ) == "2026-01-02 12:00:00.000000"
