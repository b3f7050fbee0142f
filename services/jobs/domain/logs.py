"""Log lines and rejected rows of runs."""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from services.jobs.models import Level, LogLine, RejectedRow, Run

MAX_LINE = 10_000


@dataclass(frozen=True)
class Entry:
    """A line to write."""

    time: dt.datetime
    level: Level
    message: str


def append(session: orm.Session, run: Run, entries: Iterable[Entry]) -> None:
    """Adds lines to a run's log, numbered on from its last one.

    The caller has locked the run's row in this transaction (`leases.hold`, or a select for update), so that
    the numbers have neither gaps nor doubles, and a reader that has seen one number has seen all before it.
    """
    lines = [
        {
            "run_id": run.id,
            "sequence": sequence,
            "create_time": entry.time,
            "level": entry.level,
            "message": entry.message.replace("\0", "\N{REPLACEMENT CHARACTER}")[:MAX_LINE],
        }
        for sequence, entry in enumerate(entries, start=run.lines + 1)
    ]
    if lines:
        session.execute(sa.insert(LogLine), lines)
        run.lines += len(lines)


def lines(run_id: str, after: int, limit: int) -> sa.Select[LogLine]:
    """The lines behind a sequence number, in order."""
    query = sa.select(LogLine).where(LogLine.run_id == run_id, LogLine.sequence > after)
    return query.order_by(LogLine.sequence).limit(limit)


def reject(session: orm.Session, run: Run, rows: Iterable[Mapping[str, Any]]) -> None:
    """Keeps rejected rows of a run whose lease the caller holds in this transaction."""
    if values := [{"run_id": run.id, **row} for row in rows]:
        session.execute(sa.insert(RejectedRow), values)


def forget_rejected(session: orm.Session, run: Run) -> None:
    """Removes the rejected rows of an earlier attempt."""
    session.execute(sa.delete(RejectedRow).where(RejectedRow.run_id == run.id))


def rejected(run: Run) -> sa.Select[RejectedRow]:
    """The rejected rows of a run."""
    return sa.select(RejectedRow).where(RejectedRow.run_id == run.id)
