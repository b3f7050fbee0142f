"""What a command prints: tables and sentences for people, one JSON document for programs."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

out = Console(highlight=False, soft_wrap=False)
notes = Console(stderr=True, highlight=False)
"""Progress and errors, beside the result."""

ANY_WIDTH = 10_000
NULL = Text("NULL", style="dim")

_STATES = {
    "SUCCEEDED": "green", "FAILED": "red", "STOPPED": "yellow", "STOPPING": "yellow", "RUNNING": "cyan",
    "QUEUED": "cyan",
}  # fmt: skip


def as_json(message: Message) -> str:
    """A message as JSON with the fields' names of the protos."""
    return MessageToJson(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        ensure_ascii=False,
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Rows that fit the terminal's width. A column whose name begins with `#` holds numbers."""
    drawn = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        if column.startswith("#"):
            drawn.add_column(column[1:], justify="right", no_wrap=True)
        else:
            drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(_cell(value) for value in row))
    return drawn


def fits(drawn: Table) -> bool:
    """Whether a table keeps its words and numbers whole in the terminal's width."""
    unbounded = out.options.update(max_width=ANY_WIDTH)
    return out.measure(drawn, options=unbounded).minimum <= out.width


def facts(pairs: Iterable[tuple[str, object]]) -> Table:
    """Names and values, aligned; a pair without a value is left out."""
    drawn = Table.grid(padding=(0, 2))
    drawn.add_column(style="dim", no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None and str(value):
            drawn.add_row(name, _cell(value))
    return drawn


def state(name: str) -> Text:
    """A run's state in its colour."""
    return Text(name, style=_STATES.get(name, ""))


def moment(time: Timestamp) -> str:
    """A time in the user's own time zone, to the second; empty when not set."""
    if not time.seconds:
        return ""
    return f"{time.ToDatetime(UTC).astimezone():%Y-%m-%d %H:%M:%S}"


def recent(time: Timestamp) -> str:
    """A time as a list shows it: of today the hour, of other days the day; empty when not set."""
    if not time.seconds:
        return ""
    local = time.ToDatetime(UTC).astimezone()
    return f"{local:%H:%M:%S}" if local.date() == datetime.now().astimezone().date() else f"{local:%Y-%m-%d}"


def elapsed(start: Timestamp, end: Timestamp) -> str:
    """The time between two moments, or until now while the second is not set; empty before the first."""
    if not start.seconds:
        return ""
    until = end.ToDatetime(UTC) if end.seconds else datetime.now(UTC)
    return seconds((until - start.ToDatetime(UTC)).total_seconds())


def seconds(value: float) -> str:
    """A length of time as people say it."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:  # noqa: PLR2004  # seconds of a minute
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s"


def duration(value: Duration) -> str:
    """A protobuf duration as people say it."""
    return seconds(value.ToTimedelta().total_seconds())


def name_of(enum: str, prefix: str) -> str:
    """An enum's value without its prefix; empty for the zero value."""
    short = enum.removeprefix(prefix + "_")
    return "" if short == "UNSPECIFIED" else short


def _cell(value: object) -> RenderableType:
    match value:
        case Text() | Table():
            return value
        case bool():
            return "yes" if value else ""
        case int():
            return f"{value:,}"
        case None:
            return NULL
        case _:
            return Text(str(value))
