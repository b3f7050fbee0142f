"""Who may work on a run: workers take runs, hold them by a heartbeat, and lose them.

Workers serve all organizations, so these are the only queries that do not start from one. Leases go by the
clocks of the workers' machines; clocks that differ make a takeover early or late, and never wrong: the fence
decides.
"""

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import orm

from services.jobs.domain import logs
from services.jobs.errors import LeaseLostError
from services.jobs.models import ACTIVE, Job, Level, Plan, Run, State


@dataclass(frozen=True)
class Lease:
    """The proof that a worker holds a run: a job's fence goes up at each claim, so no two are alike."""

    run_id: str
    fence: int


def claimable(now: dt.datetime) -> sa.Select[Run]:
    """The oldest run that a worker may take: one that is queued, or whose worker stopped answering."""
    free = sa.or_(Run.state == State.QUEUED, Run.lease_expire_time <= now)
    return sa.select(Run).where(Run.state.in_(ACTIVE), free).order_by(Run.id).limit(1)


def claim(session: orm.Session, worker: str, duration: dt.timedelta, now: dt.datetime) -> Run | None:
    """Takes the oldest run that is free, with its plan's content, and says so in its log; None if none is.

    A run that was asked to stop stays STOPPING; who takes it sees to its end.
    """
    plan = orm.joinedload(Run.plan, innerjoin=True).undefer(Plan.content)
    run = session.scalar(claimable(now).options(plan).with_for_update(of=Run, skip_locked=True))
    if run is None:
        return None
    run.fence = _next_fence(session, run, now)
    run.attempt += 1
    entry = logs.Entry(now, Level.INFO, f"Attempt {run.attempt}: worker {worker} takes the run.")
    if run.state == State.QUEUED:
        run.move(State.RUNNING, now)
    else:
        run.losses += 1
        text = f"Attempt {run.attempt}: worker {run.worker} stopped answering; worker {worker} takes the run."
        entry = logs.Entry(now, Level.WARNING, text)
    run.start_time = run.start_time or now
    run.worker, run.lease_expire_time, run.last_write = worker, now + duration, ""
    logs.append(session, run, [entry])
    return run


def hold(session: orm.Session, lease: Lease, now: dt.datetime) -> Run:
    """The run, its row locked for what its holder writes; LeaseLostError when the lease is over.

    All that a worker writes goes through here, so that one that was frozen changes nothing when it wakes up.
    """
    query = sa.select(Run).where(
        Run.id == lease.run_id, Run.fence == lease.fence, Run.lease_expire_time > now
    )
    run = session.scalar(query.with_for_update())
    if run is None:
        raise LeaseLostError(f"the lease of run {lease.run_id} with fence {lease.fence} is over")
    return run


def written(session: orm.Session, lease: Lease, write: str) -> Run | None:
    """The run, if a write of its holder is the last that was committed to it."""
    return session.scalar(sa.select(Run).where(Run.id == lease.run_id, Run.last_write == write))


def extend(session: orm.Session, lease: Lease, duration: dt.timedelta, now: dt.datetime) -> Run:
    """The run, held for another while: a heartbeat."""
    run = hold(session, lease, now)
    run.lease_expire_time = now + duration
    return run


def renew(session: orm.Session, run: Run, now: dt.datetime) -> None:
    """Gives a held run a new fence: what was begun under the old one is not committed any more."""
    run.fence = _next_fence(session, run, now)


def _next_fence(session: orm.Session, run: Run, now: dt.datetime) -> int:
    """A number above all that the job had, and above those of a job of this mapping that was deleted or lost.

    The target remembers fences, and may outlive the job and this database; so they go by the clock.
    """
    clock = int(now.timestamp() * 1000)
    fence = sa.case((Job.fence >= clock, Job.fence + 1), else_=clock)
    update = sa.update(Job).where(Job.id == run.job_id).values(fence=fence).returning(Job.fence)
    return session.execute(update).scalar_one()
