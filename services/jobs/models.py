"""The tables of the jobs service, and how a run moves from state to state."""

import datetime as dt
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from kernel import db
from services.jobs.errors import RunEndedError


class Model(db.Base):
    """The base of this service's models."""

    __abstract__ = True
    metadata = db.metadata()


class State(StrEnum):
    """Where a run stands."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"


class Level(StrEnum):
    """How grave a log line is."""

    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


MOVES = {
    State.QUEUED: {State.RUNNING, State.STOPPED},
    # Back to the queue when its worker shuts down.
    State.RUNNING: {State.QUEUED, State.STOPPING, State.SUCCEEDED, State.FAILED},
    # A stop that comes when the load is already committed comes too late.
    State.STOPPING: {State.STOPPED, State.SUCCEEDED, State.FAILED},
    State.SUCCEEDED: set(),
    State.FAILED: set(),
    State.STOPPED: set(),
}
"""The legal moves; a state without any is an end."""
HELD = (State.RUNNING, State.STOPPING)
"""The states in which a worker holds the run."""
ACTIVE = (State.QUEUED, *HELD)
"""The states in which a run is under way. A job has at most one such run."""
COUNTS = ("source", "inserted", "updated", "closed", "unchanged", "duplicate", "rejected")
"""What rows are counted by."""

_STATE = sa.Enum(State, name="state", native_enum=False, create_constraint=True, length=16)
_LEVEL = sa.Enum(Level, name="level", native_enum=False, create_constraint=True, length=16)


class Plan(Model):
    """A mapping's version as it was compiled and bound. It never changes; jobs and runs refer to it."""

    __tablename__ = "plans"

    id: Mapped[str] = mapped_column(sa.String(36), primary_key=True, default=db.new_id)
    organization_id: Mapped[str] = mapped_column(sa.String(36))
    reference: Mapped[str] = mapped_column(sa.String(100))
    mapping_version: Mapped[int]
    source_connection: Mapped[str] = mapped_column(sa.String(63))
    target_connection: Mapped[str] = mapped_column(sa.String(63))
    target: Mapped[str] = mapped_column(sa.String(200))
    parameters: Mapped[list[str]]
    content: Mapped[bytes] = mapped_column(deferred=True, deferred_raiseload=True)
    """The serialized `portolan.mapper.v1.LoadPlan`."""


class Job(Model):
    """A mapping's version, bound and ready to run."""

    __tablename__ = "jobs"
    __table_args__ = (sa.UniqueConstraint("organization_id", "reference"),)

    id: Mapped[str] = mapped_column(sa.String(36), primary_key=True, default=db.new_id)
    organization_id: Mapped[str] = mapped_column(sa.String(36))
    reference: Mapped[str] = mapped_column(sa.String(100))
    plan_id: Mapped[str] = mapped_column(sa.ForeignKey("plans.id"))
    fence: Mapped[int] = mapped_column(default=0)
    """Goes up each time a worker takes one of the job's runs; the highest number wins in the target."""
    creator: Mapped[str] = mapped_column(sa.String(100))
    create_time: Mapped[dt.datetime] = mapped_column(default=db.now)
    update_time: Mapped[dt.datetime] = mapped_column(default=db.now)

    plan: Mapped[Plan] = orm.relationship(lazy="raise")


