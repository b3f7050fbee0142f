"""Arrow batches as adapters hand them on."""

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc


def projected(query: str, as_text: Sequence[bool], text_type: str, limit: int | None) -> str:
    """The query with the columns marked in `as_text` cast to text by the database, and at most `limit` rows.

    Columns go by their places, so that two of the same name, or one without, do no harm.
    """
    names = [f"c{place}" for place in range(len(as_text))]
    values = [
        f"CAST({name} AS {text_type})" if text else name for name, text in zip(names, as_text, strict=True)
    ]
    bound = "" if limit is None else f" LIMIT {int(limit)}"
    return f"SELECT {', '.join(values)} FROM (\n{query}\n) AS q({', '.join(names)}){bound}"


def sliced(batch: pa.RecordBatch, rows: int) -> Iterator[pa.RecordBatch]:
    """The batch in pieces of at most `rows`, without a copy."""
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def empty(names: Sequence[str]) -> pa.RecordBatch:
    """A batch without rows."""
    return pa.RecordBatch.from_arrays([pa.array([], pa.string()) for _ in names], names=list(names))


def storable(
    array: pa.Array, infinite_dates: Mapping[int, str], infinite_times: Mapping[int, str]
) -> pa.Array:
    """The array in plain Arrow types, with infinite dates and times spelled out.

    The numbers that stand for infinity look like far-away days to whoever does not know them.
    """
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_date32(array.type):
        return _spelled(array, pa.int32(), infinite_dates)
    if pa.types.is_timestamp(array.type):
        return _spelled(array, pa.int64(), infinite_times)
    return array


def from_values(values: Sequence[object]) -> pa.Array:
    """Python values as an array: of their type when they share one, else of strings."""
    match {type(value) for value in values} - {type(None)}:
        case kinds if len(kinds) > 1:
            return pa.array([None if value is None else _text(value) for value in values], pa.string())
        case kinds if not kinds:
            return pa.array(values, pa.string())
        case _:
            return pa.array(values)


def _spelled(array: pa.Array, numbers: pa.DataType, spellings: Mapping[int, str]) -> pa.Array:
    raw = array.view(numbers)
    infinite = pc.is_in(raw, value_set=pa.array(list(spellings), numbers))
    if not pc.any(infinite).as_py():
        return array
    texts = pc.cast(pc.if_else(infinite, pa.scalar(None, array.type), array), pa.string())
    for number, spelling in spellings.items():
        texts = pc.if_else(pc.fill_null(pc.equal(raw, number), fill_value=False), spelling, texts)
    return texts


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
