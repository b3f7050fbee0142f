"""Random request messages, made from their descriptors: legal ones, absurd ones, and all between."""

import math
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

TEXTS = (
    "", "a", "A1", "DIM_X", "demo", "\0", "\n", "'", '"', ";", "--", "%s", ":a", "é", "\U0001f600", "\u202e",
    "../..", "x" * 64, "x" * 5000, "SELECT 1 AS a", "SELECT a FROM (SELECT 1 AS a) q", "SELECT (", "-1",
)  # fmt: skip
INTEGERS = (0, 1, -1, 2, 50, 1000, 1001, 65536, 2**31 - 1, -(2**31))
LONGS = (*INTEGERS, 2**63 - 1, -(2**63))
SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_STRING: st.sampled_from(TEXTS) | st.text(max_size=40),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_ENUM: st.integers(-1, 12),
    FieldDescriptor.CPPTYPE_INT32: st.sampled_from(INTEGERS),
    FieldDescriptor.CPPTYPE_INT64: st.sampled_from(LONGS),
    FieldDescriptor.CPPTYPE_DOUBLE: st.sampled_from((0.0, -1.5, 1e300, math.inf, math.nan)),
}
DEPTH = 3


def messages(kind: type[Message]) -> st.SearchStrategy[Message]:
    """Messages of a kind."""
    return _message(kind.DESCRIPTOR, DEPTH)


def _message(descriptor: Any, depth: int) -> st.SearchStrategy[Message]:
    names = [field.name for field in descriptor.fields]
    kind = message_factory.GetMessageClass(descriptor)

    @st.composite
    def build(draw: st.DrawFn) -> Message:
        message = kind()
        for name in draw(st.sets(st.sampled_from(names))) if names else ():
            field = descriptor.fields_by_name[name]
            if field.message_type is not None and depth == 0:
                continue
            _fill(draw, message, field, depth)
        return message

    return build()


def _fill(draw: st.DrawFn, message: Message, field: FieldDescriptor, depth: int) -> None:
    kind: Descriptor | None = field.message_type
    target = getattr(message, field.name)
    if kind is not None and kind.GetOptions().map_entry:
        keys, values = kind.fields_by_name["key"], kind.fields_by_name["value"]
        if values.message_type is None:
            for _ in range(draw(st.integers(0, 2))):
                target[draw(_scalar(keys))] = draw(_scalar(values))
    elif kind is not None:
        for _ in range(draw(st.integers(0, 2)) if field.is_repeated else 1):
            part = draw(_message(kind, depth - 1))
            if field.is_repeated:
                target.append(part)
            else:
                target.CopyFrom(part)
    elif field.is_repeated:
        target.extend(draw(st.lists(_scalar(field), max_size=3)))
    else:
        setattr(message, field.name, draw(_scalar(field)))


def _scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=200)
    return SCALARS[field.cpp_type]
