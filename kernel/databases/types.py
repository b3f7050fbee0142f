"""Column types apart from any database: their codes, and how Arrow and SQLAlchemy write them."""

import enum
import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

MAX_DIGITS = 38
MAX_STRING = 4000


class Kind(enum.StrEnum):
    """The family of a type; the names are those of `portolan.common.v1.DataType.Kind`."""

    STRING = "STRING"
    INTEGER = "INTEGER"
    BIG_INTEGER = "BIG_INTEGER"
    DECIMAL = "DECIMAL"
    DOUBLE = "DOUBLE"
    BOOLEAN = "BOOLEAN"
    DATE = "DATE"
    TIMESTAMP = "TIMESTAMP"
    TIMESTAMP_TZ = "TIMESTAMP_TZ"
    BINARY = "BINARY"
    OTHER = "OTHER"


@dataclass(frozen=True)
class DataType:
    """A column's type. `length` is in characters, 0 for no limit; `precision` and `scale` in digits."""

    kind: Kind
    length: int = 0
    precision: int = 0
    scale: int = 0

    def __str__(self) -> str:
        match self.kind:
            case Kind.STRING if self.length:
                return f"STRING({self.length})"
            case Kind.DECIMAL:
                return f"DECIMAL({self.precision},{self.scale})"
            case _:
                return str(self.kind.value)

    def arrow(self) -> pa.DataType:
        """The Arrow type that holds its values without loss."""
        match self.kind:
            case Kind.DECIMAL:
                return pa.decimal128(self.precision, self.scale)
            case kind:
                return _ARROW[kind]

    def sqlalchemy(self) -> sa.types.TypeEngine[Any]:
        """The SQLAlchemy type that creates its column."""
        match self.kind:
            case Kind.STRING | Kind.OTHER:
                return sa.String(self.length) if self.length else sa.Text()
            case Kind.DECIMAL:
                return sa.Numeric(self.precision, self.scale)
            case kind:
                return _SQLALCHEMY[kind]


_ARROW = {
    Kind.STRING: pa.string(),
    Kind.INTEGER: pa.int32(),
    Kind.BIG_INTEGER: pa.int64(),
    Kind.DOUBLE: pa.float64(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.DATE: pa.date32(),
    Kind.TIMESTAMP: pa.timestamp("us"),
    Kind.TIMESTAMP_TZ: pa.timestamp("us", tz="UTC"),
    Kind.BINARY: pa.binary(),
    Kind.OTHER: pa.string(),
}
_SQLALCHEMY: dict[Kind, sa.types.TypeEngine[Any]] = {
    Kind.INTEGER: sa.Integer(),
    Kind.BIG_INTEGER: sa.BigInteger(),
    Kind.DOUBLE: sa.Double(),
    Kind.BOOLEAN: sa.Boolean(),
    Kind.DATE: sa.Date(),
    Kind.TIMESTAMP: sa.DateTime(),
    Kind.TIMESTAMP_TZ: sa.DateTime(timezone=True),
    Kind.BINARY: sa.LargeBinary(),
}

_PLAIN = {
    "text": DataType(Kind.STRING),
    "integer": DataType(Kind.INTEGER),
    "biginteger": DataType(Kind.BIG_INTEGER),
    "double": DataType(Kind.DOUBLE),
    "boolean": DataType(Kind.BOOLEAN),
    "date": DataType(Kind.DATE),
    "timestamp": DataType(Kind.TIMESTAMP),
    "timestamptz": DataType(Kind.TIMESTAMP_TZ),
}
_SIZED = re.compile(r"(string|numeric|money)([1-9]\d{0,3})")
_DECIMAL = re.compile(r"decimal\(([1-9]\d?),(\d{1,2})\)")
MONEY_SCALE = 6


def parse_code(code: str) -> DataType | None:
    """The type that a mapping's data type code stands for; None when there is no such code.

    Codes: `String1` to `String4000`, `Text`, `Integer`, `BigInteger`, `Numeric1` to `Numeric38`,
    `Decimal(p,s)`, `Money7` to `Money38` (six digits after the point), `Double`, `Boolean`, `Date`,
    `Timestamp`, `TimestampTz`. Letter case and blanks do not matter.
    """
    text = re.sub(r"\s", "", code).lower()
    if text in _PLAIN:
        return _PLAIN[text]
    if sized := _SIZED.fullmatch(text):
        size = int(sized[2])
        match sized[1]:
            case "string" if size <= MAX_STRING:
                return DataType(Kind.STRING, length=size)
            case "numeric" if size <= MAX_DIGITS:
                return DataType(Kind.DECIMAL, precision=size)
            case "money" if MONEY_SCALE < size <= MAX_DIGITS:
                return DataType(Kind.DECIMAL, precision=size, scale=MONEY_SCALE)
    if decimal := _DECIMAL.fullmatch(text):
        precision, scale = int(decimal[1]), int(decimal[2])
        if scale <= precision <= MAX_DIGITS:
            return DataType(Kind.DECIMAL, precision=precision, scale=scale)
    return None
