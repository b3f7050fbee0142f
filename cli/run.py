"""`portolan run`: what runs did and are doing."""

import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC
from typing import Annotated

import grpc
import typer
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console, Group, RenderableType
from rich.text import Text

from cli import show
from cli.client import INTERRUPTED, RUN_FAILED, Client, as_call, pages
from cli.session import Session, command
from portolan.jobs.v1.runs_pb2 import (
    GetRunRequest,
    ListRejectedRowsRequest,
    ListRejectedRowsResponse,
    ListRunsRequest,
    ListRunsResponse,
    LogLine,
    RejectedRow,
    Run,
    StopRunRequest,
    TailRunLogsRequest,
    TailRunLogsResponse,
)

app = typer.Typer(no_args_is_help=True, help="Watch runs, stop them, and see what they did.")

RunId = Annotated[str, typer.Argument(help="The run's id.")]
Limit = Annotated[int, typer.Option(min=1, help="The most to list.")]

GIVE_UP_SECONDS = 60
"""A log that gave no line for this long, while every attempt to read it failed, is given up."""
_BROKEN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_LEVELS = {LogLine.LEVEL_WARNING: "yellow", LogLine.LEVEL_ERROR: "bold red"}


@command(app, "list")
def list_(
    session: Session,
    *,
    job: Annotated[str, typer.Option(help="Only runs of this job.")] = "",
    state: Annotated[list[str] | None, typer.Option(help="Only runs in this state, such as FAILED.")] = None,
    limit: Limit = 20,
) -> None:
    """Lists runs, the newest first."""
    request = ListRunsRequest(reference=job)
    for name in state or ():
        try:
            request.states.append(Run.State.Value(f"STATE_{name.upper()}"))
        except ValueError:
            names = ", ".join(show.name_of(known, "STATE") for known in Run.State.keys()[1:])
            raise typer.BadParameter(f"{name} is no state: choose from {names}.") from None
    found = ListRunsResponse(runs=pages(session.client.runs.ListRuns, request, lambda page: page.runs, limit))
    session.show(
        found,
        show.table(
            ["RUN", "JOB", "STATE", "STARTED", "#TIME"],
            [
                (
                    row.id,
                    row.reference,
                    show.state(state_of(row)),
                    show.recent(row.start_time),
                    show.elapsed(row.start_time, row.end_time),
                )
                for row in found.runs
            ],
        ),
    )


@command(app, "show")
def show_(session: Session, run: RunId) -> None:
    """Shows a run: its state, its rows, and why it failed."""
    found = session.client.runs.GetRun(GetRunRequest(run_id=run))
    session.show(found, drawn(found))


@command(app, "log")
def log(
    session: Session,
    run: RunId,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for more lines, until it ends.")
    ] = False,
    after: Annotated[int, typer.Option(min=0, help="Begin behind this sequence number.")] = 0,
) -> None:
    """Prints a run's log."""
    if follow:
        raise typer.Exit(watch(session, run, after=after))
    lines = TailRunLogsResponse()
    request = TailRunLogsRequest(run_id=run, after_sequence=after, no_follow=True)
    for part in session.client.runs.TailRunLogs(request):
        lines.MergeFrom(part)
    session.show(lines, *(line_text(line) for line in lines.lines))


@command(app, "stop")
def stop(session: Session, run: RunId) -> None:
    """Stops a run. It is STOPPED once its statement is gone from the database."""
    found = session.client.runs.StopRun(StopRunRequest(run_id=run))
    session.show(found, f"The run {found.id} of {found.reference} is {state_of(found)}.")


@command(app, "rejected")
def rejected(session: Session, run: RunId, *, limit: Limit = 50) -> None:
    """Lists the rows that a run could not load, and why."""
    request = ListRejectedRowsRequest(run_id=run)
    found = ListRejectedRowsResponse(
        rejected_rows=pages(
            session.client.runs.ListRejectedRows, request, lambda page: page.rejected_rows, limit
        )
    )
    session.show(found, rejected_table(found.rejected_rows))


def follow(
    client: Client,
    run: str,
    each: Callable[[LogLine], None],
    *,
    after: int = 0,
    give_up: float = GIVE_UP_SECONDS,
) -> Run:
    """Hands over each line of a run's log once and in order, as it is written; returns the run when it ended.

    A broken stream is taken up again behind the last line.
    """
    last_sign, pause = time.monotonic(), 0.1
    while True:
        try:
            request = TailRunLogsRequest(run_id=run, after_sequence=after)
            for part in client.runs.TailRunLogs(request):
                last_sign, pause = time.monotonic(), 0.1
                for line in part.lines:
                    each(line)
                    after = line.sequence
                if part.end_state:
                    return client.runs.GetRun(GetRunRequest(run_id=run))
        except grpc.RpcError as error:
            if as_call(error).code() not in _BROKEN or time.monotonic() - last_sign > give_up:
                raise
        time.sleep(pause)
        pause = min(pause * 2, 2)


