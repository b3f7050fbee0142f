"""SQLite, which has few types: how the others are kept exactly, checked and converted.

    DECIMAL(p, s)    TEXT with exactly s digits after the point; INTEGER when s is 0 and p at most 18
    BOOLEAN          INTEGER, 0 or 1
    DATE             TEXT `YYYY-MM-DD`
    TIMESTAMP(_TZ)   TEXT `YYYY-MM-DD HH:MM:SS.ffffff`, in UTC

One value has one form, so that equality of texts is equality of values; `sum` reads a decimal's text as a
number. The stage is a STRICT table with a check for each column. The target is not STRICT, for its declared
types tell readers what a column holds; each keeps what the stage checked as it is.
"""

from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.sql.expression import quoted_name

from kernel.databases.types import DataType, Kind
from services.mapper.compiler.dialects import Dialect, Expression
from services.mapper.compiler.names import quoted

INTEGER_DIGITS = 18
EXACT_DIGITS = 15  # a double holds this many digits of any decimal
DATE_LENGTH = len("2000-01-01")
SECOND_LENGTH = len("2000-01-01 00:00:00")
MOMENT_LENGTH = len("2000-01-01 00:00:00.000000")


class DecimalText(sa.types.UserDefinedType[str]):
    """A decimal kept as text: a type name with `TEXT` in it keeps text as it is."""

    cache_ok = True

    def __init__(self, precision: int, scale: int) -> None:
        self.precision = precision
        self.scale = scale

    def get_col_spec(self, **_: Any) -> str:
        """The declared type."""
        return f"DECIMAL_TEXT({self.precision},{self.scale})"


class Sqlite(Dialect):
    """SQLite, 3.38 or later."""

    max_name_bytes = 1000  # it has no limit of its own
    row_id = "rowid"
    has_schemas = False
    table_options: dict[str, Any] = {"sqlite_strict": True}  # noqa: RUF012 - never changed

    def __init__(self) -> None:
        self.sqlalchemy = SQLiteDialect(paramstyle="named")

    def fold(self, name: str) -> quoted_name:
        """The name as it is: letter case is kept, and does not matter."""
        return quoted(name, self.max_name_bytes)

    def type(self, of: DataType) -> sa.types.TypeEngine[Any]:
        """The declared type in the target."""
        return DecimalText(of.precision, of.scale) if _as_text(of) else of.sqlalchemy()

    def stage_type(self, of: DataType) -> sa.types.TypeEngine[Any]:
        """The storage class."""
        match of.kind:
            case Kind.INTEGER | Kind.BIG_INTEGER | Kind.BOOLEAN:
                return sa.Integer()
            case Kind.DECIMAL if not _as_text(of):
                return sa.Integer()
            case Kind.DOUBLE:
                return sa.REAL()
            case Kind.BINARY:
                return sa.BLOB()
            case _:
                return sa.Text()

    def check(  # noqa: PLR0911 - one answer a type
        self, column: Expression, of: DataType
    ) -> Expression | None:
        """The one form of each type, and its range."""
        match of.kind:
            case Kind.STRING if of.length:
                return sa.func.length(column) <= of.length
            case Kind.INTEGER:
                return column.between(-(2**31), 2**31 - 1)
            case Kind.BOOLEAN:
                return column.in_([0, 1])
            case Kind.DECIMAL if _as_text(of):
                return _is_decimal(column, of)
            case Kind.DECIMAL:
                return column.between(1 - 10**of.precision, 10**of.precision - 1)
            case Kind.DATE:
                return column.is_(_recomputed("date", column, " 00:00"))
            case Kind.TIMESTAMP | Kind.TIMESTAMP_TZ:
                return _is_moment(column)
            case _:
                return None

    def convert(self, value: Expression, to: DataType) -> Expression:
        """The value in its one form where that is plain to see; else as it is, for the stage to refuse.

        There is no CAST: it would make 0 of `abc`.
        """
        match to.kind:
            case Kind.DECIMAL if _as_text(to):
                return _decimal(value, to.scale)
            case Kind.DECIMAL:
                rounded = sa.cast(sa.func.round(value), sa.Integer())
                return sa.case((sa.func.typeof(value) == "real", rounded), else_=value)
            case Kind.BOOLEAN:
                return sa.case(
                    (sa.func.lower(value) == "true", 1), (sa.func.lower(value) == "false", 0), else_=value
                )
            case Kind.DATE:
                # A moment that is a date with midnight behind it is that date.
                midnight = sa.func.substr(value, DATE_LENGTH + 1).op("NOT GLOB")("*[^T 0:.]*")
                return sa.case((midnight, sa.func.substr(value, 1, DATE_LENGTH)), else_=value)
            case Kind.TIMESTAMP | Kind.TIMESTAMP_TZ:
                return _moment(value, utc=to.kind == Kind.TIMESTAMP_TZ)
            case _:
                return value

    def moment(self, value: Expression, of: DataType) -> Expression:
        """A date as its midnight; times are in the form already."""
        return value.concat(" 00:00:00.000000") if of.kind == Kind.DATE else value

    def add_column(self, column: sa.Column[Any]) -> str:
        """Adds a column; the surrogate key is the row's number, which cannot be added."""
        return "" if column.primary_key else super().add_column(column)


