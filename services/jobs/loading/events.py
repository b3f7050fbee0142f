"""What a load tells while it works, and how that goes through a pipe.

A frame is a length in four bytes, the most significant first, and as many bytes of JSON.
"""

import dataclasses
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

LENGTH = struct.Struct(">I")
MAX_VALUE = 1000
COMMIT, STOP = b"commit", b"stop"
"""What a load is ordered after its task."""


class Level(StrEnum):
    """How grave a line is; the names are those of `portolan.jobs.v1.LogLine.Level`."""

    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class Reason(StrEnum):
    """Why a row is rejected, as `portolan.jobs.v1.RejectedRow.reason` says it."""

    NULL_KEY = "NULL_KEY"
    TOO_LONG = "TOO_LONG"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    NOT_CONVERTIBLE = "NOT_CONVERTIBLE"


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What became of the rows, as `portolan.jobs.v1.RowCounts` says it."""

    source: int = 0
    inserted: int = 0
    updated: int = 0
    closed: int = 0
    unchanged: int = 0
    duplicate: int = 0
    rejected: int = 0

    @property
    def complete(self) -> bool:
        """Whether each source row is accounted for, once."""
        ends = (self.inserted, self.updated, self.closed, self.unchanged, self.duplicate, self.rejected)
        return min(ends) >= 0 and self.source == sum(ends)


@dataclass(frozen=True, kw_only=True)
class RejectedRow:
    """A row that cannot be loaded. `key` leaves out what is NULL; `value` is cut at 1,000 characters."""

    key: dict[str, str]
    column: str
    value: str
    reason: Reason
    message: str


@dataclass(frozen=True)
class Begun:
    """The target is claimed and the load begins: what earlier attempts told of rows counts no more."""


@dataclass(frozen=True)
class Line:
    """A line of the run's log."""

    message: str
    level: Level = Level.INFO


@dataclass(frozen=True)
class Progress:
    """The counts so far."""

    counts: Counts


@dataclass(frozen=True)
class Rejected:
    """Rows that were rejected, in the order in which they were found."""

    rows: list[RejectedRow]


@dataclass(frozen=True)
class Ready:
    """All is done but the commit, which waits for a confirmation."""

    counts: Counts


@dataclass(frozen=True)
class Done:
    """The load is committed, now or by an earlier attempt at the same run. The last event."""

    counts: Counts


@dataclass(frozen=True)
class Failed:
    """The load ended, and the target is as it was. The last event.

    `unavailable` tells that another attempt may succeed a little later.
    """

    reason: str
    message: str
    unavailable: bool = False


Event = Begun | Line | Progress | Rejected | Ready | Done | Failed
Emit = Callable[[Event], None]
_TYPES: dict[str, type[Event]] = {
    type_.__name__: type_ for type_ in (Begun, Line, Progress, Rejected, Ready, Done, Failed)
}


def framed(text: bytes) -> bytes:
    """The text as a frame."""
    return LENGTH.pack(len(text)) + text


def to_json(event: Event) -> bytes:
    """The event as text."""
    return json.dumps({"event": type(event).__name__} | dataclasses.asdict(event)).encode()


def from_json(text: bytes) -> Event:
    """The event of a text."""
    values: dict[str, Any] = json.loads(text)
    type_ = _TYPES[values.pop("event")]
    if "counts" in values:
        values["counts"] = Counts(**values["counts"])
    if "level" in values:
        values["level"] = Level(values["level"])
    if "rows" in values:
        values["rows"] = [RejectedRow(**row | {"reason": Reason(row["reason"])}) for row in values["rows"]]
    return type_(**values)