def watch(session: Session, run: str, *, after: int = 0) -> int:
    """Prints a run's log until it ends, then what became of it; returns the exit code.

    With JSON asked for, the lines go to standard error and the run is the one document on standard output.
    """
    console = show.notes if session.json else show.out
    seen = after

    def each(line: LogLine) -> None:
        nonlocal seen
        console.print(line_text(line))
        seen = line.sequence

    while True:
        try:
            ended = follow(session.client, run, each, after=seen)
        except KeyboardInterrupt:
            if _leave_running(session, run, console):
                return INTERRUPTED
        else:
            session.show(ended, outcome(ended))
            return 0 if ended.state == Run.STATE_SUCCEEDED else RUN_FAILED


def _leave_running(session: Session, run: str, console: Console) -> bool:
    console.print()
    if sys.stdin.isatty() and not typer.confirm("Leave the run running?", default=True, err=True):
        session.client.runs.StopRun(StopRunRequest(run_id=run))
        return False
    console.print(f"The run goes on. Watch it with `portolan run log {run} --follow`,", soft_wrap=True)
    console.print(f"stop it with `portolan run stop {run}`.", soft_wrap=True)
    return True


def state_of(run: Run) -> str:
    """A run's state by its bare name."""
    return show.name_of(Run.State.Name(run.state), "STATE")


def line_text(line: LogLine) -> Text:
    """A log line: its local time to the millisecond, its level and its text."""
    level = show.name_of(LogLine.Level.Name(line.level), "LEVEL")
    return Text.assemble(
        (f"{_clock(line.create_time)}  ", "dim"),
        (f"{level:<8}", _LEVELS.get(line.level, "dim")),
        line.message,
    )


def counts(run: Run) -> list[tuple[str, int]]:
    """What became of a run's rows, by name; the outcomes that did not occur are left out."""
    rows = run.rows
    named = [
        ("inserted", rows.inserted),
        ("updated", rows.updated),
        ("closed and opened anew", rows.closed),
        ("unchanged", rows.unchanged),
        ("duplicate", rows.duplicate),
        ("rejected", rows.rejected),
    ]
    return [("read", rows.source), *((name, number) for name, number in named if number)]


def outcome(run: Run) -> RenderableType:
    """How a run ended, in a line or two."""
    took = show.elapsed(run.start_time, run.end_time)
    parts: list[RenderableType] = [
        Text.assemble(
            show.state(state_of(run)),
            f" {run.reference}" + (f" in {took}" if took else "") + ": ",
            ", ".join(f"{number:,} {name}" for name, number in counts(run)),
        )
    ]
    if run.error_message:
        parts.append(Text.assemble((run.error_message, "red"), (f" ({run.error_reason})", "dim")))
    if run.rows.rejected:
        parts.append(Text(f"See them by `portolan run rejected {run.id}`.", "dim"))
    return Group(*parts)


def drawn(run: Run) -> RenderableType:
    """All that is known of a run."""
    return show.facts(
        [
            ("Run", run.id),
            ("Job", f"{run.reference}, mapping version {run.mapping_version}"),
            ("State", show.state(state_of(run))),
            ("Parameters", ", ".join(f"{key}={value}" for key, value in sorted(run.parameters.items()))),
            ("Asked for", show.moment(run.create_time)),
            ("Started", show.moment(run.start_time)),
            ("Ended", show.moment(run.end_time)),
            ("Took", show.elapsed(run.start_time, run.end_time)),
            ("Worker", f"{run.worker}, attempt {run.attempt}" if run.worker else ""),
            *((f"Rows {name}", number) for name, number in counts(run)),
            ("Error", f"{run.error_message} ({run.error_reason})" if run.error_reason else ""),
        ]
    )


def rejected_table(rows: Iterable[RejectedRow]) -> RenderableType:
    """Rejected rows with their keys and reasons."""
    return show.table(
        ["KEY", "COLUMN", "VALUE", "WHY"],
        [
            (
                ", ".join(f"{name}={value}" for name, value in sorted(row.key.items())) or "(none)",
                row.column,
                row.value,
                f"{row.message} ({row.reason})",
            )
            for row in rows
        ],
    )


def _clock(time: Timestamp) -> str:
    return f"{time.ToDatetime(UTC).astimezone():%H:%M:%S}.{time.nanos // 1_000_000:03d}"
