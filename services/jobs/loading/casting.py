"""Batches of the source as the stage takes them, and the rows that do not fit.

Whole columns are converted at once. Where that fails the column's distinct values are halved again and again
until those at fault are found, so that clean data cost nothing and bad values little.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from kernel.databases.types import DataType
from services.jobs.loading.columns import StageColumn
from services.jobs.loading.converting import UnfitError, convert, explain, value
from services.jobs.loading.events import MAX_VALUE, Reason, RejectedRow

UNFIT = (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnfitError)
Unkept = Callable[[pa.Array, DataType], tuple[pa.Array, str] | None]
"""Which values of a type a target cannot keep, and why, as a sentence; None when it keeps any."""


@dataclass(frozen=True)
class CastBatch:
    """The rows of a batch that fit, in the stage's types, and those that do not."""

    source_rows: int
    rows: pa.RecordBatch
    rejected: list[RejectedRow]


class Caster:
    """Casts a source's batches to a stage's columns."""

    def __init__(self, columns: Sequence[StageColumn], unkept: Unkept) -> None:
        self._columns = columns
        self._unkept = unkept
        self._schema = pa.schema([(column.name, column.type.arrow()) for column in columns])

    def cast(self, batch: pa.RecordBatch) -> CastBatch:
        """Casts a batch. A row is rejected for the first of its columns that does not fit."""
        arrays: list[pa.Array] = []
        faults: dict[int, tuple[StageColumn, Reason, str]] = {}
        for column in self._columns:
            source = batch.column(column.name)
            array, unfit = _converted(source, column.type)
            arrays.append(array)
            for row in unfit:
                if row not in faults:
                    faults[row] = (column, *explain(source[row], column.type))
            if (unkept := self._unkept(array, column.type)) is not None:
                mask, sentence = unkept
                for row in pc.indices_nonzero(mask).to_pylist():
                    faults.setdefault(row, (column, Reason.NOT_CONVERTIBLE, sentence))
        rows = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        if not faults:
            return CastBatch(batch.num_rows, rows, [])
        good = pa.array([row not in faults for row in range(batch.num_rows)])
        return CastBatch(batch.num_rows, rows.filter(good), list(self._rejected(batch, faults)))

    def _rejected(
        self, batch: pa.RecordBatch, faults: dict[int, tuple[StageColumn, Reason, str]]
    ) -> Iterator[RejectedRow]:
        keys = {column.name: batch.column(column.name) for column in self._columns if column.key}
        for row in sorted(faults):
            column, reason, sentence = faults[row]
            key = {name: value(array[row]) for name, array in keys.items()}
            yield RejectedRow(
                key=printed_key(key),
                column=column.name,
                value=printed(value(batch.column(column.name)[row])),
                reason=reason,
                message=sentence,
            )


def printed_key(key: dict[str, object]) -> dict[str, str]:
    """A business key as text, without what is NULL."""
    return {name: printed(found) for name, found in key.items() if found is not None}


def printed(found: object) -> str:
    """A value as text, cut to what is kept of it."""
    if isinstance(found, bytes):
        return "\\x" + found[:MAX_VALUE].hex()[: MAX_VALUE - 2]
    return str(found).replace("\0", "\\0")[:MAX_VALUE] if found is not None else ""


def _converted(array: pa.Array, to: DataType) -> tuple[pa.Array, list[int]]:
    """The converted array, NULL where a value does not fit, and the places of those, in order."""
    try:
        return convert(array, to), []
    except UNFIT:
        if pa.types.is_nested(array.type):
            return _bisected(array, to)
    # The same values are at fault again and again, so each is tried once.
    encoded = array.dictionary_encode()
    values, _ = _bisected(encoded.dictionary, to)
    converted = values.take(encoded.indices)
    return converted, pc.indices_nonzero(pc.and_(converted.is_null(), array.is_valid())).to_pylist()


def _bisected(array: pa.Array, to: DataType) -> tuple[pa.Array, list[int]]:
    """The same, by halves."""
    parts: list[pa.Array] = []
    unfit: list[int] = []
    todo = [(0, len(array))]
    while todo:
        start, length = todo.pop()
        try:
            parts.append(convert(array.slice(start, length), to))
        except UNFIT:
            if length == 1:
                parts.append(pa.nulls(1, to.arrow()))
                unfit.append(start)
            else:
                half = length // 2
                todo += [(start + half, length - half), (start, half)]
    return pa.concat_arrays(parts), unfit
