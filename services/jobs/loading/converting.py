"""Values of any Arrow type as those of a column type, without loss: what does not fit fails.

Text is read as ISO writes it, with blanks around it or not. Fractions of a number are rounded to a DECIMAL's
digits, half away from zero; a whole number must be one. A time is brought to UTC; one without
a zone is taken to be in UTC. A moment is a date at midnight only.
"""

import datetime as dt
import decimal
import re
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from kernel.databases.types import DataType, Kind
from services.jobs.loading.events import Reason

INTEGERS = {Kind.INTEGER: 32, Kind.BIG_INTEGER: 64}
WIDE = pa.decimal256(76, 38)
ROUNDING = "half_towards_infinity"
MOMENT = pa.timestamp("us")
FIRST, LAST = "0001-01-01", "9999-12-31"
TRUE, FALSE = ("true", "t", "yes", "y", "on", "1"), ("false", "f", "no", "n", "off", "0")
FRACTION = re.compile(r"\.0+$|(\.\d*?)0+$")

Conversion = Callable[[pa.Array, DataType], pa.Array]


class UnfitError(ValueError):
    """A value is of no use to the column."""


def convert(array: pa.Array, to: DataType) -> pa.Array:
    """The values as those of a column of the type; an ArrowInvalid or UnfitError when any does not fit."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), to.arrow())
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    return _CONVERSIONS[to.kind](array, to)


def value(scalar: pa.Scalar) -> object:
    """The value in Python; as text where Python has none, such as for a date beyond the year 9999."""
    try:
        return scalar.as_py()
    except (OverflowError, ValueError):
        return str(scalar.cast(pa.string()))


def explain(scalar: pa.Scalar, to: DataType) -> tuple[Reason, str]:
    """Why a value does not fit a column of the type, as a reason and a sentence."""
    value_ = value(scalar)
    match to.kind:
        case Kind.STRING | Kind.OTHER if not isinstance(value_, bytes):
            length = len(str(value_))
            if to.length and length > to.length:
                return Reason.TOO_LONG, f"The value has {length} characters; {to.length} fit."
        case Kind.INTEGER | Kind.BIG_INTEGER:
            if (number := _number(value_)) is not None and abs(number) >= 2 ** (INTEGERS[to.kind] - 1):
                return Reason.OUT_OF_RANGE, f"The value is beyond what {INTEGERS[to.kind]} bits hold."
        case Kind.DECIMAL:
            if _number(value_) is not None:
                digits = to.precision - to.scale
                return Reason.OUT_OF_RANGE, f"The value has more than {digits} digits before the point."
        case Kind.DATE | Kind.TIMESTAMP | Kind.TIMESTAMP_TZ:
            if pa.types.is_temporal(scalar.type) and not isinstance(value_, dt.date):
                return Reason.OUT_OF_RANGE, f"The value is not between {FIRST} and {LAST}."
            if isinstance(value_, dt.datetime):
                return Reason.NOT_CONVERTIBLE, "The value is no date, for it has a time of day."
        case _:
            pass
    return Reason.NOT_CONVERTIBLE, f"The value is no {_NAMES[to.kind]}."


def _text(array: pa.Array, to: DataType) -> pa.Array:
    array = _as_text(array)
    if to.length:
        _require(pc.less_equal(pc.utf8_length(array), to.length), "too long")
    return array


def _as_text(array: pa.Array) -> pa.Array:
    kind = array.type
    if pa.types.is_decimal(kind):
        # Arrow writes small ones as 1E-7.
        texts = [None if value is None else f"{value:f}" for value in array.to_pylist()]
        return pa.array(texts, pa.string())
    if pa.types.is_timestamp(kind):
        texts = [
            None if text is None else FRACTION.sub(r"\1", text)
            for text in _moment(array).cast(pa.string()).to_pylist()
        ]
        return pa.array(texts, pa.string())
    return array.cast(pa.string())


def _integer(array: pa.Array, to: DataType) -> pa.Array:
    if pa.types.is_string(array.type):
        array = pc.utf8_trim_whitespace(array)
    return array.cast(to.arrow())


def _decimal(array: pa.Array, to: DataType) -> pa.Array:
    wanted, kind = to.arrow(), array.type
    if pa.types.is_decimal(kind) and kind.scale <= to.scale:
        return array.cast(wanted)
    if pa.types.is_integer(kind):
        return array.cast(pa.decimal128(20, 0)).cast(wanted)
    if pa.types.is_boolean(kind):
        return _decimal(array.cast(pa.int8()), to)
    if pa.types.is_floating(kind):
        return pc.round(array, ndigits=to.scale, round_mode=ROUNDING).cast(wanted)
    if pa.types.is_string(kind):
        array = pc.utf8_trim_whitespace(array)
        try:
            return array.cast(wanted)
        except pa.ArrowInvalid:
            array = array.cast(WIDE)
    if not pa.types.is_decimal(array.type):
        raise UnfitError("no number")
    wide = array.cast(pa.decimal256(76, array.type.scale))
    return pc.round(wide, ndigits=to.scale, round_mode=ROUNDING).cast(wanted)


def _double(array: pa.Array, to: DataType) -> pa.Array:
    if pa.types.is_string(array.type):
        array = pc.utf8_trim_whitespace(array)
    return array.cast(to.arrow(), safe=not pa.types.is_integer(array.type))


def _boolean(array: pa.Array, _: DataType) -> pa.Array:
    kind = array.type
    if pa.types.is_boolean(kind):
        return array
    if pa.types.is_string(kind):
        words = pc.utf8_lower(pc.utf8_trim_whitespace(array))
        true, false = (pc.is_in(words, value_set=pa.array(words_)) for words_ in (TRUE, FALSE))
        _require(pc.or_(pc.or_(true, false), array.is_null()), "no truth value")
        return pc.if_else(array.is_valid(), true, pa.scalar(None, pa.bool_()))
    numbers = array.cast(pa.int8())
    _require(pc.is_in(numbers, value_set=pa.array([0, 1, None], pa.int8())), "no truth value")
    return numbers.cast(pa.bool_())


def _date(array: pa.Array, _: DataType) -> pa.Array:
    if pa.types.is_date(array.type):
        return _in_years(array.cast(pa.date32()))
    if pa.types.is_string(array.type):
        array = pc.utf8_trim_whitespace(array)
        try:
            return _in_years(array.cast(pa.date32()))
        except pa.ArrowInvalid:
            pass
    moments = _moment(array)
    dates = moments.cast(pa.date32())
    _require(pc.equal(dates.cast(MOMENT), moments), "not at midnight")
    return _in_years(dates)


def _timestamp(array: pa.Array, to: DataType) -> pa.Array:
    return _in_years(_moment(array)).cast(to.arrow())


def _moment(array: pa.Array) -> pa.Array:
    """The values as times in UTC, without a zone."""
    kind = array.type
    if pa.types.is_string(kind):
        array = pc.utf8_trim_whitespace(array)
        try:
            return array.cast(MOMENT)
        except pa.ArrowInvalid:
            return array.cast(pa.timestamp("us", tz="UTC")).cast(MOMENT)
    if pa.types.is_timestamp(kind):
        # What is finer than a microsecond is cut off.
        return array.cast(pa.timestamp("us", tz=kind.tz), safe=kind.unit != "ns").cast(MOMENT)
    if pa.types.is_date(kind):
        return array.cast(MOMENT)
    raise UnfitError("no time")


def _binary(array: pa.Array, to: DataType) -> pa.Array:
    return array.cast(to.arrow())


def _in_years(array: pa.Array) -> pa.Array:
    first, last = (pa.scalar(day).cast(pa.date32()).cast(array.type) for day in (FIRST, LAST))
    if array.type == MOMENT:
        beyond = pc.add(last, pa.scalar(24 * 60 * 60 * 1_000_000, pa.duration("us")))
        _require(pc.and_(pc.greater_equal(array, first), pc.less(array, beyond)), "out of range")
    else:
        _require(pc.and_(pc.greater_equal(array, first), pc.less_equal(array, last)), "out of range")
    return array


def _require(met: pa.Array, message: str) -> None:
    if pc.all(met).as_py() is False:
        raise UnfitError(message)


def _number(value: object) -> decimal.Decimal | None:
    if isinstance(value, bool | bytes):
        return None
    try:
        number = decimal.Decimal(str(value).strip())
    except decimal.InvalidOperation:
        return None
    return number if number.is_finite() else None


_NAMES = {
    Kind.STRING: "text",
    Kind.INTEGER: "whole number",
    Kind.BIG_INTEGER: "whole number",
    Kind.DECIMAL: "number",
    Kind.DOUBLE: "number",
    Kind.BOOLEAN: "truth value",
    Kind.DATE: "date",
    Kind.TIMESTAMP: "time",
    Kind.TIMESTAMP_TZ: "time",
    Kind.BINARY: "bytes",
    Kind.OTHER: "text",
}
_CONVERSIONS: dict[Kind, Conversion] = {
    Kind.STRING: _text,
    Kind.INTEGER: _integer,
    Kind.BIG_INTEGER: _integer,
    Kind.DECIMAL: _decimal,
    Kind.DOUBLE: _double,
    Kind.BOOLEAN: _boolean,
    Kind.DATE: _date,
    Kind.TIMESTAMP: _timestamp,
    Kind.TIMESTAMP_TZ: _timestamp,
    Kind.BINARY: _binary,
    Kind.OTHER: _text,
}
