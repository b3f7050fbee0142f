"""Runs: queueing, stopping and finding them."""

import datetime as dt
from collections.abc import Collection, Mapping

import sqlalchemy as sa
from sqlalchemy import orm

from kernel.db import unless_conflict
from kernel.errors import FieldInvalidError
from services.jobs.domain import logs
from services.jobs.errors import ParametersInvalidError, RunActiveError, RunNotFoundError
from services.jobs.models import ACTIVE, Job, Level, Run, State


def runs(organization_id: str, *, reference: str = "", states: Collection[State] = ()) -> sa.Select[Run]:
    """The runs of an organization: those of one job and in certain states, where given."""
    query = sa.select(Run).where(Run.organization_id == organization_id)
    if reference:
        query = query.where(Run.reference == reference)
    if states:
        query = query.where(Run.state.in_(states))
    return query


def get(session: orm.Session, organization_id: str, run_id: str) -> Run:
    """A run; RunNotFoundError."""
    return _found(session.scalar(runs(organization_id).where(Run.id == run_id)), run_id)


def queue(
    session: orm.Session, job: Job, parameters: Mapping[str, str], *, request_id: str, creator: str
) -> Run:
    """Queues a run of a job whose row is locked, or returns the run that the same request made.

    ParametersInvalidError when a parameter is missing or too many; RunActiveError when a run is under way.
    """
    if request_id and (made := _made(session, job, parameters, request_id)):
        return made
    _check_parameters(job, parameters)
    check_idle(session, job)
    run = Run(
        organization_id=job.organization_id,
        job_id=job.id,
        plan_id=job.plan_id,
        reference=job.reference,
        mapping_version=job.plan.mapping_version,
        parameters=dict(parameters),
        request_id=request_id or None,
        creator=creator,
    )
    with unless_conflict(session, uq_runs_organization_id_request_id=_taken()):
        session.add(run)
    return run


def check_idle(session: orm.Session, job: Job) -> None:
    """Raises RunActiveError when a job, its row locked, has a run under way."""
    active = session.scalar(sa.select(Run.id).where(Run.job_id == job.id, Run.state.in_(ACTIVE)))
    if active is not None:
        raise RunActiveError(f"run {active} of job {job.reference} is under way", run=active)


def stop(session: orm.Session, organization_id: str, run_id: str, user: str, now: dt.datetime) -> Run:
    """Stops a queued run at once, and asks the worker of a running one to stop it.

    Asking again changes nothing. RunNotFoundError; RunEndedError.
    """
    query = runs(organization_id).where(Run.id == run_id).with_for_update()
    run = _found(session.scalar(query), run_id)
    if run.state != State.STOPPING:
        queued = run.state == State.QUEUED
        run.move(State.STOPPED if queued else State.STOPPING, now)
        text = f"Stopped by {user} before a worker took it." if queued else f"{user} asks to stop the run."
        logs.append(session, run, [logs.Entry(now, Level.WARNING, text)])
    return run


def _made(session: orm.Session, job: Job, parameters: Mapping[str, str], request_id: str) -> Run | None:
    run = session.scalar(runs(job.organization_id).where(Run.request_id == request_id))
    if run is not None and (run.job_id, run.parameters) != (job.id, dict(parameters)):
        raise _taken()
    return run


def _taken() -> FieldInvalidError:
    text = "was used for another job or with other parameters"
    return FieldInvalidError(f"request_id: {text}", fields={"request_id": text})


def _check_parameters(job: Job, given: Mapping[str, str]) -> None:
    needed = job.plan.parameters
    wrong = {f"parameters.{name}": "is missing" for name in needed if name not in given}
    wrong |= {f"parameters.{name}": "is not used by the job" for name in given if name not in needed}
    if wrong:
        text = "; ".join(f"{field} {fault}" for field, fault in wrong.items())
        raise ParametersInvalidError(text, fields=wrong)


def _found(run: Run | None, run_id: str) -> Run:
    if run is None:
        raise RunNotFoundError(f"there is no run {run_id}", run=run_id)
    return run