class Run(Model):
    """One execution of a job: the queue's entry, the worker's lease and the history in one row."""

    __tablename__ = "runs"
    __table_args__ = (
        sa.UniqueConstraint("organization_id", "request_id"),
        sa.Index(
            "uq_runs_job_id",
            "job_id",
            unique=True,
            sqlite_where=sa.text("state IN ('QUEUED', 'RUNNING', 'STOPPING')"),
            postgresql_where=sa.text("state IN ('QUEUED', 'RUNNING', 'STOPPING')"),
        ),
        sa.Index("ix_runs_organization_id_id", "organization_id", "id"),
        sa.Index("ix_runs_organization_id_reference_id", "organization_id", "reference", "id"),
        sa.Index("ix_runs_job_id_id", "job_id", "id"),
        sa.CheckConstraint("(state IN ('RUNNING', 'STOPPING')) = (lease_expire_time IS NOT NULL)", "lease"),
        sa.CheckConstraint(
            "state <> 'SUCCEEDED' OR rows_source = rows_inserted + rows_updated + rows_closed"
            " + rows_unchanged + rows_duplicate + rows_rejected",
            "rows",
        ),
    )

    id: Mapped[str] = mapped_column(sa.String(36), primary_key=True, default=db.new_id)
    organization_id: Mapped[str] = mapped_column(sa.String(36))
    job_id: Mapped[str | None] = mapped_column(sa.ForeignKey("jobs.id", ondelete="SET NULL"))
    """The job; None when it was deleted since."""
    plan_id: Mapped[str] = mapped_column(sa.ForeignKey("plans.id"))
    reference: Mapped[str] = mapped_column(sa.String(100))
    mapping_version: Mapped[int]
    parameters: Mapped[dict[str, str]]
    request_id: Mapped[str | None] = mapped_column(sa.String(36))
    creator: Mapped[str] = mapped_column(sa.String(100))
    create_time: Mapped[dt.datetime] = mapped_column(default=db.now)

    state: Mapped[State] = mapped_column(_STATE, default=State.QUEUED, index=True)
    start_time: Mapped[dt.datetime | None]
    end_time: Mapped[dt.datetime | None]
    error_reason: Mapped[str] = mapped_column(sa.String(63), default="")
    error_message: Mapped[str] = mapped_column(sa.Text, default="")

    attempt: Mapped[int] = mapped_column(default=0)
    losses: Mapped[int] = mapped_column(default=0)
    """How often a worker stopped answering while it held the run."""
    fence: Mapped[int] = mapped_column(default=0)
    """The job's fence when the run was last taken: the proof of who holds the lease."""
    worker: Mapped[str] = mapped_column(sa.String(100), default="")
    lease_expire_time: Mapped[dt.datetime | None]
    """When others may take the run; set while a worker holds it."""
    last_write: Mapped[str] = mapped_column(sa.String(36), default="", server_default="")
    """The id of its holder's last write, by which one whose answer was lost is not made twice."""

    lines: Mapped[int] = mapped_column(default=0)
    """The sequence number of the last log line."""
    rows_source: Mapped[int] = mapped_column(default=0)
    rows_inserted: Mapped[int] = mapped_column(default=0)
    rows_updated: Mapped[int] = mapped_column(default=0)
    rows_closed: Mapped[int] = mapped_column(default=0)
    rows_unchanged: Mapped[int] = mapped_column(default=0)
    rows_duplicate: Mapped[int] = mapped_column(default=0)
    rows_rejected: Mapped[int] = mapped_column(default=0)

    plan: Mapped[Plan] = orm.relationship(lazy="raise")

    @property
    def ended(self) -> bool:
        """Whether it will not change any more."""
        return not MOVES[self.state]

    @property
    def counts(self) -> dict[str, int]:
        """What became of the rows so far."""
        return {name: getattr(self, f"rows_{name}") for name in COUNTS}

    @counts.setter
    def counts(self, counts: Mapping[str, int]) -> None:
        for name in COUNTS:
            setattr(self, f"rows_{name}", counts.get(name, 0))

    def move(self, state: State, now: dt.datetime) -> None:
        """Moves to another state; RunEndedError when it has ended, ValueError for another illegal move."""
        if self.ended:
            raise RunEndedError(f"the run has ended: {self.state}", run=self.id, state=self.state)
        if state not in MOVES[self.state]:
            message = f"a run does not move from {self.state} to {state}"
            raise ValueError(message)
        self.state = state
        if state not in HELD:
            self.lease_expire_time = None
        if not MOVES[state]:
            self.end_time = now


class LogLine(Model):
    """A line of a run's log."""

    __tablename__ = "log_lines"

    run_id: Mapped[str] = mapped_column(sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    create_time: Mapped[dt.datetime]
    level: Mapped[Level] = mapped_column(_LEVEL)
    message: Mapped[str] = mapped_column(sa.Text)


class RejectedRow(Model):
    """A row that a run could not load."""

    __tablename__ = "rejected_rows"

    run_id: Mapped[str] = mapped_column(sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[dict[str, Any]]
    column: Mapped[str] = mapped_column(sa.Text)
    value: Mapped[str] = mapped_column(sa.Text)
    reason: Mapped[str] = mapped_column(sa.String(63))
    message: Mapped[str] = mapped_column(sa.Text)
