"""Requests against the rules that their protos state."""

from collections.abc import Mapping, Sequence
from typing import Any

import protovalidate
from google.protobuf.message import Message

from kernel.errors import FieldInvalidError


def validate(message: Message) -> None:
    """Raises FieldInvalidError that names each field at fault, or returns."""
    fields: dict[str, str] = {}
    for violation in protovalidate.collect_violations(message):
        fields.setdefault(_path(violation.proto.field), violation.proto.message)
    if not fields and b"\0" in message.SerializeToString():
        fields = dict.fromkeys(_with_nul(message, ""), "must not contain the character NUL")
    if fields:
        name, text = next(iter(fields.items()))
        more = f", and {len(fields) - 1} more" if len(fields) > 1 else ""
        raise FieldInvalidError(f"{name}: {text}{more}", fields=fields)


def _path(path: Any) -> str:
    """A field path as text, such as `mapping.columns[3].name` or `parameters["day"]`."""
    text = ""
    for element in path.elements if path is not None else ():
        text += f".{element.field_name}" if text else element.field_name
        if (subscript := element.subscript) is not None:
            value = subscript.value
            text += f'["{value}"]' if isinstance(value, str) else f"[{value}]"
    return text


def _with_nul(message: Message, prefix: str) -> list[str]:
    """The paths of all texts that hold a NUL, which no database keeps."""
    found: list[str] = []
    for field, value in message.ListFields():
        for item, path in _items(field.name, value, prefix):
            if isinstance(item, Message):
                found += _with_nul(item, path + ".")
            elif isinstance(item, str) and "\0" in item:
                found.append(path)
    return found


def _items(name: str, value: object, prefix: str) -> list[tuple[object, str]]:
    path = prefix + name
    if isinstance(value, str | bytes | Message):
        return [(value, path)]
    if isinstance(value, Mapping):
        return [(part, f'{path}["{key}"]') for key, item in value.items() for part in (key, item)]
    if isinstance(value, Sequence):
        return [(item, f"{path}[{index}]") for index, item in enumerate(value)]
    return []
