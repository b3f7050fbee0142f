"""Rows and messages: fields map by name; updates follow a field mask; lists are paged by key."""

import base64
import datetime as dt
import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

import sqlalchemy as sa
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import orm

from kernel.errors import EtagMismatchError, FieldInvalidError, PageTokenInvalidError
from kernel.validation import validate

M = TypeVar("M", bound=Message)
K = TypeVar("K", str, int)
DEFAULT_PAGE = 50
DIGEST_BYTES = 8
MAX_KEY = 2**63
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class Paged(Protocol):
    """A request for a page."""

    page_size: int
    page_token: str


class Revised(Protocol):
    """A row with a revision."""

    revision: Any

    @property
    def etag(self) -> str:
        """The revision, as clients see it."""


def to_message(row: object, kind: type[M], /, **derived: object) -> M:
    """A message whose fields have the values of the row's attributes of the same name, or the given ones.

    Times become timestamps, and an enum's short text (`QUEUED`) its number. None leaves a field unset, and so
    does an attribute that the row does not have.
    """
    message = kind()
    fields = cast("Descriptor", kind.DESCRIPTOR).fields
    for field in fields:
        value = derived[field.name] if field.name in derived else getattr(row, field.name, None)
        if value is not None:
            _set(message, field, value)
    if unknown := derived.keys() - {field.name for field in fields}:
        error = f"{kind.DESCRIPTOR.full_name} has no fields {sorted(unknown)}"
        raise TypeError(error)
    return message


def enum_number(enum: EnumDescriptor, short: str) -> int:
    """The number of an enum's value, by its name without the enum's prefix."""
    return enum.values_by_name[_prefix(enum) + short].number


def enum_name(enum: EnumDescriptor, number: int) -> str:
    """The name of an enum's value without the enum's prefix; `UNSPECIFIED` is the empty text."""
    short = enum.values_by_number[number].name.removeprefix(_prefix(enum))
    return "" if short == "UNSPECIFIED" else short


def merge(current: M, given: M, mask: FieldMask, mutable: Collection[str]) -> set[str]:
    """Changes `current` as an update asks, checks the result, and returns the names of what changed.

    Without a mask the fields that are set in `given` count. A path may go below a field; unknown and
    immutable fields are refused.
    """
    paths = list(mask.paths) or [field.name for field, _ in given.ListFields() if field.name in mutable]
    if paths == ["*"]:
        paths = sorted(mutable)
    shape: Any = given.DESCRIPTOR
    wrong: dict[str, str] = {}
    for path in paths:
        head = path.split(".")[0]
        if not FieldMask(paths=[path]).IsValidForDescriptor(shape):
            wrong[f"update_mask.{path}"] = "does not exist"
        elif head not in mutable:
            wrong[f"update_mask.{path}"] = "cannot be changed"
    if wrong:
        first, text = next(iter(wrong.items()))
        raise FieldInvalidError(f"{first}: {text}", fields=wrong)
    before = type(current)()
    before.CopyFrom(current)
    FieldMask(paths=paths).MergeMessage(
        given, current, replace_message_field=True, replace_repeated_field=True
    )
    validate(current)
    names = {path.split(".")[0] for path in paths}
    return {name for name in names if _value(before, name) != _value(current, name)}


def check_etag(row: Revised, etag: str) -> None:
    """Raises EtagMismatchError when an etag is given and is not the row's."""
    if etag and etag != row.etag:
        raise EtagMismatchError("it was changed by somebody else since it was read; read it again")


def page(
    session: orm.Session,
    query: sa.Select[Any],
    key: orm.InstrumentedAttribute[Any],
    request: Paged,
    *,
    descending: bool = False,
) -> tuple[Sequence[Any], str]:
    """One page of a query's rows by a unique key, and the token of the next one; empty on the last.

    A token fits only a request with the same arguments.
    """
    size = request.page_size or DEFAULT_PAGE
    last = last_seen(request, key.type.python_type)
    if last is not None:
        query = query.where(key < last if descending else key > last)
    query = query.order_by(key.desc() if descending else key).limit(size + 1)
    rows = session.scalars(query).all()
    if len(rows) <= size:
        return rows, ""
    return rows[:size], next_token(request, getattr(rows[size - 1], key.key))


def next_token(request: Paged, last: str | int) -> str:
    """The token of the page that follows the one that ends with the key `last`."""
    return base64.urlsafe_b64encode(_digest(request) + json.dumps(last).encode()).decode()


def last_seen(request: Paged, kind: type[K]) -> K | None:
    """The key that the page before ended with; None for the first page.

    Nothing that a client may have put into a token reaches a database unchecked: PageTokenInvalidError.
    """
    if not request.page_token:
        return None
    try:
        last = json.loads(base64.urlsafe_b64decode(request.page_token)[DIGEST_BYTES:])
    except (ValueError, RecursionError):
        last = None
    if type(last) is kind and _is_storable(last) and next_token(request, last) == request.page_token:
        return last
    text = "not made by a call with these arguments"
    raise PageTokenInvalidError(f"page_token: {text}", fields={"page_token": text})


def _is_storable(key: str | int) -> bool:
    """Whether every database takes it."""
    return abs(key) < MAX_KEY if isinstance(key, int) else not _UNSTORABLE.search(key)


def _digest(request: Paged) -> bytes:
    bare = type(request)()
    bare.CopyFrom(request)  # type: ignore[attr-defined] # a page request is a message; Protocol and Message do not mix
    bare.page_size, bare.page_token = 0, ""
    name: str = bare.DESCRIPTOR.full_name  # type: ignore[attr-defined] # likewise
    content: bytes = bare.SerializeToString(deterministic=True)  # type: ignore[attr-defined] # likewise
    return hashlib.sha256(name.encode() + b"\0" + content).digest()[:DIGEST_BYTES]


def _prefix(enum: EnumDescriptor) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"


def _set(message: Message, field: FieldDescriptor, value: object) -> None:
    target = getattr(message, field.name)
    if isinstance(value, Mapping):
        target.update(value)
    elif field.is_repeated:
        target.extend(value)
    elif isinstance(value, dt.datetime):
        stamp = Timestamp()
        stamp.FromDatetime(value)
        target.CopyFrom(stamp)
    elif field.enum_type is not None and isinstance(value, str):
        setattr(message, field.name, enum_number(field.enum_type, value or "UNSPECIFIED"))
    elif field.message_type is not None:
        target.CopyFrom(value)
    else:
        setattr(message, field.name, value)


def _value(message: Message, name: str) -> object:
    field = message.DESCRIPTOR.fields_by_name[name]
    if field.has_presence and not message.HasField(name):
        return None
    return getattr(message, name)