def _as_text(of: DataType) -> bool:
    return of.kind == Kind.DECIMAL and (of.scale > 0 or of.precision > INTEGER_DIGITS)


def _glob(value: Expression, pattern: str) -> Expression:
    return value.op("GLOB", is_comparison=True)(pattern)


def _not_glob(value: Expression, pattern: str) -> Expression:
    return value.op("NOT GLOB", is_comparison=True)(pattern)


def _is_decimal(column: Expression, of: DataType) -> Expression:
    unsigned = sa.func.ltrim(column, "-")
    point = "." if of.scale else ""
    length = max(of.precision - of.scale, 1) + len(point) + of.scale
    zero = "0" + point + "0" * of.scale
    rules = [
        _not_glob(column, "*[^0-9.-]*"),
        _not_glob(column, "?*-*"),
        _glob(column, f"*[0-9]{point}{'[0-9]' * of.scale}"),
        sa.func.length(column) - sa.func.length(sa.func.replace(column, ".", "")) == len(point),
        sa.or_(_glob(unsigned, "0.*" if point else "0"), _not_glob(unsigned, "0*")),
        sa.func.length(unsigned) <= length,
        column != f"-{zero}",
    ]
    if of.precision == of.scale:
        rules.append(_glob(unsigned, "0.*"))
    return sa.and_(*rules)


def _decimal(value: Expression, scale: int) -> Expression:
    """A number, or its text, with exactly `scale` digits after the point; text stays exact where it can."""
    tail = "." + "0" * scale if scale else ""
    rounded = sa.func.printf(f"%.{scale}f", value)
    rounded = sa.func.coalesce(sa.func.nullif(rounded, f"-0{tail}"), f"0{tail}")
    point = sa.func.instr(value, ".")
    bare = sa.func.rtrim(value, "0")
    kind = sa.func.typeof(value)
    numeric = sa.and_(
        _not_glob(value, "*[^0-9.-]*"),
        _not_glob(value, "*.*.*"),
        _not_glob(value, "?*-*"),
        sa.func.length(value) <= EXACT_DIGITS,
    )
    return sa.case(
        (kind == "real", rounded),
        (sa.and_(kind.in_(["integer", "text"]), point == 0), value.concat(tail) if tail else value),
        (
            sa.and_(kind == "text", sa.func.length(bare) - point <= scale),
            sa.func.substr(bare.concat("0" * scale), 1, point + scale) if scale else sa.func.rtrim(bare, "."),
        ),
        (sa.and_(kind == "text", numeric), rounded),
        else_=value,
    )


def _recomputed(function: str, value: Expression, rest: str) -> Expression:
    """A date or time as SQLite computes it, which is another one for a day that the month lacks.

    With `rest` behind it, `now`, whose time changes, is no time at all.
    """
    return cast("Expression", getattr(sa.func, function)(value.concat(rest), "+0 days"))


def _is_moment(column: Expression) -> Expression:
    seconds = sa.func.substr(column, 1, SECOND_LENGTH)
    return sa.and_(
        seconds.is_(_recomputed("datetime", seconds, ".0")),
        _glob(sa.func.substr(column, SECOND_LENGTH + 1), "." + "[0-9]" * 6),
    )


def _moment(value: Expression, *, utc: bool) -> Expression:
    """A date or time in any ISO form without an offset, `Z` aside, to the microsecond."""
    text = sa.func.replace(value, "T", " ")
    if utc:
        text = sa.func.replace(sa.func.rtrim(text, "Z"), "+00:00", "")
    length = sa.func.length(text)
    return sa.case(
        (length == DATE_LENGTH, text.concat(" 00:00:00.000000")),
        (length == SECOND_LENGTH, text.concat(".000000")),
        (
            length.between(SECOND_LENGTH + 2, MOMENT_LENGTH),
            sa.func.substr(text.concat("000000"), 1, MOMENT_LENGTH),
        ),
        else_=text,
    )
