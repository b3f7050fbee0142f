"""Which types can become which, and which can be compared."""

from kernel.databases.types import DataType, Kind, parse_code

NUMBERS = {Kind.INTEGER, Kind.BIG_INTEGER, Kind.DECIMAL, Kind.DOUBLE}
WHOLE = {Kind.INTEGER, Kind.BIG_INTEGER}
MOMENTS = {Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMP_TZ}
TEXTS = {Kind.STRING, Kind.OTHER}


def convertible(source: DataType, target: DataType) -> bool:
    """Whether values of a type can become values of another; single values may still not fit."""
    match source.kind:
        case Kind.STRING | Kind.OTHER:
            return True
        case Kind.BINARY:
            return target.kind == Kind.BINARY
        case kind if kind in MOMENTS:
            return target.kind in MOMENTS | TEXTS
        case Kind.BOOLEAN:
            return target.kind in {Kind.BOOLEAN, Kind.INTEGER} | TEXTS
        case kind:
            return target.kind in NUMBERS | TEXTS or (kind in WHOLE and target.kind == Kind.BOOLEAN)


def comparable(one: str, other: str) -> bool:
    """Whether values of two data type codes can be equal."""
    left, right = parse_code(one), parse_code(other)
    if left is None or right is None:
        return True  # reported where the code stands
    return any({left.kind, right.kind} <= family for family in (NUMBERS, MOMENTS, TEXTS, {Kind.BOOLEAN}))
